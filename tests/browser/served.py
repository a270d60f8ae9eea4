"""A real gateway in a process of its own, which is killed and started again under its address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.process import Process, gateway_serve, serving

__all__ = ["AGENTS", "Served", "served"]

AGENTS = ("one", "two", "three")
"""Names, all of the same agent."""


class Served:
    """`url` is where it listens, whichever process that is."""

    def __init__(
        self, folder: Path, alive: ExitStack, arguments: Sequence[str], environment: Mapping[str, str] | None
    ) -> None:
        self._arguments = arguments
        self._log = folder / "log"
        self._environment = environment
        self._alive = alive
        self._process = self._begin("0")
        self.url = self._process.url

    def _begin(self, port: str) -> Process:
        arguments = [*self._arguments, "--port", port]
        return self._alive.enter_context(serving(arguments, self._log, self._environment))

    async def kill(self) -> None:
        """SIGKILL, and it is gone."""
        self._process.kill()
        await self._process.ended()

    async def start(self) -> None:
        """Starts it again where it was."""
        self._process = self._begin(str(urlsplit(self.url).port))


@contextmanager
def served(
    folder: Path,
    *arguments: str,
    names: Iterable[str] = AGENTS,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """`gateway serve` with these arguments besides, and its store and log in that folder. The agents of these
    names do as they are told."""
    agents = dict.fromkeys(names, "tests.browser.agents:agent")
    with ExitStack() as alive:
        yield Served(folder, alive, [*gateway_serve(folder / "chats.db", agents), *arguments], environment)
