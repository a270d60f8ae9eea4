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
import json
import random
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from ssl import SSLCertVerificationError
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit, urlunsplit

import anyio
from anyio.abc import TaskGroup
from msgspec import MsgspecError
from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response
from websockets.uri import parse_uri

from protocol import codec, frames
from protocol.errors import Refused
from protocol.ids import check_agent_name, check_session_id

from .client_feed import Lagged
from .client_session import UNASKED, LineClosed, Session, Turn, TurnFailed

__all__ = ["Backoff", "Client", "Lagged", "Line", "LineClosed", "Session", "Turn", "TurnFailed"]

MAX_REPLY = (32 << 20) + (1 << 20)
"""Bytes of one WebSocket message: the gateway's `max_reply_bytes`, and the rest of a batch around it."""

FINAL = {
    1000: "The gateway closed the line.",
    1003: "The gateway takes text frames only.",
    1007: "The gateway was sent what is not UTF-8.",
    1009: "A message was larger than the gateway or this client takes.",
    4400: "The gateway does not understand this client.",
    4401: "The token is missing, bad or expired; get a new one.",
    4403: "This is not allowed.",
    4404: "There is no such agent, or no gateway, at this address.",
}
"""Close codes after which the same would only happen again. After any other one comes the next line."""

WAITS = {4429: 20.0}
"""Close codes after which to wait so many seconds at the least."""

STATUSES = {401: 4401, 403: 4403, 404: 4404, 408: 1013, 425: 1013, 429: 1013}
"""What an HTTP refusal of the upgrade means, as a close code; any other 4xx is 4400, and the rest 1013."""

RETRIED = ("store_unavailable", "overloaded", "draining", "rate_limited")
"""Refusals that mean: not now. The same is sent again after a while."""

ATTACH, HELLO = "attach", "hello"
_OPENING = 10.0
"""Seconds for the line to open, and from then to its `connected`."""
_CALM = 20.0
"""Seconds that a line must have lived for the next one to be tried at once."""


class Backoff:
    """Full jitter: anything up to 0.5 s, then twice as much each time, up to 20 s.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    __slots__ = ("_random", "_tries")

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._tries = 0

    def next(self, least: float = 0.0) -> float:
        """Seconds to wait now, on top of the `least` that the gateway asks for."""
        span = min(20.0, 0.5 * 2.0 ** min(self._tries, 6))
        self._tries += 1
        return least + self._random() * span

    def reset(self) -> None:
        """All is well again."""
        self._tries = 0


class Line(NamedTuple):
    """How the line is, for people."""

    state: Literal["connecting", "connected", "waiting", "closed"]
    reason: str = ""
    """Why there is none: a sentence."""
    seconds: float = 0.0
    """While `waiting`: how long, until it is tried again."""


class Client:
    """Use it as `async with Client(url) as client`. Entering does not wait for the line.

    `url` is the gateway's (`http` and `ws` mean the same), `user` who speaks, if the token does not fix it.
    `random`, `sleep`, `clock` and `new_id` are passed in so that a test owns them.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        user: str | None = None,
        *,
        random: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: secrets.token_hex(12),
        max_size: int = MAX_REPLY,
    ) -> None:
        self.url = _socket_url(url)
        self.line = Line("connecting")
        self.connected: frames.Connected | None = None
        """What the gateway said of itself, when the line was last opened."""
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._user = user
        self._random = random
        self._sleep = sleep
        self._clock = clock
        self._new_id = new_id
        self._max_size = max_size
        self._sessions: dict[str, Session] = {}
        self._tasks: TaskGroup | None = None
        self._failure: LineClosed | None = None
        self._changed = asyncio.Event()
        # Of the present line:
        self._socket: ClientConnection | None = None
        self._open = False
        self._outbox: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._refs: dict[str, Turn] = {}
        self._last_error: frames.Error | None = None
        self._goaway: frames.Goaway | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        if self._socket is not None:
            with anyio.move_on_after(1, shield=True):
                await self._socket.close()
        self._tasks.cancel_scope.cancel()
        self._fail(LineClosed(1000, "This client was closed."))
        # What the block raises is not wrapped into a group: only cancelling is the group's business.
        inner = (kind, error, trace) if isinstance(error, asyncio.CancelledError) else (None, None, None)
        await self._tasks.__aexit__(*inner)

    def session(self, session_id: str, agent: str | None = None, *, history: int | None = None) -> Session:
        """The session of that id, followed from now on; the same one until it is detached. It is made by its
        first message, if there is none yet. `history`: messages wanted of it, 0 to 200 (50).

        Raises `Refused`: `bad_id`, or `session_conflict` if it is followed with another agent.
        """
        check_session_id(session_id)
        if agent is not None:
            check_agent_name(agent)
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

    async def lines(self) -> AsyncIterator[Line]:
        """How the line is, now and whenever that changes; only the latest, for who is late."""
        seen = None
        while seen is None or seen.state != "closed":
            if seen is self.line:
                await self._changed.wait()
            else:
                seen = self.line
                yield seen

    # ── What sessions ask for (`Wire`) ──────────────────────────────────────────────────────────────────────

    def post(self, turn: Turn) -> None:
        if not self._open or turn.over:
            return
        if not turn.acknowledged:
            ref = str(len(self._refs))
            data = codec.encode(replace(turn.message, ref=ref))
            if len(data) > self._max_frame:
                turn.finish(_too_large(turn, len(data), self._max_frame))
                return
            self._refs[ref] = turn
            turn.sent += 1
            self._put(data)
        if turn.cancelling:
            self.put(turn.cancel_frame)

    def put(self, frame: frames.ClientFrame) -> None:
        if self._open:
            self._put(codec.encode(frame))

    def attach(self, session: Session) -> None:
        self._attach([session])

    def forget(self, session: Session) -> None:
        if self._sessions.pop(session.session_id, None) is not None:
            self.put(frames.Detach([session.session_id], ref=UNASKED))

    def _attach(self, sessions: Sequence[Session]) -> None:
        """Follow these: in one frame, unless that were larger than the gateway takes."""
        if not (self._open and sessions):
            return
        data = codec.encode(frames.Attach([session.target() for session in sessions], ref=ATTACH))
        if len(data) > self._max_frame and len(sessions) > 1:
            half = len(sessions) // 2
            self._attach(sessions[:half])
            self._attach(sessions[half:])
        else:
            self._put(data)

    def _put(self, data: bytes) -> None:
        self._outbox.append(data)
        self._wake.set()

    @property
    def _max_frame(self) -> int:
        assert self.connected is not None
        return self.connected.max_frame_bytes

    # ── One line after the other ────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        backoff = Backoff(self._random)
        while True:
            self._say(Line("connecting", self.line.reason))
            began = self._clock()
            closed = await self._one_line()
            for session in self._sessions.values():
                session.lost()
            if closed.close_code in FINAL:
                self._fail(closed)
                return
            if self._clock() - began > _CALM:
                backoff.reset()
            pause = backoff.next(self._least(closed))
            self._say(Line("waiting", closed.content, pause))
            await self._sleep(pause)

    def _least(self, closed: LineClosed) -> float:
        """Seconds that the gateway wants to be left alone."""
        if self._goaway is not None:
            return self._goaway.reconnect_after_ms / 1000
        if self._last_error is not None and self._last_error.retry_after_ms is not None:
            return self._last_error.retry_after_ms / 1000
        return WAITS.get(closed.close_code, 0.0)

    async def _one_line(self) -> LineClosed:
        """Open a line and talk until it ends; how it ended."""
        self._last_error = self._goaway = None
        try:
            self._socket = await connect(
                self.url,
                additional_headers=self._headers,
                compression=None,
                max_size=self._max_size,
                open_timeout=_OPENING,
                ping_interval=None,  # the gateway says something at least every heartbeat
            )
        except InvalidStatus as refused:
            return self._http_refusal(refused.response)
        except SSLCertVerificationError as error:
            return LineClosed(4403, f"The gateway's certificate is not good: {error.verify_message}.")
        except (OSError, WebSocketException) as error:
            return LineClosed(1006, str(error) or type(error).__name__)
        try:
            return await self._talk(self._socket)
        finally:
            self._open = False
            self._outbox.clear()
            self._refs.clear()
            self._socket.transport.abort()
            self._socket = None

    async def _talk(self, socket: ClientConnection) -> LineClosed:
        self._put(codec.encode(frames.Hello(user_id=self._user, batch=True, client="python", ref=HELLO)))
        async with anyio.create_task_group() as line:
            line.start_soon(self._write, socket)
            closed = await self._read(socket)
            line.cancel_scope.cancel()
        return closed

    async def _write(self, socket: ClientConnection) -> None:
        """The one writer."""
        try:
            while True:
                while self._outbox:
                    await socket.send(self._outbox.popleft(), text=True)
                self._wake.clear()
                await self._wake.wait()
        except ConnectionClosed:
            pass  # the reader says why

    async def _read(self, socket: ClientConnection) -> LineClosed:
        """The one reader. A line on which nothing is heard for two heartbeats is dead."""
        now = asyncio.get_running_loop().time
        quiet = _OPENING
        try:
            async with asyncio.timeout(quiet) as alarm:
                while True:
                    data = await socket.recv(decode=False)
                    for frame in data.split(b"\n"):
                        self._receive(frame)
                    if self.connected is not None:
                        quiet = 2 * self.connected.heartbeat_ms / 1000
                    alarm.reschedule(now() + quiet)
        except TimeoutError:
            return LineClosed(1006, f"Nothing was heard for {quiet:g} s.")
        except ConnectionClosed as closed:
            return self._why(closed)
        except LineClosed as closed:
            return closed

    def _why(self, closed: ConnectionClosed) -> LineClosed:
        """How the line ended: in the words of the gateway's last `error`, if it said one."""
        end, error = closed.rcvd or closed.sent, self._last_error
        if end is None:
            return LineClosed(1006, "The line broke.")
        if error is not None:
            return LineClosed(end.code, error.content, error.code)
        return LineClosed(end.code, FINAL.get(end.code) or end.reason or "The gateway closed the line.")

    def _http_refusal(self, response: Response) -> LineClosed:
        status = response.status_code
        close = STATUSES.get(status, 4400 if 400 <= status < 500 else 1013)
        try:
            said = json.loads(response.body or b"{}")
            content, code, after = said["content"], said["code"], said.get("retry_after_ms")
        except (ValueError, LookupError, TypeError):
            return LineClosed(close, f"The upgrade was refused with HTTP status {status}.")
        self._last_error = frames.Error(str(content), str(code), close not in FINAL, retry_after_ms=after)
        return LineClosed(close, str(content), str(code))

    def _say(self, line: Line) -> None:
        self.line = line
        self._changed.set()
        self._changed = asyncio.Event()

    def _fail(self, closed: LineClosed) -> None:
        """Tell everybody who waits that there will be no line."""
        if self._failure is None:
            self._failure = closed
            for session in self._sessions.values():
                session.fail(closed)
            self._say(Line("closed", closed.content))

    # ── What the gateway says ───────────────────────────────────────────────────────────────────────────────

    def _receive(self, data: bytes) -> None:
        try:
            frame = codec.decode_server_frame(data)
        except MsgspecError:
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
                self._goaway = frame
            case frames.Pong() | frames.Token() | frames.CommandResult():
                pass
            case _:
                session = self._sessions.get(frame.session_id)
                if session is not None:
                    session.receive(frame)

    def _greeted(self, connected: frames.Connected) -> None:
        self.connected = connected
        if connected.ref != HELLO:
            return  # the greeting of the line, before the gateway has read who this is
        self._open = True
        self._attach(self.sessions)
        for session in self.sessions:
            for turn in session.pending:
                self.post(turn)
        self._say(Line("connected"))

    def _refused(self, error: frames.Error) -> None:
        """One of this client's frames was refused; its `ref` says which."""
        if error.ref == HELLO:
            raise LineClosed(4403, error.content, error.code)
        if error.ref == ATTACH or (error.ref is None and error.session_id in self._sessions):
            self._not_attached(error)
        elif error.ref is None:
            self._last_error = error
        elif (turn := self._refs.pop(error.ref, None)) is not None and not turn.acknowledged:
            if error.code in RETRIED:
                self._later(error, self._post_again, turn)
            else:
                turn.finish(error)

    def _not_attached(self, error: frames.Error) -> None:
        """A session cannot be followed; or none of those that are not yet, if the error names none."""
        sessions = [
            session
            for session in self.sessions
            if not session.transcript.attached and error.session_id in (None, session.session_id)
        ]
        if error.code in RETRIED:
            self._later(error, self._attach_again, sessions)
        else:
            for session in sessions:
                session.refuse(error)

    def _later(self, error: frames.Error, again: Callable[[Any], None], what: Any) -> None:
        assert self._tasks is not None
        pause = Backoff(self._random).next((error.retry_after_ms or 0) / 1000)
        self._tasks.start_soon(self._after, pause, again, what)

    async def _after(self, seconds: float, again: Callable[[Any], None], what: Any) -> None:
        await self._sleep(seconds)
        again(what)

    def _post_again(self, turn: Turn) -> None:
        self.post(turn)

    def _attach_again(self, sessions: Sequence[Session]) -> None:
        self._attach([session for session in sessions if not session.transcript.attached])


def _socket_url(url: str) -> str:
    """`http://host:8080/prefix` → `ws://host:8080/prefix/ws`. Raises `InvalidURI`."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path.rstrip("/")
    url = urlunsplit((scheme, parts.netloc, path if path.endswith("/ws") else f"{path}/ws", parts.query, ""))
    parse_uri(url)
    return url


def _too_large(turn: Turn, size: int, limit: int) -> frames.Error:
    """Refuses a message that is larger than the gateway takes, before it is sent."""
    return frames.Error(
        f"A frame may have {limit:,} bytes; this one has {size:,}.",
        "frame_too_large",
        False,
        session_id=turn.session_id,
        turn_id=turn.turn_id,
        limit=limit,
    )
