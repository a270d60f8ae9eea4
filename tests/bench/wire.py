"""The load's end of the line: raw protocols that count what arrives and cost next to nothing."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import cast

SECONDS = 60.0
"""The longest that anything is waited for."""

Listener = Callable[[bytearray], None]
"""Takes each whole message (WebSocket) or block of whole events (SSE)."""


class Line(asyncio.Protocol):
    """A connection whose bytes go to a listener, and somebody may wait for what the listener finds."""

    def __init__(self) -> None:
        self.greeting = Collect()
        """What came before anybody listened."""
        self.listener: Listener = self.greeting
        self._buffer = bytearray()
        self._condition: Callable[[], bool] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._parse()
        if self._waiter and self._condition and not self._waiter.done() and self._condition():
            self._waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionError("the server closed the line"))

    def _parse(self) -> None:
        raise NotImplementedError

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds after something arrived. Raises `TimeoutError` after `SECONDS`."""
        if condition():
            return
        self._condition = condition
        self._waiter = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(SECONDS):
            await self._waiter

    def close(self) -> None:
        self.transport.close()


class Wire(Line):
    """A WebSocket client. Its masking key is zero, which masks nothing and costs the server the same."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._need = 0
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def send(self, *messages: bytes) -> None:
        """Send text messages, in one write."""
        self.transport.write(b"".join(_head(0x81, len(message)) + message for message in messages))

    def _parse(self) -> None:
        if not self.open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                raise ConnectionError(head.decode())
            self.open, self._buffer = True, rest
        buffer = self._buffer
        end = len(buffer)
        if end < self._need:
            return
        at = self._need = 0
        while end - at >= 2:
            length = buffer[at + 1]
            body = at + 2
            if length > 125:
                width = 2 if length == 126 else 8
                if end - body < width:
                    break
                length = int.from_bytes(buffer[body : body + width])
                body += width
            stop = body + length
            if stop > end:
                self._need = stop - at
                break
            if buffer[at] == 0x81:
                self.listener(buffer[body:stop])
            elif buffer[at] == 0x89:
                self.transport.write(_head(0x8A, length) + buffer[body:stop])
            at = stop
        del buffer[:at]


def _head(first: int, length: int) -> bytes:
    if length < 126:
        return bytes((first, 0x80 | length, 0, 0, 0, 0))
    width, mark = (2, 0xFE) if length < 65536 else (8, 0xFF)
    return bytes((first, mark)) + length.to_bytes(width) + bytes(4)


class Stream(Line):
    """An SSE client. Chunk sizes stand between events and are overlooked."""

    def __init__(self, request: bytes, listener: Listener) -> None:
        super().__init__()
        self.listener = listener
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(self._request)

    def _parse(self) -> None:
        end = self._buffer.rfind(b"\n\n")
        if end >= 0:
            self.listener(self._buffer[:end])
            del self._buffer[: end + 2]


class Collect:
    """Keeps everything."""

    def __init__(self) -> None:
        self.data = bytearray()

    def __call__(self, message: bytearray) -> None:
        self.data += message
        self.data += b"\n"


class Tally:
    """Counts deltas of `tok `, merged or not, and ends of turns. A `response`'s whole text does not count."""

    def __init__(self) -> None:
        self.deltas = 0
        self.turns = 0

    def __call__(self, message: bytearray) -> None:
        if b'"response"' not in message and b'"error"' not in message:
            self.deltas += message.count(b"tok ")
            return
        for line in message.split(b"\n"):
            if b'"response"' in line and not line.startswith(b"event:"):
                self.turns += 1
            elif b'"error"' in line:
                raise RuntimeError(line.decode())
            else:
                self.deltas += line.count(b"tok ")


class Latencies:
    """Collects how late each paced delta arrived, in nanoseconds after it was due."""

    _content = re.compile(rb'"content":"([0-9a-f]{16,})"')

    def __init__(self) -> None:
        self.late: list[int] = []

    def __call__(self, message: bytearray) -> None:
        now = time.monotonic_ns()
        for line in message.split(b"\n") if b'"response"' in message else (message,):
            if b'"response"' not in line:
                for content in self._content.findall(line):
                    self.late += [now - int(content[at : at + 16], 16) for at in range(0, len(content), 16)]
