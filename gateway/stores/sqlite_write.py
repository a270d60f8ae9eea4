"""Writing in the sqlite store: each function is a job of its thread.

What can be refused is refused before the first row is written; the rows then follow the records in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Literal, NamedTuple

from msgspec import json

from gateway.interfaces import (
    Duplicate,
    Head,
    Info,
    Key,
    NoSession,
    Saved,
    Scopes,
    Segment,
    SessionExists,
    Stale,
    TooManySessions,
)
from gateway.stores.sqlite_file import Database
from gateway.stores.sqlite_rows import STATUSES, Log, known, log_of, place, running, shown_between
from protocol.history import new_turns, outcome, unsaved
from protocol.lifetime import Life, due_at, warn_at
from protocol.records import Failed, Message, Record, Response, Started, Terminal, content_hash, encode_record
from protocol.scopes import scope_of_user

__all__ = [
    "Written",
    "activate",
    "adopt",
    "append",
    "create",
    "delete",
    "label",
    "move",
    "save_text",
    "written",
]


class Written(NamedTuple):
    """What a call wants to write, as JSON: made before it is queued, so that nobody changes it meanwhile."""

    records: Sequence[Record]
    bodies: Sequence[bytes]
    new: Sequence[Message]
    state: bytes | None = None
    """None: what is known beside the log stays."""
    metadata: bytes | None = None
    life: tuple[bytes | None, float | None, float | None, float | None] = (None, None, None, None)
    """The life, when it is due, from when on it is expiring, and when it expires."""
    scopes: Sequence[tuple[str, bytes]] = ()


def written(records: Sequence[Record], info: Info | None, scopes: Scopes) -> Written:
    """Raises `ValueError` for a `turn_id` used twice, and what `encode_record` raises."""
    bodies = [encode_record(record) for record in records]
    shared = [(name, json.encode(delta)) for name, delta in scopes.items()]
    if info is None:
        return Written(records, bodies, new_turns(records), scopes=shared)
    return Written(
        records,
        bodies,
        new_turns(records),
        json.encode(info.state),
        json.encode(info.metadata),
        _moments(info.life),
        shared,
    )


def _moments(life: Life | None) -> tuple[bytes | None, float | None, float | None, float | None]:
    if life is None:
        return None, None, None, None
    return json.encode(life), due_at(life), warn_at(life), life.expires_at


# ── Sessions ────────────────────────────────────────────────────────────────────────────────────────────────


def create(
    database: Database,
    info: Info,
    tag: str,
    what: Written,
    over_tombstone: bool,
    activate: bool,
    unless_active: bool,
    most: int | None,
) -> Head:
    """See `Store.create`. The same create again, known by its tag, is answered as the first time."""
    execute, key = database.connection.execute, info.key
    try:
        there = log_of(database, key)
    except NoSession as ended:
        if ended.tombstone is not None and not over_tombstone:
            raise
    else:
        if there.tag == tag:
            return there.head
        raise SessionExists
    if unless_active and execute("SELECT 1 FROM active WHERE agent = ? AND user = ?", key[:2]).fetchone():
        raise SessionExists
    if most is not None:
        [(count,)] = execute(
            "SELECT count(*) FROM (SELECT 1 FROM session WHERE user = ? LIMIT ?)", (key.user, most)
        )
        if count >= most:
            raise TooManySessions
    execute("DELETE FROM tombstone WHERE agent = ? AND user = ? AND session_id = ?", key)
    incarnation = token_hex(4)
    created = execute(
        "INSERT INTO session VALUES (NULL, ?, ?, ?, ?, 1, 0, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(*key, incarnation, tag, info.created_at, info.updated_at, info.label),
            *(what.state, what.metadata, *what.life),
        ),
    )
    _share(database, key)
    log = Log(created.lastrowid or 0, database.generation + incarnation, 1, 0, tag)
    if activate:
        _activate(database, key, log)
    return _extend(database, log, tag, what)


def activate(database: Database, key: Key) -> None:
    """See `Store.activate`."""
    _activate(database, key, log_of(database, key))


def _activate(database: Database, key: Key, log: Log) -> None:
    database.connection.execute(
        "INSERT OR REPLACE INTO active VALUES (?, ?, ?)", (key.agent, key.user, log.id)
    )


def label(database: Database, key: Key, label: str | None, now: float) -> None:
    """See `Store.label`."""
    database.connection.execute(
        "UPDATE session SET label = ?, updated_at = ? WHERE id = ?", (label, now, log_of(database, key).id)
    )


def delete(
    database: Database,
    key: Key,
    now: float,
    status: Literal["closed", "expired"],
    head: Head | None,
    ended_at: float | None,
) -> None:
    """See `Store.delete`."""
    execute, log = database.connection.execute, log_of(database, key)
    if head is not None and log.head != head:
        raise Stale
    for table in "record", "turn", "segment":
        execute(f"DELETE FROM {table} WHERE place BETWEEN ? AND ?", (log.begin, log.end))
    execute("DELETE FROM active WHERE agent = ? AND user = ? AND session = ?", (key.agent, key.user, log.id))
    execute("DELETE FROM session WHERE id = ?", (log.id,))
    _share_no_more(database, key, now)
    ended_at = now if ended_at is None else ended_at
    execute("INSERT INTO tombstone VALUES (?, ?, ?, ?, ?, ?)", (*key, status, ended_at, now))


def _share(database: Database, key: Key) -> None:
    """A session of that key is there, and shares its user's state."""
    database.connection.execute(
        "UPDATE scope SET unused_since = NULL WHERE name = ?", (scope_of_user(key.agent, key.user),)
    )


def _share_no_more(database: Database, key: Key, now: float) -> None:
    """The session of that key is gone; if it was the last one that shares its user's state, note when."""
    database.connection.execute(
        "UPDATE scope SET unused_since = ? WHERE name = ? "
        "AND NOT EXISTS (SELECT 1 FROM session WHERE agent = ? AND user = ?)",
        (now, scope_of_user(key.agent, key.user), key.agent, key.user),
    )


def move(database: Database, key: Key, head: Head, to: Key, now: float, scopes: Mapping[str, str]) -> Head:
    """See `Store.move`. The rows of its log stay where they are."""
    execute, log = database.connection.execute, log_of(database, key)
    if log.head != head:
        raise Stale
    if execute("SELECT 1 FROM session WHERE agent = ? AND user = ? AND session_id = ?", to).fetchone():
        raise SessionExists
    incarnation = token_hex(4)
    execute(
        "UPDATE session SET agent = ?, user = ?, session_id = ?, incarnation = ? WHERE id = ?",
        (*to, incarnation, log.id),
    )
    was_active = execute(
        "DELETE FROM active WHERE agent = ? AND user = ? AND session = ?", (key.agent, key.user, log.id)
    )
    if was_active.rowcount:
        execute("INSERT OR IGNORE INTO active VALUES (?, ?, ?)", (to.agent, to.user, log.id))
    execute("DELETE FROM tombstone WHERE agent = ? AND user = ? AND session_id = ?", to)
    execute("INSERT INTO tombstone VALUES (?, ?, ?, 'closed', ?, ?)", (*key, now, now))
    _share(database, to)
    _share_no_more(database, key, now)
    for name, taker in scopes.items():
        _hand_over(database, name, taker)
    return Head(database.generation + incarnation, log.seq, log.tag)


def _hand_over(database: Database, name: str, taker: str) -> None:
    """What is kept under that name goes to the other, whose own keys stay as they are."""
    execute = database.connection.execute
    row = execute("SELECT state FROM scope WHERE name = ?", (name,)).fetchone()
    if row is None:
        return
    own = execute("SELECT state FROM scope WHERE name = ?", (taker,)).fetchone()
    execute("DELETE FROM scope WHERE name = ?", (name,))
    state = {**json.decode(row[0]), **json.decode(own[0] if own else b"{}")}
    execute("INSERT OR REPLACE INTO scope VALUES (?, ?, NULL)", (taker, json.encode(state)))


def adopt(database: Database, guest: str, user: str, until: float) -> str:
    """See `Store.adopt`."""
    execute = database.connection.execute
    execute("INSERT OR IGNORE INTO adopted VALUES (?, ?, ?)", (guest, user, until))
    [(adopter,)] = execute("SELECT user FROM adopted WHERE guest = ?", (guest,))
    return str(adopter)


# ── Their logs ──────────────────────────────────────────────────────────────────────────────────────────────


def append(
    database: Database, key: Key, head: Head, tag: str, what: Written, text: tuple[int, str] | None
) -> Head:
    """See `Store.append`."""
    log = log_of(database, key)
    if log.tag == tag:
        return log.head
    for message in what.new:
        if (turn := known(database, log, message.turn_id)) is not None:
            raise Duplicate(turn)
    if log.head != head:
        raise Stale
    if text is not None:
        _write_text(database, log, *text)
    if what.state is not None:
        database.connection.execute(
            "UPDATE session SET state = ?, metadata = ?, life = ?, due_at = ?, warn_at = ?, expires_at = ? "
            "WHERE id = ?",
            (what.state, what.metadata, *what.life, log.id),
        )
    return _extend(database, log, tag, what)


def _extend(database: Database, log: Log, tag: str, what: Written) -> Head:
    """Append, and keep the index of turns, and what is shared."""
    for name, delta in what.scopes:
        _merge(database, name, delta)
    first = place(log, log.seq + 1)
    rows = [
        (at, record.created_at, body)
        for at, (record, body) in enumerate(zip(what.records, what.bodies, strict=True), first)
    ]
    database.connection.executemany("INSERT INTO record VALUES (?, ?, ?)", rows)
    shown = sum(_index(database, log, at, record) for at, record in enumerate(what.records, first))
    seq = log.seq + len(rows)
    updated_at = what.records[-1].created_at if rows else None
    database.connection.execute(
        "UPDATE session SET seq = ?, tag = ?, shown = shown + ?, updated_at = coalesce(?, updated_at) "
        "WHERE id = ?",
        (seq, tag, shown, updated_at, log.id),
    )
    return Head(log.epoch, seq, tag)


def _merge(database: Database, name: str, delta: bytes) -> None:
    """Set these keys in what is kept under that name."""
    execute = database.connection.execute
    row = execute("SELECT state FROM scope WHERE name = ?", (name,)).fetchone()
    state = json.encode({**json.decode(row[0] if row else b"{}"), **json.decode(delta)})
    execute("INSERT OR REPLACE INTO scope VALUES (?, ?, NULL)", (name, state))


def _index(database: Database, log: Log, at: int, record: Record) -> int:
    """What `record` means for its turn; answers how many messages more the history shows."""
    match record:
        case Message():
            return _wait(database, log, at, record)
        case Started():
            database.connection.execute(
                "UPDATE turn SET status = 1, started = ?, node = ? "
                "WHERE session = ? AND turn_id = ? AND status = 0",
                (at, record.node, log.id, record.turn_id),
            )
            return 0
        case Response() | Failed():
            return _end(database, log, at, record)
        case _:
            return 0


def _wait(database: Database, log: Log, at: int, message: Message) -> int:
    shown = 1
    if message.replaces is not None:
        shown -= _hide(database, log, at, message.replaces)
    database.connection.execute(
        "INSERT INTO turn VALUES (?, ?, ?, ?, 0, NULL, NULL, NULL, NULL, NULL)",
        (at, log.id, message.turn_id, content_hash(message.content, message.parts)),
    )
    return shown


def _hide(database: Database, log: Log, at: int, replaced: str) -> int:
    """That turn and all after it give way to the message at `at`; how many messages that hides."""
    execute = database.connection.execute
    row = execute("SELECT place FROM turn WHERE session = ? AND turn_id = ?", (log.id, replaced)).fetchone()
    if row is None:
        return 0
    shown = shown_between(database, max(row[0], place(log, log.first)), at)
    execute("UPDATE turn SET hidden = ? WHERE place >= ? AND place < ? AND hidden IS NULL", (at, row[0], at))
    return shown


def _end(database: Database, log: Log, at: int, terminal: Terminal) -> int:
    execute = database.connection.execute
    row = execute(
        "SELECT place, status, hidden FROM turn WHERE session = ? AND turn_id = ? AND ended IS NULL",
        (log.id, terminal.turn_id),
    ).fetchone()
    if row is None:
        return 0
    begin, status, hidden = row
    execute(
        "UPDATE turn SET status = ?, node = NULL, ended = ?, ended_at = ? WHERE place = ?",
        (STATUSES.index(outcome(terminal)), at, terminal.created_at, begin),
    )
    if STATUSES[status] == "running":
        execute("DELETE FROM segment WHERE place BETWEEN ? AND ?", (log.begin, log.end))
    return 1 if hidden is None else 0


# ── Running text ────────────────────────────────────────────────────────────────────────────────────────────

_WHERE_TEXT_ENDS = """
    SELECT session.id, incarnation, seq, tag,
        (SELECT turn_id FROM turn WHERE status < 2 AND status = 1
            AND place BETWEEN session.id << 32 AND session.id << 32 | 0xFFFFFFFF),
        (SELECT stop FROM segment WHERE place BETWEEN session.id << 32 AND session.id << 32 | 0xFFFFFFFF
            ORDER BY place DESC LIMIT 1)
    FROM session WHERE agent = ? AND user = ? AND session_id = ?
"""


def save_text(database: Database, batch: Sequence[Segment]) -> list[Saved]:
    """See `Store.save_text`."""
    return [_save(database, segment) for segment in batch]


def _save(database: Database, segment: Segment) -> Saved:
    row = database.connection.execute(_WHERE_TEXT_ENDS, segment.key).fetchone()
    if row is None:
        return Saved(None, False)
    session, incarnation, seq, tag, turn_id, stop = row
    saved, running = stop or 0, turn_id == segment.turn_id
    if running and (fresh := unsaved(saved, segment.offset, segment.text)):
        _add_segment(database, session, saved, fresh)
    return Saved(Head(database.generation + incarnation, seq, tag), running)


def _write_text(database: Database, log: Log, offset: int, text: str) -> None:
    """Add what is not there yet to the running turn's text, if one runs."""
    if running(database, log) is None:
        return
    stop = database.connection.execute(
        "SELECT stop FROM segment WHERE place BETWEEN ? AND ? ORDER BY place DESC LIMIT 1",
        (log.begin, log.end),
    ).fetchone()
    saved = stop[0] if stop else 0
    if fresh := unsaved(saved, offset, text):
        _add_segment(database, log.id, saved, fresh)


def _add_segment(database: Database, session: int, offset: int, text: str) -> None:
    # `stop` is kept because SQLite's length() ends at the first NUL.
    database.connection.execute(
        "INSERT INTO segment VALUES (?, ?, ?)", (session << 32 | offset, offset + len(text), text)
    )
