"""A real HTTP server on a free port, whose answers a test writes down to the byte and the moment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from ssl import SSLContext
from typing import Any

import pytest

Answer = Callable[["Exchange"], Awaitable[None]]
WAIT = 30.0


class Exchange:
    """One request, and the way to answer it."""

    def __init__(
        self, method: str, path: str, headers: dict[str, str], body: bytes, streams: tuple[Any, Any]
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self._reader, self._writer = streams

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def begin(self, media_type: str = "", status: int = 200, **headers: str) -> None:
        """Send the head of an answer whose body comes in HTTP chunks: the client sees each as one."""
        if media_type:
            headers["Content-Type"] = media_type
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join([f"HTTP/1.1 {status} X", "Transfer-Encoding: chunked", *lines, "", ""]))

    async def send(self, *chunks: str | bytes) -> None:
        for chunk in chunks:
            data = chunk.encode() if isinstance(chunk, str) else chunk
            await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.raw("0\r\n\r\n")

    async def reply(self, body: str | bytes, media_type: str = "", status: int = 200, **headers: str) -> None:
        """A whole answer."""
        await self.begin(media_type, status, **headers)
        if body:
            await self.send(body)
        await self.end()

    async def raw(self, data: str | bytes) -> None:
        self._writer.write(data.encode() if isinstance(data, str) else data)
        await self._writer.drain()

    def drop(self) -> None:
        """The server's process dies: the connection is reset."""
        self._writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        async with asyncio.timeout(WAIT):
            with suppress(ConnectionError):
                while await self._reader.read(1 << 16):
                    pass


class Server:
    """What a test sees of it: where it is, what came, and on how many connections."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Exchange] = []
        self.connections = 0

    @property
    def only(self) -> Exchange:
        [request] = self.requests
        return request


@asynccontextmanager
async def _serving(answer: Answer, ssl: SSLContext | None = None) -> AsyncIterator[Server]:
    seen = Server()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                request_line, *lines = head.split("\r\n")[:-2]
                method, path, _ = request_line.split(" ")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                seen.requests.append(Exchange(method, path, headers, body, (reader, writer)))
                await answer(seen.requests[-1])

    async with asyncio.TaskGroup() as group:
        writers = []

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.connections += 1
            writers.append(writer)
            tasks.append(group.create_task(converse(reader, writer)))

        tasks: list[asyncio.Task[None]] = []
        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024, ssl=ssl)
        seen.url = f"{'https' if ssl else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield seen
        finally:
            server.close()
            for writer in writers:
                writer.transport.abort()
            for task in tasks:
                task.cancel()


@pytest.fixture
def serving() -> Callable[[Answer], Any]:
    """`async with serving(answer, ssl=None) as server`: `answer` is called with every request; its failures
    are the test's."""
    return _serving
