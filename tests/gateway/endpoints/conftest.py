"""A whole gateway, in memory or on a port, its agent driven by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from gateway.agents.echo import EchoAgent
from gateway.app import Gateway, gateway_app
from gateway.serve import Server, configure
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from tests.harness import WAIT, Script


class Rig:
    """A gateway with the agents `bot`, which says what the test tells it to, and `echo`."""

    def __init__(self, app: Gateway, http: httpx.AsyncClient, bot: Script) -> None:
        self.app = app
        self.http = http
        self.bot = bot

    @asynccontextmanager
    async def stream(self, method: str, path: str, **options: Any) -> AsyncIterator[EventReader]:
        """An open event stream, whose status is 200."""
        async with self.http.stream(method, path, **options) as response:
            assert response.status_code == 200, await response.aread()
            yield EventReader(response)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop run until it is so."""
        async with asyncio.timeout(WAIT):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0)


class Event(NamedTuple):
    """One server-sent event."""

    id: str | None
    kind: str
    data: Any


class EventReader:
    """What comes down an event stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.raw = b""
        """All bytes so far."""
        self._chunks = response.aiter_raw()
        self._read = 0

    async def block(self) -> str | None:
        """The next lines up to an empty one; None at the end."""
        async with asyncio.timeout(WAIT):
            while (end := self.raw.find(b"\n\n", self._read)) < 0:
                try:
                    self.raw += await anext(self._chunks)
                except StopAsyncIteration:
                    return None
        block, self._read = self.raw[self._read : end].decode(), end + 2
        return block

    async def event(self) -> Event | None:
        """The next event; None at the end."""
        while (block := await self.block()) is not None:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if "data" in fields:
                data = httpx.Response(200, text=fields["data"]).json()
                return Event(fields.get("id"), fields["event"], data)
        return None

    async def until(self, kind: str) -> list[Event]:
        """The events up to the next one of that kind."""
        events: list[Event] = []
        while not events or events[-1].kind != kind:
            event = await self.event()
            assert event is not None, f"the stream ended without {kind}"
            events.append(event)
        return events

    async def rest(self) -> list[Event]:
        """The events up to the end."""
        events = []
        while (event := await self.event()) is not None:
            events.append(event)
        return events


def _app(bot: Script, settings: Settings | None, options: dict[str, Any]) -> Gateway:
    options.setdefault("store", MemoryStore())
    options.setdefault("agents", {"bot": bot, "echo": EchoAgent()})
    return gateway_app(settings or Settings(drain_timeout=0.01), **options)


@asynccontextmanager
async def _in_memory(
    settings: Settings | None = None, headers: dict[str, str] | None = None, **options: Any
) -> AsyncIterator[Rig]:
    bot = Script()
    app = _app(bot, settings, options)
    async with (
        app.lifespan(),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost", headers=headers, timeout=WAIT
        ) as http,
    ):
        yield Rig(app, http, bot)


@asynccontextmanager
async def _served(
    settings: Settings | None = None,
    headers: dict[str, str] | None = None,
    wrap: Callable[[Gateway], Any] = lambda app: app,
    **options: Any,
) -> AsyncIterator[Rig]:
    bot = Script()
    app = _app(bot, settings, options)
    listening = asyncio.Event()
    server = Server(configure(wrap(app), port=0), drain=app.drain, ready=lambda _: listening.set())
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        async with asyncio.timeout(WAIT):
            await listening.wait()
        try:
            async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=WAIT) as http:
                yield Rig(app, http, bot)
        finally:
            server.should_exit = True


@pytest.fixture
def in_memory() -> Any:
    """`async with in_memory(settings, **options) as rig`: requests go straight into the app."""
    return _in_memory


@pytest.fixture
def served() -> Any:
    """`async with served(settings, **options) as rig`: a real server on a free port."""
    return _served
