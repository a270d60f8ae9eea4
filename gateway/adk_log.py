"""The log of a session as events of ADK's. It is read backwards in windows: the newest events of a long log
cost no more than those of a short one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from protocol import adk
from protocol.errors import Refused
from protocol.records import Entry, Message, Terminal

from .interfaces import Key, Store

__all__ = ["AdkLog", "AdkTurn"]

_WINDOW = 1000
"""Records that are looked at together at the most."""
_UNBOUNDED = 1 << 40
"""Bytes of a page whose size its messages bound."""


class AdkLog:
    """One session's events. Of the store at most `page_bytes` are read at once."""

    def __init__(self, store: Store, key: Key, page_bytes: int) -> None:
        self._store = store
        self._key = key
        self._page_bytes = page_bytes

    async def events(self, limit: int | None = None, before: str | None = None) -> list[Any]:
        """The newest `limit` events (None: all), oldest first, of those before the one with the id `before`.
        Turns that were replaced are left out. Raises `NoSession`, and `Refused` if there is no such
        event."""
        head = (await self._store.load(self._key)).head.seq
        floor = await self._floor(head)
        end = head if before is None else await self._place(before, floor, head) - 1
        size = _WINDOW if limit is None else min(_WINDOW, 16 + 3 * limit)
        windows: list[list[Any]] = []
        missing = head if limit is None else limit
        while end > floor and missing > 0:
            after = max(floor, end - size)
            windows.append((await self._told(after, end))[-missing:])
            missing -= len(windows[-1])
            end = after
        return [event for window in reversed(windows) for event in window]

    def turn(self, turn_id: str) -> AdkTurn:
        """What the agent does in that turn."""
        return AdkTurn(self, self._store, self._key, turn_id)

    async def _told(self, after: int, end: int) -> list[Any]:
        """The events of the records after `after`, up to `end`."""
        entries = await self.records(after, end)
        earlier, hidden = await self._around(entries, after, end)
        teller = adk.Teller(self._key.agent)
        for entry in earlier:
            teller.tell(entry)
        shown = (teller.tell(entry) for entry in entries if adk.belongs_to(entry.record) not in hidden)
        return [event for event in shown if event is not None]

    async def _around(self, entries: list[Entry], after: int, end: int) -> tuple[list[Entry], set[str]]:
        """What the turns of these records did before them, and which of the turns were replaced."""
        turns = dict.fromkeys(turn for entry in entries if (turn := adk.belongs_to(entry.record)) is not None)
        begun = {record.turn_id for _, record in entries if isinstance(record, Message)}
        hidden = begun - await self._visible(entries, end) if begun else set()
        earlier: list[Entry] = []
        for turn_id in turns.keys() - begun:
            known = await self._store.turn(self._key, turn_id)
            if known is None or known.stands != turn_id:
                hidden.add(turn_id)
                continue
            past = await self.records(known.seq - 1, known.seq)
            if not any(getattr(record, "imported", False) for _, record in past):
                past += await self.records(known.seq, after)
            earlier += [entry for entry in past if adk.belongs_to(entry.record) == turn_id]
        return earlier, hidden

    async def _visible(self, entries: list[Entry], end: int) -> set[str]:
        """Of the turns that begin in these records, which were not replaced; and maybe others."""
        said = sum(isinstance(record, Message | Terminal) for _, record in entries)
        page = await self._store.history(self._key, said, position=end + 1, max_bytes=_UNBOUNDED)
        return {message.record.turn_id for message in page.messages}

    async def records(self, after: int, end: int) -> list[Entry]:
        """The records after `after`, up to `end`. Raises `NoSession`."""
        entries: list[Entry] = []
        while after < end and (page := await self._page(after, end - after)):
            entries += page
            after = page[-1].seq
        return entries

    async def _page(self, after: int, limit: int) -> Sequence[Entry] | None:
        return await self._store.read(self._key, after, limit, self._page_bytes)

    async def _floor(self, head: int) -> int:
        """The newest record that was trimmed; 0 if none was."""
        if await self._page(0, 1) is not None:
            return 0
        trimmed, kept = 0, head
        while kept - trimmed > 1:
            middle = (trimmed + kept) // 2
            if await self._page(middle, 1) is None:
                trimmed = middle
            else:
                kept = middle
        return kept

    async def _place(self, event: str, floor: int, head: int) -> int:
        """The number of the record that is shown as that event. Raises `Refused` if none is."""
        seq = adk.place_of(event)
        named = [] if seq is None or not floor < seq <= head else await self.records(seq - 1, seq)
        for entry in named:
            if adk.id_of(entry) == event:
                return entry.seq
        return await self._place_of_import(event, floor)

    async def _place_of_import(self, event: str, after: int) -> int:
        """The same of an event that has the id which it came with: a log begins with these."""
        while page := await self._page(after, _WINDOW):
            for entry in page:
                if adk.id_of(entry) == event:
                    return entry.seq
            if any(isinstance(record, Message) and not record.imported for _, record in page):
                break
            after = page[-1].seq
        raise Refused("bad_request", "before: there is no such event in this session.")


class AdkTurn:
    """What an agent does in one turn, as its records come. `log` is that of its session."""

    def __init__(self, log: AdkLog, store: Store, key: Key, turn_id: str) -> None:
        self._log = log
        self._store = store
        self._key = key
        self._turn_id = turn_id
        self._teller = adk.Teller(key.agent)
        self._seq = 0
        """Of the last record that was looked at."""

    async def events(self, end: int) -> list[Any]:
        """The events up to the record numbered `end`, without those that were answered before. Raises
        `NoSession`."""
        if self._seq == 0 and (known := await self._store.turn(self._key, self._turn_id)) is not None:
            self._seq = known.seq - 1
        records = await self._log.records(self._seq, end)
        self._seq = max(self._seq, end)
        mine = (entry for entry in records if adk.belongs_to(entry.record) == self._turn_id)
        told = [event for entry in mine if (event := self._teller.tell(entry)) is not None]
        return [event for event in told if event.author != adk.USER]
