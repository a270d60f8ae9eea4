"""Counters, gauges and histograms, as Prometheus reads them.

What the hot path counts are plain integers (a labelled Prometheus counter takes a lock and a microsecond);
they become metrics when somebody asks.
"""

from __future__ import annotations

import resource
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["Gauges", "Histogram", "Metrics", "memory", "quantile"]

_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 600.0),
)
"""Upper bounds of what histograms tell apart: from between two tokens to the longest turn."""


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

    @property
    def counts(self) -> tuple[int, ...]:
        """How often each length was seen so far, for `quantile`."""
        return tuple(self._counts)

    def family(self, name: str, documentation: str) -> HistogramMetricFamily:
        """As Prometheus reads it: counts that add up, by upper bound."""
        bounds = [*map(str, _SECONDS), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(self._counts)), strict=True))
        return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=self._sum)


def quantile(counts: Sequence[int], part: float) -> float | None:
    """The length, in seconds, that this part of what a histogram saw did not exceed; None if it saw nothing.
    Exact to the bounds: in between it is taken as spread evenly."""
    total = sum(counts)
    if not total:
        return None
    wanted, seen = part * total, 0
    for place, count in enumerate(counts):
        if count and seen + count >= wanted:
            low = _SECONDS[place - 1] if place else 0.0
            high = _SECONDS[min(place, len(_SECONDS) - 1)]
            return low + (high - low) * (wanted - seen) / count
        seen += count
    return _SECONDS[-1]


def memory() -> int:
    """How many bytes of memory this process holds; where the system does not tell, the most it ever held."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Metrics(Collector):
    """One gateway's numbers."""

    def __init__(self) -> None:
        self.deltas = 0
        self.deltas_offered = 0
        """Each of them as often as somebody followed it."""
        self.others_sent = 0
        """Frames that carry no delta."""
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
        ProcessCollector(registry=self.registry)
        self.first_delta = Histogram()
        self.gap = Histogram()
        self.turn_seconds = Histogram()

    @property
    def deltas_sent(self) -> int:
        """Frames that carry deltas."""
        return self.frames_sent - self.others_sent

    def watch(self, source: Gauges) -> None:
        """Ask `source` for its gauges whenever somebody reads the metrics."""
        self._watched.append(source)

    def gauges(self) -> dict[str, float]:
        """What is the case right now, by name."""
        return {name: value for source in self._watched for name, value in source.gauges().items()}

    def ended(self, outcome: str) -> None:
        """A turn ended: `completed`, `cancelled`, or an error's code."""
        self.turns[outcome] = self.turns.get(outcome, 0) + 1

    def refused(self, code: str) -> None:
        """A request was refused."""
        self.refusals[code] = self.refusals.get(code, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """The counters and gauges of this moment."""
        yield _counter("gateway_deltas", "Pieces of text that agents produced.", self.deltas)
        yield _counter(
            "gateway_deltas_offered", "The same, each as often as somebody followed.", self.deltas_offered
        )
        yield _counter("gateway_deltas_sent", "Frames that carried them: fewer, if joined.", self.deltas_sent)
        yield _counter("gateway_frames_sent", "Frames written to connections.", self.frames_sent)
        yield _counter("gateway_sent_bytes", "Bytes of frames written to connections.", self.bytes_sent)
        yield _counter("gateway_batches", "Writes to connections.", self.batches)
        yield _counter("gateway_frames_received", "Frames that clients sent.", self.frames_received)
        yield _counter("gateway_crashes", "Actors that crashed: bugs.", self.crashes)
        yield _counter("gateway_abandoned_turns", "Agents that did not stop when told to.", self.abandoned)
        yield self.first_delta.family(
            "gateway_first_delta_seconds", "From the start of a turn to its first output."
        )
        yield self.gap.family("gateway_delta_gap_seconds", "Between two deltas of a turn: one of 32.")
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
        for name, value in self.gauges().items():
            yield GaugeMetricFamily(f"gateway_{name}", name.replace("_", " "), value)

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)


def _counter(name: str, documentation: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, documentation, value)
