"""The thread of the sqlite store: calls queue up, and all that are queued share one commit.

A job is a plain function of the connection's `Database`. It may be run twice (its batch was rolled back), so
it does nothing but read and write the database. It raises a `StoreError` only before it has written anything.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
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

    async def open(self, make: Callable[[], Database]) -> None:
        """Start the thread and open the database in it. Raises what `make` raises."""
        loop, calls = asyncio.get_running_loop(), Calls()
        opened: asyncio.Future[None] = loop.create_future()
        closed: asyncio.Future[None] = loop.create_future()
        Thread(target=self._main, args=(loop, make, calls, opened, closed), name="sqlite").start()
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
        return await answer

    # ── In the thread ───────────────────────────────────────────────────────────────────────────────────────

    def _main(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], Database],
        calls: Calls,
        opened: asyncio.Future[None],
        closed: asyncio.Future[None],
    ) -> None:
        try:
            database = make()
        except Exception as error:
            _tell(loop, [Outcome(opened, error=error), Outcome(closed)])
            return
        _tell(loop, [Outcome(opened)])
        try:
            while batch := _queued(calls):
                _tell(loop, self._transact(database, batch))
        finally:
            database.close()
            _tell(loop, [Outcome(closed)])

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
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                # Locked, full, failing: that is nobody's fault, and trying each again would wait for each.
                return [Outcome(call.answer, error=Unavailable(str(error))) for call in batch]
            if len(batch) == 1:
                return [Outcome(batch[0].answer, error=error)]
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


def _tell(loop: asyncio.AbstractEventLoop, outcomes: list[Outcome]) -> None:
    # A loop that is closed has nobody left who waits.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_answer, outcomes)


def _answer(outcomes: list[Outcome]) -> None:
    for answer, value, error in outcomes:
        if answer.done():
            continue
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)
