"""`python -m tests.bench`: every row of the table, measured beside its baseline in the same run.

Environment: `BENCH=all` takes the measures that are left out by default; `BENCH_ONLY=bare,ours` takes only
these subjects, `BENCH_MEASURES=flood,pace` only measures whose name contains one of these; `BENCH_ROUNDS=5`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.bench.measures import MEASURES, Figures, Measure
from tests.bench.process import LOAD_CORE, foreign_cpu, running
from tests.bench.report import Results, publish
from tests.bench.subjects import SUBJECTS, Run


def wanted(variable: str) -> list[str]:
    """The words of a comma-separated environment variable."""
    return [word.strip() for word in os.environ.get(variable, "").split(",") if word.strip()]


def chosen() -> dict[str, Measure]:
    """The measures to take, in order."""
    words = wanted("BENCH_MEASURES")
    everything = os.environ.get("BENCH") == "all" or bool(words)
    return {
        name: measure
        for name, measure in MEASURES.items()
        if (measure.by_default or everything) and (not words or any(word in name for word in words))
    }


async def take(measure: Measure, name: str) -> Figures:
    """One measure of one subject, on a server of its own."""
    subject = SUBJECTS[name]
    with tempfile.TemporaryDirectory() as tmp:
        arguments = [argument.format(tmp=tmp) for argument in subject.arguments]
        async with running(f"tests.bench.servers.{subject.module}", arguments) as server:
            return await measure.take(Run(server, subject.dialect), **measure.of[name])


def tell(text: str) -> None:
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


async def take_all(rounds: int) -> tuple[Results, list[str]]:
    """Measure by measure, its subjects in turn, so that they share the machine's moods.

    The second answer says what could not be measured: a sentence each.
    """
    only = wanted("BENCH_ONLY")
    measures = chosen()
    results: Results = {}
    failures: list[str] = []
    for place, (title, measure) in enumerate(measures.items(), 1):
        subjects = [name for name in measure.of if not only or name in only]
        for round_ in range(1, rounds + 1):
            for name in subjects:
                tell(f"[{place}/{len(measures)}] {title}: round {round_} of {rounds}: {name} ")
                gc.collect()
                try:
                    figures = await take(measure, name)
                except Exception as error:
                    failures.append(f"{title}, round {round_}, {name}: {type(error).__name__} {error}")
                else:
                    results.setdefault(title, {}).setdefault(name, []).append(figures)
    tell("")
    return results, failures


def main() -> int:
    """Measure, and say what came out: 1 if something could not be measured. A missed target is a result."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.sched_setaffinity(0, {LOAD_CORE})
    start, foreign = time.monotonic(), foreign_cpu()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results, failures = runner.run(take_all(int(os.environ.get("BENCH_ROUNDS", "5"))))
    seconds = time.monotonic() - start
    publish(
        results,
        seconds,
        (foreign_cpu() - foreign) / seconds,
        Path(f"bench-results/{time.strftime('%Y%m%d-%H%M%S')}.json"),
    )
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
