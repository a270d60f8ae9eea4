"""What the bench says: the table, and JSON beside it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from msgspec import json
from rich.console import Console
from rich.table import Table

from tests.bench.targets import ROWS, Figure, Row

Results: TypeAlias = dict[str, dict[str, list[dict[str, float]]]]
"""Measure → subject → the figures of each round."""

COLUMNS = ("measure", "ours", "baseline", "ratio", "target", "verdict", "load busy")
PACKAGES = (
    "uvicorn",
    "uvloop",
    "websockets",
    "httptools",
    "starlette",
    "msgspec",
    "python-socketio",
    "sse-starlette",
)


def value(results: Results, figure: Figure) -> float | None:
    """The median of its rounds, if it was measured."""
    rounds = results.get(figure.measure, {}).get(figure.subject)
    return median(figures[figure.name] for figures in rounds) if rounds else None


def judged(results: Results, row: Row) -> dict[str, Any]:
    """A row with its figures: `met` is None where there is nothing to compare."""
    ours = value(results, row.ours)
    baseline = value(results, row.baseline) if row.baseline else None
    ratio = ours / baseline if ours is not None and baseline else None
    judged_by = ratio if row.baseline else ours
    met: bool | None = None
    if judged_by is not None and row.at_least is not None:
        met = judged_by >= row.at_least
    if judged_by is not None and row.at_most is not None:
        met = judged_by <= row.at_most
    return {
        "measure": row.title,
        "unit": row.ours.name,
        "ours": ours,
        "baseline": baseline,
        "ratio": ratio,
        "at_least": row.at_least,
        "at_most": row.at_most,
        "met": met,
        "busy": [
            value(results, figure._replace(name="busy")) for figure in (row.ours, row.baseline) if figure
        ],
    }


def machine() -> dict[str, Any]:
    """Where this was measured, and with what."""
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def number(figure: float | None, unit: str = "") -> str:
    """A figure for people: `129,000`, `12.9 µs`, `1.45 ms`."""
    if figure is None:
        return "–"
    text = f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}"
    return f"{text} {unit}".strip()


UNITS = {"us": "µs", "ms": "ms", "kib": "KiB", "seconds": "s", "deltas": "/s"}


def unit(name: str) -> str:
    """The unit that the name of a figure spells: `us_per_delta`, `p99_ms`."""
    return next((UNITS[word] for word in name.split("_") if word in UNITS), "")


def target(row: dict[str, Any]) -> str:
    """What must be reached."""
    sign, limit = ("≥", row["at_least"]) if row["at_least"] is not None else ("≤", row["at_most"])
    if limit is None:
        return "reported"
    return (
        f"{sign} {limit:g}×" if row["baseline"] is not None else f"{sign} {number(limit, unit(row['unit']))}"
    )


def table(results: Results) -> Table:
    """The rows of which something was measured."""
    grid = Table(*COLUMNS, title="Trunkline bench")
    for row in (judged(results, row) for row in ROWS):
        if row["ours"] is None and row["baseline"] is None:
            continue
        verdict = {True: "[green]met[/]", False: "[red]MISSED[/]", None: ""}[row["met"]]
        kind = unit(row["unit"])
        grid.add_row(
            row["measure"],
            number(row["ours"], kind),
            number(row["baseline"], kind),
            f"{row['ratio']:.2f}×" if row["ratio"] is not None else "–",
            target(row),
            verdict,
            " · ".join(f"{busy:.0f} %" for busy in row["busy"] if busy is not None),
        )
    return grid


def publish(results: Results, seconds: float, foreign: float, place: Path) -> None:
    """Print the table, and write everything to `place`.

    `foreign` is what share of a core others have used. They do not only slow things down: a reader that is
    held up makes a server merge its writes, and look fast.
    """
    Console(width=130).print(table(results))
    place.parent.mkdir(exist_ok=True)
    rows = [judged(results, row) for row in ROWS]
    data = {
        "machine": machine(),
        "seconds": round(seconds),
        "foreign": round(foreign, 3),
        "rows": rows,
        "rounds": results,
    }
    place.write_bytes(json.format(json.encode(data), indent=1))
    print(f"{seconds:.0f} s; every round in {place}")
    if foreign > 0.05:
        print(f"Not a quiet machine: others used {foreign:.0%} of a core meanwhile. Do not trust the ratios.")
