"""What stands between a browser and its gateway: a proxy that a test may make worse at any moment."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

__all__ = ["Proxy", "proxy"]

CHUNK = 64 << 10
REFUSED = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """Relays bytes to the gateway at `url`, the proxy's own. What is set holds from the next bytes on."""

    upgrades = True
    """Are WebSockets let through?"""
    buffers = False
    """Are event streams held back until they end?"""
    lifetime: float | None = None
    """Seconds after which each connection is cut."""

    def __init__(self, gateway: str) -> None:
        self.url = ""
        self.refused = 0
        """Upgrades that were."""
        self.connections = 0
        """All that there ever were."""
        self._gateway = urlsplit(gateway)
        self._open: dict[StreamWriter, asyncio.Task[None]] = {}
        self._flows = asyncio.Event()
        self._flows.set()

    def cut(self) -> int:
        """Cuts every connection, as many as that answers."""
        for writer in self._open:
            writer.transport.abort()
        return len(self._open)

    def freeze(self) -> None:
        """From now on nothing gets through, and nobody is told."""
        self._flows.clear()

    def thaw(self) -> None:
        """What was frozen goes on."""
        self._flows.set()

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection of a browser."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open[writer] = task
        try:
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(self.lifetime):
                    await self._relay(reader, writer)
        finally:
            del self._open[writer]
            writer.transport.abort()

    async def _relay(self, reader: StreamReader, writer: StreamWriter) -> None:
        await self._flows.wait()
        there, back = await asyncio.open_connection(self._gateway.hostname, self._gateway.port)
        held = _Held()
        async with asyncio.TaskGroup() as group:
            for flow in (self._up(reader, back, writer, held), self._down(there, writer, held)):
                group.create_task(_until_cut(flow, back, writer))

    async def _up(self, reader: StreamReader, back: StreamWriter, writer: StreamWriter, held: _Held) -> None:
        while data := await reader.read(CHUNK):
            await self._flows.wait()
            if not self.upgrades and b"upgrade: websocket" in data.lower():
                self.refused += 1
                writer.write(REFUSED)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
                return
            held.on = self.buffers and data.startswith(b"POST /events")
            back.write(data)
            await back.drain()

    async def _down(self, there: StreamReader, writer: StreamWriter, held: _Held) -> None:
        while data := await there.read(CHUNK):
            await self._flows.wait()
            if not held.on:
                writer.write(data)
                await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def stop(self) -> None:
        """Cuts every connection, and waits for the ends."""
        self.thaw()
        tasks = [*self._open.values()]
        self.cut()
        await asyncio.gather(*tasks)


async def _until_cut(flow: Coroutine[None, None, None], *ends: StreamWriter) -> None:
    """One direction. When it ends, however it does, so does the other."""
    try:
        with suppress(ConnectionError):
            await flow
    finally:
        for end in ends:
            end.transport.abort()


class _Held:
    """Is the answer to what was last asked held back?"""

    on = False


@asynccontextmanager
async def proxy(gateway: str) -> AsyncIterator[Proxy]:
    """A proxy on a free port before the gateway at that URL."""
    between = Proxy(gateway)
    server = await asyncio.start_server(between.serve, "127.0.0.1", 0)
    between.url = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
    try:
        yield between
    finally:
        server.close()
        await between.stop()
