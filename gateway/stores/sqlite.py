"""The store in one SQLite file: the default, for a gateway on one machine.

The verbs only say which job to run; a thread of the store's own runs them, and those that are queued together
share one commit. The parts: `sqlite_file` (lock, format, generation), `sqlite_thread` (group commit),
`sqlite_rows` (what the rows mean), and the jobs: `sqlite_read`, `sqlite_find`, `sqlite_write`, `sqlite_trim`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from gateway.interfaces import (
    NO_MOVES,
    NO_SCOPES,
    Census,
    Direction,
    Due,
    Head,
    Info,
    Key,
    KnownTurn,
    Loaded,
    Page,
    Place,
    Saved,
    Scopes,
    Segment,
    Summary,
)
from gateway.stores import sqlite_find, sqlite_read, sqlite_rows, sqlite_trim, sqlite_write
from gateway.stores.sqlite_file import BOOT_ID, Database
from gateway.stores.sqlite_thread import Worker
from protocol.history import DAY
from protocol.records import Entry, Record

__all__ = ["SqliteStore"]


class SqliteStore:
    """A `Store` in the file `path`, which it alone may use while it is open.

    `synchronous_full` waits for the disk at every commit: what is acknowledged then survives power loss.
    `keep_days` and `keep_records` (per session) say what `trim` leaves, `keep_shared_days` for how long what
    a user's sessions shared stays after the last of them; None keeps all. `boot_id` tells one
    boot of the machine from the next, empty where that is not known. `patience` is how many seconds a call
    waits for somebody who locks the file from outside, before it is `Unavailable`.

    Opening raises `StoreUnusable`: `StoreInUse` if another process has the file open.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        synchronous_full: bool = False,
        keep_days: float | None = None,
        keep_records: int | None = None,
        keep_shared_days: float | None = None,
        boot_id: str | None = None,
        patience: float = 5.0,
    ) -> None:
        self.durability: Literal["process", "disk"] = "disk" if synchronous_full else "process"
        self._keep_days = keep_days
        self._keep_records = keep_records
        self._keep_shared_days = keep_shared_days
        self._open_file = partial(
            Database,
            Path(path),
            full=synchronous_full,
            boot_id=_boot_id() if boot_id is None else boot_id,
            patience=patience,
        )
        self._worker = Worker()
        self._shares = False
        """Some state is shared: until then nobody needs to ask the thread for it."""

    @property
    def commits(self) -> int:
        """How many transactions have written something."""
        return self._worker.commits

    @asynccontextmanager
    async def open(self, node: str, now: float) -> AsyncIterator[None]:  # noqa: ARG002
        """See `Store.open`. Turns that run in the file belong to a process that is gone."""
        await self._worker.open(self._open_file)
        try:
            self._shares = await self._worker.do(sqlite_find.shares)
            yield
        finally:
            await self._worker.close()

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────────────────

    async def create(
        self,
        info: Info,
        tag: str,
        records: Sequence[Record] = (),
        *,
        over_tombstone: bool = False,
        activate: bool = False,
        unless_active: bool = False,
        scopes: Scopes = NO_SCOPES,
        most: int | None = None,
    ) -> Head:
        """See `Store.create`. The same create again, known by its tag, is answered as the first time."""
        what = sqlite_write.written(records, info, scopes)
        self._shares = self._shares or bool(scopes)
        return await self._worker.do(
            sqlite_write.create, info, tag, what, over_tombstone, activate, unless_active, most
        )

    async def append(
        self,
        key: Key,
        head: Head,
        tag: str,
        records: Sequence[Record],
        *,
        text: tuple[int, str] | None = None,
        info: Info | None = None,
        scopes: Scopes = NO_SCOPES,
    ) -> Head:
        """See `Store.append`."""
        what = sqlite_write.written(records, info, scopes)
        self._shares = self._shares or bool(scopes)
        return await self._worker.do(sqlite_write.append, key, head, tag, what, text)

    async def save_text(self, batch: Sequence[Segment]) -> list[Saved]:
        """See `Store.save_text`."""
        return await self._worker.do(sqlite_write.save_text, batch)

    async def delete(
        self,
        key: Key,
        now: float,
        status: Literal["closed", "expired"] = "closed",
        head: Head | None = None,
        *,
        ended_at: float | None = None,
    ) -> None:
        """See `Store.delete`."""
        await self._worker.do(sqlite_write.delete, key, now, status, head, ended_at)

    async def move(
        self, key: Key, head: Head, to: Key, now: float, scopes: Mapping[str, str] = NO_MOVES
    ) -> Head:
        """See `Store.move`."""
        return await self._worker.do(sqlite_write.move, key, head, to, now, dict(scopes))

    async def adopt(self, guest: str, user: str, until: float) -> str:
        """See `Store.adopt`."""
        return await self._worker.do(sqlite_write.adopt, guest, user, until)

    async def adopter(self, guest: str) -> str | None:
        """See `Store.adopter`."""
        return await self._worker.do(sqlite_find.adopter, guest)

    async def trim(self, now: float) -> int:
        """See `Store.trim`. In small steps: appends go on in between."""
        unused = None if self._keep_shared_days is None else now - self._keep_shared_days * DAY
        await self._worker.do(sqlite_trim.trim_old, now, unused)
        if self._keep_days is None and self._keep_records is None:
            return 0
        young = None if self._keep_days is None else now - self._keep_days * DAY
        after: int | None = 0
        total = 0
        while after is not None:
            after, gone = await self._worker.do(sqlite_trim.trim, after, now, young, self._keep_records)
            total += gone
        return total

    # ── Reading one session ─────────────────────────────────────────────────────────────────────────────────

    async def load(self, key: Key) -> Loaded:
        """See `Store.load`."""
        return await self._worker.do(sqlite_read.load, key)

    async def read(self, key: Key, seq: int, limit: int, max_bytes: int) -> list[Entry] | None:
        """See `Store.read`."""
        return await self._worker.do(sqlite_read.read, key, seq, limit, max_bytes)

    async def text(self, key: Key) -> tuple[str | None, str]:
        """See `Store.text`."""
        return await self._worker.do(sqlite_read.text, key)

    async def history(
        self,
        key: Key,
        limit: int,
        *,
        position: int | None = None,
        direction: Direction = "before",
        time: float | None = None,
        as_of: int | None = None,
        max_bytes: int = 1 << 20,
    ) -> Page:
        """See `Store.history`."""
        return await self._worker.do(
            sqlite_read.history, key, limit, position, direction, time, as_of, max_bytes
        )

    async def turn(self, key: Key, turn_id: str) -> KnownTurn | None:
        """See `Store.turn`."""
        return await self._worker.do(sqlite_read.turn, key, turn_id)

    async def summary(self, key: Key) -> Summary:
        """See `Store.summary`."""
        return await self._worker.do(sqlite_rows.summary_of, key)

    # ── Finding sessions ────────────────────────────────────────────────────────────────────────────────────

    async def find(
        self, session_id: str, user: str | None, agents: Collection[str] | None = None
    ) -> list[Key]:
        """See `Store.find`."""
        return await self._worker.do(sqlite_find.find, session_id, user, agents)

    async def sessions(
        self, agent: str | None, user: str | None, limit: int, before: Place | None = None
    ) -> list[Summary]:
        """See `Store.sessions`."""
        return await self._worker.do(sqlite_find.sessions, agent, user, limit, before)

    async def by_update(self, agent: str, user: str, limit: int, after: Place | None = None) -> list[Summary]:
        """See `Store.by_update`."""
        return await self._worker.do(sqlite_find.by_update, agent, user, limit, after)

    async def scope(self, name: str) -> dict[str, Any]:
        """See `Store.scope`."""
        return await self._worker.do(sqlite_find.scope, name) if self._shares else {}

    async def census(self, now: float) -> Census:
        """See `Store.census`."""
        return await self._worker.do(sqlite_find.census, now)

    async def active(self, agent: str, user: str) -> Key | None:
        """See `Store.active`."""
        return await self._worker.do(sqlite_find.active, agent, user)

    async def activate(self, key: Key) -> None:
        """See `Store.activate`."""
        await self._worker.do(sqlite_write.activate, key)

    async def label(self, key: Key, label: str | None, now: float) -> None:
        """See `Store.label`."""
        await self._worker.do(sqlite_write.label, key, label, now)

    async def by_label(self, agent: str, user: str, label: str) -> Key | None:
        """See `Store.by_label`."""
        return await self._worker.do(sqlite_find.by_label, agent, user, label)

    async def due(self, now: float, node: str) -> list[Due]:
        """See `Store.due`."""
        return await self._worker.do(sqlite_find.due, now, node)

    def watch(self, key: Key, changed: Callable[[Head | None], None]) -> None:
        """See `Store.watch`. Never called: the file has one owner."""

    def unwatch(self, key: Key, changed: Callable[[Head | None], None]) -> None:
        """See `Store.unwatch`."""


def _boot_id() -> str:
    with suppress(OSError):
        return BOOT_ID.read_text().strip()
    return ""
