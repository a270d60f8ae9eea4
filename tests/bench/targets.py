"""The table: which figure is compared with which, and what the ratio must reach."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct


class Figure(NamedTuple):
    """One figure of one measure of one subject."""

    measure: str
    subject: str
    name: str


class Row(Struct, frozen=True):
    """A line of the table. A ratio is ours to the baseline's; without one the limit is on our figure."""

    title: str
    ours: Figure
    baseline: Figure | None = None
    at_least: float | None = None
    at_most: float | None = None


def _per_cpu(measure: str, subject: str) -> Figure:
    return Figure(measure, subject, "deltas_per_cpu_s")


READS = {
    "list": "list of 100",
    "get": "get",
    "history": "history page of 50",
    "active": "active-session",
    "task": "task-status",
}
"""Of a user with 10,000 sessions."""
FLOOD, ONE = "flood of 50", "flood of 1"

ROWS = [
    Row("50 sessions, against bare", _per_cpu(FLOOD, "ours"), _per_cpu(FLOOD, "bare"), at_least=2.9),
    Row("50 sessions, against socketio", _per_cpu(FLOOD, "ours"), _per_cpu(FLOOD, "socketio"), at_least=10),
    Row("50 sessions, no batch", _per_cpu(FLOOD, "ours, no batch"), _per_cpu(FLOOD, "bare"), at_least=1.9),
    Row("1 session", _per_cpu(ONE, "ours"), _per_cpu(ONE, "bare"), at_least=0.85),
    Row(
        "1 Mi characters, against 4 Ki",
        Figure("long turn", "ours", "long_us"),
        Figure("long turn", "ours", "short_us"),
        at_most=1.5,
    ),
    Row(
        "1,000 × 27/s, CPU per delta",
        Figure("pace", "ours", "us_per_delta"),
        Figure("pace", "bare", "us_per_delta"),
        at_most=0.75,
    ),
    Row(
        "1,000 × 27/s, latency p99",
        Figure("pace", "ours", "p99_ms"),
        Figure("pace", "bare", "p99_ms"),
        at_most=1,
    ),
    Row(
        "first delta p50, memory",
        Figure("first delta", "ours", "p50_ms"),
        Figure("first delta", "bare", "p50_ms"),
        at_most=1.5,
    ),
    Row(
        "first delta p50, sqlite",
        Figure("first delta", "ours, sqlite", "p50_ms"),
        Figure("first delta", "bare", "p50_ms"),
        at_most=2.5,
    ),
    Row(
        "short turn, memory",
        Figure("short turn", "ours", "us_per_turn"),
        Figure("short turn", "bare", "us_per_turn"),
        at_most=2,
    ),
    Row(
        "short turn, sqlite",
        Figure("short turn", "ours, sqlite", "us_per_turn"),
        Figure("short turn", "bare", "us_per_turn"),
        at_most=4,
    ),
    Row(
        "memory per idle connection",
        Figure("idle connections", "ours", "kib_per_connection"),
        Figure("idle connections", "uvicorn", "kib_per_connection"),
        at_most=1.15,
    ),
    # The store in memory holds the logs themselves beside what is live; SQLite, the default, does not.
    Row(
        "KiB per attached session, sqlite",
        Figure("idle sessions", "ours, sqlite", "kib_per_session"),
        at_most=1.5,
    ),
    Row("KiB per attached session, memory", Figure("idle sessions", "ours", "kib_per_session"), at_most=1.5),
    Row(
        "KiB per waiting turn, sqlite", Figure("waiting turns", "ours, sqlite", "kib_per_session"), at_most=5
    ),
    Row("KiB per waiting turn, memory", Figure("waiting turns", "ours", "kib_per_session"), at_most=5),
    Row("collection, 20,000 sessions, sqlite", Figure("idle sessions", "ours, sqlite", "gc_ms"), at_most=15),
    Row("collection, 20,000 sessions, memory", Figure("idle sessions", "ours", "gc_ms"), at_most=15),
    Row(
        "SSE, 50 sessions in one stream",
        _per_cpu("sse in one", "ours"),
        _per_cpu("sse baseline", "sse-starlette"),
        at_least=2,
    ),
    Row("SSE, 50 streams", _per_cpu("sse", "ours"), _per_cpu("sse baseline", "sse-starlette"), at_least=2),
    Row(
        "99 beside a flood, latency p99",
        Figure("99 beside a flood", "ours", "p99_ms"),
        Figure("99 alone", "ours", "p99_ms"),
        at_most=2,
    ),
    Row("1,000 × 20 reconnect", Figure("reconnect 1000", "ours", "seconds")),
    Row(
        "reconnect, 1,000 against 250",
        Figure("reconnect 1000", "ours", "us_per_session"),
        Figure("reconnect 250", "ours", "us_per_session"),
        at_most=1.3,
    ),
    *(
        row
        for name, title in READS.items()
        for row in (
            Row(
                f"REST, {title}, p95",
                Figure("rest reads", "ours, 110,000 sessions", f"{name}_ms"),
                at_most=5,
            ),
            Row(
                "… beside 100,000 of others",
                Figure("rest reads", "ours, 110,000 sessions", f"{name}_ms"),
                Figure("rest reads", "ours, 10,000 sessions", f"{name}_ms"),
            ),
        )
    ),
    Row("50 sessions, sqlite", _per_cpu("flood of 50, sqlite", "ours, sqlite"), _per_cpu(FLOOD, "bare")),
    Row(
        "1,000 × 27/s, sqlite, CPU",
        Figure("pace, sqlite", "ours, sqlite", "us_per_delta"),
        Figure("pace", "bare", "us_per_delta"),
    ),
    Row(
        "1,000 × 27/s, sqlite, p99",
        Figure("pace, sqlite", "ours, sqlite", "p99_ms"),
        Figure("pace", "bare", "p99_ms"),
    ),
    Row(
        "reconnect, 1,000 against 500",
        Figure("reconnect 1000", "ours", "us_per_session"),
        Figure("reconnect 500", "ours", "us_per_session"),
    ),
    Row("1,000 × 20 reconnect, sqlite", Figure("reconnect 1000, sqlite", "ours, sqlite", "seconds")),
]
