"""A gateway in a process of its own, which a test may kill."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from asyncio.subprocess import Process as Child
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM

__all__ = ["ROOT", "Process", "gateway_serve", "serving"]

ROOT = Path(__file__).parents[2]
START = 20.0
"""Seconds that a start may take: two cores may be shared with much else."""


class Process:
    """A running server: `url` says where it listens, `log` is what it wrote to stderr."""

    def __init__(self, child: Child, url: str, log: Path) -> None:
        self._child = child
        self._log = log
        self.url = url

    @property
    def ws(self) -> str:
        return self.url.replace("http", "ws", 1)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        """SIGKILL: it dies here and now."""
        _signal(self._child, SIGKILL)

    def terminate(self) -> None:
        """SIGTERM: it is asked to stop."""
        _signal(self._child, SIGTERM)

    async def ended(self, seconds: float = 5.0) -> int:
        """Its exit code, when it has ended."""
        async with asyncio.timeout(seconds):
            return await self._child.wait()


@asynccontextmanager
async def serving(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """`python` with these arguments, from the root of the repository, until the block is left. The first URL
    that it prints is where it listens; what it writes to stderr is appended to `log`."""
    with log.open("ab") as errors:
        child = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=PIPE, stderr=errors, cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    assert child.stdout is not None
    try:
        async with asyncio.timeout(START):
            said = (await child.stdout.readline()).decode()
        url = re.search(r"http://\S+", said)
        assert url, f"it did not start: {log.read_text()}"
        yield Process(child, url[0], log)
    finally:
        _signal(child, SIGKILL)
        await child.communicate()


def _signal(child: Child, number: int) -> None:
    """Not by `Popen.kill`, which may reap the child itself, and then its exit code is lost to asyncio."""
    if child.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(child.pid, number)


def gateway_serve(store: Path, agents: Mapping[str, str]) -> list[str]:
    """The arguments of `gateway serve` on a free port, with a store in that file."""
    named = [argument for name, spec in agents.items() for argument in ("--agent", f"{name}={spec}")]
    return ["-m", "gateway", "serve", "--port", "0", "--store", f"sqlite:///{store}", *named]
