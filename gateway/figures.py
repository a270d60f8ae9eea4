"""What an operator looks at: the counters of `metrics` as rates, and how long things took lately."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

from protocol.console import Figures, Spread
from protocol.errors import TABLE

from .metrics import Metrics, memory, quantile

__all__ = ["Gauge", "errors"]

_LATELY = 10
"""Looks that a spread and an average are of: what happens in one second only is too little for them."""


class _Look(NamedTuple):
    """The counters at one moment."""

    at: float
    """Monotonic seconds."""
    cpu: float
    deltas: int
    offered: int
    sent: int
    frames_out: int
    frames_in: int
    bytes_out: int
    errors: int
    first_delta: tuple[int, ...]
    gap: tuple[int, ...]


class Gauge:
    """Figures as of each look, in comparison with the look before; as often as its owner likes, which should
    be about once a second."""

    __slots__ = ("_looks", "_metrics")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._looks = deque([_look(metrics)], maxlen=_LATELY + 1)

    def look(self, now: float) -> Figures:
        """The figures; `now` is Unix seconds."""
        before, since = self._looks[-1], self._looks[0]
        look, gauges = _look(self._metrics), self._metrics.gauges()
        self._looks.append(look)
        seconds = max(look.at - before.at, 1e-3)
        sent = look.sent - since.sent
        return Figures(
            at=now,
            connections=int(gauges.get("connections", 0)),
            sessions=int(gauges.get("sessions_live", 0)),
            turns_running=int(gauges.get("turns_running", 0)),
            turns_waiting=int(gauges.get("turns_waiting", 0)),
            readers_lagging=int(gauges.get("readers_lagging", 0)),
            deltas_per_second=(look.deltas - before.deltas) / seconds,
            frames_out_per_second=(look.frames_out - before.frames_out) / seconds,
            frames_in_per_second=(look.frames_in - before.frames_in) / seconds,
            bytes_out_per_second=(look.bytes_out - before.bytes_out) / seconds,
            errors_per_second=(look.errors - before.errors) / seconds,
            first_delta=_spread(look.first_delta, since.first_delta),
            gap=_spread(look.gap, since.gap),
            coalescing=(look.offered - since.offered) / sent if sent else None,
            event_loop_lag=self._metrics.event_loop_lag,
            memory=memory(),
            cpu=(look.cpu - before.cpu) / seconds,
            errors=errors(self._metrics),
        )


def errors(metrics: Metrics) -> dict[str, int]:
    """How often each code was answered so far, refusals and turns that failed together; the most frequent
    first."""
    found = dict(metrics.refusals)
    for outcome, count in metrics.turns.items():
        if outcome in TABLE:
            found[outcome] = found.get(outcome, 0) + count
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def _look(metrics: Metrics) -> _Look:
    return _Look(
        time.monotonic(),
        time.process_time(),
        metrics.deltas,
        metrics.deltas_offered,
        metrics.deltas_sent,
        metrics.frames_sent,
        metrics.frames_received,
        metrics.bytes_sent,
        sum(errors(metrics).values()),
        metrics.first_delta.counts,
        metrics.gap.counts,
    )


def _spread(now: tuple[int, ...], then: tuple[int, ...]) -> Spread:
    new = [count - before for count, before in zip(now, then, strict=True)]
    return Spread(quantile(new, 0.5), quantile(new, 0.99))
