"""Lines over HTTP: an answer that is written as things happen is a connection's transport.

An endpoint makes a `Stream`, which knows how frames are shown, and follows sessions within `connected`. The
answer begins with the first frame that is shown: until then a refusal is a plain HTTP error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive, Send

from protocol import codec
from protocol.errors import Refused

from .auth import Identity
from .connection import Connection
from .supervisor import Supervisor

__all__ = ["COMMENT", "EVENT_STREAM", "QUIET", "Events", "Stream", "connected"]

QUIET = 15.0
"""Seconds of silence after which a stream says something: proxies close what is silent for long."""
PACE = 0.002
"""Seconds between the writes of a burst: a stream mostly tells of one session, and a write costs more than
several deltas."""
COMMENT = b":\n\n"
"""An event that no client hears."""
EVENT_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


class Stream:
    """An HTTP answer as a transport. Every sign that the peer is gone becomes `ConnectionError`.

    Subclasses say how frames are shown, and set `over` with the last one. Only the connection's writer may
    send, so that nothing is ever written into the middle of a batch.
    """

    __slots__ = ("_closed", "_send", "batch", "over", "started")

    opening = b""
    """Written before anything else."""
    lasts = False
    """It goes on until its reader goes, and ends with the reader's token. An answer to one request is the
    answer to whoever was let in with it: cut off in the middle it would only be asked for again."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._closed = False
        self.batch = False
        self.started = False
        """The answer has begun: it is too late for another status."""
        self.over = False
        """Nothing comes after what is shown now."""

    def begin(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """The status and the headers; asked for when the first frame was shown."""
        return 200, [*EVENT_STREAM]

    def show(self, frame: bytes) -> bytes:
        """What is written for a frame; empty if the client is not shown it."""
        raise NotImplementedError

    def unfinished(self, refusal: Refused) -> bytes:  # noqa: ARG002
        """What is written if the line is closed before all was shown, and why it was."""
        return b""

    def send_nowait(self, frames: list[bytes]) -> bool:  # noqa: ARG002
        return False

    async def send(self, frames: list[bytes]) -> None:
        if self._closed:
            raise ConnectionError
        shown = []
        for frame in frames:
            shown.append(self.show(frame))
            if self.over:
                break
        if body := b"".join(shown):
            await self._write(body)

    async def close(self, code: int, reason: str) -> None:
        if self._closed:
            return
        stops = Refused("draining", "The gateway stops; the next one answers this.")
        last = self.unfinished(Refused("internal", reason) if code == 1011 else stops)
        self.over = True
        try:
            async with asyncio.timeout(1.0):  # a peer that takes nothing cannot be told
                await self._write(last)
        except (ConnectionError, TimeoutError):
            pass

    async def _write(self, body: bytes) -> None:
        self._closed = self.over
        try:
            if not self.started:
                self.started = True
                status, headers = self.begin()
                await self._send({"type": "http.response.start", "status": status, "headers": headers})
                body = self.opening + body
            await self._send({"type": "http.response.body", "body": body, "more_body": not self._closed})
        except (OSError, RuntimeError) as error:
            raise ConnectionError from error


class Events(Stream):
    """Server-sent events of frames, as they are: `event:` is the type, `data:` the frame.

    `numbered`: `id:` is the cursor, on frames that have one; of one session only, since an EventSource knows
    one id. Such a stream ends with its session.
    """

    __slots__ = ("_numbered",)

    opening = b"retry: 1500\n\n"
    lasts = True

    def __init__(self, send: Send, *, numbered: bool) -> None:
        super().__init__(send)
        self._numbered = numbered

    def show(self, frame: bytes) -> bytes:
        # LF, never CRLF: some clients that read events by hand split at empty lines and know no other.
        kind, cursor = codec.head(frame)
        if kind == "pong":
            return COMMENT
        if not self._numbered:
            return b"event: %b\ndata: %b\n\n" % (kind.encode(), frame)
        if kind == "session" and ends(frame):
            self.over = True
        number = b"" if cursor is None else b"id: %b\n" % cursor.encode()
        return b"%bevent: %b\ndata: %b\n\n" % (number, kind.encode(), frame)


def ends(frame: bytes) -> bool:
    """Does this `session` frame tell of the session's end?"""
    return getattr(codec.decode_server_frame(frame), "status", None) in ("closed", "expired")


@asynccontextmanager
async def connected(
    supervisor: Supervisor, stream: Stream, identity: Identity, receive: Receive
) -> AsyncIterator[Connection]:
    """A connection that writes to `stream`, until the client or the stream is done. What is refused within
    the block is an HTTP error, or the stream's last frame if it has begun."""
    runtime = supervisor.runtime
    if runtime.draining:
        raise Refused("draining", "The gateway stops; come back to the next one.")
    if not stream.lasts:
        identity = identity._replace(expires_at=None)
    heartbeat = min(runtime.settings.heartbeat, QUIET)
    connection = Connection(supervisor, stream, identity, heartbeat=heartbeat, pace=PACE)
    try:
        yield connection
        while (await receive())["type"] != "http.disconnect":
            pass
    except Refused as refusal:
        if not stream.started:
            raise
        connection.refuse(refusal)
        await connection.close(1000, "Refused.")
    finally:
        connection.leave()
