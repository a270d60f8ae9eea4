"""Rates, spreads and the names of the numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.figures import Gauge, errors
from gateway.metrics import Histogram, Metrics, memory, quantile
from gateway.stores.memory import MemoryStore
from tests.harness import Client, Script, gateway, settle

NAMES = Path(__file__).parents[2] / "gateway/console.md"


def test_a_quantile_lies_within_the_bounds_of_what_was_seen() -> None:
    histogram = Histogram()
    assert quantile(histogram.counts, 0.5) is None
    for seconds in (0.02, 0.02, 0.02, 4.0):
        histogram.observe(seconds)
    assert 0.01 < (quantile(histogram.counts, 0.5) or 0) <= 0.025
    assert 2.5 < (quantile(histogram.counts, 0.99) or 0) <= 5.0


def test_what_is_longer_than_all_bounds_counts_as_the_longest() -> None:
    histogram = Histogram()
    histogram.observe(10_000.0)
    assert quantile(histogram.counts, 0.5) == 600.0


def test_memory_is_that_of_a_python_process() -> None:
    assert 5_000_000 < memory() < 50_000_000_000


def test_a_figure_is_what_came_since_the_last_look_and_a_spread_of_the_last_ten() -> None:
    metrics = Metrics()
    gauge = Gauge(metrics)
    metrics.deltas += 50
    metrics.deltas_offered += 100
    metrics.frames_sent += 30
    metrics.others_sent += 5
    metrics.gap.observe(0.03)
    first = gauge.look(1.0)
    assert first.deltas_per_second > 0
    assert first.coalescing == 4.0
    assert first.first_delta.p50 is None
    second = gauge.look(2.0)
    assert (second.at, second.deltas_per_second) == (2.0, 0.0)
    assert second.coalescing == 4.0
    assert second.gap == first.gap
    assert first.gap.p50 is not None
    for moment in range(10):
        last = gauge.look(3.0 + moment)
    assert (last.coalescing, last.gap.p50, last.gap.p99) == (None, None, None)


def test_errors_are_refusals_and_failed_turns_together_the_most_frequent_first() -> None:
    metrics = Metrics()
    for outcome in ("completed", "agent_failed", "overloaded", "cancelled"):
        metrics.ended(outcome)
    metrics.refused("overloaded")
    assert list(errors(metrics).items()) == [("overloaded", 2), ("agent_failed", 1)]


async def test_a_turn_is_counted_while_it_runs_and_the_gaps_of_its_deltas_are_seen() -> None:
    bot = Script()
    async with gateway({"bot": bot}, MemoryStore()) as g:
        ann, bob = Client(g), Client(g)
        for client in (ann, bob):
            client.put("attach", sessions=[{"session_id": "s", "create": True}], ref="a")
            await client.answer("a")
        ann.put("message", session_id="s", turn_id="t", content="x")
        said, metrics = await bot.given("t"), g.runtime.metrics
        for number in range(1, 41):
            said.say("word ")
            await settle()
            assert metrics.deltas == number // 32 * 32
            assert sum(metrics.first_delta.counts) == 1
            assert sum(metrics.gap.counts) == (number >= 2) + (number >= 33)
        said.end()
        await bob.terminal("t")
        await settle()
        assert metrics.deltas == 40
        assert metrics.deltas_offered == metrics.deltas_sent == 80
        assert metrics.bytes_sent > 80 * 50


async def test_deltas_that_wait_for_a_line_are_sent_as_one_and_its_session_lags() -> None:
    bot = Script()
    async with gateway({"bot": bot}, MemoryStore()) as g:
        ann = Client(g)
        ann.put("message", session_id="s", turn_id="t", content="x")
        said = await bot.given("t")
        said.say("a")
        await settle()
        assert g.gauges()["readers_lagging"] == 0
        ann.stall()
        for _ in range(30):
            said.say("b")
            await settle()
        assert g.gauges()["readers_lagging"] == 1
        ann.resume()
        await settle()
        assert g.gauges()["readers_lagging"] == 0
        said.end()
        await ann.terminal("t")
        await settle()
        metrics = g.runtime.metrics
        assert metrics.deltas_offered == 31
        assert metrics.deltas_sent < 5


async def test_every_number_is_told_and_every_number_that_is_told_is_there() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        text = g.runtime.metrics.text().decode()
    names = set(re.findall(r"^# TYPE (gateway_\w+)", text, re.MULTILINE))
    table = set(re.findall(r"`(gateway_\w+)`", NAMES.read_text()))
    assert names == table


@pytest.mark.parametrize("name", ["process_resident_memory_bytes", "process_cpu_seconds_total"])
def test_what_prometheus_knows_of_every_process_is_told_under_its_names(name: str) -> None:
    assert f"\n{name} " in Metrics().text().decode()
