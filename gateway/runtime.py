"""What every live session shares: the store, the agents, the clock, and where its tasks run."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from .interfaces import Agent, Store, Unavailable
from .metrics import Metrics
from .settings import Settings

__all__ = ["Runtime", "Stopped", "Tasks", "new_id", "until_answered"]

Answered = TypeVar("Answered")


def new_id() -> str:
    """A fresh id, 96 random bits: for turns, sessions, connections, tags, nodes."""
    return secrets.token_hex(12)


async def until_answered(read: Callable[[], Awaitable[Answered]]) -> Answered:
    """What a read of the store answers, tried again until it does: for what nobody would ask again."""
    delay = 0.05
    while True:
        try:
            return await read()
        except Unavailable:
            await asyncio.sleep(delay)
            delay = min(delay * 2, 2.0)


class Tasks(asyncio.TaskGroup):
    """Where the many short tasks of sessions and connections run.

    The standard group, because a start costs 1.2 µs and a parked task 1.4 KiB, an eighth and a third of
    anyio's; and because cancelling arrives once, so that an agent's clean-up may await. What runs here must
    not raise.
    """

    def start_soon(
        self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any
    ) -> asyncio.Task[None]:
        """Run it in this group."""
        return self.create_task(function(*args))

    def stop(self) -> None:
        """Cancel everything that runs in it; leaving the group then raises `Stopped` in an exception
        group."""
        self.start_soon(_raise_stopped)


class Stopped(Exception):
    """Ends a group of tasks: the way the standard library's documentation shows."""


async def _raise_stopped() -> None:
    raise Stopped


class Runtime:
    """Everything a session needs from outside itself. Whatever a test would have to wait for or guess is
    passed in."""

    def __init__(
        self,
        settings: Settings,
        agents: Mapping[str, Agent],
        store: Store,
        *,
        now: Callable[[], float] = time.time,
        new_id: Callable[[], str] = new_id,
    ) -> None:
        self.settings = settings
        self.agents = agents
        self.store = store
        self.now = now
        """Unix seconds."""
        self.new_id = new_id
        self.node = new_id()
        """This process, as `Started.node` names it."""
        self.metrics = Metrics()
        self.tasks = Tasks()
        self.draining = False
        """The process stops: nothing new is started."""
        self.save_soon: Callable[[], None] = lambda: None
        """Some turn has much unsaved text."""
