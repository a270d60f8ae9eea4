"""Sessions as an operator looks for them: whosever they are, by a part of a name, those at work first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from protocol.console import Row
from protocol.errors import Refused
from protocol.ids import check_session_id, check_user_id

from .interfaces import Key, NoSession, Place, Summary
from .session import Session
from .supervisor import Supervisor

__all__ = ["Found", "search"]

NEWEST = 1_000
"""Sessions of the store that are looked at. Older ones are found by their whole id, or their user's: for a
part of a name there is no index, and nobody should be able to ask for a walk through everything."""
_PAGE = 200
_BREATHE = 2_000
"""Live sessions looked at before the others may go on."""


class Found:
    """What was found, in order, and whether there may be more."""

    def __init__(self, limit: int) -> None:
        self.summaries: dict[Key, Summary] = {}
        self.looked_at = 0
        self.complete = True
        self._limit = limit

    @property
    def full(self) -> bool:
        """No more are wanted."""
        return len(self.summaries) >= self._limit

    def add(self, summary: Summary) -> None:
        """One more, if it is not there already."""
        if summary.info.key in self.summaries:
            return
        if self.full:
            self.complete = False
        else:
            self.summaries[summary.info.key] = summary


async def search(supervisor: Supervisor, text: str, limit: int, *, contents: bool) -> tuple[list[Row], Found]:
    """The first `limit` sessions that fit. With `contents` their labels are searched and told, too."""
    found, wanted = Found(limit), text.strip().casefold()
    store = supervisor.runtime.store
    for key in await _live(supervisor, wanted, limit):
        try:
            found.add(await store.summary(key))
        except NoSession:
            pass  # deleted since, or about to be made
    async for summary in _named(supervisor, text.strip(), limit):
        found.add(summary)
    async for summary in _newest(supervisor, found):
        if _fits(summary.info.key, wanted) or (contents and wanted in (summary.info.label or "").casefold()):
            found.add(summary)
    live = supervisor.sessions
    return [_row(one, live.get(key), contents) for key, one in found.summaries.items()], found


async def _live(supervisor: Supervisor, wanted: str, limit: int) -> list[Key]:
    """Live sessions that fit: those that run a turn, then those of most readers."""
    fitting = []
    for number, session in enumerate([*supervisor.sessions.values()], 1):
        if session.awake and _fits(session.key, wanted):
            fitting.append(session)
        if number % _BREATHE == 0:
            await asyncio.sleep(0)
    fitting.sort(key=lambda one: (one.state.running is None, -len(one.log.readers), one.key))
    return [session.key for session in fitting[: limit + 1]]


async def _named(supervisor: Supervisor, text: str, limit: int) -> AsyncIterator[Summary]:
    """The sessions of that id, and those of that user, however old they are."""
    store = supervisor.runtime.store
    if _is_good(check_session_id, text):
        for key in await store.find(text, None):
            try:
                yield await store.summary(key)
            except NoSession:
                pass  # a tombstone
    if _is_good(check_user_id, text):
        for summary in await store.sessions(None, text, limit + 1):
            yield summary


async def _newest(supervisor: Supervisor, found: Found) -> AsyncIterator[Summary]:
    """The newest ones, until no more are wanted."""
    place: Place | None = None
    while found.complete:
        page = await supervisor.runtime.store.sessions(None, None, _PAGE, place)
        found.looked_at += len(page)
        for summary in page:
            yield summary
        if len(page) < _PAGE:
            return
        if found.looked_at >= NEWEST:
            found.complete = False
        place = Place(page[-1].info.created_at, *page[-1].info.key)


def _is_good(check: Callable[[str], str], text: str) -> bool:
    try:
        check(text)
    except Refused:
        return False
    return True


def _fits(key: Key, wanted: str) -> bool:
    return any(wanted in name.casefold() for name in key)


def _row(summary: Summary, session: Session | None, contents: bool) -> Row:
    info, awake = summary.info, session is not None and session.awake
    running = session.state.running if session is not None and awake else None
    return Row(
        agent=info.key.agent,
        user=info.key.user,
        session_id=info.key.session_id,
        label=info.label if contents else None,
        messages=summary.messages,
        created_at=info.created_at,
        updated_at=info.updated_at,
        expires_at=None if info.life is None else info.life.expires_at,
        live=awake,
        running=None if running is None else running.turn_id,
        waiting=len(session.state.waiting) if session is not None else 0,
        readers=len(session.log.readers) if session is not None else 0,
    )
