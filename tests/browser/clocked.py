"""A gateway whose clock a test puts forward: `python -m tests.browser.clocked STORE CLOCK`.

Its one agent, `one`, does as it is told. Sessions live for ten minutes after the last word, and are warned in
the last five. CLOCK is a file; the seconds that stand in it are added to the time.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time

from gateway.agents.function import FunctionAgent
from gateway.app import gateway_app
from gateway.serve import Server, configure
from gateway.settings import Settings
from gateway.stores.sqlite import SqliteStore
from protocol.lifetime import Terms, Tiers
from tests.browser.agents import agent
from tests.e2e.process import serving

__all__ = ["MINUTES", "Clocked", "clocked"]

MINUTES = 60.0
"""As many seconds."""
LIVES = Tiers(world=Terms(10.0, True, 720.0, 5.0), explicit=True)
LOOK = 0.05
"""Seconds between two looks for what is due."""


class Clocked:
    """`url` is where it listens."""

    def __init__(self, url: str, clock: Path) -> None:
        self.url = url
        self._clock = clock

    def forward(self, seconds: float) -> None:
        """Puts its clock forward by so much."""
        self._clock.write_text(str(float(self._clock.read_text()) + seconds))


@contextmanager
def clocked(folder: Path) -> Iterator[Clocked]:
    """Such a gateway, in a process of its own, with all that it keeps in that folder."""
    clock = folder / "clock"
    clock.write_text("0")
    arguments = ["-m", "tests.browser.clocked", str(folder / "chats.db"), str(clock)]
    with serving(arguments, folder / "log") as process:
        yield Clocked(process.url, clock)


async def main(store: str, clock: Path) -> None:
    gateway = gateway_app(
        Settings(due_interval=LOOK),
        agents={"one": FunctionAgent(agent)},
        store=SqliteStore(store),
        tiers=LIVES,
        now=lambda: time() + float(clock.read_text() or 0),
    )
    listening = socket.create_server(("127.0.0.1", 0))
    ready = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = Server(configure(gateway), drain=gateway.drain, ready=lambda _: print(ready, flush=True))
    await server.serve([listening])


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(sys.argv[1], Path(sys.argv[2])))
