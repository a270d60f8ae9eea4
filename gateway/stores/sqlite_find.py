"""Finding sessions in the sqlite store: each function is a job of its thread, and goes through an index."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from msgspec import json

from gateway.interfaces import Census, Due, Key, Place, Summary
from gateway.stores.sqlite_file import Database
from gateway.stores.sqlite_rows import INFO, summary

__all__ = [
    "active",
    "adopter",
    "by_label",
    "by_update",
    "census",
    "due",
    "find",
    "scope",
    "sessions",
    "shares",
]

FIRST = Place(math.inf, "", "", "")
"""Before the place of every session, as they are listed."""


def find(database: Database, session_id: str, user: str | None, agents: Collection[str] | None) -> list[Key]:
    """See `Store.find`."""
    which, values = "session_id = ?", [session_id]
    if user is not None:
        which, values = f"{which} AND user = ?", [*values, user]
    if agents is not None:
        which, values = f"{which} AND agent IN ({', '.join('?' * len(agents))})", [*values, *agents]
    return _find(database, "session", which, values) or _find(database, "tombstone", which, values)


def _find(database: Database, table: str, which: str, values: list[str]) -> list[Key]:
    query = f"SELECT agent, user, session_id FROM {table} WHERE {which} LIMIT 2"
    return [Key(*row) for row in database.connection.execute(query, values)]


def sessions(
    database: Database, agent: str | None, user: str | None, limit: int, before: Place | None
) -> list[Summary]:
    """See `Store.sessions`."""
    named = {"agent": agent, "user": user}
    whose = "".join(f"{column} = ? AND " for column, value in named.items() if value is not None)
    rows = database.connection.execute(
        f"SELECT {INFO} FROM session WHERE {whose} (created_at, agent, user, session_id) < (?, ?, ?, ?) "
        "ORDER BY created_at DESC, agent DESC, user DESC, session_id DESC LIMIT ?",
        (*(value for value in named.values() if value is not None), *(before or FIRST), limit),
    )
    return [summary(row) for row in rows]


def by_update(database: Database, agent: str, user: str, limit: int, after: Place | None) -> list[Summary]:
    """See `Store.by_update`."""
    since = (-math.inf, "") if after is None else (after.created_at, after.session_id)
    rows = database.connection.execute(
        f"SELECT {INFO} FROM session WHERE agent = ? AND user = ? AND (updated_at, session_id) > (?, ?) "
        "ORDER BY updated_at, session_id LIMIT ?",
        (agent, user, *since, limit),
    )
    return [summary(row) for row in rows]


def adopter(database: Database, guest: str) -> str | None:
    """See `Store.adopter`."""
    row = database.connection.execute("SELECT user FROM adopted WHERE guest = ?", (guest,)).fetchone()
    return None if row is None else row[0]


def scope(database: Database, name: str) -> dict[str, Any]:
    """See `Store.scope`."""
    row = database.connection.execute("SELECT state FROM scope WHERE name = ?", (name,)).fetchone()
    state: dict[str, Any] = json.decode(row[0]) if row else {}
    return state


def shares(database: Database) -> bool:
    """Is there any state that sessions share?"""
    return database.connection.execute("SELECT 1 FROM scope LIMIT 1").fetchone() is not None


def census(database: Database, now: float) -> Census:
    """See `Store.census`."""
    execute = database.connection.execute
    (sessions,) = execute("SELECT count(*) FROM session").fetchone()
    near, expired = execute(
        "SELECT count(*), coalesce(sum(expires_at <= ?), 0) FROM session WHERE warn_at <= ?", (now, now)
    ).fetchone()
    return Census(sessions, expired, near - expired)


def active(database: Database, agent: str, user: str) -> Key | None:
    """See `Store.active`."""
    row = database.connection.execute(
        "SELECT session.agent, session.user, session_id "
        "FROM active JOIN session ON session.id = active.session "
        "WHERE active.agent = ? AND active.user = ?",
        (agent, user),
    ).fetchone()
    return Key(*row) if row else None


def by_label(database: Database, agent: str, user: str, label: str) -> Key | None:
    """See `Store.by_label`."""
    row = database.connection.execute(
        "SELECT agent, user, session_id FROM session WHERE agent = ? AND user = ? AND label = ? "
        "ORDER BY created_at DESC, session_id DESC LIMIT 1",
        (agent, user, label),
    ).fetchone()
    return Key(*row) if row else None


_ORPHANED = """
    SELECT agent, user, session_id, turn.turn_id FROM turn JOIN session ON session.id = turn.session
    WHERE turn.status < 2 AND turn.status = 1 AND turn.node IS NOT ?
"""
_WAITING = """
    SELECT DISTINCT agent, user, session_id FROM turn JOIN session ON session.id = turn.session
    WHERE turn.status < 2 AND turn.status = 0 AND NOT EXISTS (
        SELECT 1 FROM turn AS other WHERE other.status < 2 AND other.status = 1
        AND other.place BETWEEN turn.session << 32 AND turn.session << 32 | 0xFFFFFFFF
    )
"""


_ALIVE = "SELECT agent, user, session_id FROM session WHERE due_at <= ? ORDER BY due_at LIMIT ?"
DUE_AT_A_TIME = 1_000
"""Lives looked after before the others may go on: the rest is due the next time."""


def due(database: Database, now: float, node: str) -> list[Due]:
    """See `Store.due`."""
    lives = database.connection.execute(_ALIVE, (now, DUE_AT_A_TIME)).fetchall()
    orphaned = database.connection.execute(_ORPHANED, (node,)).fetchall()
    waiting = database.connection.execute(_WAITING).fetchall()
    return [
        *(Due(Key(*row[:3]), row[3]) for row in orphaned),
        *(Due(Key(*row)) for row in waiting),
        *(Due(Key(*row), life=True) for row in lives),
    ]
