"""What the rows of the sqlite store mean: places, logs, turns, summaries. For reading and writing alike."""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec import json

from gateway.interfaces import NOTHING, Head, Info, Key, KnownTurn, NoSession, Summary
from gateway.stores.sqlite_file import Database
from protocol.history import Status
from protocol.lifetime import Life

__all__ = [
    "INFO",
    "LAST",
    "STATUSES",
    "Log",
    "known",
    "log_of",
    "place",
    "running",
    "shown_between",
    "summary",
    "summary_of",
]

INFO = "agent, user, session_id, created_at, updated_at, label, state, metadata, life, shown"
"""The columns that `summary` reads."""

STATUSES: tuple[Status, ...] = ("waiting", "running", "completed", "cancelled", "failed")
"""What `turn.status` counts."""

LAST = 0xFFFFFFFF
"""The largest number in a place."""


class Log(NamedTuple):
    """What the row of a session says of its log."""

    id: int
    epoch: str
    first: int
    """Seq of the oldest record that is kept."""
    seq: int
    tag: str

    @property
    def head(self) -> Head:
        return Head(self.epoch, self.seq, self.tag)

    @property
    def begin(self) -> int:
        return self.id << 32

    @property
    def end(self) -> int:
        return self.begin | LAST


def place(log: Log, number: int) -> int:
    """Where that record of the log is. A number from outside may be any: it never leaves the log."""
    return log.begin | min(max(number, 0), LAST)


def log_of(database: Database, key: Key) -> Log:
    """The session's log. Raises `NoSession`."""
    row = database.connection.execute(
        "SELECT id, incarnation, first, seq, tag FROM session "
        "WHERE agent = ? AND user = ? AND session_id = ?",
        key,
    ).fetchone()
    if row is None:
        raise NoSession(*(_tombstone(database, key) or ()))
    return Log(row[0], database.generation + row[1], *row[2:])


def _tombstone(database: Database, key: Key) -> tuple[Any, float] | None:
    """How and when the session of that key ended."""
    found: tuple[Any, float] | None = database.connection.execute(
        "SELECT status, ended_at FROM tombstone WHERE agent = ? AND user = ? AND session_id = ?", key
    ).fetchone()
    return found


def known(database: Database, log: Log, turn_id: str) -> KnownTurn | None:
    """What the index knows of a turn."""
    row = database.connection.execute(
        "SELECT place, content_hash, status FROM turn WHERE session = ? AND turn_id = ?", (log.id, turn_id)
    ).fetchone()
    if row is None:
        return None
    stands = database.connection.execute(
        "SELECT turn_id FROM turn WHERE place BETWEEN ? AND ? AND hidden IS NULL ORDER BY place LIMIT 1",
        (row[0], log.end),
    ).fetchone()
    return KnownTurn(turn_id, row[0] & LAST, row[1], STATUSES[row[2]], stands[0] if stands else turn_id)


def running(database: Database, log: Log) -> str | None:
    """The turn that runs."""
    row = database.connection.execute(
        "SELECT turn_id FROM turn WHERE status < 2 AND status = 1 AND place BETWEEN ? AND ?",
        (log.begin, log.end),
    ).fetchone()
    return row[0] if row else None


def shown_between(database: Database, first: int, before: int) -> int:
    """How many messages of the turns that begin in that range the history shows."""
    count: int = database.connection.execute(
        "SELECT count(*) + count(ended) FROM turn WHERE place >= ? AND place < ? AND hidden IS NULL",
        (first, before),
    ).fetchone()[0]
    return count


def summary_of(database: Database, key: Key) -> Summary:
    """The session as a list shows it. Raises `NoSession`."""
    row = database.connection.execute(
        f"SELECT {INFO} FROM session WHERE agent = ? AND user = ? AND session_id = ?", key
    ).fetchone()
    if row is None:
        raise NoSession(*(_tombstone(database, key) or ()))
    return summary(row)


def summary(row: tuple[Any, ...]) -> Summary:
    """What those columns say."""
    agent, user, session_id, created_at, updated_at, label, state, metadata, life, shown = row
    info = Info(
        Key(agent, user, session_id),
        created_at,
        updated_at,
        label,
        json.decode(state) or NOTHING,
        json.decode(metadata) or NOTHING,
        None if life is None else json.decode(life, type=Life),
    )
    return Summary(info, shown)
