"""Finding sessions in the sqlite store: each function is a job of its thread, and goes through an index."""

from __future__ import annotations

import math

from gateway.interfaces import Due, Key, Place, Summary
from gateway.stores.sqlite_file import Database
from gateway.stores.sqlite_rows import INFO, summary

__all__ = ["active", "by_label", "due", "find", "sessions"]

FIRST = Place(math.inf, "", "", "")
"""Before the place of every session, as they are listed."""


def find(database: Database, session_id: str, user: str | None) -> list[Key]:
    """See `Store.find`."""
    return _find(database, "session", session_id, user) or _find(database, "tombstone", session_id, user)


def _find(database: Database, table: str, session_id: str, user: str | None) -> list[Key]:
    query, values = f"SELECT agent, user, session_id FROM {table} WHERE session_id = ?", [session_id]
    if user is not None:
        query, values = f"{query} AND user = ?", [session_id, user]
    return [Key(*row) for row in database.connection.execute(f"{query} LIMIT 2", values)]


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


def due(database: Database, node: str) -> list[Due]:
    """See `Store.due`."""
    orphaned = database.connection.execute(_ORPHANED, (node,)).fetchall()
    waiting = database.connection.execute(_WAITING).fetchall()
    return [Due(Key(*row[:3]), row[3]) for row in orphaned] + [Due(Key(*row)) for row in waiting]
