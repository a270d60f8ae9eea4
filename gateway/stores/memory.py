"""The store in memory: dicts, for tests and for conversations that nobody will miss after a restart.

Several gateways of one process may use one `MemoryStore` at the same time, each as its own node. No verb ever
really waits, so each is atomic by itself. Records are kept as their JSON, so that what comes out is what a
disk would give back, and nothing that a caller holds can change it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count, islice
from secrets import token_hex
from typing import Any, Literal

from gateway.interfaces import (
    NO_MOVES,
    NO_SCOPES,
    Census,
    Direction,
    Due,
    Duplicate,
    Head,
    Info,
    Key,
    KnownTurn,
    Loaded,
    NoSession,
    Page,
    Place,
    Said,
    Saved,
    Scopes,
    Segment,
    SessionExists,
    Stale,
    Summary,
    TooManySessions,
)
from gateway.stores.memory_catalog import Calendar, Catalog, Commons, Ended, Graveyard
from gateway.stores.memory_log import Log
from protocol.history import DAY, new_turns, within
from protocol.records import Entry, Record, encode_record
from protocol.scopes import scope_of_user

__all__ = ["MemoryStore"]


STEP = 64
"""Segments saved before the loop may turn."""


class MemoryStore:
    """A `Store` that forgets everything with its process.

    `generation` (letters and digits, at most 40) is the first part of every epoch: random if not given, since
    a new process has forgotten what the last one acknowledged. `keep_days` and `keep_records` (per session)
    say what `trim` leaves, `keep_shared_days` for how long what a user's sessions shared stays after the last
    of them; None keeps all.
    """

    durability: Literal["memory"] = "memory"

    def __init__(
        self,
        *,
        generation: str | None = None,
        keep_days: float | None = None,
        keep_records: int | None = None,
        keep_shared_days: float | None = None,
    ) -> None:
        self._generation = generation or token_hex(4)
        self._incarnations = count(1)
        self._keep_days = keep_days
        self._keep_records = keep_records
        self._keep_shared_days = keep_shared_days
        self._nodes: set[str] = set()
        self._logs: dict[Key, Log] = {}
        self._busy: dict[Key, Log] = {}
        self._active: dict[tuple[str, str], Key] = {}
        self._catalog = Catalog()
        self._graveyard = Graveyard()
        self._calendar = Calendar()
        self._commons = Commons()
        self._adopted: dict[str, tuple[str, float]] = {}
        """Which user a guest has become, and until when that is to be known."""
        self._watchers: dict[Key, tuple[Callable[[Head | None], None], ...]] = {}

    @asynccontextmanager
    async def open(self, node: str, now: float) -> AsyncIterator[None]:  # noqa: ARG002
        """See `Store.open`. What the store holds outlives the node."""
        self._nodes.add(node)
        try:
            yield
        finally:
            self._nodes.discard(node)
            for log in self._busy.values():
                log.abandon(node)

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
        new_turns(records)
        key = info.key
        if (there := self._logs.get(key)) is not None:
            if there.tag == tag:
                return there.head
            raise SessionExists
        if unless_active and key[:2] in self._active:
            raise SessionExists
        if (tombstone := self._graveyard.tombstone(key)) is not None and not over_tombstone:
            raise NoSession(*tombstone)
        if most is not None and self._catalog.count(key.user) >= most:
            raise TooManySessions
        bodies = [encode_record(record) for record in records]
        log = Log(self._new_epoch(), info)
        self._take_in(log)
        self._commons.merge(scopes)
        if activate:
            self._active[key[:2]] = key
        self._extend(log, tag, records, bodies)
        return log.head

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
        new = new_turns(records)
        log = self._log(key)
        if log.tag == tag:
            return log.head
        for message in new:
            if (known := log.known(message.turn_id)) is not None:
                raise Duplicate(known)
        if log.head != head:
            raise Stale
        bodies = [encode_record(record) for record in records]
        if info is not None:
            self._calendar.remove(log)
            log.keep_beside(info)
            self._calendar.add(log)
        self._commons.merge(scopes)
        if text is not None:
            log.write(*text)
        self._extend(log, tag, records, bodies)
        return log.head

    async def save_text(self, batch: Sequence[Segment]) -> list[Saved]:
        """See `Store.save_text`. The pieces are kept as they are, not copied."""
        saved = []
        for number, segment in enumerate(batch, 1):
            saved.append(self._save(segment))
            if number % STEP == 0:  # there may be thousands: let the others go on
                await asyncio.sleep(0)
        return saved

    async def delete(
        self,
        key: Key,
        now: float,
        status: Ended = "closed",
        head: Head | None = None,
        *,
        ended_at: float | None = None,
    ) -> None:
        """See `Store.delete`."""
        log = self._log(key)
        if head is not None and log.head != head:
            raise Stale
        self._let_go(log, now)
        self._graveyard.bury(key, status, now, now if ended_at is None else ended_at)
        self._changed(key)

    async def move(
        self, key: Key, head: Head, to: Key, now: float, scopes: Mapping[str, str] = NO_MOVES
    ) -> Head:
        """See `Store.move`."""
        log = self._log(key)
        if log.head != head:
            raise Stale
        if to in self._logs:
            raise SessionExists
        was_active = self._active.get(key[:2]) == key
        self._let_go(log, now)
        log.key, log.epoch = to, self._new_epoch()
        self._take_in(log)
        if was_active:
            self._active.setdefault(to[:2], to)
        self._graveyard.bury(key, "closed", now, now)
        for name, taker in scopes.items():
            self._commons.hand_over(name, taker)
        self._changed(key)
        self._changed(to)
        return log.head

    async def adopt(self, guest: str, user: str, until: float) -> str:
        """See `Store.adopt`."""
        return self._adopted.setdefault(guest, (user, until))[0]

    async def adopter(self, guest: str) -> str | None:
        """See `Store.adopter`."""
        return self._adopted[guest][0] if guest in self._adopted else None

    async def trim(self, now: float) -> int:
        """See `Store.trim`."""
        self._graveyard.clear_old(now - DAY)
        for guest in [guest for guest, (_, until) in self._adopted.items() if until <= now]:
            del self._adopted[guest]
        if self._keep_shared_days is not None:
            self._commons.clear_unused(now - self._keep_shared_days * DAY)
        if self._keep_days is None and self._keep_records is None:
            return 0
        young = None if self._keep_days is None else now - self._keep_days * DAY
        gone = sum(log.trim(young, self._keep_records) for log in self._logs.values())
        for log in self._logs.values():
            log.forget_turns(now - DAY)
        return gone

    # ── Reading one session ─────────────────────────────────────────────────────────────────────────────────

    async def load(self, key: Key) -> Loaded:
        """See `Store.load`."""
        log = self._log(key)
        return Loaded(log.describe(), log.head, log.open_entries(), log.text())

    async def read(self, key: Key, seq: int, limit: int, max_bytes: int) -> list[Entry] | None:
        """See `Store.read`."""
        log = self._log(key)
        if seq + 1 < log.first:
            return None
        return within(log.after(seq), limit, max_bytes)[0]

    async def text(self, key: Key) -> tuple[str | None, str]:
        """See `Store.text`."""
        log = self._log(key)
        return log.running, log.text()

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
        said = self._log(key).said(position, direction, as_of)
        if time is not None:
            said = _on_side(said, direction, time)
        messages, has_more = within(said, limit, max_bytes)
        return Page(messages[::-1] if direction == "before" else messages, has_more)

    async def turn(self, key: Key, turn_id: str) -> KnownTurn | None:
        """See `Store.turn`."""
        return self._log(key).known(turn_id)

    async def summary(self, key: Key) -> Summary:
        """See `Store.summary`."""
        return _summary(self._log(key))

    # ── Finding sessions ────────────────────────────────────────────────────────────────────────────────────

    async def find(
        self, session_id: str, user: str | None, agents: Collection[str] | None = None
    ) -> list[Key]:
        """See `Store.find`."""
        for place in (self._catalog, self._graveyard):
            found = [key for key in place.find(session_id, user) if agents is None or key.agent in agents]
            if found:
                return found[:2]
        return []

    async def sessions(
        self, agent: str | None, user: str | None, limit: int, before: Place | None = None
    ) -> list[Summary]:
        """See `Store.sessions`."""
        newest_first = self._catalog.newest_first(agent, user, before)
        return [_summary(log) for log in islice(newest_first, limit)]

    async def by_update(self, agent: str, user: str, limit: int, after: Place | None = None) -> list[Summary]:
        """See `Store.by_update`. Sorts the user's sessions at every call."""
        mine = sorted(self._catalog.newest_first(agent, user), key=_last_updated)
        start = 0 if after is None else bisect_right(mine, after, key=_last_updated)
        return [_summary(log) for log in mine[start : start + limit]]

    async def scope(self, name: str) -> dict[str, Any]:
        """See `Store.scope`."""
        return self._commons.get(name)

    async def census(self, now: float) -> Census:
        """See `Store.census`."""
        return Census(len(self._logs), *self._calendar.count(now))

    async def active(self, agent: str, user: str) -> Key | None:
        """See `Store.active`."""
        return self._active.get((agent, user))

    async def activate(self, key: Key) -> None:
        """See `Store.activate`."""
        self._active[key[:2]] = self._log(key).key

    async def label(self, key: Key, label: str | None, now: float) -> None:
        """See `Store.label`."""
        log = self._log(key)
        log.label, log.updated_at = label, now

    async def by_label(self, agent: str, user: str, label: str) -> Key | None:
        """See `Store.by_label`."""
        newest_first = self._catalog.newest_first(agent, user)
        return next((log.key for log in newest_first if log.label == label), None)

    async def due(self, now: float, node: str) -> list[Due]:  # noqa: ARG002
        """See `Store.due`."""
        abandoned = [
            Due(key, log.running)
            for key, log in self._busy.items()
            if log.running is None or log.node not in self._nodes
        ]
        return abandoned + [Due(key, life=True) for key in self._calendar.due(now)]

    def watch(self, key: Key, changed: Callable[[Head | None], None]) -> None:
        """See `Store.watch`. Called for every change of that log, one's own too: the head tells."""
        self._watchers[key] = (*self._watchers.get(key, ()), changed)

    def unwatch(self, key: Key, changed: Callable[[Head | None], None]) -> None:
        """See `Store.unwatch`."""
        left = tuple(watcher for watcher in self._watchers.pop(key, ()) if watcher != changed)
        if left:
            self._watchers[key] = left

    # ── The indexes ─────────────────────────────────────────────────────────────────────────────────────────

    def _log(self, key: Key) -> Log:
        if (log := self._logs.get(key)) is None:
            raise NoSession(*(self._graveyard.tombstone(key) or ()))
        return log

    def _new_epoch(self) -> str:
        return f"{self._generation}x{next(self._incarnations)}"

    def _take_in(self, log: Log) -> None:
        """From now on it is found under its key."""
        self._graveyard.clear(log.key)
        self._commons.used(scope_of_user(*log.key[:2]))
        self._logs[log.key] = log
        self._catalog.add(log)
        self._calendar.add(log)
        if log.busy:
            self._busy[log.key] = log

    def _let_go(self, log: Log, now: float) -> None:
        """From now on it is not."""
        key = log.key
        self._catalog.remove(log)
        self._calendar.remove(log)
        del self._logs[key]
        self._busy.pop(key, None)
        if self._active.get(key[:2]) == key:
            del self._active[key[:2]]
        if next(self._catalog.newest_first(key.agent, key.user), None) is None:
            self._commons.unused(scope_of_user(key.agent, key.user), now)

    def _extend(self, log: Log, tag: str, records: Sequence[Record], bodies: list[bytes]) -> None:
        log.extend(tag, records, bodies)
        if log.busy:
            self._busy[log.key] = log
        else:
            self._busy.pop(log.key, None)
        self._changed(log.key)

    def _save(self, segment: Segment) -> Saved:
        log = self._logs.get(segment.key)
        if log is None:
            return Saved(None, False)
        running = log.running == segment.turn_id
        if running and log.write(segment.offset, segment.text):
            self._changed(segment.key)
        return Saved(log.head, running)

    def _changed(self, key: Key) -> None:
        if key in self._watchers:
            log = self._logs.get(key)
            for changed in self._watchers[key]:
                changed(None if log is None else log.head)


def _summary(log: Log) -> Summary:
    return Summary(log.describe(), log.shown)


def _last_updated(log: Log) -> Place:
    return Place(log.updated_at, *log.key)


def _on_side(
    said: Iterator[tuple[int, Said]], direction: Direction, time: float
) -> Iterator[tuple[int, Said]]:
    """Those that were said before `time`, or after it."""
    for size, one in said:
        moment = one.record.created_at
        if moment < time if direction == "before" else moment > time:
            yield size, one
