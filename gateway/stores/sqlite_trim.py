"""Letting go in the sqlite store: what is older than need be. Each function is a job of its thread."""

from __future__ import annotations

from gateway.stores.sqlite_file import Database
from gateway.stores.sqlite_rows import LAST, Log, place, shown_between
from protocol.history import DAY, cut

__all__ = ["trim", "trim_old"]

SESSIONS_AT_A_TIME = 200
"""Sessions that one `trim` job looks at, so that appends need not wait for all of them."""


def trim_old(database: Database, now: float, unused: float | None) -> None:
    """Let go of tombstones and adoptions that nobody needs any more, and of state that no session has shared
    since `unused`."""
    database.connection.execute("DELETE FROM tombstone WHERE since <= ?", (now - DAY,))
    database.connection.execute("DELETE FROM adopted WHERE until <= ?", (now,))
    database.connection.execute("DELETE FROM scope WHERE unused_since <= ?", (unused,))


def trim(
    database: Database, after: int, now: float, young: float | None, keep: int | None
) -> tuple[int | None, int]:
    """Trim some sessions, after the id `after`: records older than `young`, or beyond the newest `keep`.

    Answers the id to go on after, None at the end, and how many records went.
    """
    rows = database.connection.execute(
        "SELECT id, first, seq FROM session WHERE id > ? ORDER BY id LIMIT ?", (after, SESSIONS_AT_A_TIME)
    ).fetchall()
    gone = 0
    for session, first, seq in rows:
        log = Log(session, "", first, seq, "")
        last = _last_to_go(database, log, young, keep)
        if last >= first:
            gone += _let_go(database, log, last)
        if max(first, last + 1) > 1:
            database.connection.execute(
                "DELETE FROM turn WHERE place >= ? AND place < ? AND ended_at <= ?",
                (log.begin, place(log, max(first, last + 1)), now - DAY),
            )
    return (rows[-1][0] if len(rows) == SESSIONS_AT_A_TIME else None), gone


def _last_to_go(database: Database, log: Log, young: float | None, keep: int | None) -> int:
    target = 0 if keep is None else log.seq - keep
    if young is not None:
        row = database.connection.execute(
            "SELECT place FROM record WHERE place BETWEEN ? AND ? AND created_at >= ? ORDER BY place LIMIT 1",
            (log.begin, log.end, young),
        ).fetchone()
        target = max(target, (row[0] & LAST) - 1 if row else log.seq)
    if target < log.first:
        return 0
    turns = database.connection.execute(
        "SELECT place & 0xFFFFFFFF, ended & 0xFFFFFFFF FROM turn "
        "WHERE place BETWEEN ? AND ? ORDER BY place DESC",
        (place(log, log.first), place(log, target)),
    )
    return cut(target, turns)


def _let_go(database: Database, log: Log, last: int) -> int:
    execute, begin, end = database.connection.execute, place(log, log.first), place(log, last)
    shown = shown_between(database, begin, end + 1)
    gone = execute("DELETE FROM record WHERE place BETWEEN ? AND ?", (begin, end)).rowcount
    execute("UPDATE session SET first = ?, shown = shown - ? WHERE id = ?", (last + 1, shown, log.id))
    return gone
