"""A client on a real WebSocket, whose every frame is folded into the transcript of its session."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from protocol import codec, frames
from protocol.transcript import Transcript

__all__ = ["WAIT", "Line", "opened"]

WAIT = 30.0
"""Seconds that a test waits for anything."""


class Line:
    """One connection. It reads when the test waits for something, and not before; `transcripts` may outlive
    it, and then go on where the last line broke off."""

    def __init__(self, socket: ClientConnection, transcripts: dict[str, Transcript] | None = None) -> None:
        self.socket = socket
        self.transcripts = {} if transcripts is None else transcripts
        self.frames: list[frames.ServerFrame] = []
        self._unread: deque[frames.ServerFrame] = deque()

    async def put(self, type: str, **fields: Any) -> None:  # noqa: A002
        """Send a frame."""
        await self.socket.send(codec.encode({"type": type, **fields}).decode())

    async def next(self) -> frames.ServerFrame:
        """The next frame. Raises `OutOfOrder` if the protocol rules it out, `ConnectionClosed` at the end."""
        while not self._unread:
            self._unread += codec.decode_batch(await self.socket.recv())
        frame = self._unread.popleft()
        self.frames.append(frame)
        session_id = getattr(frame, "session_id", None)
        if isinstance(frame, frames.Attached):
            self.transcripts.setdefault(frame.session_id, Transcript(frame.session_id))
        if session_id in self.transcripts:
            self.transcripts[session_id].apply(frame)
        return frame

    async def until(
        self, condition: Callable[[frames.ServerFrame], bool], seconds: float = WAIT
    ) -> frames.ServerFrame:
        """The first frame that came, or comes, of which this is true."""
        async with asyncio.timeout(seconds):
            for frame in self.frames:
                if condition(frame):
                    return frame
            while True:
                if condition(frame := await self.next()):
                    return frame

    async def read(self, condition: Callable[[], bool], seconds: float = WAIT) -> None:
        """Read on until that is so."""
        async with asyncio.timeout(seconds):
            while not condition():
                await self.next()

    async def answer(self, ref: str) -> Any:
        """The answer to the frame with that ref."""
        return await self.until(lambda frame: getattr(frame, "ref", None) == ref)

    async def terminal(self, turn_id: str) -> Any:
        """The end of that turn."""
        return await self.until(lambda frame: ends(frame) and getattr(frame, "turn_id", None) == turn_id)

    async def closed(self) -> int | None:
        """The close code with which the server ends the line; everything before is read."""
        try:
            async with asyncio.timeout(WAIT):
                while True:
                    await self.next()
        except ConnectionClosed:
            return self.socket.close_code


def ends(frame: frames.ServerFrame) -> bool:
    """Is it the terminal frame of a turn?"""
    return isinstance(frame, frames.Response) or (
        isinstance(frame, frames.Error) and frame.cursor is not None
    )


@asynccontextmanager
async def opened(
    url: str, transcripts: dict[str, Transcript] | None = None, **options: Any
) -> AsyncIterator[Line]:
    """A line to `ws://…/ws` or another address of the gateway's."""
    quiet: dict[str, Any] = {"compression": None, "ping_interval": None, "max_size": None, "close_timeout": 1}
    async with asyncio.timeout(WAIT):
        socket = await connect(url, **(quiet | options))
    async with socket:
        yield Line(socket, transcripts)
