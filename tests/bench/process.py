"""A server under test: a process on a core of its own, and what it costs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from msgspec import Struct

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]


class Window(Struct):
    """What was spent while something was measured."""

    seconds: float = 0.0
    cpu: float = 0.0
    """CPU seconds of the server, all its threads, user and system."""
    busy: float = 0.0
    """Of the load client, in percent of its core."""


class ServerProcess:
    """A running server and where it listens."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self.host, port = url.removeprefix("http://").rsplit(":", 1)
        self.port = int(port)

    def cpu(self) -> float:
        """CPU seconds so far, all threads, user and system: what /proc/PID/stat counts in ticks of 10 ms, by
        the kernel's nanosecond clock of that process (see clock_getcpuclockid(3))."""
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def memory(self) -> int:
        """Bytes of memory, shared pages counted in part (PSS)."""
        for line in Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("smaps_rollup has no Pss")

    @contextmanager
    def window(self) -> Iterator[Window]:
        """Measure what is spent inside; the result is filled in at the end."""
        window = Window()
        cpu, load, start = self.cpu(), time.process_time(), time.perf_counter()
        yield window
        window.seconds = time.perf_counter() - start
        window.cpu = self.cpu() - cpu
        window.busy = (time.process_time() - load) / window.seconds * 100


def foreign_cpu() -> float:
    """CPU seconds that this machine has spent on anything but this process and the servers it has ended."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks[:8]
    spent = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return spent - sum(os.times()[:4])


def pin_to_server_core() -> None:
    os.sched_setaffinity(0, {SERVER_CORE})


@asynccontextmanager
async def running(module: str, arguments: Sequence[str]) -> AsyncIterator[ServerProcess]:
    """Run `python -m module arguments` on the server's core. It says its URL on the first line of stdout.

    Raises `RuntimeError` with what it wrote to stderr, if it does not.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs while a server starts
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=pin_to_server_core,
        )
        assert process.stdout is not None
        try:
            url = await asyncio.to_thread(process.stdout.readline)
            if not url:
                errors.seek(0)
                raise RuntimeError(f"{module} did not start:\n{errors.read()}")
            yield ServerProcess(process, url.strip())
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
