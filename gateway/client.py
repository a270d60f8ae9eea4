"""The Python client: one line to the gateway, many sessions on it, and nothing lost when the line breaks.

    async with Client("ws://127.0.0.1:8080") as client:
        session = client.session("a", agent="eliza")
        async for frame in session.send("hi"):
            ...

What is to be sent is not queued but known: every new line begins with one `attach` of all sessions from where
each stands, and every message that is not acknowledged yet, under the `turn_id` it always had.
It imports `protocol` and nothing else of the gateway.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from itertools import count
from types import TracebackType
from typing import Literal, NamedTuple, Self

import anyio
from anyio.abc import TaskGroup
from msgspec import MsgspecError
from msgspec.structs import replace

from protocol import codec, frames
from protocol.errors import Refused
from protocol.ids import check_agent_name, check_session_id, check_user_id

from .client_feed import Lagged
from .client_line import BROKEN, FINAL, Backoff, Line, LineClosed, socket_url
from .client_session import Session
from .client_turn import UNASKED, Turn, TurnFailed, refusal

__all__ = ["Client", "Lagged", "LineClosed", "LineState", "Session", "Turn", "TurnFailed"]

logger = logging.getLogger("gateway.client")

MAX_REPLY = (32 << 20) + (1 << 20)
"""Bytes of one WebSocket message: the gateway's `max_reply_bytes`, and the rest of a batch around it."""

RETRIED = ("store_unavailable", "overloaded", "draining", "rate_limited")
"""Refusals that mean: not now. The same is sent again after a while."""

ATTACH, HELLO, RENEWAL = "attach", "hello", "renewal"
_CALM = 20.0
"""Seconds that a line must have lived for the next one to be tried at once."""


class NoToken(Exception):
    """The function that gets tokens raised."""


def new_id() -> str:
    """A fresh id, 96 random bits."""
    return secrets.token_hex(12)


class LineState(NamedTuple):
    """How the line is, for people."""

    state: Literal["connecting", "connected", "waiting", "closed"]
    reason: str = ""
    """Why there is none: a sentence."""
    seconds: float = 0.0
    """While `waiting`: how long, until it is tried again."""


class Client:
    """Use it as `async with Client(url) as client`. Entering does not wait for the line.

    `url` is the gateway's (`http` and `ws` mean the same), `user` who speaks, if the token does not fix it.
    `token` is one, or an async function that gets one: it is asked before each line, and again before the
    last one ends. If it raises, there is no line until it is asked again.
    `random`, `sleep`, `clock` (which never goes back) and `new_id` are passed in so that a test owns them.

    Raises `ValueError` for that URL, `Refused` for that user.
    """

    def __init__(
        self,
        url: str,
        token: str | Callable[[], Awaitable[str]] | None = None,
        user: str | None = None,
        *,
        random: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = new_id,
        max_size: int = MAX_REPLY,
    ) -> None:
        self.url = socket_url(url)
        self.state = LineState("connecting")
        self.connected: frames.Connected | None = None
        """What the gateway said of itself, when a line was last opened."""
        self._token = token
        self._new_line = partial(Line, self.url, max_size, self._receive)
        self._hello = codec.as_sent(frames.Hello(user_id=user, batch=True, ref=HELLO))
        if self._hello.user_id is not None:
            check_user_id(self._hello.user_id)
        self._random = random
        self._sleep = sleep
        self._clock = clock
        self._new_id = new_id
        self._sessions: dict[str, Session] = {}
        self._failure: LineClosed | None = None
        self._changed = asyncio.Event()
        self._line = self._new_line()
        self._open = False
        """The gateway knows who this is; frames may be sent."""
        self._refs: dict[str, Turn] = {}
        """The messages sent on this line, and not answered yet."""
        self._numbers = count()
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        self._fail(LineClosed(1000, "This client was closed."))
        await self._line.close()
        self._tasks.cancel_scope.cancel()
        # What the block raises is not wrapped into a group: only cancelling is the group's business.
        if isinstance(error, asyncio.CancelledError):
            await self._tasks.__aexit__(kind, error, trace)
        else:
            await self._tasks.__aexit__(None, None, None)

    def session(self, session_id: str, agent: str | None = None, *, history: int | None = None) -> Session:
        """The session of that id, followed from now on; the same one until it is detached. It is made by its
        first message, if there is none yet. `history`: messages wanted of it, 0 to 200 (50).

        Raises `Refused`: `bad_id`, `bad_frame`, or `session_conflict` if it is followed with another agent.
        """
        check_session_id(session_id)
        if agent is not None:
            check_agent_name(agent)
        codec.as_sent(frames.Attach([frames.Target(session_id, agent, history=history)]))
        session = self._sessions.get(session_id)
        if session is None:
            session = Session(self, session_id, agent, history, self._new_id)
            if self._failure is not None:
                session.fail(self._failure)
                return session
            self._sessions[session_id] = session
            self.attach(session)
        elif agent not in (None, session.agent or session.transcript.agent):
            raise Refused("session_conflict", f"{session_id} is followed with the agent {session.agent}.")
        return session

    @property
    def sessions(self) -> list[Session]:
        """Those that are followed."""
        return list(self._sessions.values())

    async def states(self) -> AsyncIterator[LineState]:
        """How the line is, now and whenever that changes; only the latest, for who is late."""
        seen = None
        while seen is None or seen.state != "closed":
            if seen is self.state:
                await self._changed.wait()
            else:
                seen = self.state
                yield seen

    # ── What sessions ask for (`Wire`) ──────────────────────────────────────────────────────────────────────

    def post(self, turn: Turn) -> None:
        if not self._open or turn.over:
            return
        if not turn.acknowledged:
            ref = str(next(self._numbers))
            data = codec.encode(replace(turn.message, ref=ref))
            if len(data) > self._max_frame:
                content = f"A frame may have {self._max_frame:,} bytes; this one has {len(data):,}."
                turn.finish(refusal(turn, "frame_too_large", content, self._max_frame))
                return
            self._refs[ref] = turn
            turn.attempts += 1
            self._line.put(data)
        if turn.cancelling:
            self.put(turn.cancel_frame)

    def put(self, frame: frames.ClientFrame) -> None:
        if self._open:
            self._line.put(codec.encode(frame))

    def attach(self, session: Session) -> None:
        self._attach([session])

    def forget(self, session: Session) -> None:
        if self._sessions.pop(session.session_id, None) is not None:
            self.put(frames.Detach([session.session_id], ref=UNASKED))

    def _attach(self, sessions: Sequence[Session]) -> None:
        """Follow these: with one frame, unless that were larger than the gateway takes."""
        if not (self._open and sessions):
            return
        data = codec.encode(frames.Attach([session.target() for session in sessions], ref=ATTACH))
        if len(data) > self._max_frame and len(sessions) > 1:
            half = len(sessions) // 2
            self._attach(sessions[:half])
            self._attach(sessions[half:])
        else:
            self._line.put(data)

    @property
    def _max_frame(self) -> int:
        assert self.connected is not None
        return self.connected.max_frame_bytes

    # ── One line after the other ────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        backoff = Backoff(self._random)
        while True:
            self._say(LineState("connecting", self.state.reason))
            began = self._clock()
            try:
                self._line = self._new_line(await self._get_token())
                self._line.put(codec.encode(self._hello))
                closed = await self._line.run()
            except NoToken:
                closed = LineClosed(BROKEN, "No token could be got.")
            finally:
                was_open, self._open = self._open, False
                self._refs.clear()
            for session in self._sessions.values():
                session.lost()
            ran_out = closed.close_code == 4401 and was_open and callable(self._token)
            if closed.close_code in FINAL and not ran_out:
                self._fail(closed)
                return
            if self._clock() - began > _CALM:
                backoff.reset()
            pause = backoff.next(self._line.patience)
            self._say(LineState("waiting", closed.content, pause))
            await self._sleep(pause)

    async def _get_token(self) -> str | None:
        """Raises `NoToken`."""
        if not callable(self._token):
            return self._token
        try:
            return await self._token()
        except Exception as error:
            logger.warning("no token could be got", exc_info=error)
            raise NoToken from error

    async def _renew_token(self) -> None:
        """The gateway takes the present one for a minute more only."""
        line = self._line
        if callable(self._token):
            try:
                line.put(
                    codec.encode(codec.as_sent(frames.Hello(token=await self._get_token(), ref=RENEWAL)))
                )
            except (NoToken, Refused):
                pass  # this line goes on without; the next one asks again

    def _say(self, state: LineState) -> None:
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()

    def _fail(self, closed: LineClosed) -> None:
        """Tell everybody who waits that there will be no line."""
        if self._failure is None:
            self._failure = closed
            for session in self._sessions.values():
                session.fail(closed)
            self._say(LineState("closed", closed.content))

    # ── What the gateway says ───────────────────────────────────────────────────────────────────────────────

    def _receive(self, data: bytes) -> None:
        try:
            frame = codec.decode_server_frame(data)
        except (MsgspecError, RecursionError):
            return  # of a newer gateway: what it adds may be ignored
        match frame:
            case frames.Connected():
                self._greeted(frame)
            case frames.Ok():
                turn = self._refs.pop(frame.ref or "", None)
                if turn is not None and turn.session_id in self._sessions:
                    self._sessions[turn.session_id].acknowledge(turn, frame)
            case frames.Error(cursor=None):
                self._refused(frame)
            case frames.Goaway():
                self._line.goaway = frame
            case frames.Token():
                assert self._tasks is not None
                self._tasks.start_soon(self._renew_token)
            case frames.Pong() | frames.CommandResult():
                pass
            case _:
                session = self._sessions.get(frame.session_id or "")
                if session is not None:
                    session.receive(frame)

    def _greeted(self, connected: frames.Connected) -> None:
        self.connected = connected
        self._line.quiet = 2 * connected.heartbeat_ms / 1000
        if connected.ref != HELLO:
            return  # the greeting of the line, before the gateway has read who this is
        self._open = True
        self._attach(self.sessions)
        for session in self.sessions:
            for turn in session.pending:
                self.post(turn)
        self._say(LineState("connected"))

    def _refused(self, error: frames.Error) -> None:
        """One of this client's frames was refused; its `ref` says which."""
        if error.ref == HELLO:
            raise LineClosed(4403, error.content, error.code)
        if error.ref == ATTACH or (error.ref is None and error.session_id is not None):
            self._not_attached(error)
        elif error.ref is None:
            self._line.error = error
        elif (turn := self._refs.pop(error.ref, None)) is not None and not turn.acknowledged:
            if error.code in RETRIED:
                self._later(error, partial(self.post, turn))
            else:
                turn.finish(error)
                if (session := self._sessions.get(turn.session_id)) is not None:
                    session.drop(turn)

    def _not_attached(self, error: frames.Error) -> None:
        """A session cannot be followed; or none of those that are not yet, if the error names none."""
        if error.code in RETRIED:
            self._later(error, self._attach_rest)
            return
        for session in self._unattached():
            if error.session_id in (None, session.session_id):
                session.refuse(error)
        if error.code == "bad_frame":  # nothing of it was heard: those that are well are asked for again
            self._attach([session for session in self._unattached() if not session.refused])

    def _attach_rest(self) -> None:
        self._attach(self._unattached())

    def _unattached(self) -> list[Session]:
        return [session for session in self.sessions if not session.transcript.attached]

    def _later(self, error: frames.Error, again: Callable[[], None]) -> None:
        assert self._tasks is not None
        pause = Backoff(self._random).next((error.retry_after_ms or 0) / 1000)
        self._tasks.start_soon(self._after, pause, again)

    async def _after(self, seconds: float, again: Callable[[], None]) -> None:
        await self._sleep(seconds)
        again()
