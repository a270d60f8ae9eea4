"""Reading in the sqlite store: each function is a job of its thread, and only reads."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from typing import Any

import structlog

from gateway.interfaces import (
    Direction,
    Key,
    KnownTurn,
    Loaded,
    Page,
    Said,
)
from gateway.stores.sqlite_file import Database
from gateway.stores.sqlite_rows import LAST, Log, known, log_of, place, running, summary_of
from protocol.history import within
from protocol.records import (
    UNREADABLE,
    Entry,
    Failed,
    Message,
    Record,
    Response,
    ToolCall,
    ToolResult,
    decode_record,
    stand_in,
)

__all__ = ["history", "load", "read", "text", "turn"]

logger = structlog.get_logger("gateway.store")

_SHOWN = (Message, Response, Failed)

REMEMBERED = 1_000
"""Places of which it is known that they cannot be read: so much damage is logged again and again."""

# ── One session ─────────────────────────────────────────────────────────────────────────────────────────────


def load(database: Database, key: Key) -> Loaded:
    """See `Store.load`."""
    log = log_of(database, key)
    info = summary_of(database, key).info
    return Loaded(info, log.head, _open_entries(database, log), _text(database, log))


def read(database: Database, key: Key, seq: int, limit: int, max_bytes: int) -> list[Entry] | None:
    """See `Store.read`."""
    log = log_of(database, key)
    if seq + 1 < log.first:
        return None
    return within(_entries(database, log, seq), limit, max_bytes)[0]


def text(database: Database, key: Key) -> tuple[str | None, str]:
    """See `Store.text`."""
    log = log_of(database, key)
    return running(database, log), _text(database, log)


def turn(database: Database, key: Key, turn_id: str) -> KnownTurn | None:
    """See `Store.turn`."""
    return known(database, log_of(database, key), turn_id)


def _text(database: Database, log: Log) -> str:
    rows = database.connection.execute(
        "SELECT text FROM segment WHERE place BETWEEN ? AND ? ORDER BY place", (log.begin, log.end)
    )
    return "".join(text for (text,) in rows)


def _entries(database: Database, log: Log, seq: int) -> Iterator[tuple[int, Entry]]:
    rows = database.connection.execute(
        "SELECT place, body FROM record WHERE place > ? AND place <= ? ORDER BY place",
        (place(log, seq), log.end),
    )
    for at, body in rows:
        size, record = _record(database, at, body)
        yield size, Entry(at & LAST, record)


def _record(database: Database, at: int, body: Any) -> tuple[int, Record]:
    """The record at a place, with its size in bytes; if it cannot be read, what takes its place."""
    try:
        return len(body), decode_record(body)
    except UNREADABLE as error:
        return 0, _stand_in(database, at, type(error).__name__)


def _stand_in(database: Database, at: int, why: str) -> Record:
    """What takes the place of a record that cannot be read; that is logged once."""
    session, seq = at >> 32, at & LAST
    execute = database.connection.execute
    if at not in database.unreadable:
        if len(database.unreadable) == REMEMBERED:
            database.unreadable.clear()
        database.unreadable.add(at)
        key = execute("SELECT session_id, agent FROM session WHERE id = ?", (session,)).fetchone()
        session_id, agent = key or (None, None)
        logger.error("a record cannot be read", session_id=session_id, agent=agent, seq=seq, why=why)
    (created_at,) = execute("SELECT created_at FROM record WHERE place = ?", (at,)).fetchone()
    row = execute(
        "SELECT iif(place = :at, 'message', iif(started = :at, 'started', 'ended')), turn_id FROM turn "
        "WHERE session = :session AND (place = :at OR started = :at OR ended = :at)",
        {"session": session, "at": at},
    ).fetchone()
    kind, turn_id = row or (None, "")
    return stand_in(kind, turn_id, created_at)


def _open_entries(database: Database, log: Log) -> list[Entry]:
    rows = database.connection.execute(
        "SELECT turn_id, place FROM turn WHERE status < 2 AND status IN (0, 1) AND place BETWEEN ? AND ?",
        (log.begin, log.end),
    )
    begun = dict(rows.fetchall())
    if not begun:
        return []
    since = _entries(database, log, (min(begun.values()) & LAST) - 1)
    return [entry for _, entry in since if getattr(entry.record, "turn_id", None) in begun]


# ── Its history ─────────────────────────────────────────────────────────────────────────────────────────────

_SAID = """
    SELECT turn.{at} AS at, record.body, max(turn.place, coalesce(turn.started, 0)) AS since
    FROM turn JOIN record ON record.place = turn.{at}
    WHERE turn.{at} > :after AND turn.{at} < :before AND (hidden IS NULL OR hidden > :as_of)
        AND record.created_at > :later AND record.created_at < :earlier
"""
_OLDEST_FIRST = f"{_SAID.format(at='place')} UNION ALL {_SAID.format(at='ended')} ORDER BY at"
_NEWEST_FIRST = f"{_OLDEST_FIRST} DESC"


def history(
    database: Database,
    key: Key,
    limit: int,
    position: int | None,
    direction: Direction,
    time: float | None,
    as_of: int | None,
    max_bytes: int,
) -> Page:
    """See `Store.history`."""
    log = log_of(database, key)
    newest_first = direction == "before"
    as_of_place = place(log, LAST if as_of is None else as_of)
    after, before = log.begin, min(as_of_place + 1, log.end)
    if position is not None and newest_first:
        before = min(before, place(log, position))
    elif position is not None:
        after = place(log, position)
    bounds = {
        "after": after,
        "before": before,
        "as_of": as_of_place,
        "later": -math.inf if time is None or newest_first else time,
        "earlier": time if time is not None and newest_first else math.inf,
    }
    query = _NEWEST_FIRST if newest_first else _OLDEST_FIRST
    rows = database.connection.execute(query, bounds)
    messages, has_more = within(_said(database, rows), limit, max_bytes)
    rows.close()
    return Page(messages[::-1] if newest_first else messages, has_more)


def _said(database: Database, rows: sqlite3.Cursor) -> Iterator[tuple[int, Said]]:
    """Messages with their size in bytes, read no further than they are asked for."""
    for at, body, since in rows:
        size, record = _record(database, at, body)
        if not isinstance(record, _SHOWN):
            record = _stand_in(database, at, "misplaced")
            assert isinstance(record, _SHOWN)
        more, tools = (0, []) if isinstance(record, Message) else _tools(database, record.turn_id, since, at)
        yield size + more, Said(at & LAST, record, tools)


def _tools(database: Database, turn_id: str, since: int, end: int) -> tuple[int, list[ToolCall | ToolResult]]:
    size, tools = 0, []
    rows = database.connection.execute(
        "SELECT place, body FROM record WHERE place > ? AND place < ? ORDER BY place", (since, end)
    )
    for at, body in rows:
        more, record = _record(database, at, body)
        if isinstance(record, ToolCall | ToolResult) and record.turn_id == turn_id:
            size += more
            tools.append(record)
    return size, tools
