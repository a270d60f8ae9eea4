"""The sessions in memory, by what they are looked for: id, user, age; and the tombstones of ended ones."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Literal, TypeAlias

from gateway.interfaces import Key, Place
from gateway.stores.memory_log import Log

__all__ = ["Catalog", "Ended", "Graveyard"]

Ended: TypeAlias = Literal["closed", "expired"]


class Catalog:
    """Which sessions there are. Looking costs what is found, not what there is."""

    def __init__(self) -> None:
        self._same_id: dict[str, tuple[Key, ...]] = {}
        self._by_age: list[Log] = []
        self._by_age_of_user: dict[str, list[Log]] = {}

    def add(self, log: Log) -> None:
        """From now on it is found."""
        key = log.key
        self._same_id[key.session_id] = (*self._same_id.get(key.session_id, ()), key)
        insort(self._by_age, log, key=_age)
        insort(self._by_age_of_user.setdefault(key.user, []), log, key=_age)

    def remove(self, log: Log) -> None:
        """From now on it is not."""
        key = log.key
        _remove(self._by_age, log)
        _remove(self._by_age_of_user[key.user], log)
        if not self._by_age_of_user[key.user]:
            del self._by_age_of_user[key.user]
        self._same_id[key.session_id] = tuple(one for one in self._same_id[key.session_id] if one != key)
        if not self._same_id[key.session_id]:
            del self._same_id[key.session_id]

    def find(self, session_id: str, user: str | None) -> list[Key]:
        """The sessions with that id, of that user or of all."""
        return [key for key in self._same_id.get(session_id, ()) if user in (None, key.user)]

    def newest_first(self, agent: str | None, user: str | None, before: Place | None = None) -> Iterator[Log]:
        """The logs of that agent and user (None: of all) that come after `before`."""
        by_age = self._by_age if user is None else self._by_age_of_user.get(user, [])
        end = len(by_age) if before is None else bisect_left(by_age, before, key=_age)
        logs = (by_age[place] for place in range(end - 1, -1, -1))
        return (log for log in logs if agent in (None, log.key.agent))


class Graveyard:
    """The tombstones: how and when (Unix seconds) sessions ended."""

    def __init__(self) -> None:
        self._same_id: dict[str, dict[Key, tuple[Ended, float]]] = {}

    def bury(self, key: Key, status: Ended, now: float) -> None:
        self._same_id.setdefault(key.session_id, {})[key] = status, now

    def clear(self, key: Key) -> None:
        """Take the tombstone away, if there is one."""
        if (same := self._same_id.get(key.session_id)) is not None:
            same.pop(key, None)
            if not same:
                del self._same_id[key.session_id]

    def clear_old(self, before: float) -> None:
        """Take away those that ended by then."""
        ended = [(key, at) for same in self._same_id.values() for key, (_, at) in same.items()]
        for key, at in ended:
            if at <= before:
                self.clear(key)

    def tombstone(self, key: Key) -> tuple[Ended, float] | None:
        return self._same_id.get(key.session_id, {}).get(key)

    def find(self, session_id: str, user: str | None) -> list[Key]:
        """The ended sessions with that id, of that user or of all."""
        return [key for key in self._same_id.get(session_id, ()) if user in (None, key.user)]


def _age(log: Log) -> Place:
    return Place(log.created_at, *log.key)


def _remove(by_age: list[Log], log: Log) -> None:
    del by_age[bisect_left(by_age, _age(log), key=_age)]
