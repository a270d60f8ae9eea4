"""Who is measured: a server to run, and how to talk to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, json

from tests.bench.process import ServerProcess
from tests.bench.wire import Collect, Wire


class Bare:
    """Talks to the bare handler."""

    path = "/ws"

    async def open(self, wire: Wire) -> None:
        """Wait until the line is ready for turns."""
        await wire.until(lambda: wire.open)

    async def attach(self, wire: Wire, sessions: Iterable[str], *, create: bool = True) -> None:
        """Follow these sessions."""

    def turn(self, session: str, metadata: Mapping[str, Any]) -> bytes:
        """The message that starts a turn."""
        return json.encode({"type": "message", "session_id": session, "content": "go", "metadata": metadata})


class SocketIO(Bare):
    """Talks to python-socketio: Engine.IO 4 packets over a WebSocket."""

    path = "/socket.io/?EIO=4&transport=websocket"

    async def open(self, wire: Wire) -> None:
        greeting = wire.greeting
        await wire.until(lambda: greeting.data.startswith(b"0{"))
        wire.send(b"40")
        await wire.until(lambda: b"40{" in greeting.data)

    def turn(self, session: str, metadata: Mapping[str, Any]) -> bytes:
        return b'42["message",' + super().turn(session, metadata) + b"]"


class Ours(Bare):
    """Talks to the gateway; `batch` asks for several frames in one message."""

    def __init__(self, *, batch: bool) -> None:
        self._batch = batch

    async def open(self, wire: Wire) -> None:
        greeting = wire.greeting
        await wire.until(lambda: b'"connected"' in greeting.data)
        if self._batch:
            wire.send(b'{"type":"hello","batch":true}')
            await wire.until(lambda: greeting.data.count(b'"connected"') == 2)

    async def attach(self, wire: Wire, sessions: Iterable[str], *, create: bool = True) -> None:
        asked = [{"session_id": session, "history": 0, "create": create} for session in sessions]
        answers = wire.listener = Collect()
        wire.send(json.encode({"type": "attach", "ref": "attach", "sessions": asked}))
        await wire.until(lambda: b'"ref":"attach"' in answers.data)
        if (count := answers.data.count(b'"attached"')) != len(asked):
            raise RuntimeError(f"{count} of {len(asked)} sessions attached: {answers.data[:500].decode()}")


class Subject(Struct, frozen=True):
    """One server as one kind of client sees it."""

    module: str
    dialect: Bare
    arguments: tuple[str, ...] = ()
    """`{tmp}` becomes a fresh directory."""


SUBJECTS = {
    "ours": Subject("ours", Ours(batch=True), ("memory",)),
    "ours, no batch": Subject("ours", Ours(batch=False), ("memory",)),
    "ours, sqlite": Subject("ours", Ours(batch=True), ("{tmp}/bench.db",)),
    "ours, 10,000 sessions": Subject("rest", Ours(batch=True), ("{tmp}/bench.db", "0")),
    "ours, 110,000 sessions": Subject("rest", Ours(batch=True), ("{tmp}/bench.db", "100000")),
    "bare": Subject("bare", Bare()),
    "socketio": Subject("socketio", SocketIO()),
    "sse-starlette": Subject("sse", Bare()),
    "uvicorn": Subject("idle", Bare()),
}


class Run(Struct):
    """One run of one measure: the server, and how to talk to it."""

    server: ServerProcess
    dialect: Bare

    async def connect(self) -> Wire:
        """A line that is ready for turns."""
        loop = asyncio.get_running_loop()
        wire = Wire(self.dialect.path)
        await loop.create_connection(lambda: wire, self.server.host, self.server.port)
        await self.dialect.open(wire)
        return wire

    async def connect_many(self, count: int) -> list[Wire]:
        """As many lines, a hundred at a time."""
        wires: list[Wire] = []
        while len(wires) < count:
            wires += await asyncio.gather(*(self.connect() for _ in range(min(100, count - len(wires)))))
        return wires

    async def attached(self, sessions: Iterable[str]) -> Wire:
        """A line that follows these sessions."""
        wire = await self.connect()
        await self.dialect.attach(wire, sessions)
        return wire

    async def http(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The body of an HTTP answer."""
        reader, writer = await asyncio.open_connection(self.server.host, self.server.port)
        writer.write(request(method, path, body))
        head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise RuntimeError(f"{method} {path}: {head.decode()} {answer.decode()}")
        return answer


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """An HTTP/1.1 request that is the only one on its connection."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body
