"""Counters, gauges and histograms, as Prometheus reads them.

What the hot path counts are plain integers (a labelled Prometheus counter takes a lock and a microsecond);
they become metrics when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["Gauges", "Metrics"]

_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Gauges(Protocol):
    """What is the case right now; whoever knows it answers when asked."""

    def gauges(self) -> dict[str, float]:
        """Name → value."""
        ...


class Histogram:
    """How often which length of time was seen."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(_SECONDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """It was seen once more."""
        self._counts[bisect_left(_SECONDS, seconds)] += 1
        self._sum += seconds

    def family(self, name: str, documentation: str) -> HistogramMetricFamily:
        """As Prometheus reads it: counts that add up, by upper bound."""
        bounds = [*map(str, _SECONDS), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(self._counts)), strict=True))
        return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=self._sum)


class Metrics(Collector):
    """One gateway's numbers."""

    def __init__(self) -> None:
        self.deltas = 0
        self.frames_sent = 0
        self.bytes_sent = 0
        self.batches = 0
        self.frames_received = 0
        self.crashes = 0
        self.abandoned = 0
        self.turns: dict[str, int] = {}
        self.refusals: dict[str, int] = {}
        self.event_loop_lag = 0.0
        self._watched: list[Gauges] = []
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.first_delta = Histogram()
        self.turn_seconds = Histogram()

    def watch(self, source: Gauges) -> None:
        """Ask `source` for its gauges whenever somebody reads the metrics."""
        self._watched.append(source)

    def ended(self, outcome: str) -> None:
        """A turn ended: `completed`, `cancelled`, or an error's code."""
        self.turns[outcome] = self.turns.get(outcome, 0) + 1

    def refused(self, code: str) -> None:
        """A request was refused."""
        self.refusals[code] = self.refusals.get(code, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """The counters and gauges of this moment."""
        yield _counter("gateway_deltas", "Pieces of text that agents produced.", self.deltas)
        yield _counter("gateway_frames_sent", "Frames written to connections.", self.frames_sent)
        yield _counter("gateway_sent_bytes", "Bytes of frames written to connections.", self.bytes_sent)
        yield _counter("gateway_batches", "Writes to connections.", self.batches)
        yield _counter("gateway_frames_received", "Frames that clients sent.", self.frames_received)
        yield _counter("gateway_crashes", "Actors that crashed: bugs.", self.crashes)
        yield _counter("gateway_abandoned_turns", "Agents that did not stop when told to.", self.abandoned)
        yield self.first_delta.family(
            "gateway_first_delta_seconds", "From the start of a turn to its first output."
        )
        yield self.turn_seconds.family("gateway_turn_seconds", "From the start of a turn to its end.")
        turns = CounterMetricFamily("gateway_turns", "Turns that ended.", labels=["outcome"])
        for outcome, count in self.turns.items():
            turns.add_metric([outcome], count)
        yield turns
        refusals = CounterMetricFamily("gateway_refusals", "Requests that were refused.", labels=["code"])
        for code, count in self.refusals.items():
            refusals.add_metric([code], count)
        yield refusals
        yield GaugeMetricFamily(
            "gateway_event_loop_lag_seconds", "How late the event loop was, lately.", self.event_loop_lag
        )
        for source in self._watched:
            for name, value in source.gauges().items():
                yield GaugeMetricFamily(f"gateway_{name}", name.replace("_", " "), value)

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)


def _counter(name: str, documentation: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, documentation, value)
