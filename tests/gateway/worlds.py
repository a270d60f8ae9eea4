"""A history of deeds, and the worlds that come of it when somebody's are left out.

A `World` is a gateway whose clock, ids and tasks depend on the number of the deed only. So what a deed brought
about is the difference between the worlds with and without it, and nothing else differs.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
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
from tests.gateway.asgi import SECOND, Exchange

__all__ = ["AGENTS", "Ask", "Deed", "Frame", "Open", "World", "anything", "by"]

AGENTS = ("heron", "otter", "raven")
NOON = 1_800_000_000.0


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
    multipart: bool = False


class Open(NamedTuple):
    """A socket is opened, its token in the upgrade or in `hello`."""

    token: str
    path: str = "/ws"
    hello: bool = False


class Frame(NamedTuple):
    """A frame is sent up a socket of that caller's."""

    token: str
    line: int
    frame: Mapping[str, Any]


Deed: TypeAlias = Ask | Open | Frame


def by(token: str) -> tuple[tuple[str, str], ...]:
    """The header that shows who calls."""
    return (("authorization", f"Bearer {token}"),)


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
    """Says everything it is told, in every way that an agent has. What begins with `hold` it says, and goes on
    when it is `released`; what begins with `share` it also leaves in what its user's sessions share."""

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
        yield f", and so said {len(turn.history)} before, of {sorted(turn.state)}"
        yield Note({"said": turn.content})
        turn.state["said"] = turn.content
        if turn.content.startswith("share"):
            turn.state["user:said"] = turn.content

    async def check(self) -> str:
        return "It speaks."

    async def aclose(self) -> None:
        pass


class World:
    """One gateway, and what its callers sent it and got."""

    def __init__(
        self, callers: Mapping[str, Caller], name: str = "world", store: MemoryStore | None = None, **set_: Any
    ) -> None:
        self._callers = callers
        self._step = 0
        self._ids = count(1)
        self._parrot = Parrot()
        self._lines: dict[str, list[Exchange]] = {}
        self.store = store or MemoryStore(generation=name)
        runtime = Runtime(
            Settings(drain_timeout=0.01, silence_timeout=1e4, turn_timeout=1e4, **set_),
            dict.fromkeys(AGENTS, self._parrot),
            self.store,
            now=lambda: NOON + self._step,
            new_id=self._new_id,
        )
        usage = Usage(runtime.settings, known_users=True)
        self.app = Gateway(Api(Supervisor(runtime, AGENTS[0], usage), self._authenticate))
        self.exchanges: dict[int, Exchange] = {}
        """By the number of the deed."""

    def _new_id(self) -> str:
        """Of this deed, so that ids are the same whatever happened before it."""
        return f"{self._step:012x}{next(self._ids):012x}"

    async def _authenticate(self, token: str | None, _: Mapping[str, str]) -> Caller:
        if token not in self._callers:
            raise Refused("unauthenticated", "This is no token.")
        return self._callers[token]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deeds may be done; at the end what is held goes on, and all callers go."""
        async with self.app.lifespan(), asyncio.TaskGroup() as self._group:
            yield
            self._step = 10_000
            self._parrot.released.set()
            await asyncio.sleep(SECOND)
            for exchange in self.exchanges.values():
                exchange.go()

    async def do(self, step: int, deed: Deed | Exchange, stolen: str = "none") -> None:
        """Do it, and wait until all that follows from it has come to rest. A cursor `MINE` in it is the last one
        that its caller was given, `STOLEN` is that one."""
        self._step, self._ids = step, count(1)
        self._cursors = {"MINE": self._last_cursor(getattr(deed, "token", "")), "STOLEN": stolen}
        match deed:
            case Exchange():
                self._begin("", deed)
            case Frame(token, line, frame):
                sockets = [one for one in self._lines.get(token, ()) if one.method == "WS"]
                if sockets:
                    sockets[line % len(sockets)].say(self._json(frame))
            case Open(token, path, hello):
                exchange = Exchange("WS", path, headers=() if hello else by(token))
                if hello:
                    exchange.say(json.dumps({"type": "hello", "token": token}))
                self._begin(token, exchange)
            case Ask():
                self._begin(deed.token, self._request(deed))
        await self.pass_time()

    async def pass_time(self) -> None:
        """So long that everything has come to rest; the same without a deed as with one."""
        await asyncio.sleep(SECOND)

    def _begin(self, token: str, exchange: Exchange) -> None:
        self.exchanges[self._step] = exchange
        self._lines.setdefault(token, []).append(exchange)
        self._group.create_task(exchange.run(self.app))

    def _request(self, ask: Ask) -> Exchange:
        headers = [*by(ask.token), *ask.headers]
        body = b""
        if ask.body is not None and ask.multipart:
            headers.append(("content-type", "multipart/form-data; boundary=B"))
            parts = [
                f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
                for name, value in ask.body.items()
            ]
            body = "".join([*parts, "--B--\r\n"]).encode()
        elif ask.body is not None:
            headers.append(("content-type", "application/json"))
            body = self._json(ask.body).encode()
        headers.append(("content-length", str(len(body))))
        if ask.line is not None:
            ids = [name for one in self._lines.get(ask.token, ()) if (name := _connection_id(one))]
            headers.append(("x-connection-id", ids[ask.line % len(ids)] if ids else "none"))
        return Exchange(ask.method, ask.path, self._filled(ask.query), headers, body)

    def _json(self, value: Any) -> str:
        return self._filled(json.dumps(value))

    def _filled(self, text: str) -> str:
        for name, cursor in self._cursors.items():
            text = text.replace(name, cursor)
        return text

    def _last_cursor(self, token: str) -> str:
        told = "".join(one.body.decode() + "".join(one.frames) for one in self._lines.get(token, ()))
        return ([None, *re.findall(r'"cursor":"([^"]*)"', told)][-1]) or "none"


def _connection_id(line: Exchange) -> str | None:
    found = re.search(r'"connection_id":"([^"]*)"', line.body.decode() + "".join(line.frames))
    return found and found[1]
