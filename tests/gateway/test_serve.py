"""The server: how it serves, how it drains before it stops, and what that assumes of uvicorn."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import InvalidStatus

from gateway.serve import MAX_SIZE
from tests.gateway.serving import accept, accepting, on_uvloop, serving, stay, with_lifespan, ws


async def end_of(client: ClientConnection) -> int | None:
    await client.wait_closed()
    return client.close_code


# ── Serving ──


@on_uvloop
async def test_a_message_over_the_hard_limit_closes_with_1009() -> None:
    async def app(receive: Any, _send: Any) -> None:
        assert len((await receive())["text"]) == MAX_SIZE
        await receive()

    async with serving(accepting(app)) as server, connect(ws(server)) as client:
        await client.send("x" * MAX_SIZE)
        await client.send("x" * (MAX_SIZE + 1))
        assert await end_of(client) == 1009


@on_uvloop
async def test_a_plain_starlette_app_works_unchanged() -> None:
    async def hello(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    async def echo(socket: WebSocket) -> None:
        await socket.accept(subprotocol="plain")
        async for text in socket.iter_text():
            await socket.send_text(text)

    async def refuse(socket: WebSocket) -> None:
        await socket.close()

    async def deny(socket: WebSocket) -> None:
        await socket.send_denial_response(PlainTextResponse("no", status_code=401))

    app = Starlette(
        routes=[
            Route("/", hello),
            WebSocketRoute("/echo", echo),
            WebSocketRoute("/refuse", refuse),
            WebSocketRoute("/deny", deny),
        ]
    )
    async with serving(app) as server:
        async with httpx.AsyncClient() as http:
            answer = await http.get(server.url)
        assert answer.text == "hello"
        assert "server" not in answer.headers
        async with connect(ws(server) + "/echo", subprotocols=["plain"]) as client:  # type: ignore[list-item]
            assert client.subprotocol == "plain"
            assert "Sec-WebSocket-Extensions" not in client.response.headers  # type: ignore[union-attr]
            for size in (0, 126, 65536):
                await client.send("ü" * size)
                assert await client.recv() == "ü" * size
        for path, status in (("/refuse", 403), ("/deny", 401)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(ws(server) + path)
            assert refused.value.response.status_code == status


@on_uvloop
async def test_it_serves_on_a_unix_socket_under_a_root_path(tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await send({"type": "websocket.send", "text": scope["root_path"]})
        await receive()

    path = str(tmp_path / "socket")
    async with serving(with_lifespan(app), uds=path, root_path="/prefix") as server:
        assert server.url == f"unix:{path}"
        async with unix_connect(path) as client:
            assert await client.recv() == "/prefix"


# ── Stopping ──


@on_uvloop
async def test_the_drain_runs_while_sockets_are_open_and_the_lifespan_ends_after_it() -> None:
    order: list[str] = []

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        order.append("lifespan")

    async def greet(socket: WebSocket) -> None:
        await socket.accept()
        await draining.wait()
        await socket.send_text("goaway")
        said.set()
        await socket.receive()

    async def drain() -> None:
        draining.set()
        await said.wait()
        order.append("drained")

    draining, said = anyio.Event(), anyio.Event()
    app = Starlette(routes=[WebSocketRoute("/", greet)], lifespan=lifespan)
    async with serving(app, drain=drain) as server, connect(ws(server)) as client:
        server.handle_exit(signal.SIGTERM, None)
        assert await client.recv() == "goaway"
        assert await end_of(client) == 1012
    assert order == ["drained", "lifespan"]


@on_uvloop
async def test_a_second_signal_of_either_kind_ends_a_drain_that_hangs() -> None:
    async def drain() -> None:
        draining.set()
        await anyio.sleep_forever()

    draining = anyio.Event()
    async with serving(accepting(stay), drain=drain) as server, connect(ws(server)) as client:
        server.handle_exit(signal.SIGINT, None)
        await draining.wait()
        server.handle_exit(signal.SIGTERM, None)
        assert await end_of(client) == 1012
        assert server.force_exit


@on_uvloop
async def test_a_drain_that_fails_still_closes_the_sockets() -> None:
    async def drain() -> None:
        raise LookupError

    async def run() -> None:
        async with serving(accepting(stay), drain=drain) as server, connect(ws(server)) as client:
            server.handle_exit(signal.SIGTERM, None)
            assert await end_of(client) == 1012

    with pytest.raises(ExceptionGroup) as failed:
        await run()
    assert failed.group_contains(LookupError)


def test_serve_says_where_it_listens_and_returns_after_a_signal() -> None:
    program = """
from starlette.applications import Starlette
from gateway.serve import serve
async def drain(): print("draining", flush=True)
serve(Starlette(), port=0, drain=drain, ready=lambda url: print(url, flush=True))
print("stopped")
"""
    with Popen([sys.executable, "-c", program], stdout=PIPE, stderr=PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(url).status_code == 404
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=5)
    assert (process.returncode, output, errors) == (0, "draining\nstopped\n", "")
