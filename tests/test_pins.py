"""What `cork.py` and `serve.py` use of the private code of uvicorn and websockets: each name, and what it is
assumed to do. A new minor of either is let in by raising its pin, and by mending what then fails here."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import signal
import tomllib
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from gateway import cork, serve
from tests.gateway.serving import accepting, on_uvloop, stay, until, with_lifespan

Check = Callable[[], Awaitable[None]]
ASSUMED: dict[str, tuple[str, Check]] = {}
"""By `Class.name`: what it is taken to do, and what proves it."""


def assumed(*names: str) -> Callable[[Check], Check]:
    """Proves what is assumed of these names; the docstring says what that is."""

    def note(check: Check) -> Check:
        ASSUMED.update((name, (check.__doc__ or "", check)) for name in names)
        return check

    return note


# ── One line, with uvicorn's own protocol at its end ──


class Socket(asyncio.Transport):
    """Keeps what is written, and whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.closing = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True


class Line:
    """uvicorn's protocol, and a client that speaks to it."""

    def __init__(
        self, app: Any = None, kind: type[WebSocketsSansIOProtocol] = WebSocketsSansIOProtocol
    ) -> None:
        config = serve.configure(app or accepting(stay))
        config.load()
        self.socket = Socket()
        self.uvicorn = kind(config, ServerState(), {})
        self.uvicorn.connection_made(self.socket)
        self.client = ClientProtocol(parse_uri("ws://peer/"), max_size=None)

    def ask(self) -> None:
        self.client.send_request(self.client.connect())
        self.flush()

    def flush(self) -> None:
        self.uvicorn.data_received(b"".join(self.client.data_to_send()))

    def heard(self) -> list[Frame]:
        self.client.receive_data(self.socket.written)
        self.socket.written = b""
        return [event for event in self.client.events_received() if isinstance(event, Frame)]

    async def accepted(self) -> Line:
        self.ask()
        await until(lambda: self.uvicorn.handshake_complete)
        self.heard()
        return self


@assumed("Corked.loop", "Corked.transport", "Corked.connection_made")
async def _() -> None:
    """`connection_made` is called once, with the socket's transport; it is kept as `transport`, and `loop` is
    the loop it runs in. Everything is written and closed through `self.transport` from then on."""
    line = Line()
    assert line.uvicorn.transport is line.socket
    assert line.uvicorn.loop is asyncio.get_running_loop()
    other = line.uvicorn.transport = Socket()
    line.ask()
    await until(lambda: bool(other.written))
    line.uvicorn.shutdown()
    assert other.closing
    assert not line.socket.written
    assert not line.socket.closing


@assumed("Corked.writable", "Corked.pause_writing", "Corked.resume_writing")
async def _() -> None:
    """`writable` is an event, set at first. The transport calls `pause_writing`, which clears it, and
    `resume_writing`, which sets it; a line that is lost sets it, too."""
    line = await Line().accepted()
    assert isinstance(line.uvicorn.writable, asyncio.Event)
    assert line.uvicorn.writable.is_set()
    line.uvicorn.pause_writing()
    assert not line.uvicorn.writable.is_set()
    line.uvicorn.resume_writing()
    assert line.uvicorn.writable.is_set()
    line.uvicorn.pause_writing()
    line.uvicorn.connection_lost(None)
    assert line.uvicorn.writable.is_set()


@assumed("Corked.handle_connect", "Corked.scope")
async def _() -> None:
    """`handle_connect` makes `scope`, whose extensions are a dict that may be added to, and starts the app's
    task, which has not begun when it returns."""
    scopes: list[Any] = []

    class Extended(WebSocketsSansIOProtocol):
        def handle_connect(self, event: Any) -> None:
            super().handle_connect(event)
            assert not scopes
            self.scope["extensions"]["added"] = {}  # type: ignore[index]

    async def app(scope: Any, receive: Any, _send: Any) -> None:
        scopes.append(scope)
        await stay(receive, None)

    Line(with_lifespan(app), Extended).ask()
    await until(lambda: bool(scopes))
    assert set(scopes[0]["extensions"]) == {"websocket.http.response", "added"}


@assumed("Corked.close_sent")
async def _() -> None:
    """`close_sent` is False until a close frame, or a refusal of the handshake, was written."""
    line = await Line().accepted()
    assert not line.uvicorn.close_sent
    await line.uvicorn.send({"type": "websocket.close", "code": 1000})
    assert line.uvicorn.close_sent
    refused = Line()
    refused.uvicorn.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert refused.uvicorn.close_sent
    assert refused.socket.written.startswith(b"HTTP/1.1 426")


@assumed("Corked.handshake_complete")
async def _() -> None:
    """`handshake_complete` is False until the app has accepted; without it a task that ends is an error."""
    line = Line()
    line.ask()
    assert not line.uvicorn.handshake_complete
    await until(lambda: line.uvicorn.handshake_complete)


@assumed("Corked.disconnected", "uvicorn.ClientDisconnected")
async def _() -> None:
    """`disconnected` is set when the line is lost, and who then sends gets an `OSError`."""
    line = await Line().accepted()
    assert not line.uvicorn.disconnected
    line.uvicorn.connection_lost(ConnectionResetError())
    assert line.uvicorn.disconnected
    assert issubclass(ClientDisconnected, OSError)
    with pytest.raises(ClientDisconnected):
        await line.uvicorn.send({"type": "websocket.send", "text": "x"})


@assumed("Corked.conn", "conn.state", "conn.send_close", "websockets.OPEN", "Corked.handle_parser_exception")
async def _() -> None:
    """`conn` is the Sans-I/O protocol of websockets, whose `state` is OPEN from the handshake until a close
    frame came or went. After `send_close(code)`, `handle_parser_exception` writes that frame and closes."""
    line = await Line().accepted()
    assert line.uvicorn.conn.state is OPEN
    line.uvicorn.conn.send_close(1007)
    assert line.uvicorn.conn.state is not OPEN
    line.uvicorn.handle_parser_exception()
    line.heard()
    assert line.client.close_rcvd is not None
    assert line.client.close_rcvd.code == 1007
    assert (line.socket.closing, line.uvicorn.close_sent) == (True, True)
    line = await Line().accepted()
    line.client.send_close(1000)
    line.flush()
    assert line.uvicorn.conn.state is not OPEN


@assumed(
    "Corked.data_received", "Corked.send_receive_event_to_app", "Corked.frames", "Corked.curr_msg_data_type"
)
async def _() -> None:
    """`data_received` takes bytes cut anywhere, and calls `send_receive_event_to_app` once for each whole
    message: `frames` holds its bytes, and `curr_msg_data_type` says whether it is text."""
    whole: list[tuple[str, bytes]] = []

    class Noting(WebSocketsSansIOProtocol):
        def send_receive_event_to_app(self) -> None:
            whole.append((self.curr_msg_data_type, b"".join(self.frames)))
            super().send_receive_event_to_app()

    line = await Line(kind=Noting).accepted()
    line.client.send_text("ü".encode(), fin=False)
    line.client.send_continuation(b"b", fin=True)
    line.client.send_binary(b"\xff")
    for byte in b"".join(line.client.data_to_send()):
        line.uvicorn.data_received(bytes((byte,)))
    assert whole == [("text", "üb".encode()), ("bytes", b"\xff")]


@assumed("Corked.queue")
async def _() -> None:
    """What is put into `queue` is what the app receives next, in order."""
    received: list[Any] = []

    async def app(receive: Any, _send: Any) -> None:
        received.append(await receive())
        received.append(await receive())

    line = await Line(accepting(app)).accepted()
    line.uvicorn.queue.put_nowait({"type": "websocket.receive", "text": "put"})
    line.client.send_text(b"sent")
    line.flush()
    await until(lambda: len(received) == 2)
    assert [message["text"] for message in received] == ["put", "sent"]


@assumed("Corked.send")
async def _() -> None:
    """`send` takes what ASGI says, waits for nothing while `writable` is set, and its close does not wait for
    the peer. It encodes a text as one frame: what Corked writes by itself is spelled the same."""
    line = await Line().accepted()
    sending = line.uvicorn.send({"type": "websocket.send", "text": "ü"})
    with pytest.raises(StopIteration):
        sending.send(None)
    assert line.socket.written == Frame(Opcode.TEXT, "ü".encode()).serialize(mask=False)
    closing = line.uvicorn.send({"type": "websocket.close", "code": 1001})
    with pytest.raises(StopIteration):
        closing.send(None)


# ── The server ──


@assumed("Server.startup", "Server.started", "Server.servers", "Server.config")
async def _() -> None:
    """`startup` runs in the loop that serves, and sets `started` unless the app failed; `servers` then hold
    the sockets, with the ports they really got, and `config` is the one it was made with."""
    loops: list[Any] = []

    class Noting(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            loops.append(asyncio.get_running_loop())
            assert not self.started
            await super().startup(sockets)
            assert self.started
            assert self.servers[0].sockets[0].getsockname()[1] > 0
            self.should_exit = True

    config = serve.configure(with_lifespan(accepting(stay)), port=0)
    server = Noting(config)
    assert server.config is config
    with anyio.fail_after(5):
        await server.serve()
    assert loops == [asyncio.get_running_loop()]


@assumed("Server.shutdown", "Server.should_exit", "Server.force_exit", "Server.handle_exit")
async def _() -> None:
    """Signals call `handle_exit`. Once `should_exit` is set, `shutdown` is awaited, once, and ends the
    lifespan at last; where `force_exit` is set it does not."""
    calls: list[str] = []
    ended = False

    class Noting(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002
            calls.append(f"signal {sig:d}")
            self.force_exit = force
            self.should_exit = True

        async def shutdown(self, sockets: Any = None) -> None:
            calls.append("shutdown")
            await super().shutdown(sockets)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal ended
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        ended = True
        await send({"type": "lifespan.shutdown.complete"})

    for force in (False, True):
        ended = False
        server = Noting(serve.configure(app, port=0))
        async with asyncio.TaskGroup() as group, asyncio.timeout(5):
            group.create_task(server.serve())
            await until(lambda server=server: server.started)  # type: ignore[misc]
            signal.raise_signal(signal.SIGTERM)
        assert ended is not force
    assert calls == ["signal 15", "shutdown"] * 2


@pytest.mark.parametrize("name", ASSUMED)
def test_what_is_taken_of_others_private_code_is_so(name: str) -> None:
    sentence, check = ASSUMED[name]
    assert sentence
    on_uvloop(check)()


@pytest.mark.parametrize(
    ("ours", "theirs"), [(cork.Corked, WebSocketsSansIOProtocol), (serve.Server, uvicorn.Server)]
)
def test_each_name_that_is_taken_of_uvicorns_classes_is_among_these(ours: type, theirs: type) -> None:
    """What the class uses of itself and its base that it does not define, and what it overrides."""
    tree = ast.parse(inspect.getsource(ours))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "super()")
    }
    set_here = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    } - set(dir(theirs))
    own = {name for name in vars(ours) if not hasattr(theirs, name)}
    overridden = {name for name in vars(ours) if hasattr(theirs, name) and not name.startswith("__")}
    made = ours.__name__
    known = {name.partition(".")[2] for name in ASSUMED if name.startswith(f"{made}.")}
    taken = {name for name in (used - own) | overridden if not name.startswith("__")}
    assert taken - {name for name in set_here if name.startswith("_")} == known


@pytest.mark.parametrize("package", ["uvicorn", "websockets"])
def test_a_package_whose_private_code_is_used_is_pinned_to_one_minor(package: str) -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    [pin] = [line for line in project["dependencies"] if line.startswith(package)]
    found = re.fullmatch(rf"{package}>=(\d+)\.(\d+),<(\d+)\.(\d+)", pin)
    assert found is not None, f"{pin} is no pin to one minor"
    major, minor, next_major, next_minor = map(int, found.groups())
    assert (next_major, next_minor) == (major, minor + 1)
    assert version(package).split(".")[:2] == [str(major), str(minor)]
