"""Threads: sync iterators that run off the loop and are read on it, a limited number at a time.

A thread cannot be killed. One whose reader is gone is told so at its next item, and counts as *hung* until it
returns; so there is a limit, and when every thread is hung nobody waits in vain.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from .interfaces import AgentError

__all__ = ["Threads"]

T = TypeVar("T")

_MAX_ITEMS = 1_000
_MAX_CHARS = 64 << 10

_logger = logging.getLogger(__name__)


class Threads:
    """At most `limit` daemon threads, each running one iterator; who finds none free waits its turn.

    When all have been hung for `grace` seconds, whoever waits or comes is told `agent_unavailable`, until one
    returns. All methods belong to one event loop.
    """

    def __init__(self, limit: int, grace: float = 1.0) -> None:
        self._limit = limit
        self._grace = grace
        self._busy = 0
        self._hung: set[_Run[Any]] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._hopeless = False
        self._patience: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> int:
        """Threads that run, hung ones included."""
        return self._busy

    @property
    def hung(self) -> int:
        """Threads that were told to stop and have not."""
        return len(self._hung)

    @property
    def waiting(self) -> int:
        """Iterators that wait for a thread."""
        return len(self._waiting)

    async def iterate(self, start: Callable[[], Iterable[T]]) -> AsyncGenerator[T, None]:
        """Call `start` in a thread, with this context's variables, and yield what its iterator yields there.

        What it raises is raised here. Closing this generator returns at once; the thread is told at its next
        item, and closes the iterator there. While nobody reads, the thread is held after 1,000 items or 64 Ki
        characters. Raises `AgentError("agent_unavailable")` if every thread is hung.
        """
        await self._enter()
        run = _Run[T](asyncio.get_running_loop(), self._returned)
        try:
            # Each its own thread: 0.1 ms is nothing against what iterators do, and a hung one is never used
            # again. Daemons, because at exit Python waits for all others, those of an executor included.
            threading.Thread(target=copy_context().run, args=(run.work, start), daemon=True).start()
        except RuntimeError:
            self._leave()
            raise
        try:
            while True:
                await run.news.wait()
                run.news.clear()
                over = run.over  # before taking: what comes later is news again
                for item in run.take():
                    yield item
                if over:
                    break
            if run.error:
                raise run.error
        finally:
            run.stop()
            if not run.over:
                self._hang(run)

    async def _enter(self) -> None:
        if self._hopeless:
            raise self._stuck()
        if self._busy < self._limit:
            self._busy += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled() and not turn.exception():
                self._leave()  # given a thread in the moment in which it was cancelled
            raise

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._busy -= 1

    def _hang(self, run: _Run[Any]) -> None:
        self._hung.add(run)
        if len(self._hung) == self._limit:
            self._patience = asyncio.get_running_loop().call_later(self._grace, self._lose_hope)

    def _lose_hope(self) -> None:
        self._hopeless = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(self._stuck())

    def _stuck(self) -> AgentError:
        return AgentError(
            f"This agent cannot answer now: all of its {self._limit} threads hang.", "agent_unavailable"
        )

    def _returned(self, run: _Run[Any]) -> None:
        if run in self._hung:
            self._hung.remove(run)
            self._hopeless = False
            if self._patience:
                self._patience.cancel()
            if run.error:
                _logger.warning("an iterator failed after it was told to stop", exc_info=run.error)
        self._leave()


class _Run(Generic[T]):
    """One iterator in its thread: filled there, emptied on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, returned: Callable[[_Run[T]], None]) -> None:
        self.news = asyncio.Event()
        self.over = False
        self.error: Exception | None = None
        self._loop = loop
        self._on_return = returned
        self._changed = threading.Condition()
        self._items: list[T] = []
        self._chars = 0
        self._stopped = False

    # On the loop

    def take(self) -> list[T]:
        """Everything that has come since."""
        with self._changed:
            items, self._items, self._chars = self._items, [], 0
            self._changed.notify()
        return items

    def stop(self) -> None:
        """Nobody reads any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _returned(self) -> None:
        self.over = True
        self.news.set()
        self._on_return(self)

    # In the thread

    def work(self, start: Callable[[], Iterable[T]]) -> None:
        """Run the iterator to its end, or until nobody reads."""
        try:
            self._exhaust(start())
        except Exception as error:
            self.error = error
        except BaseException as error:
            # A `sys.exit()` in an agent must not end the gateway.
            self.error = RuntimeError(f"it raised {error!r}")
            self.error.__cause__ = error
        self._tell(self._returned)

    def _exhaust(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    break
        finally:
            close = getattr(items, "close", None)
            if close:
                close()  # here, so that the iterator's own clean-up runs in its own thread

    def _put(self, item: T) -> bool:
        with self._changed:
            self._changed.wait_for(self._has_room)
            if self._stopped:
                return False
            self._items.append(item)
            self._chars += str.__len__(item) if isinstance(item, str) else 1
            first = len(self._items) == 1
        if first:  # what piles up until the loop comes round is one wake-up
            self._tell(self.news.set)
        return True

    def _has_room(self) -> bool:
        return self._stopped or (len(self._items) < _MAX_ITEMS and self._chars < _MAX_CHARS)

    def _tell(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            self.stop()  # the loop is closed: the process ends, and nobody reads
