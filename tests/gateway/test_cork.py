"""Below ASGI, one line: corking, flow control, limits, and what they assume of uvicorn."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
import uvicorn
from anyio.lowlevel import checkpoint
from uvicorn.server import ServerState
from websockets.asyncio.client import connect
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from gateway.cork import CORK, EXTENSION, Corked
from gateway.serve import MAX_SIZE, configure
from tests.gateway.serving import (
    WebSocketApp,
    accept,
    accepting,
    on_uvloop,
    serving,
    stay,
    until,
    with_lifespan,
    ws,
)

SIZES = [0, 1, 125, 126, 127, 65535, 65536, MAX_SIZE]
"""Around every change in how a frame spells its length (RFC 6455, 5.2)."""

# ── Both ends in memory ──


class Line(asyncio.Transport):
    """The socket's place: keeps each write, and whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.reading = True
        self.closing = False
        self.unsent = 0
        self.aborted = anyio.Event()

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted.set()


class Peer:
    """A client in memory, talking to a `Corked` as uvicorn's HTTP protocol sets it up."""

    def __init__(self, app: WebSocketApp, protocol: type[Corked] = Corked) -> None:
        config = configure(app)
        config.load()
        self.line = Line()
        self.server = protocol(config, ServerState(), {})
        self.server.connection_made(self.line)
        self.client = ClientProtocol(parse_uri("ws://peer/"), max_size=None)
        self.client.send_request(self.client.connect())
        self.flush()

    def flush(self) -> None:
        """Hand what the client has sent to the server, in one segment."""
        self.server.data_received(b"".join(self.client.data_to_send()))

    def say(self, *texts: str) -> None:
        for text in texts:
            self.client.send_text(text.encode())
        self.flush()

    def heard(self) -> list[Frame]:
        """The frames that the server has written since this was last asked."""
        for data in self.line.writes:
            self.client.receive_data(data)
        self.line.writes.clear()
        return [event for event in self.client.events_received() if isinstance(event, Frame)]

    async def accepted(self) -> None:
        await until(lambda: self.server.handshake_complete)
        self.heard()


def texts(frames: list[Frame]) -> list[str]:
    return [bytes(frame.data).decode() for frame in frames if frame.opcode is Opcode.TEXT]


async def passes(count: int = 5) -> None:
    """Let everything that could run without further input run."""
    for _ in range(count):
        await checkpoint()


async def test_frames_of_one_pass_leave_in_one_write_after_the_first() -> None:
    go = anyio.Event()

    async def app(receive: Any, send: Any) -> None:
        await go.wait()
        for number in range(100):
            await send({"type": "websocket.send", "text": str(number)})
        await receive()

    peer = Peer(accepting(app))
    await peer.accepted()
    await passes()
    go.set()
    await passes()
    assert len(peer.line.writes) == 2
    assert texts(peer.heard()) == [str(number) for number in range(100)]


async def test_the_first_frame_on_an_idle_line_leaves_in_its_own_pass() -> None:
    peer: Peer
    written: list[int] = []

    async def app(receive: Any, send: Any) -> None:
        await passes()
        peer.line.writes.clear()
        await send({"type": "websocket.send", "text": "now"})
        written.append(len(peer.line.writes))
        await receive()

    peer = Peer(accepting(app))
    await until(lambda: bool(written))
    assert written == [1]


async def test_a_cork_that_is_full_does_not_wait_for_the_pass_to_end() -> None:
    peer: Peer
    pending: list[int] = []

    async def app(receive: Any, send: Any) -> None:
        for _ in range(1000):
            await send({"type": "websocket.send", "text": "x" * 1000})
            pending.append(1002 * len(pending) - sum(map(len, peer.line.writes)))
        await receive()

    peer = Peer(accepting(app))
    await until(lambda: len(pending) == 1000)
    assert max(pending) < CORK


async def test_a_list_of_utf8_messages_is_one_write_made_at_once() -> None:
    peer: Peer
    written: list[int] = []

    async def app(receive: Any, send: Any) -> None:
        peer.heard()
        await send({"type": "websocket.send", "text": "corked"})
        await send({"type": "websocket.send", "utf8": [b"a", "ü".encode(), b""]})
        written.append(len(peer.line.writes))
        await receive()

    peer = Peer(accepting(app))
    await until(lambda: bool(written))
    assert written == [1]
    assert texts(peer.heard()) == ["corked", "a", "ü", ""]


@pytest.mark.parametrize("size", SIZES)
async def test_a_message_is_spelled_as_websockets_would(size: int) -> None:
    async def app(receive: Any, send: Any) -> None:
        await passes()
        await send({"type": "websocket.send", "utf8": b"x" * size})
        await receive()

    peer = Peer(accepting(app))
    await peer.accepted()
    await until(lambda: bool(peer.line.writes))
    assert b"".join(peer.line.writes) == Frame(Opcode.TEXT, b"x" * size).serialize(mask=False)


async def test_a_pong_keeps_its_place_among_corked_frames() -> None:
    peer: Peer
    done = anyio.Event()

    async def app(receive: Any, send: Any) -> None:
        peer.heard()
        await send({"type": "websocket.send", "text": "before"})
        peer.client.send_ping(b"?")
        peer.flush()
        await send({"type": "websocket.send", "text": "after"})
        done.set()
        await receive()

    peer = Peer(accepting(app))
    await until(done.is_set)
    await passes()
    assert [bytes(frame.data) for frame in peer.heard()] == [b"before", b"?", b"after"]


async def test_closing_sends_what_is_corked_first() -> None:
    async def app(_receive: Any, send: Any) -> None:
        for text in "abc":
            await send({"type": "websocket.send", "text": text})
        await send({"type": "websocket.close", "code": 1001})

    peer = Peer(accepting(app))
    await until(lambda: peer.server.close_sent)
    await passes()
    assert texts(peer.heard()) == ["a", "b", "c"]
    assert peer.client.close_rcvd is not None
    assert peer.client.close_rcvd.code == 1001


async def test_uvicorns_shutdown_sends_what_is_corked_first() -> None:
    async def app(receive: Any, send: Any) -> None:
        for text in "abc":
            await send({"type": "websocket.send", "text": text})
        await receive()

    peer = Peer(accepting(app))
    await until(lambda: peer.server.handshake_complete)
    peer.server.shutdown()
    assert texts(peer.heard()) == ["a", "b", "c"]
    assert peer.client.close_rcvd is not None
    assert peer.client.close_rcvd.code == 1012


@pytest.mark.parametrize("payload", [{"text": "x"}, {"utf8": b"x"}, {"bytes": b"x"}])
async def test_send_waits_while_writing_is_paused(payload: dict[str, Any]) -> None:
    sent: list[int] = []

    async def app(receive: Any, send: Any) -> None:
        await receive()
        for number in range(3):
            await send({"type": "websocket.send", **payload})
            sent.append(number)
        await receive()

    peer = Peer(accepting(app))
    await peer.accepted()
    peer.server.pause_writing()
    peer.server.queue.put_nowait({"type": "websocket.receive", "text": "go"})
    await passes()
    assert sent == []
    peer.server.resume_writing()
    await until(lambda: len(sent) == 3)


async def test_sending_utf8_returns_when_the_line_can_take_more() -> None:
    sent = anyio.Event()

    async def app(receive: Any, send: Any) -> None:
        peer.line.write = fill  # type: ignore[method-assign]
        await send({"type": "websocket.send", "utf8": b"x"})
        sent.set()
        await receive()

    def fill(_data: bytes) -> None:
        peer.server.pause_writing()

    peer = Peer(accepting(app))
    await until(lambda: not peer.server.writable.is_set())
    await passes()
    assert not sent.is_set()
    peer.server.resume_writing()
    await until(sent.is_set)


async def test_a_peer_that_does_not_read_is_not_read() -> None:
    peer = Peer(accepting(stay))
    await peer.accepted()
    peer.server.pause_writing()
    assert not peer.line.reading
    peer.server.queue.put_nowait({"type": "websocket.receive", "text": "received before"})
    await passes()
    assert not peer.line.reading
    peer.server.resume_writing()
    assert peer.line.reading


async def test_a_message_not_yet_received_holds_the_line_also_when_writing_resumes() -> None:
    async def app(receive: Any, _send: Any) -> None:
        await go.wait()
        await receive()
        await receive()

    go = anyio.Event()
    peer = Peer(accepting(app))
    await peer.accepted()
    peer.say("one")
    peer.server.pause_writing()
    peer.server.resume_writing()
    assert not peer.line.reading
    go.set()
    await until(lambda: peer.line.reading)


async def test_a_peer_that_does_not_read_can_be_closed() -> None:
    class Hasty(Corked):
        linger = 0.01
        close_timeout = 0.01

    async def app(receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 1013})

    peer = Peer(accepting(app), Hasty)
    peer.server.close_timeout = 0.01
    await peer.accepted()
    peer.line.unsent = 1
    peer.server.pause_writing()
    peer.server.queue.put_nowait({"type": "websocket.receive", "text": "go"})
    with anyio.fail_after(5):
        await peer.line.aborted.wait()
    peer.heard()
    assert peer.client.close_rcvd is not None
    assert peer.client.close_rcvd.code == 1013


@pytest.mark.parametrize("payload", [{"text": "x"}, {"utf8": b"x"}])
async def test_sending_to_a_peer_that_is_gone_raises_an_os_error(payload: dict[str, Any]) -> None:
    raised: list[BaseException] = []

    async def app(receive: Any, send: Any) -> None:
        await receive()
        try:
            await send({"type": "websocket.send", **payload})
        except OSError as error:
            raised.append(error)

    peer = Peer(accepting(app))
    await peer.accepted()
    peer.server.connection_lost(None)
    await until(lambda: bool(raised))


async def test_what_is_corked_when_the_line_is_lost_is_dropped() -> None:
    async def app(_receive: Any, send: Any) -> None:
        await passes()
        await send({"type": "websocket.send", "text": "left"})
        await send({"type": "websocket.send", "text": "corked"})
        peer.line.closing = True
        peer.server.connection_lost(ConnectionResetError())
        gone.set()

    gone = anyio.Event()
    peer = Peer(accepting(app))
    await until(gone.is_set)
    await passes()
    assert texts(peer.heard()) == ["left"]


async def test_sending_before_accepting_or_after_closing_is_a_bug_of_the_app() -> None:
    raised: list[Exception] = []

    async def attempt(send: Any) -> None:
        try:
            await send({"type": "websocket.send", "text": "x"})
        except RuntimeError as error:
            raised.append(error)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert EXTENSION in scope["extensions"]
        await attempt(send)
        await accept(receive, send)
        await send({"type": "websocket.close"})
        await attempt(send)

    Peer(with_lifespan(app))
    await until(lambda: len(raised) == 2)


async def test_an_upgrade_refused_over_http_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"who", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b" are you?"})

    peer = Peer(with_lifespan(app))
    await until(lambda: not peer.server.tasks)
    assert peer.line.writes[0].startswith(b"HTTP/1.1 401 ")
    assert peer.line.writes[0].endswith(b"who are you?")
    assert (len(peer.line.writes), peer.line.closing) == (1, True)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_an_upgrade_refused_over_http_by_half_is_one(caplog: pytest.LogCaptureFixture) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"who", "more_body": True})

    peer = Peer(with_lifespan(app))
    await until(lambda: not peer.server.tasks)
    assert "without completing handshake" in caplog.text


# ── The limit before hello ──


async def test_beyond_the_limit_the_app_is_told_and_the_line_is_not_read() -> None:
    received: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"][EXTENSION]["limit"](8192)
        await accept(receive, send)
        received.append(await receive())
        assert not peer.line.reading
        await send({"type": "websocket.close", "code": 4400})

    peer = Peer(with_lifespan(app))
    await peer.accepted()
    peer.say("x" * 8192)
    await until(lambda: bool(received))
    await until(lambda: peer.server.close_sent)
    peer.heard()
    assert received == [{"type": "websocket.receive", "text": "", "exceeded": True}]
    assert peer.client.close_rcvd is not None
    assert peer.client.close_rcvd.code == 4400
    assert not peer.line.closing
    peer.flush()
    assert peer.line.closing, "the peer's answer to the close is read in spite of the limit"


async def test_what_came_with_the_first_message_waits_until_the_limit_is_lifted() -> None:
    received: list[str] = []
    lift = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        limit = scope["extensions"][EXTENSION]["limit"]
        limit(8192)
        await accept(receive, send)
        received.append((await receive())["text"])
        await lift.wait()
        limit(None)
        while (message := await receive())["type"] == "websocket.receive":
            received.append(message["text"])

    peer = Peer(with_lifespan(app))
    await peer.accepted()
    rest = ["a" * 5000, "b" * 5000, "c" * 100_000]
    peer.say("hello", *rest)
    await until(lambda: bool(received))
    assert received == ["hello"]
    assert not peer.line.reading
    lift.set()
    await until(lambda: len(received) == 4)
    assert received[1:] == rest
    assert peer.line.reading


async def test_pings_count_towards_the_limit() -> None:
    received: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"][EXTENSION]["limit"](8192)
        await accept(receive, send)
        received.append(await receive())

    peer = Peer(with_lifespan(app))
    await peer.accepted()
    for _ in range(100):
        peer.client.send_ping(b"x" * 100)
        peer.flush()
    await until(lambda: bool(received))
    assert received[0]["exceeded"]


# ── Over a real socket ──


@on_uvloop
async def test_messages_arrive_intact_and_in_order_among_pings_and_before_the_close() -> None:
    async def app(receive: Any, send: Any) -> None:
        for size in SIZES:
            await send({"type": "websocket.send", "text": "t" * size})
            await send({"type": "websocket.send", "utf8": b"u" * size})
            await send({"type": "websocket.send", "bytes": b"b" * size})
            await send({"type": "websocket.send", "utf8": [b"l" * size, b"m" * size]})
            await receive()
        await send({"type": "websocket.send", "text": "last"})
        await send({"type": "websocket.close", "code": 1000})

    async with serving(accepting(app)) as server, connect(ws(server), max_size=None) as client:
        for size in SIZES:
            pong = await client.ping()
            got = [await client.recv() for _ in range(5)]
            assert got == ["t" * size, "u" * size, b"b" * size, "l" * size, "m" * size]
            await pong
            await client.send("next")
        assert await client.recv() == "last"
        await client.wait_closed()
        assert client.close_code == 1000


@on_uvloop
async def test_many_tasks_of_one_line_mix_their_frames_and_lose_none() -> None:
    async def app(_receive: Any, send: Any) -> None:

        async def count(name: int) -> None:
            for number in range(200):
                await send({"type": "websocket.send", "text": f"{name} {number} {'x' * number}"})
                await checkpoint()

        async with anyio.create_task_group() as group:
            for name in range(20):
                group.start_soon(count, name)
        await send({"type": "websocket.close"})

    seen: dict[str, list[int]] = {}
    async with serving(accepting(app)) as server, connect(ws(server), max_size=None) as client:
        async for message in client:
            name, number, filling = str(message).split(" ")
            assert len(filling) == int(number)
            seen.setdefault(name, []).append(int(number))
    assert seen == {str(name): list(range(200)) for name in range(20)}


@on_uvloop
async def test_a_stopped_reader_bounds_what_the_server_buffers_and_is_dropped_when_it_stays_silent() -> None:
    class Hasty(Corked):
        linger = 0.05

    ended = anyio.Event()

    async def app(_receive: Any, send: Any) -> None:
        try:
            while True:
                await send({"type": "websocket.send", "text": "x" * 1000})
        except OSError:
            ended.set()

    def tune(config: uvicorn.Config) -> None:
        config.ws = Hasty
        assert config.ws_ping_interval == config.ws_ping_timeout == 20.0
        config.ws_ping_interval = config.ws_ping_timeout = 0.5

    async with serving(accepting(app), tune=tune) as server:
        port = int(server.url.rsplit(":", 1)[1])
        _reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        client = ClientProtocol(parse_uri(ws(server)))
        client.send_request(client.connect())
        writer.write(b"".join(client.data_to_send()))
        await until(lambda: any(isinstance(line, Corked) for line in server.server_state.connections))
        (line,) = server.server_state.connections
        assert isinstance(line, Corked)
        await until(lambda: not line.writable.is_set())
        assert line.transport._line.get_write_buffer_size() <= 2 * CORK + 2000
        with anyio.fail_after(5):
            await ended.wait()
        writer.close()
