"""What every live session shares: the store, the agents, the clock, and where its tasks run."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from contextvars import Context, copy_context
from itertools import count
from typing import Any, NamedTuple, Self, TypeVar

import structlog

from protocol.lifetime import Tiers

from .interfaces import Agent, Limits, Store, Unavailable
from .metrics import Metrics
from .settings import Settings

__all__ = ["Runtime", "Tasks", "TurnLimits", "is_cancelled", "new_id", "until_answered"]

Answered = TypeVar("Answered")

logger = structlog.get_logger("gateway.runtime")

_DURATIONS = 50
"""Turns of an agent that an estimate is made of."""


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


def is_cancelled() -> bool:
    """Is the running task to end? If not, a `CancelledError` comes from what it called."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Tasks:
    """Where the many short tasks of sessions and connections run, until the block is left: then all are
    cancelled, and waited for.

    A task that raises is logged and costs nobody else, unlike in the standard library's group, which would
    cancel every session of the process. Cancelling arrives once, so that an agent's clean-up may await. A
    start costs 1.2 µs and a parked task 1.4 KiB, an eighth and a third of what anyio's take.

    A task begins with the context variables that were set when the group was entered, not with those of
    whoever happens to start it: that may be another user's turn or request.
    """

    def __init__(self) -> None:
        self.context = copy_context()
        """What tasks begin with, for plain calls that the loop is to make."""
        self.stopping = False
        """All were cancelled; what is begun from here on is cancelled where it first waits."""
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self.context = copy_context()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stopping = True
        for task in self._running:
            task.cancel()
        cancelled: asyncio.CancelledError | None = None
        while self._running:
            try:
                await asyncio.wait(self._running)
            except asyncio.CancelledError as error:  # whoever leaves must still not leave a task behind
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def start_soon(
        self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any
    ) -> asyncio.Task[None]:
        """Run it in this group."""
        return self._start(function(*args), self.context.copy())

    def start_now(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it at once, within the caller's call, until it first waits; only then does it become a task.
        Spares what never waits a task and a pass of the loop (like the standard library's eager tasks, from
        3.12 on). Up to its first wait it must not ask which task it runs in."""
        context = self.context.copy()
        try:
            waits_for = context.run(coroutine.send, None)
        except StopIteration:
            return
        except Exception as error:
            _log(error)
            return
        self._start(_Rest(coroutine, waits_for), context)

    def _start(self, coroutine: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine, context=context)
        self._running.add(task)
        task.add_done_callback(self._ended)
        if self.stopping:
            task.cancel()
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log(error)


def _log(error: BaseException) -> None:
    logger.error("task failed", exc_info=error)


class _Rest(Coroutine[Any, Any, None]):
    """The rest of a coroutine that was begun and waits for something. An object and no coroutine of its own:
    that would not pass on a cancellation that comes before its first step. Only a task runs it."""

    __slots__ = ("_begun", "_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for
        self._begun = False

    def send(self, value: Any) -> Any:
        if self._begun:
            return self._coroutine.send(value)
        self._begun = True
        waits_for, self._waits_for = self._waits_for, None
        return waits_for

    def throw(self, *error: Any) -> Any:
        self._begun = True
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise NotImplementedError


class TurnLimits(NamedTuple):
    """How long an agent may take, in seconds; see `Limits`."""

    first_output: float
    silence: float
    turn: float


class Runtime:
    """Everything a session needs from outside itself. Whatever a test would have to wait for or guess is
    passed in."""

    def __init__(
        self,
        settings: Settings,
        agents: Mapping[str, Agent],
        store: Store,
        *,
        tiers: Tiers | None = None,
        now: Callable[[], float] = time.time,
        new_id: Callable[[], str] = new_id,
    ) -> None:
        self.settings = settings
        self.agents = agents
        self.store = store
        self.tiers = tiers or Tiers()
        """How long sessions live."""
        self.now = now
        """Unix seconds."""
        self.new_id = new_id
        self.node = new_id()
        """This process, as `Started.node` names it."""
        self._tags = count(1)
        self._limits: dict[str, TurnLimits] = {}
        self.metrics = Metrics()
        self.durations: dict[str, deque[float]] = {}
        """How many seconds an agent's newest completed turns took."""
        self.tasks = Tasks()
        self.draining = False
        """The process stops: nothing new is started."""
        self.save_soon: Callable[[], None] = lambda: None
        """Some turn has much unsaved text."""

    def limits(self, agent: str) -> TurnLimits:
        """How long that agent may take: its own limits, and the settings for what it leaves open."""
        if (limits := self._limits.get(agent)) is None:
            own, settings = self._own_limits(agent), self.settings
            limits = self._limits[agent] = TurnLimits(
                settings.first_output_timeout if own.first_output is None else own.first_output,
                settings.silence_timeout if own.silence is None else own.silence,
                settings.turn_timeout if own.turn is None else own.turn,
            )
        return limits

    def limit_option(self, agent: str, limit: str) -> str:
        """What to change for another limit of that name: the agent's option, or the setting for all."""
        own = getattr(self._own_limits(agent), limit) is not None
        return f"this agent's option {limit}" if own else f"GATEWAY_{limit.upper()}_TIMEOUT"

    def _own_limits(self, agent: str) -> Limits:
        limits: Limits | None = getattr(self.agents.get(agent), "limits", None)
        return limits or Limits()

    def took(self, agent: str, seconds: float) -> None:
        """A turn of that agent was completed."""
        if (newest := self.durations.get(agent)) is None:
            newest = self.durations[agent] = deque(maxlen=_DURATIONS)
        newest.append(seconds)

    async def answered(self, read: Awaitable[Answered]) -> Answered:
        """What this read of the store answers. Raises `Unavailable` if it takes longer than `store_timeout`.

        Not for what a session does: that may run in somebody else's task, and its mailbox keeps the time.
        """
        try:
            async with asyncio.timeout(self.settings.store_timeout):
                return await read
        except TimeoutError:
            raise Unavailable from None

    def new_tag(self) -> str:
        """A tag no append ever had: random by its node, and new by its number."""
        return f"{self.node[:12]}{next(self._tags):x}"
