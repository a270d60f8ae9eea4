"""A gateway of which everything depends on what was done to it, and on nothing else.

Its clock and its ids go by the number of the deed, its tasks come to rest before the next one. So what a deed
brought about is the difference between a `World` with it and one without it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, NamedTuple, TypeAlias

from gateway.api import Api
from gateway.app import Gateway
from gateway.interfaces import AgentError, Caller, Note, Piece, Thought, ToolCall, ToolResult, Turn
from gateway.limits import Usage
from gateway.runtime import Runtime
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol.errors import Refused
from protocol.lifetime import tiers
from tests.gateway.asgi import Exchange, Headers

__all__ = ["AGENTS", "Ask", "Deed", "Frame", "Open", "World", "anything", "by", "filled", "line_of"]

AGENTS = ("heron", "otter", "raven")
NOON = 1_800_000_000.0
REST = 0.097
"""Seconds of the loop after which nothing moves any more. No timer's period is a multiple of it."""


class Ask(NamedTuple):
    """A request."""

    token: str
    method: str
    path: str
    query: str = ""
    body: Mapping[str, Any] | None = None
    headers: tuple[tuple[str, str], ...] = ()
    line: int | None = None
    """Which of its caller's lines it names in `X-Connection-Id`."""


class Open(NamedTuple):
    """A socket is opened, with a token in the upgrade or in `hello`."""

    token: str
    path: str
    hello: bool


class Frame(NamedTuple):
    """A frame is sent up one of its caller's sockets."""

    token: str
    line: int
    frame: Mapping[str, Any]


Deed: TypeAlias = Ask | Open | Frame


def by(token: str) -> tuple[tuple[str, str], ...]:
    """The header that shows who calls."""
    return (("authorization", f"Bearer {token}"),)


def line_of(step: int) -> str:
    """What a line is called that was opened by the request of that deed: a request has the first new id."""
    return f"{step:012x}{2:012x}"


def filled(path: str, values: Mapping[str, str]) -> str:
    """A route's path with these values in it, `x` for others."""
    return re.sub(r"{(\w+)(:\w+)?}", lambda found: values.get(found[1], "x"), path)


def anything(agent: str, user: str, session_id: str, words: str) -> dict[str, Any]:
    """What the requests of all surfaces hold, at once: each reads what it knows."""
    return {
        "type": "message",
        "message": words,
        "content": words,
        "newMessage": {"role": "user", "parts": [{"text": words}]},
        "session_id": session_id,
        "sessionId": session_id,
        "session_ids": [session_id],
        "sessions": [{"session_id": session_id, "agent": agent}],
        "agent": agent,
        "agentId": agent,
        "appName": agent,
        "userId": user,
        "label": "work",
        "command": "stop",
        "transport": "http",
        "state": {"k": 1},
        "stateDelta": {"k": 1},
        "metadata": {"m": 1},
        "timeoutConfig": {"timeoutMinutes": 60},
    }


class Parrot:
    """Says everything it is told, in every way that an agent has. After what begins with `hold` it waits
    until it is `released`, at what begins with `fail` it fails, and what begins with `share` it tells all
    sessions of the user."""

    history = 20

    def __init__(self) -> None:
        self.released = asyncio.Event()

    async def __call__(self, turn: Turn) -> AsyncGenerator[Piece, None]:
        if turn.content.startswith("fail"):
            raise AgentError("It went wrong.")
        yield Thought(turn.content)
        yield ToolCall("c", "look", {"for": turn.content})
        yield ToolResult("c", turn.content)
        yield turn.content
        if turn.content.startswith("hold"):
            await self.released.wait()
        yield f", after {len(turn.history)} others, and knowing {sorted(turn.state)}"
        yield Note({"said": turn.content})
        turn.state["said"] = turn.content
        if turn.content.startswith("share"):
            turn.state["user:said"] = turn.content

    async def check(self) -> str:
        return "It speaks."

    async def aclose(self) -> None:
        pass


class World:
    """One gateway, with these callers by their tokens, and these agents. From deed to deed `pace` seconds
    pass; sessions live for half an hour unless they are used. `name` is the first part of all epochs,
    `options` are settings."""

    def __init__(
        self,
        callers: Mapping[str, Caller],
        name: str = "world",
        agents: Sequence[str] = AGENTS,
        pace: float = 1.0,
        store: MemoryStore | None = None,
        **options: Any,
    ) -> None:
        self._callers = callers
        self._pace = pace
        self._step = 0
        self._ids = count(1)
        self._parrot = Parrot()
        self._lines: dict[str, list[Exchange]] = {}
        self.store = store or MemoryStore(generation=name)
        runtime = Runtime(
            Settings(drain_timeout=0.01, silence_timeout=1e4, turn_timeout=1e4, **options),
            dict.fromkeys(agents, self._parrot),
            self.store,
            tiers=tiers({"SESSION_DEFAULT_TIMEOUT_MINUTES": "30"}, agents),
            now=lambda: NOON + self._step * self._pace,
            new_id=self._new_id,
        )
        usage = Usage(runtime.settings, known_users=True)
        self.app = Gateway(Api(Supervisor(runtime, agents[0], usage), self._authenticate))
        self.exchanges: dict[int, Exchange] = {}
        """By the number of the deed."""

    def _new_id(self) -> str:
        return f"{self._step:012x}{next(self._ids):012x}"

    async def _authenticate(self, token: str | None, _: Mapping[str, str]) -> Caller:
        if token is None or token not in self._callers:
            raise Refused("unauthenticated", "This is no token.")
        return self._callers[token]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deeds may be done; at the end what is held goes on, and all callers go."""
        async with self.app.lifespan(), asyncio.timeout(600), asyncio.TaskGroup() as self._group:
            yield
            self._parrot.released.set()
            await self.rest()
            for exchange in self.exchanges.values():
                exchange.go()

    async def do(self, step: int, deed: Deed | Exchange, stolen: str = "none") -> None:
        """Do it, and wait until all that follows from it has come to rest. A cursor `MINE` in it stands for
        the last one that its caller was given, `STOLEN` for the given one."""
        self._step, self._ids = step, count(1)
        match deed:
            case Exchange():
                self._begin("", deed)
            case Ask():
                self._begin(deed.token, self._request(deed, stolen))
            case Open(token, path, hello):
                self._begin(token, exchange := Exchange("WS", path, headers=() if hello else by(token)))
                if hello:
                    exchange.say(json.dumps({"type": "hello", "token": token}))
            case Frame(token, line, frame):
                if sockets := [one for one in self._lines.get(token, ()) if one.method == "WS"]:
                    sockets[line % len(sockets)].say(self._with_cursors(json.dumps(frame), token, stolen))
        await self.rest()

    async def leave_out(self, step: int) -> None:
        """Let pass the time that a deed would have taken."""
        self._step = step
        await self.rest()

    async def rest(self) -> None:
        """Let everything come to rest."""
        await asyncio.sleep(REST)

    def _begin(self, token: str, exchange: Exchange) -> None:
        self.exchanges[self._step] = exchange
        self._lines.setdefault(token, []).append(exchange)
        self._group.create_task(exchange.run(self.app))

    def _request(self, ask: Ask, stolen: str) -> Exchange:
        text = "" if ask.body is None else json.dumps(ask.body)
        body = self._with_cursors(text, ask.token, stolen).encode()
        query = self._with_cursors(ask.query, ask.token, stolen)
        headers: Headers = [*by(ask.token), *ask.headers, ("content-length", str(len(body)))]
        if ask.body is not None:
            headers = [*headers, ("content-type", "application/json")]
        if ask.line is not None:
            ids = re.findall(r'"connection_id":"([^"]*)"', self._told(ask.token)) or ["none"]
            headers = [*headers, ("x-connection-id", ids[ask.line % len(ids)])]
        return Exchange(ask.method, ask.path, query, headers, body)

    def _with_cursors(self, text: str, token: str, stolen: str) -> str:
        if "MINE" in text:
            given = re.findall(r'"cursor":"([^"]*)"', self._told(token)) or ["none"]
            text = text.replace("MINE", given[-1])
        return text.replace("STOLEN", stolen)

    def _told(self, token: str) -> str:
        """All that this caller was told."""
        return "".join(one.body.decode() + "".join(one.frames) for one in self._lines.get(token, ()))
