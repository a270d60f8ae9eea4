"""A gateway in a process of its own, which a test may kill."""

from __future__ import annotations

import json
import os
import re
import selectors
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import anyio

__all__ = ["ROOT", "Process", "gateway_runner", "gateway_serve", "serving"]

ROOT = Path(__file__).parents[2]
START = 20.0
"""Seconds that a start may take: two cores may be shared with much else."""


class Process:
    """A running server: `url` says where it listens."""

    def __init__(self, child: Popen[str], url: str, log: Path) -> None:
        self._child = child
        self._log = log
        self.url = url

    @property
    def ws(self) -> str:
        """Where its WebSockets are, without the path."""
        return self.url.replace("http", "ws", 1)

    @property
    def log(self) -> str:
        """What it wrote to stderr so far."""
        return self._log.read_text()

    def kill(self) -> None:
        """SIGKILL: it dies here and now."""
        self._child.kill()

    def terminate(self) -> None:
        """SIGTERM: it is asked to stop."""
        self._child.terminate()

    async def ended(self, seconds: float = 5.0) -> int:
        """Its exit code, when it has ended."""
        return await anyio.to_thread.run_sync(self._child.wait, seconds)


@contextmanager
def serving(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """`python` with these arguments, from the root of the repository, until the block is left. The first URL
    that it prints is where it listens; what it writes to stderr is appended to `log`."""
    with (
        log.open("ab") as errors,
        Popen(
            [sys.executable, *arguments], stdout=PIPE, stderr=errors, cwd=ROOT, text=True,
            env={**os.environ, **(environment or {})},
        ) as child,
    ):  # fmt: skip
        try:
            url = re.search(r"http://\S+", _first_line(child))
            assert url, f"it did not start: {log.read_text()}"
            yield Process(child, url[0], log)
        finally:
            child.kill()


def _first_line(child: Popen[str]) -> str:
    assert child.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        return child.stdout.readline() if selector.select(START) else ""


def gateway_serve(store: Path, agents: Mapping[str, str]) -> list[str]:
    """The arguments of `gateway serve` on a free port, with a store in that file."""
    named = [argument for name, spec in agents.items() for argument in ("--agent", f"{name}={spec}")]
    return ["-m", "gateway", "serve", "--port", "0", "--store", f"sqlite:///{store}", *named]


def gateway_runner(**options: Any) -> list[str]:
    """The arguments of `runner.py`, which offers more than the command line."""
    return ["-m", "tests.e2e.runner", json.dumps(options)]
