"""uvicorn's WebSocket protocol with corked writes: one write per loop pass.

`Corked` offers the app the ASGI extension `trunkline.cork`. What is above ASGI works without it, only slower.
It rests on private code of uvicorn and websockets: pyproject pins one minor of each, and `tests/test_pins.py`
has each name that is used, and what it is assumed to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from struct import pack
from typing import Any, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import OPEN

__all__ = ["CORK", "EXTENSION", "Cork", "Corked"]

EXTENSION = "trunkline.cork"
"""The key in `scope["extensions"]`; see `Corked`."""

CORK = 64 * 1024
"""Bytes collected at the most before they are written, the pass over or not."""
LINGER = 5.0
"""Seconds that a peer has, after the line was closed, to take what was written before."""

_SHORT = tuple(bytes((0x81, size)) for size in range(126))

# Why a line is not read. Bits, for a set of them would cost every idle connection 216 bytes.
QUEUE, WRITING, LIMIT = 1, 2, 4


class Cork(asyncio.Transport):
    """A transport that turns the many small writes of one loop pass into one.

    A write to an idle line goes out at once; those that follow are collected, and leave together in the next
    pass or as soon as there are `CORK` bytes. Order is kept, so control frames may be written through it too.
    The line is read while nobody holds it. Closing it waits `linger` seconds for the peer to take the rest.
    """

    __slots__ = ("_corked", "_holds", "_line", "_linger", "_loop", "_parts", "_size")

    def __init__(self, line: asyncio.Transport, loop: asyncio.AbstractEventLoop, linger: float) -> None:
        super().__init__()
        self._line = line
        self._loop = loop
        self._linger = linger
        self._parts: list[bytes] = []
        self._size = 0
        self._corked = False
        self._holds = 0

    def write(self, data: Any) -> None:
        self.push((data,), len(data))

    def push(self, parts: Iterable[bytes], size: int) -> None:
        """Write `parts`, `size` bytes together, with this pass's others."""
        self._parts += parts
        self._size += size
        if not self._corked:
            self._corked = True
            self.flush()
            self._loop.call_soon(self._uncork)
        elif self._size >= CORK:
            self.flush()

    def flush(self) -> None:
        """Write now what was collected. What a closing line cannot take any more is dropped."""
        if not self._parts:
            return
        data = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if not self._line.is_closing():
            self._line.write(data)

    def _uncork(self) -> None:
        self._corked = bool(self._parts)
        if self._corked:
            self.flush()
            self._loop.call_soon(self._uncork)

    def hold(self, why: int) -> None:
        """Do not read from the line until each reason to hold it was released."""
        if not self._holds and not self._line.is_closing():
            self._line.pause_reading()
        self._holds |= why

    def release(self, why: int) -> None:
        """The inverse of `hold`."""
        if self._holds & why:
            self._holds ^= why
            if not self._holds and not self._line.is_closing():
                self._line.resume_reading()

    def pause_reading(self) -> None:
        self.hold(QUEUE)

    def resume_reading(self) -> None:
        self.release(QUEUE)

    def is_closing(self) -> bool:
        return self._line.is_closing()

    def close(self) -> None:
        if self._line.is_closing():
            return
        self.flush()
        unsent = self._line.get_write_buffer_size()
        self._line.close()
        if unsent:  # a peer that reads no more would hold the line, and its buffer, for as long as it likes
            self._loop.call_later(self._linger, self._line.abort)


class Corked(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, corked, and deaf while its peer does not listen.

    While writing is paused the line is not read either: a client that pings without reading costs nothing.
    Per-message deflate must be off. `scope["extensions"]["trunkline.cork"]` lets the app do more:

    - `websocket.send` takes `utf8`, one message or a list of messages that are UTF-8 already. They are
      written at once, in one write, and `send` returns when the line can take more.
    - `["send_nowait"](messages)` does the same as a plain call, if the line can take them now; otherwise it
      answers False, and nothing was sent.
    - `["limit"](size)` hands the app at most `size` further bytes of what the peer sends, frame heads
      included, and then reads no more; `["limit"](None)`, or closing, reads on. If no message was whole
      within the limit, `receive` answers a `websocket.receive` with an empty `text` and `exceeded: True`.
      (websockets' own `max_message_size` will not do: a change counts only from the frame after the next.)
    """

    transport: Cork
    linger = LINGER
    _room: int | None = None
    _held = b""
    _heard = False

    def limit(self, size: int | None) -> None:
        """The extension's `limit`: how many more bytes of the peer's the app may be handed."""
        self._room, self._heard = size, False
        held, self._held = self._held, b""
        if held:
            self.data_received(held)
        if not self._held:
            self.transport.release(LIMIT)

    def send_nowait(self, messages: list[bytes]) -> bool:
        """The extension's `send_nowait`: write these text messages, if that needs no waiting."""
        if not self.writable.is_set() or self.disconnected or self.close_sent or self.conn.state is not OPEN:
            return False
        self._write_messages(messages)
        self.transport.flush()
        return True

    # ── What uvicorn and the transport call ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport = Cork(cast(asyncio.Transport, transport), self.loop, self.linger)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.hold(WRITING)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.transport.release(WRITING)

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if not self.close_sent:  # the handshake was not refused, and the app's task has not begun yet
            extension = {"limit": self.limit, "send_nowait": self.send_nowait}
            cast(dict[str, Any], self.scope["extensions"])[EXTENSION] = extension

    def data_received(self, data: bytes) -> None:
        if self._room is None:
            super().data_received(data)
            return
        taken, left = data[: self._room], data[self._room :]
        self._room -= len(taken)
        if taken:
            super().data_received(taken)
        if left:
            self._held += left
            self.transport.hold(LIMIT)
            if not self._heard:
                self._heard = True
                self.queue.put_nowait(cast(Any, {"type": "websocket.receive", "text": "", "exceeded": True}))

    def send_receive_event_to_app(self) -> None:
        self._heard = True
        if self.curr_msg_data_type == "text" and not self.close_sent and not _is_utf8(self.frames):
            # As uvicorn would, but without a traceback in the log for whatever a client may send.
            self.frames = []
            self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.close":
            self.writable.set()  # or a peer that does not read could not be closed
            await super().send(message)
            self.limit(None)
            return
        utf8 = message.get("utf8")
        text = message.get("text")
        if (utf8 is None and text is None) or not self.handshake_complete or self.close_sent:
            await super().send(message)
            if message["type"] == "websocket.http.response.body":
                # uvicorn forgets it (its #3138), and would log an error for every upgrade that is refused.
                self.handshake_complete = self.close_sent
            return
        if not self.writable.is_set():
            await self.writable.wait()
        if self.disconnected or self.conn.state is not OPEN:
            raise ClientDisconnected
        if utf8 is None:
            self._write_messages((text.encode(),))
            return
        self._write_messages((utf8,) if isinstance(utf8, bytes) else utf8)
        self.transport.flush()
        if not self.writable.is_set():
            await self.writable.wait()

    def _write_messages(self, messages: Iterable[bytes]) -> None:
        parts: list[bytes] = []
        size = 0
        for data in messages:
            length = len(data)
            head = _SHORT[length] if length < 126 else _long_head(length)
            parts += (head, data)
            size += len(head) + length
        self.transport.push(parts, size)


def _long_head(length: int) -> bytes:
    """The head of an unmasked, whole text frame of 126 bytes or more (RFC 6455, 5.2)."""
    return pack("!BBH", 0x81, 126, length) if length < 65536 else pack("!BBQ", 0x81, 127, length)


def _is_utf8(parts: Iterable[bytes]) -> bool:
    try:
        b"".join(parts).decode()
    except UnicodeDecodeError:
        return False
    return True
