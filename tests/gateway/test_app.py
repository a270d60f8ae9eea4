"""The app mounted in somebody else's: under a prefix, with that app's lifespan, and what it says without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect

from gateway.agents.echo import EchoAgent
from gateway.app import Gateway, gateway_app
from gateway.serve import Server, configure
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from protocol import codec, frames

WAIT = 30.0


def make(**options: Any) -> Gateway:
    settings = Settings(drain_timeout=0.01)
    return gateway_app(settings, agents={"echo": EchoAgent()}, store=MemoryStore(), **options)


@asynccontextmanager
async def serving(app: Any, drain: Callable[[], Awaitable[None]] | None = None) -> AsyncIterator[str]:
    """That app on a free port; its URL."""
    urls: asyncio.Queue[str] = asyncio.Queue()
    server = Server(configure(app, port=0), drain=drain, ready=urls.put_nowait)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        try:
            async with asyncio.timeout(WAIT):
                yield await urls.get()
        finally:
            server.should_exit = True


def mounted(gateway: Gateway) -> FastAPI:
    app = FastAPI(lifespan=gateway.lifespan)

    @app.get("/mine")
    async def mine() -> str:
        return "mine"

    app.mount("/chat", gateway)
    return app


async def hear(url: str, content: str) -> list[frames.ServerFrame]:
    """The frames of one turn over a WebSocket."""
    async with connect(url) as line:
        await line.send(json.dumps({"type": "message", "session_id": "s", "content": content}))
        heard: list[frames.ServerFrame] = []
        while not (heard and isinstance(heard[-1], frames.Response)):
            heard.append(codec.decode_server_frame(await line.recv()))
        return heard


async def test_mounted_under_a_prefix_http_and_both_sockets_work() -> None:
    gateway = make()
    async with serving(mounted(gateway), gateway.drain) as url, httpx.AsyncClient() as http:
        assert (await http.get(f"{url}/mine")).json() == "mine"
        assert (await http.get(f"{url}/chat/readyz")).json() == {"status": "ok"}
        missing = await http.get(f"{url}/chat/nowhere")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        assert missing.headers["x-request-id"]
        ws = url.replace("http", "ws", 1)
        end = (await hear(f"{ws}/chat/ws", "one two"))[-1]
        assert isinstance(end, frames.Response)
        assert end.content == "one two"
        bound = await hear(f"{ws}/chat/api/agents/echo/ws", "three")
        assert isinstance(bound[0], frames.Connected)
        assert bound[0].agent_id == "echo"


async def test_mounted_under_a_prefix_a_session_is_an_event_stream_and_frames_are_posted() -> None:
    gateway = make()
    async with serving(mounted(gateway), gateway.drain) as url, httpx.AsyncClient() as http:
        events = http.stream("GET", f"{url}/chat/api/sessions/s/events", params={"create": "true"})
        async with events as stream:
            lines = stream.aiter_lines()
            await _event(lines, "attached")
            posted = await http.post(
                f"{url}/chat/frames", json={"type": "message", "session_id": "s", "content": "hear, hear"}
            )
            assert posted.json()["status"] == "started"
            assert (await _event(lines, "response"))["content"] == "hear, hear"


async def _event(lines: AsyncIterator[str], kind: str) -> dict[str, Any]:
    """The data of the next event of that type."""
    wanted = False
    async for line in lines:
        if line == f"event: {kind}":
            wanted = True
        elif wanted and line.startswith("data: "):
            data: dict[str, Any] = json.loads(line.removeprefix("data: "))
            return data
    raise AssertionError(f"no {kind} came")


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_without_the_lifespan_it_says_what_is_missing(kind: str) -> None:
    async def nothing(*_: Any) -> Any:
        raise AssertionError("it must not get that far")

    scope: MutableMapping[str, Any] = {"type": kind, "path": "/ws", "headers": [], "query_string": b""}
    with pytest.raises(RuntimeError, match="give its lifespan to the app that mounts it, as lifespan="):
        await make()(scope, nothing, nothing)


async def test_a_store_that_cannot_be_opened_fails_the_start_and_says_why() -> None:
    class Locked(MemoryStore):
        @asynccontextmanager
        async def open(self, node: str, now: float) -> AsyncIterator[None]:  # noqa: ARG002
            raise RuntimeError("The store is locked.")
            yield

    app = gateway_app(agents={"echo": EchoAgent()}, store=Locked())
    said: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: MutableMapping[str, Any]) -> None:
        said.append(message)

    await app({"type": "lifespan"}, receive, send)
    assert said == [{"type": "lifespan.startup.failed", "message": "The store is locked."}]


async def test_leaving_the_lifespan_lets_go_of_the_agents_once() -> None:
    closed: list[str] = []

    class Counting(EchoAgent):
        async def aclose(self) -> None:
            closed.append("closed")

    gateway = gateway_app(agents={"echo": Counting()}, store=MemoryStore())
    async with gateway.lifespan():
        assert not closed
    assert closed == ["closed"]


def test_a_gateway_without_agents_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one agent"):
        gateway_app(agents={}, store=MemoryStore())
