"""The watchdog finds who blocks the event loop."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from gateway.agents.function import FunctionAgent
from gateway.interfaces import Turn
from gateway.metrics import Metrics
from gateway.stores.memory import MemoryStore
from gateway.watchdog import Watchdog
from tests.harness import Client, gateway

THRESHOLD = 0.05


class Barks(logging.Handler):
    """Counts what the watchdog logs, and frees whoever waits for that."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.heard = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "event loop blocked" in record.getMessage()
        self.heard.set()


@pytest.fixture
def barks() -> Iterator[Barks]:
    handler, logger = Barks(), logging.getLogger("gateway.watchdog")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def block_until(heard: threading.Event) -> None:
    assert heard.wait(5), "the watchdog said nothing"


async def test_an_agent_that_blocks_the_loop_is_found_with_its_session(
    logged: Callable[..., io.StringIO], barks: Barks
) -> None:
    logs = logged()

    async def agent(_: Turn) -> AsyncIterator[str]:
        block_until(barks.heard)
        yield "sorry"

    async with gateway({"stubborn": FunctionAgent(agent)}, MemoryStore()) as supervisor:
        with Watchdog(supervisor.runtime.metrics, THRESHOLD).watching():
            client = Client(supervisor)
            client.put("message", session_id="s1", turn_id="t1", content="the butler did it")
            assert (await client.terminal("t1")).content == "sorry"
            client.vanish()
    [line] = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert (line["session_id"], line["agent"], line["turn_id"]) == ("s1", "stubborn", "t1")
    assert "in block_until" in line["stack"]
    assert "butler" not in logs.getvalue()


async def test_each_time_that_the_loop_is_blocked_is_told_once_and_measured(
    logged: Callable[..., io.StringIO], barks: Barks
) -> None:
    logged()
    metrics = Metrics()
    with Watchdog(metrics, THRESHOLD).watching():
        block_until(barks.heard)
        barks.heard.clear()
        assert not barks.heard.wait(THRESHOLD * 3)
        assert metrics.event_loop_lag == 0
        async with asyncio.timeout(5):
            while not metrics.event_loop_lag:
                await checkpoint()
        assert metrics.event_loop_lag > THRESHOLD
        block_until(barks.heard)
    assert barks.count == 2


class Unbound:
    """Like the proxies of web frameworks: it raises if anybody asks what it is."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("there is no request")


async def test_an_agent_that_blocks_beside_what_cannot_be_looked_at_is_found_and_the_watch_goes_on(
    logged: Callable[..., io.StringIO], barks: Barks
) -> None:
    logs = logged()

    def handle(request: Unbound) -> None:  # noqa: ARG001
        block_until(barks.heard)
        barks.heard.clear()

    async def agent(turn: Turn) -> AsyncIterator[str]:
        handle(Unbound())
        yield turn.content

    async with gateway({"stubborn": FunctionAgent(agent)}, MemoryStore()) as supervisor:
        with Watchdog(supervisor.runtime.metrics, THRESHOLD).watching():
            client = Client(supervisor)
            for turn_id in ("t1", "t2"):
                client.put("message", session_id="s1", turn_id=turn_id, content="hi")
                assert (await client.terminal(turn_id)).content == "hi"
            client.vanish()
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert [line["turn_id"] for line in lines if line["event"] == "event loop blocked"] == ["t1", "t2"]


async def test_a_watchdog_that_is_left_stops_watching(barks: Barks) -> None:
    before = set(threading.enumerate())
    with Watchdog(Metrics(), THRESHOLD).watching():
        [watch] = set(threading.enumerate()) - before
    watch.join(5)
    assert not watch.is_alive()
    assert barks.count == 0
