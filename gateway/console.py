"""An operator's line: it is told figures every second, and follows any one session without hearing what is
said in it."""

from __future__ import annotations

from functools import partial
from typing import Any, assert_never

import msgspec
import structlog

from protocol import codec, console, frames
from protocol.cursor import format_cursor
from protocol.errors import Refused
from protocol.session import Accepted
from protocol.session import Cancel as CancelTurn

from . import __version__
from .auth import Identity, require_service
from .connection import Asked, Connection, Greeting
from .figures import Gauge
from .interfaces import Key, Transport
from .search import search
from .supervisor import Supervisor

__all__ = ["Console", "Veil"]

logger = structlog.get_logger("gateway.console")

_PACE = 0.1
"""Seconds between writes: nobody reads faster, and text gathers meanwhile."""
_BEFORE = 50
"""Records from before it was watched that are told of a session."""
_OURS = ("connected", "ok", "token", "goaway", "pong", "about", "figures", "sessions")
"""Frames that belong to no session."""


class Veil:
    """The transport of a line that sees frames, but not what is in them."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def batch(self) -> bool:
        return self._transport.batch

    @batch.setter
    def batch(self, batch: bool) -> None:
        self._transport.batch = batch

    def send_nowait(self, frames: list[bytes]) -> bool:  # noqa: ARG002
        return False

    async def send(self, frames: list[bytes]) -> None:
        await self._transport.send([_veiled(frame) for frame in frames])

    async def close(self, code: int, reason: str) -> None:
        await self._transport.close(code, reason)


def _veiled(data: bytes) -> bytes:
    kind, _ = codec.head(data)
    if kind in _OURS:
        return data
    frame: dict[str, Any] = msgspec.json.decode(data)
    if kind == "error" and "cursor" not in frame:  # a refusal: the gateway's own words
        return data
    return codec.encode(console.redacted(frame))


class Console(Connection):
    """A connection for who may do what operators do. Raises `Refused('forbidden')` for all others."""

    __slots__ = ("_contents", "_gauge", "_watched")

    def __init__(
        self,
        supervisor: Supervisor,
        transport: Transport,
        identity: Identity,
        *,
        agent: str | None = None,  # noqa: ARG002
        greeting: Greeting | None = None,
    ) -> None:
        require_service(identity)
        self._contents = supervisor.runtime.settings.console_contents
        self._gauge = Gauge(supervisor.runtime.metrics)
        self._watched: str | None = None
        super().__init__(
            supervisor,
            transport if self._contents else Veil(transport),
            identity,
            greeting=greeting,
            pace=_PACE,
        )

    def greet(self, ref: str | None = None) -> None:
        super().greet(ref)
        runtime = self._supervisor.runtime
        self._tell(console.About(__version__, runtime.node, [*runtime.agents], self._contents))

    def _tick(self, now: float) -> None:
        super()._tick(now)
        if not (self.left or self.congested):
            self._tell(self._gauge.look(self._supervisor.runtime.now()))

    def _become(self, identity: Identity) -> None:
        require_service(identity)
        super()._become(identity._replace(everyone=True))

    def _tell(self, told: console.About | console.Figures | console.Listed) -> None:
        self._writer.say(codec.encode(told))

    # ── What the page asks ───────────────────────────────────────────────────────────────────────────────

    def _receive(self, data: str | bytes) -> None:
        self._supervisor.runtime.metrics.frames_received += 1
        too_much = self._meter.take(len(data))
        try:
            command = console.decode(data, self._limits.frame_bytes)
        except Refused as refusal:
            self.refuse(too_much or refusal)
            return
        if too_much is not None:
            self.refuse(too_much, command.ref)
        elif isinstance(command, frames.Hello | frames.Ping):
            self.take(command)
        else:
            self._mind_token()
            if not self._over:
                self._errands.add(partial(self._do, command), partial(self._reply, command))

    async def _do(self, command: console.Errand) -> None:
        match command:
            case console.List(search=text, limit=limit, ref=ref):
                rows, found = await search(self._supervisor, text, limit, contents=self._contents)
                self._tell(console.Listed(rows, found.looked_at, found.complete, ref))
                return
            case console.Watch():
                await self._watch(_key(command))
            case console.Unwatch():
                self._unwatch()
            case console.Cancel(turn_id=turn_id):
                async with self._supervisor.opened(_key(command)) as session:
                    await session.asked(CancelTurn(turn_id))
            case console.Close():
                await self._supervisor.delete(_key(command))
                logger.info("closed by an operator", agent=command.agent, session_id=command.session_id)
            case _:
                assert_never(command)
        self._reply(command, Accepted())

    async def _watch(self, key: Key) -> None:
        self._unwatch()
        async with self._supervisor.opened(key) as session:
            # As if it had been there some records ago: what happened since is told as it happened.
            cursor = format_cursor(session.log.epoch, max(0, session.state.seq - _BEFORE), 0)
            await self.follow(key, "never", cursor, 0)
        self._watched = key.session_id

    def _unwatch(self) -> None:
        watched, self._watched = self._watched, None
        if watched is not None:
            self._detach([watched])

    def _whose(self, frame: Asked) -> str | None:  # noqa: ARG002
        return None  # an answer to the page is not of the session that it watches


def _key(which: console.Which) -> Key:
    return Key(which.agent, which.user, which.session_id)
