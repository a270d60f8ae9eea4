"""The thread of the sqlite store: calls queue up, and all that are queued share one commit.

A job is a plain function of the thread's `Database`. It may be run twice (its batch was rolled back), so it
does nothing but read and write the database. It raises a `StoreError` only before it has written anything.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeAlias, TypeVar

import anyio

from gateway.interfaces import StoreError, Unavailable
from gateway.stores.sqlite_file import Database

__all__ = ["Worker"]

P = ParamSpec("P")
T = TypeVar("T")

BATCH = 1000
"""Calls that share a commit at the most, so that the first of them does not wait for ever."""
LENT = 0.001
"""Seconds for which the loop stands still at the most, so that a batch gets done."""
LENT_AGAIN = 0.005
"""Seconds until it does so again for a batch that took longer: one that waits for the disk."""


class Call(NamedTuple):
    """One queued job, and who waits for it."""

    answer: asyncio.Future[Any]
    job: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]


Calls: TypeAlias = SimpleQueue[Call | None]
"""None is the end."""


class Outcome(NamedTuple):
    """How a call ended: a value, or an error."""

    answer: asyncio.Future[Any]
    value: Any = None
    error: Exception | None = None


class Worker:
    """Runs jobs in a thread of its own, in the order of `do`. Belongs to the loop that it was opened in."""

    def __init__(self) -> None:
        self.commits = 0
        """Transactions that wrote something."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """None while it is not open."""
        self._calls: Calls
        self._closed: asyncio.Future[None]
        self._done: SimpleQueue[list[Outcome]] = SimpleQueue()
        self._unanswered = 0
        self._lent = False
        """Is the loop standing still for the thread? Then it looks into `_done` by itself."""

    async def open(self, make: Callable[[], Database]) -> None:
        """Start the thread and open the database in it. Raises what `make` raises."""
        loop, calls = asyncio.get_running_loop(), Calls()
        opened: asyncio.Future[None] = loop.create_future()
        closed: asyncio.Future[None] = loop.create_future()
        # Not waited for if the interpreter ends without `close`: to the file that is a crash like any other.
        Thread(
            target=self._main, args=(loop, make, calls, opened, closed), name="sqlite", daemon=True
        ).start()
        try:
            await opened
        except BaseException:
            calls.put(None)
            raise
        self._loop, self._calls, self._closed = loop, calls, closed

    async def close(self) -> None:
        """Do what is queued, close the database, end the thread."""
        self._loop = None
        self._calls.put(None)
        with anyio.CancelScope(shield=True):
            await self._closed

    async def do(
        self, job: Callable[Concatenate[Database, P], T], *arguments: P.args, **options: P.kwargs
    ) -> T:
        """Run `job(database, …)`; what it wrote is committed on return. Cancelling leaves it to run.

        Raises what the job raised, and `Unavailable` if SQLite could not do it.
        """
        if self._loop is None:
            raise Unavailable("the store is not open")
        answer: asyncio.Future[T] = self._loop.create_future()
        self._calls.put(Call(answer, job, arguments, options))
        self._unanswered += 1
        if self._unanswered == 1:
            self._loop.call_soon(self._lend, self._loop)
        return await answer

    def _lend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stand still for a moment while the thread has something to do.

        The thread needs the interpreter lock after every step of SQLite. A loop that never idles gives it up
        so often and so briefly that a waiting thread never gets to ask for it: appends were seen to take four
        seconds. With the loop out of the way they take as long as when it is idle.
        """
        if self._unanswered:
            self._lent = True
            with suppress(Empty):
                self._answer(self._done.get(timeout=LENT))
            self._lent = False
            # What was put while the waiting ended: its thread may have seen either.
            self._collect()
        if self._unanswered:
            loop.call_later(LENT_AGAIN, self._lend, loop)

    def _collect(self) -> None:
        while not self._done.empty():
            self._answer(self._done.get())

    def _answer(self, outcomes: list[Outcome]) -> None:
        self._unanswered -= len(outcomes)
        for outcome in outcomes:
            _settle(outcome)

    # ── In the thread ───────────────────────────────────────────────────────────────────────────────────────

    def _main(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], Database],
        calls: Calls,
        opened: asyncio.Future[None],
        closed: asyncio.Future[None],
    ) -> None:
        # A loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            try:
                database = make()
            except Exception as error:
                loop.call_soon_threadsafe(_settle, Outcome(opened, error=error))
                return
            try:
                loop.call_soon_threadsafe(_settle, Outcome(opened))
                while batch := _queued(calls):
                    self._done.put(self._transact(database, batch))
                    del batch  # it holds texts, and the next call may be long in coming
                    if not self._lent:
                        loop.call_soon_threadsafe(self._collect)
            finally:
                database.close()
                loop.call_soon_threadsafe(_settle, Outcome(closed))

    def _transact(self, database: Database, batch: list[Call]) -> list[Outcome]:
        """Run a batch in one transaction.

        A call that fails otherwise than as promised spoils it: all are rolled back, and each gets its own.
        """
        connection = database.connection
        before = connection.total_changes
        try:
            connection.execute("BEGIN")
            outcomes = [_attempt(database, call) for call in batch]
            connection.execute("COMMIT")
        except Exception as error:
            with suppress(sqlite3.Error):
                connection.rollback()
            if isinstance(error, sqlite3.OperationalError):
                # Locked, full, failing: that is nobody's fault, and trying each again would wait for each.
                return [Outcome(call.answer, error=Unavailable(str(error))) for call in batch]
            if len(batch) == 1:
                damaged = type(error) is sqlite3.DatabaseError
                return [Outcome(batch[0].answer, error=Unavailable(str(error)) if damaged else error)]
            return [outcome for call in batch for outcome in self._transact(database, [call])]
        if connection.total_changes != before:
            self.commits += 1
        return outcomes


def _queued(calls: Calls) -> list[Call]:
    """Wait for a call, and take all that are there; none if the end was reached."""
    batch: list[Call] = []
    while not batch or (len(batch) < BATCH and not calls.empty()):
        call = calls.get()
        if call is None:
            if batch:
                calls.put(None)
            break
        batch.append(call)
    return batch


def _attempt(database: Database, call: Call) -> Outcome:
    try:
        return Outcome(call.answer, call.job(database, *call.arguments, **call.options))
    except StoreError as error:
        return Outcome(call.answer, error=error)


def _settle(outcome: Outcome) -> None:
    answer, value, error = outcome
    if answer.done():  # cancelled
        return
    if error is None:
        answer.set_result(value)
    else:
        answer.set_exception(error)
