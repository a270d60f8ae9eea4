"""The sessions in memory, by what they are looked for: id, user, age; and the tombstones of ended ones."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

from msgspec import json

from gateway.interfaces import Key, Place, Scopes
from gateway.stores.memory_log import Log
from protocol.lifetime import due_at, warn_at

__all__ = ["Calendar", "Catalog", "Commons", "Ended", "Graveyard"]

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

    def count(self, user: str) -> int:
        """How many sessions that user has."""
        return len(self._by_age_of_user.get(user, ()))

    def find(self, session_id: str, user: str | None) -> list[Key]:
        """The sessions with that id, of that user or of all."""
        return [key for key in self._same_id.get(session_id, ()) if user in (None, key.user)]

    def newest_first(self, agent: str | None, user: str | None, before: Place | None = None) -> Iterator[Log]:
        """The logs of that agent and user (None: of all) that come after `before`."""
        by_age = self._by_age if user is None else self._by_age_of_user.get(user, [])
        end = len(by_age) if before is None else bisect_left(by_age, before, key=_age)
        logs = (by_age[place] for place in range(end - 1, -1, -1))
        return (log for log in logs if agent in (None, log.key.agent))


class Calendar:
    """When the lives of sessions demand something, and when they end."""

    def __init__(self) -> None:
        self._due: list[tuple[float, Key]] = []
        self._expiring: list[tuple[float, float, Key]] = []

    def add(self, log: Log) -> None:
        """Note the moments of that session's life, if it does not live for ever."""
        if log.life is not None:
            insort(self._due, (due_at(log.life), log.key))
            insort(self._expiring, (warn_at(log.life), log.life.expires_at, log.key))

    def remove(self, log: Log) -> None:
        """Forget them; before its life changes."""
        if log.life is not None:
            del self._due[bisect_left(self._due, (due_at(log.life), log.key))]
            moments = warn_at(log.life), log.life.expires_at, log.key
            del self._expiring[bisect_left(self._expiring, moments)]

    def due(self, now: float) -> list[Key]:
        """Whose life demands something by now."""
        return [key for _, key in self._due[: bisect_right(self._due, now, key=lambda due: due[0])]]

    def count(self, now: float) -> tuple[int, int]:
        """How many are past their end, and how many near it."""
        near = self._expiring[: bisect_right(self._expiring, now, key=lambda moments: moments[0])]
        expired = sum(expires_at <= now for _, expires_at, _ in self._expiring[: len(near)])
        return expired, len(near) - expired


class Commons:
    """State that sessions share, as JSON by the name of its scope."""

    def __init__(self) -> None:
        self._states: dict[str, bytes] = {}
        self._unused_since: dict[str, float] = {}
        """Of those that no session shares any more, Unix seconds."""

    def get(self, name: str) -> dict[str, Any]:
        """A copy of what is kept."""
        state: dict[str, Any] = json.decode(self._states.get(name, b"{}"))
        return state

    def merge(self, scopes: Scopes) -> None:
        """Set these keys."""
        for name, delta in scopes.items():
            self._states[name] = json.encode({**self.get(name), **delta})

    def hand_over(self, name: str, taker: str) -> None:
        """What is kept under that name goes to the other, whose own keys stay as they are."""
        state = self._states.pop(name, None)
        self._unused_since.pop(name, None)
        if state is not None:
            self._states[taker] = json.encode({**json.decode(state), **self.get(taker)})

    def unused(self, name: str, now: float) -> None:
        """The last session that shared it is gone."""
        if name in self._states:
            self._unused_since[name] = now

    def used(self, name: str) -> None:
        """A session shares it."""
        self._unused_since.pop(name, None)

    def clear_unused(self, before: float) -> None:
        """Take away what nobody has shared since then."""
        for name in [name for name, since in self._unused_since.items() if since <= before]:
            del self._unused_since[name], self._states[name]


class Buried(NamedTuple):
    """A tombstone. Times are Unix seconds."""

    status: Ended
    ended_at: float
    since: float
    """When it was put up: later than the end, if that was found out later."""


class Graveyard:
    """The tombstones."""

    def __init__(self) -> None:
        self._same_id: dict[str, dict[Key, Buried]] = {}

    def bury(self, key: Key, status: Ended, now: float, ended_at: float) -> None:
        self._same_id.setdefault(key.session_id, {})[key] = Buried(status, ended_at, now)

    def clear(self, key: Key) -> None:
        """Take the tombstone away, if there is one."""
        if (same := self._same_id.get(key.session_id)) is not None:
            same.pop(key, None)
            if not same:
                del self._same_id[key.session_id]

    def clear_old(self, before: float) -> None:
        """Take away those that were put up by then."""
        buried = [one for same in self._same_id.values() for one in same.items()]
        for key, tombstone in buried:
            if tombstone.since <= before:
                self.clear(key)

    def tombstone(self, key: Key) -> tuple[Ended, float] | None:
        """How and when that session ended."""
        tombstone = self._same_id.get(key.session_id, {}).get(key)
        return None if tombstone is None else tombstone[:2]

    def find(self, session_id: str, user: str | None) -> list[Key]:
        """The ended sessions with that id, of that user or of all."""
        return [key for key in self._same_id.get(session_id, ()) if user in (None, key.user)]


def _age(log: Log) -> Place:
    return Place(log.created_at, *log.key)


def _remove(by_age: list[Log], log: Log) -> None:
    del by_age[bisect_left(by_age, _age(log), key=_age)]
