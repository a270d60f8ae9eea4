"""The file of the sqlite store: who owns it, what shape it has, and what it may have forgotten.

A file belongs to one process, which holds a lock beside it (`<file>-lock`) that the system releases when the
process ends, however it ends. The shape is numbered by `PRAGMA user_version`.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from secrets import token_hex

from gateway.interfaces import StoreInUse, StoreUnusable

__all__ = ["BOOT_ID", "MIGRATIONS", "Database"]

APPLICATION_ID = 0x54524B4C
"""`TRKL`, in the header of every file of ours."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Where Linux tells one boot of the machine from the next."""

MIGRATIONS: Sequence[str] = (
    # A place is `session << 32 | number`: the number is a seq (in a segment an offset), and so everything of
    # one session lies side by side and is one range of integers.
    """
    CREATE TABLE opening (generation TEXT, boot_id TEXT, clean INTEGER, full INTEGER);
    INSERT INTO opening VALUES ('', '', 0, 0);

    CREATE TABLE session (
        id INTEGER PRIMARY KEY, agent TEXT, user TEXT, session_id TEXT, incarnation TEXT,
        first INTEGER, seq INTEGER, tag TEXT, shown INTEGER,
        created_at REAL, updated_at REAL, label TEXT, state BLOB, metadata BLOB
    );
    CREATE UNIQUE INDEX session_key ON session (agent, user, session_id);
    CREATE INDEX session_id ON session (session_id, user);
    CREATE INDEX session_age ON session (created_at, agent, user, session_id);
    CREATE INDEX session_age_of_agent ON session (agent, created_at, user, session_id);
    CREATE INDEX session_age_of_user ON session (user, created_at, agent, session_id);
    CREATE INDEX session_age_of_both ON session (agent, user, created_at, session_id);
    CREATE INDEX session_label ON session (agent, user, label, created_at, session_id)
        WHERE label IS NOT NULL;

    CREATE TABLE record (place INTEGER PRIMARY KEY, created_at REAL, body BLOB);

    CREATE TABLE turn (
        place INTEGER PRIMARY KEY, session INTEGER, turn_id TEXT, content_hash TEXT, status INTEGER,
        node TEXT, started INTEGER, ended INTEGER, ended_at REAL, hidden INTEGER
    );
    CREATE UNIQUE INDEX turn_id ON turn (session, turn_id);
    CREATE UNIQUE INDEX turn_ended ON turn (ended) WHERE ended IS NOT NULL;
    CREATE UNIQUE INDEX turn_open ON turn (status, place) WHERE status < 2;

    CREATE TABLE segment (place INTEGER PRIMARY KEY, stop INTEGER, text TEXT);

    CREATE TABLE active (
        agent TEXT, user TEXT, session INTEGER, PRIMARY KEY (agent, user)
    ) WITHOUT ROWID;

    CREATE TABLE tombstone (
        agent TEXT, user TEXT, session_id TEXT, status TEXT, ended_at REAL,
        PRIMARY KEY (session_id, user, agent)
    ) WITHOUT ROWID;
    CREATE INDEX tombstone_age ON tombstone (ended_at);
    """,
    # Lives, and state that sessions share.
    """
    ALTER TABLE session ADD COLUMN life BLOB;
    ALTER TABLE session ADD COLUMN due_at REAL;
    ALTER TABLE session ADD COLUMN warn_at REAL;
    ALTER TABLE session ADD COLUMN expires_at REAL;
    CREATE INDEX session_due ON session (due_at) WHERE due_at IS NOT NULL;
    CREATE INDEX session_expiring ON session (warn_at, expires_at) WHERE warn_at IS NOT NULL;
    CREATE INDEX session_updated ON session (agent, user, updated_at, session_id);

    CREATE TABLE scope (name TEXT PRIMARY KEY, state BLOB) WITHOUT ROWID;
    """,
    # Guests that have become users.
    """
    CREATE TABLE adopted (guest TEXT PRIMARY KEY, user TEXT, until REAL) WITHOUT ROWID;
    CREATE INDEX adopted_until ON adopted (until);
    """,
    # When a tombstone was put up, which may be long after the end; since when no session shares a state.
    """
    ALTER TABLE tombstone ADD COLUMN since REAL;
    UPDATE tombstone SET since = ended_at;
    DROP INDEX tombstone_age;
    CREATE INDEX tombstone_age ON tombstone (since);

    ALTER TABLE scope ADD COLUMN unused_since REAL;
    UPDATE scope SET unused_since = strftime('%s', 'now') + 0 WHERE instr(name, '/') AND NOT EXISTS (
        SELECT 1 FROM session WHERE agent = substr(name, 1, instr(name, '/') - 1)
        AND user = substr(name, instr(name, '/') + 1)
    );
    CREATE INDEX scope_unused ON scope (unused_since) WHERE unused_since IS NOT NULL;
    """,
)
"""What makes a file of version N out of one of version N - 1, from 1 on. Only ever added to."""


class Database:
    """The open file, for the one thread that opened it.

    Raises `StoreUnusable` if it cannot be opened. `full` is synchronous=FULL; `patience` is how many seconds
    to wait for somebody who locks the file from outside, a backup perhaps.
    """

    def __init__(
        self,
        path: Path,
        *,
        full: bool,
        boot_id: str,
        patience: float,
        migrations: Sequence[str] = MIGRATIONS,
    ) -> None:
        self.path = path.resolve()
        self.unreadable: set[int] = set()
        """The places of records that cannot be read, as far as that was said."""
        self._lock = _lock(self.path)
        try:
            self.connection = _connect(self.path, patience)
            try:
                _migrate(self.connection, self.path, migrations)
                self.generation = _begin(self.connection, full=full, boot_id=boot_id)
            except BaseException:
                self.connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            os.close(self._lock)
            raise StoreUnusable(f"{self.path} cannot be used as a store: {error}.") from error
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Let go of the file. What was committed is on the disk then."""
        try:
            # A file that cannot be marked as closed in order will be taken for one that was not.
            with suppress(sqlite3.Error):
                self.connection.execute("PRAGMA synchronous = FULL")
                self.connection.execute("UPDATE opening SET clean = 1")
                self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self.connection.close()
        finally:
            os.close(self._lock)


def _lock(path: Path) -> int:
    """Own `path`, until the file descriptor is closed."""
    if not path.parent.is_dir():
        raise StoreUnusable(f"{path} cannot be used as a store: there is no directory {path.parent}.")
    # A file beside it: closing any descriptor of the database itself would drop SQLite's own POSIX locks.
    try:
        lock = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be used as a store: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise StoreInUse(
            f"{path} is in use by another gateway (process {owner}). "
            "Give each gateway a file of its own, or stop the other one."
        ) from error
    os.truncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _connect(path: Path, patience: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None, cached_statements=256)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    """Bring the file to the newest version, step by step, each step all or nothing."""
    version = _number(connection, "PRAGMA user_version")
    empty = _number(connection, "SELECT count(*) FROM sqlite_master") == 0
    if not empty and _number(connection, "PRAGMA application_id") != APPLICATION_ID:
        raise StoreUnusable(f"{path} is a database of something else: name another file.")
    if version > len(migrations):
        raise StoreUnusable(
            f"{path} was written by a newer gateway (format {version}; this one knows {len(migrations)}): "
            "use that one, or name another file."
        )
    if not empty and version < len(migrations):
        _copy(connection, Path(f"{path}.v{version}.bak"))
    for number, script in enumerate(migrations[version:], version + 1):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {APPLICATION_ID}; "
                f"PRAGMA user_version = {number}; COMMIT"
            )
        except sqlite3.Error:
            if connection.in_transaction:
                connection.rollback()
            raise


def _copy(connection: sqlite3.Connection, beside: Path) -> None:
    """Leave a copy; under its name only once it is whole."""
    part = beside.with_name(f"{beside.name}.part")
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(part)) as copy:
        connection.backup(copy)
    part.replace(beside)


def _begin(connection: sqlite3.Connection, *, full: bool, boot_id: str) -> str:
    """Note that the file is open, and answer its generation: a new one if it may have forgotten something.

    Without synchronous=FULL a commit survives the process, not the machine. So what was acknowledged may be
    gone if the file was not closed in order and the machine has booted since, or may have.
    """
    # The note itself must survive the machine, whatever the commits after it may do.
    connection.execute("PRAGMA synchronous = FULL")
    was: tuple[str, str, int, int] = connection.execute("SELECT * FROM opening").fetchone()
    generation, last_boot, clean, was_full = was
    same_boot = boot_id != "" and boot_id == last_boot
    if not generation or not (clean or was_full or same_boot):
        generation = token_hex(4)
    connection.execute(
        "UPDATE opening SET generation = ?, boot_id = ?, clean = 0, full = ?", (generation, boot_id, full)
    )
    connection.execute("UPDATE turn SET node = NULL WHERE status = 1 AND status < 2")
    if not full:
        connection.execute("PRAGMA synchronous = NORMAL")
    return generation


def _number(connection: sqlite3.Connection, query: str) -> int:
    number: int = connection.execute(query).fetchone()[0]
    return number
