"""Both ends in memory: gateways, clients and agents that a test drives step by step, without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from gateway.auth import Identity
from gateway.connection import Connection, Greeting
from gateway.interfaces import Agent, AgentError, Piece, Store, Turn
from gateway.limits import Usage
from gateway.runtime import Runtime
from gateway.settings import Settings
from gateway.supervisor import Supervisor
from protocol import codec, frames
from protocol.transcript import Transcript

__all__ = ["Client", "Said", "Script", "gateway", "settle"]

WAIT = 30.0
"""Seconds that any wait of a test may take."""


async def settle(passes: int = 40) -> None:
    """Let the loop turn until everything that can go on without time passing has gone on."""
    for _ in range(passes):
        await asyncio.sleep(0)


class Said:
    """One turn as its agent sees it: the test puts pieces in, the agent yields them."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.pieces: asyncio.Queue[Piece | BaseException | None] = asyncio.Queue()
        self.text = ""
        """What was put in so far."""
        self.last = False
        """Its end was put in."""
        self.closed = asyncio.Event()
        """The agent was stopped, or came to its end."""

    def say(self, piece: Piece) -> None:
        if type(piece) is str:
            self.text += piece
        self.pieces.put_nowait(piece)

    def end(self) -> None:
        self.last = True
        self.pieces.put_nowait(None)

    def fail(self, error: BaseException | None = None) -> None:
        self.last = True
        self.pieces.put_nowait(error or AgentError("It went wrong."))


class Script:
    """An agent that says what the test tells it to. `turns` holds every turn it was ever given, in order."""

    history = 50

    def __init__(self) -> None:
        self.turns: list[Said] = []
        self._came = asyncio.Condition()

    async def __call__(self, turn: Turn) -> AsyncGenerator[Piece, None]:
        said = Said(turn)
        self.turns.append(said)
        async with self._came:
            self._came.notify_all()
        try:
            while (piece := await said.pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            said.closed.set()

    async def given(self, turn_id: str) -> Said:
        """That turn, as soon as the agent was given it."""
        async with asyncio.timeout(WAIT), self._came:
            await self._came.wait_for(lambda: any(said.turn.turn_id == turn_id for said in self.turns))
        return next(said for said in self.turns if said.turn.turn_id == turn_id)

    async def check(self) -> str:
        return "It does as it is told."

    async def aclose(self) -> None:
        pass


class Client:
    """One client's line, in memory. Every frame that comes is folded into the transcript of its session,
    which raises if the protocol is broken."""

    batch = False

    def __init__(
        self,
        supervisor: Supervisor,
        user: str = "ann",
        *,
        agent: str | None = None,
        identity: Identity | None = None,
        greeting: Greeting | None = None,
    ) -> None:
        self.frames: list[frames.ServerFrame] = []
        self.transcripts: dict[str, Transcript] = {}
        self.cursors: dict[str, list[str]] = {}
        """Every cursor that this line gave for a session."""
        self.close_code: int | None = None
        self.broken: BaseException | None = None
        """The first frame that broke the protocol."""
        self._detaching: dict[str, list[str]] = {}
        self._came = asyncio.Condition()
        self._open = asyncio.Event()
        self._open.set()
        identity = identity or Identity(user)
        self.line = Connection(supervisor, self, identity, agent=agent, greeting=greeting)

    # The transport's side

    def send_nowait(self, batch: list[bytes]) -> bool:  # noqa: ARG002
        return False

    async def send(self, batch: list[bytes]) -> None:
        for data in batch:
            assert not any(byte < 0x20 for byte in data)
            self._take(codec.decode_server_frame(data))
        async with self._came:
            self._came.notify_all()
        await self._open.wait()
        if self.close_code is not None:
            raise ConnectionError

    async def close(self, code: int, reason: str) -> None:  # noqa: ARG002
        self.close_code = self.close_code or code
        self._open.set()

    def _take(self, frame: frames.ServerFrame) -> None:
        self.frames.append(frame)
        if isinstance(frame, frames.Ok) and frame.ref in self._detaching:
            for detached in self._detaching.pop(frame.ref):
                if detached in self.transcripts:
                    self.transcripts[detached].detach()
        session_id = getattr(frame, "session_id", None)
        if session_id is None:
            return
        if isinstance(frame, frames.Attached):
            self.transcripts.setdefault(session_id, Transcript(session_id))
        cursor = getattr(frame, "cursor", None)
        if cursor is not None:
            self.cursors.setdefault(session_id, []).append(cursor)
        if session_id in self.transcripts and self.broken is None:
            try:
                self.transcripts[session_id].apply(frame)
            except ValueError as error:
                self.broken = error

    # The test's side

    def stall(self) -> None:
        """Take nothing more from the line."""
        self._open.clear()

    def resume(self) -> None:
        """Take what comes again."""
        self._open.set()

    def vanish(self) -> None:
        """The line dies."""
        self.close_code = self.close_code or 1006
        self._open.set()
        self.line.leave()

    def put(self, type: str, **fields: Any) -> None:  # noqa: A002
        """Send a frame."""
        if type == "detach" and "ref" in fields:
            self._detaching[fields["ref"]] = fields["session_ids"]
        self.line.receive(codec.encode({"type": type, **fields}))

    async def until(self, condition: Callable[[frames.ServerFrame], bool]) -> frames.ServerFrame:
        """The first frame that came, or comes, of which this is true."""
        async with asyncio.timeout(WAIT), self._came:
            await self._came.wait_for(lambda: any(condition(frame) for frame in self.frames))
        return next(frame for frame in self.frames if condition(frame))

    async def answer(self, ref: str) -> Any:
        """The `ok`, `error` or other answer to the frame with that ref."""
        return await self.until(lambda frame: getattr(frame, "ref", None) == ref)

    async def terminal(self, turn_id: str) -> Any:
        """The end of that turn."""
        return await self.until(
            lambda frame: (
                getattr(frame, "turn_id", None) == turn_id
                and isinstance(frame, frames.Response | frames.Error)
                and frame.cursor is not None
            )
        )

    def of(self, session_id: str, *kinds: type) -> list[Any]:
        """The frames of a session, of these kinds (all, if none is named)."""
        return [
            frame
            for frame in self.frames
            if getattr(frame, "session_id", None) == session_id and (not kinds or isinstance(frame, kinds))
        ]


@asynccontextmanager
async def gateway(
    agents: Mapping[str, Agent],
    store: Store,
    settings: Settings | None = None,
    *,
    usage: Usage | None = None,
    **options: Any,
) -> AsyncIterator[Supervisor]:
    """A gateway's core, running in this loop."""
    runtime = Runtime(settings or Settings(drain_timeout=0.01), agents, store, **options)
    supervisor = Supervisor(runtime, next(iter(agents)), usage)
    async with supervisor.running():
        yield supervisor
