"""Small ASGI apps, and a running server for them: what the tests below ASGI share."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import uvicorn
import uvloop
from anyio.lowlevel import checkpoint

from gateway.serve import Server, configure

WebSocketApp = Callable[[dict[str, Any], Callable[[], Any], Callable[[Any], Any]], Awaitable[None]]


def on_uvloop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on the loop that `serve` uses, for at most five seconds."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            with anyio.fail_after(5):
                await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(bounded())

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until `condition` holds, five seconds at most."""
    with anyio.fail_after(5):
        while not condition():
            await checkpoint()


async def accept(receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})


def accepting(app: Callable[[Any, Any], Awaitable[None]]) -> WebSocketApp:
    """Accept every WebSocket, and leave the rest to `app(receive, send)`."""

    async def wrapped(_scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await app(receive, send)

    return with_lifespan(wrapped)


async def stay(receive: Any, _send: Any) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass


def with_lifespan(app: WebSocketApp) -> WebSocketApp:
    """Answer the lifespan, and leave the rest to `app`."""

    async def wrapped(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})

    return wrapped


@asynccontextmanager
async def serving(
    app: Any,
    *,
    drain: Callable[[], Awaitable[None]] | None = None,
    tune: Callable[[uvicorn.Config], None] | None = None,
    **options: Any,
) -> AsyncIterator[Server]:
    """A running server on a free port; `server.url` says where. `options` go to `configure`."""
    listening = anyio.Event()
    config = configure(app, port=0, **options)
    if tune:
        tune(config)
    server = Server(config, drain=drain, ready=lambda _: listening.set())

    async def serve() -> None:
        # Shielded and longer than any wait: a loop of uvloop's hangs when it is closed over open sockets.
        with anyio.fail_after(9, shield=True):
            await server.serve()

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        try:
            with anyio.fail_after(5):
                await listening.wait()
            yield server
        finally:
            server.should_exit = True


def ws(server: Server) -> str:
    return server.url.replace("http", "ws", 1)
