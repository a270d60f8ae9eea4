"""What only the store in a file does: it survives, has one owner, knows its format, and shares commits."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import json
from msgspec.structs import replace

from gateway.interfaces import (
    Census,
    Due,
    Head,
    Info,
    Key,
    NoSession,
    Place,
    Segment,
    Stale,
    StoreInUse,
    StoreUnusable,
    Unavailable,
)
from gateway.stores import sqlite_read
from gateway.stores.sqlite import SqliteStore
from gateway.stores.sqlite_file import MIGRATIONS, Database
from gateway.stores.sqlite_find import DUE_AT_A_TIME
from gateway.stores.sqlite_read import REMEMBERED
from protocol.history import DAY
from protocol.lifetime import Terms, begin
from protocol.records import Event, Message, Response, Started, ToolCall, encode_record

NOW = 1_000_000.0
KEY = Key("eliza", "ada", "s1")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


LIFE = begin(Terms(30.0, True, 720.0, 5.0), NOW, NOW)
SHARED = {"eliza/ada": {"n": 1}, "eliza": {"n": 2}}


def info(key: Key = KEY) -> Info:
    return Info(key, NOW, NOW)


def message(turn_id: str) -> Message:
    return Message(turn_id, "hello", NOW)


def numbered(n: int) -> Key:
    return KEY._replace(session_id=f"s{n}")


# ── One commit for many ─────────────────────────────────────────────────────────────────────────────────────


async def test_concurrent_appends_to_different_sessions_share_commits(path: Path) -> None:
    store = SqliteStore(path)
    async with store.open("n", NOW):
        heads = [await store.create(info(numbered(n)), "t") for n in range(200)]
        before = store.commits
        appends = [store.append(numbered(n), heads[n], "a", [message("t1")]) for n in range(200)]
        assert [head.seq for head in await asyncio.gather(*appends)] == [1] * 200
        assert 1 <= store.commits - before <= 20


async def test_a_batch_of_segments_is_one_commit_and_reading_is_none(path: Path) -> None:
    store = SqliteStore(path)
    async with store.open("n", NOW):
        for n in range(100):
            await store.create(info(numbered(n)), "t", [message("t1"), Started("t1", "n", NOW)])
        before = store.commits
        await store.save_text([Segment(numbered(n), "t1", 0, "text") for n in range(100)])
        for n in range(100):
            assert (await store.load(numbered(n))).text == "text"
        assert store.commits - before == 1


async def test_a_call_that_fails_half_way_spoils_none_of_those_it_shared_a_commit_with(path: Path) -> None:
    store = SqliteStore(path)
    async with store.open("n", NOW):
        heads = [await store.create(info(numbered(n)), "t") for n in range(3)]
        await store.append(numbered(1), heads[1], "u", [message("t0"), Started("t0", "n", NOW)])
        heads[1] = (await store.load(numbered(1))).head
        spoilt = Segment(numbered(1), "t0", 0, "lone \ud800")
        results = await asyncio.gather(
            store.append(numbered(0), heads[0], "a", [message("t1")]),
            store.save_text([Segment(numbered(1), "t0", 0, "fine"), spoilt._replace(offset=4)]),
            store.append(numbered(2), heads[2], "a", [message("t1")]),
            return_exceptions=True,
        )
        assert isinstance(results[0], Head)
        assert isinstance(results[1], UnicodeEncodeError)
        assert isinstance(results[2], Head)
        assert await store.text(numbered(1)) == ("t0", "")
        assert (await store.load(numbered(2))).head == results[2]


async def test_a_loop_that_never_idles_stands_still_until_an_append_is_done(path: Path) -> None:
    store, loop = SqliteStore(path), asyncio.get_running_loop()
    busy, passes = True, 0

    def spin() -> None:
        nonlocal passes
        passes += 1
        sum(range(5000))
        if busy:
            loop.call_soon(spin)

    async with store.open("n", NOW), asyncio.timeout(5):
        head = await store.create(info(), "t")
        spin()
        for n in range(1000):
            head = await store.append(KEY, head, f"tag{n}", [Event("k", n, NOW)])
        busy = False
    assert head.seq == 1000
    # Two passes each, and a few more where the disk took its time; a starved thread lets thousands go by.
    assert passes < 10 * 1000


async def test_what_is_queued_when_the_store_closes_is_written(path: Path) -> None:
    store = SqliteStore(path)
    async with store.open("n", NOW):
        create = asyncio.gather(*(store.create(info(numbered(n)), "t") for n in range(10)))
        await asyncio.sleep(0)
    assert all(head.tag == "t" for head in await create)
    async with store.open("n", NOW):
        assert len(await store.sessions(None, None, 100)) == 10


async def test_a_store_that_is_not_open_is_unavailable(path: Path) -> None:
    store = SqliteStore(path)
    with pytest.raises(Unavailable, match="not open"):
        await store.load(KEY)
    async with store.open("n", NOW):
        await store.create(info(), "t")
    with pytest.raises(Unavailable, match="not open"):
        await store.load(KEY)


# ── Looking through indexes ─────────────────────────────────────────────────────────────────────────────────

READING: dict[str, Callable[[SqliteStore], Any]] = {
    "load": lambda store: store.load(KEY),
    "read": lambda store: store.read(KEY, 1, 10, 1000),
    "text": lambda store: store.text(KEY),
    "history before": lambda store: store.history(KEY, 10),
    "history after": lambda store: store.history(KEY, 10, direction="after", position=1, time=1.0, as_of=3),
    "turn": lambda store: store.turn(KEY, "t1"),
    "find": lambda store: store.find("s1", None),
    "find of a user": lambda store: store.find("s1", "ada"),
    "find none": lambda store: store.find("none", None),
    "find none of a user": lambda store: store.find("none", "ada"),
    "summary": lambda store: store.summary(KEY),
    "active": lambda store: store.active("eliza", "ada"),
    "by_label": lambda store: store.by_label("eliza", "ada", "name"),
    "due": lambda store: store.due(NOW, "n"),
    "sessions of all": lambda store: store.sessions(None, None, 10),
    "sessions of an agent": lambda store: store.sessions("eliza", None, 10, Place(NOW, *KEY)),
    "sessions of a user": lambda store: store.sessions(None, "ada", 10, Place(NOW, *KEY)),
    "sessions of both": lambda store: store.sessions("eliza", "ada", 10, Place(NOW, *KEY)),
    "sessions by update": lambda store: store.by_update("eliza", "ada", 10),
    "sessions by update, further": lambda store: store.by_update("eliza", "ada", 10, Place(NOW, *KEY)),
    "scope": lambda store: store.scope("eliza/ada"),
    "activate": lambda store: store.activate(KEY),
    "label": lambda store: store.label(KEY, "name", NOW),
    "save_text": lambda store: store.save_text([Segment(KEY, "t1", 0, "text")]),
    "create": lambda store: store.create(info(numbered(7)), "t", activate=True),
    "delete": lambda store: store.delete(KEY, NOW),
    "trim": lambda store: store.trim(NOW),
}


async def planned(store: SqliteStore, call: Callable[[SqliteStore], Any]) -> dict[str, list[str]]:
    """How SQLite goes about each statement of a call."""
    statements: list[str] = []

    def trace(database: Database, callback: Callable[[str], None] | None) -> None:
        database.connection.set_trace_callback(callback)

    def explain(database: Database) -> dict[str, list[str]]:
        # What SQLite shows of an infinity is not what it reads as one.
        plain = [re.sub(r"\bInf\b", "9e999", one) for one in statements]
        plain = [one for one in plain if re.match("SELECT|UPDATE|DELETE|INSERT", one.strip())]
        return {
            one: [row[3] for row in database.connection.execute(f"EXPLAIN QUERY PLAN {one}")] for one in plain
        }

    await store._worker.do(trace, statements.append)
    await call(store)
    await store._worker.do(trace, None)
    return await store._worker.do(explain)


@pytest.mark.parametrize("verb", READING)
async def test_every_verb_goes_through_an_index_and_sorts_nothing(path: Path, verb: str) -> None:
    store = SqliteStore(path, keep_days=1, keep_records=1)
    async with store.open("n", NOW):
        await store.create(info(), "t", [message("t1"), Started("t1", "n", NOW)], scopes=SHARED)
        plans = await planned(store, READING[verb])
        assert plans
        steps = [step for plan in plans.values() for step in plan]
        assert not [step for step in steps if step.startswith("SCAN") and "CONSTANT" not in step], plans
        if "history" in verb or "sessions" in verb:
            assert not [step for step in steps if "TEMP B-TREE" in step], plans


async def test_an_append_goes_through_indexes_too(path: Path) -> None:
    store = SqliteStore(path)
    async with store.open("n", NOW):
        head = await store.create(info(), "t", [message("t1"), Started("t1", "n", NOW)])
        records = [
            Response("t1", "text", "completed", NOW),
            Message("t2", "again", NOW, replaces="t1"),
            Started("t2", "n", NOW),
        ]
        given = {"text": (0, "text"), "info": replace(info(), life=LIFE), "scopes": SHARED}
        plans = await planned(store, lambda store: store.append(KEY, head, "u", records, **given))
        assert len(plans) > 11
        assert not [plan for plan in plans.values() if any(step.startswith("SCAN") for step in plan)], plans


async def test_the_census_looks_only_at_lives_that_are_near_their_end(path: Path) -> None:
    store = SqliteStore(path)
    async with store.open("n", NOW):
        plans = await planned(store, lambda store: store.census(NOW))
        [counts_all] = [plan for query, plan in plans.items() if "warn_at" not in query]
        [counts_near] = [plan for query, plan in plans.items() if "warn_at" in query]
        assert all("COVERING INDEX" in step for step in counts_all + counts_near)
        assert all(step.startswith("SEARCH") for step in counts_near)


async def test_of_very_many_lives_that_are_due_the_longest_due_come_first_and_the_rest_the_next_time(
    path: Path,
) -> None:
    async with (store := SqliteStore(path)).open("n", NOW):
        lives = [replace(LIFE, expires_at=NOW - n % 7) for n in range(DUE_AT_A_TIME + 50)]
        made = [store.create(replace(info(numbered(n)), life=life), "t") for n, life in enumerate(lives)]
        await asyncio.gather(*made)
        seen = {due.key for due in await store.due(NOW, "n")}
        assert len(seen) == DUE_AT_A_TIME
        assert seen >= {numbered(n) for n, life in enumerate(lives) if life.expires_at < NOW - 1}
        await asyncio.gather(*(store.delete(key, NOW, "expired") for key in seen))
        assert len(await store.due(NOW, "n")) == 50


# ── Surviving ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_everything_is_there_when_the_file_is_opened_again(path: Path) -> None:
    store = SqliteStore(path)
    records = [message("t1"), Started("t1", "n", NOW), ToolCall("t1", 4, "c", "n", {"x": 1}, NOW)]
    async with store.open("n", NOW):
        head = await store.create(info(), "t", records, activate=True)
        await store.save_text([Segment(KEY, "t1", 0, "text")])
        await store.label(KEY, "name", NOW)
        await store.create(info(numbered(2)), "t", [message("t1")])
        loaded = await store.load(KEY)
    again = SqliteStore(path)
    async with again.open("n", NOW):
        assert await again.load(KEY) == loaded
        assert loaded.head == head
        assert await again.text(KEY) == ("t1", "text")
        assert await again.active("eliza", "ada") == await again.by_label("eliza", "ada", "name") == KEY
        assert await again.due(NOW, "n") == [Due(KEY, "t1"), Due(numbered(2))]


async def test_lives_and_what_is_shared_are_there_when_the_file_is_opened_again(path: Path) -> None:
    warned = replace(info(), life=replace(LIFE, warned=True))
    async with (store := SqliteStore(path)).open("n", NOW):
        await store.create(warned, "t", scopes=SHARED)
        await store.create(replace(info(numbered(2)), life=LIFE), "t")
        await store.create(info(numbered(3)), "t")
        await store.delete(numbered(3), NOW - 5, "expired")
    async with (again := SqliteStore(path)).open("n", NOW):
        assert (await again.load(KEY)).info == warned
        assert await again.due(LIFE.expires_at - 1, "n") == [Due(numbered(2), life=True)]
        assert {name: await again.scope(name) for name in SHARED} == SHARED
        with pytest.raises(NoSession) as none:
            await again.load(numbered(3))
        assert (none.value.tombstone, none.value.ended_at) == ("expired", NOW - 5)


WRITER = """
import asyncio, sys
from gateway.interfaces import Info, Key, Segment
from gateway.stores.sqlite import SqliteStore
from protocol.records import Message, Started, Response

async def write(store, key, turn):
    known = await store.load(key)
    begin = [Message(f"t{turn}", "x" * 2000, 1.0), Started(f"t{turn}", "n", 1.0)]
    head = await store.append(key, known.head, f"m{turn}", begin)
    await store.save_text([Segment(key, f"t{turn}", 0, "text")])
    head = await store.append(key, head, f"r{turn}", [Response(f"t{turn}", "y" * 2000, "completed", 1.0)])
    print(key.session_id, head.seq, flush=True)

async def main():
    store = SqliteStore(sys.argv[1])
    async with store.open("n", 1.0):
        keys = [Key("a", "u", f"s{n}") for n in range(5)]
        for key in keys:
            if not await store.find(key.session_id, None):
                await store.create(Info(key, 1.0, 1.0), "made")
            for due in await store.due(1.0, "n"):
                known = await store.load(due.key)
                lost = [entry.record.turn_id for entry in known.entries[:1]]
                end = [Response(turn, "", "cancelled", 1.0) for turn in lost]
                await store.append(due.key, known.head, "end", end)
        turn = int(sys.argv[2])
        while True:
            turn += 1
            await asyncio.gather(*(write(store, key, turn) for key in keys))

asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    acknowledged: dict[str, int] = {}
    for generation in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(path), str(generation * 10**6), cwd=ROOT, stdout=-1
        )
        assert process.stdout is not None
        async with asyncio.timeout(5):
            for _ in range(40 + 7 * generation):
                session_id, seq = (await process.stdout.readline()).split()
                acknowledged[session_id.decode()] = int(seq)
            process.send_signal(signal.SIGKILL)
            for line in (await process.stdout.read()).splitlines(keepends=True):
                if line.endswith(b"\n"):
                    acknowledged[line.split()[0].decode()] = int(line.split()[1])
            await process.wait()
        store = SqliteStore(path)
        async with store.open("checker", NOW):
            for session_id, seq in acknowledged.items():
                key = Key("a", "u", session_id)
                head = (await store.load(key)).head
                assert head.seq >= seq
                entries = await store.read(key, 0, 1 << 30, 1 << 30)
                assert entries is not None
                assert [at for at, _ in entries] == list(range(1, head.seq + 1))
            assert all(due.orphan for due in await store.due(NOW, "checker"))


# ── The generation ──────────────────────────────────────────────────────────────────────────────────────────


async def generation_after(path: Path, *, clean: bool, full: bool, boots: tuple[str, str]) -> tuple[str, str]:
    """The epoch of a session, before the file was left (in order or not) and after it is opened again."""
    store = SqliteStore(path, synchronous_full=full, boot_id=boots[0])
    async with store.open("n", NOW):
        before = await store.create(info(), "t")
        left = {one: one.read_bytes() for one in path.parent.iterdir() if not one.name.endswith("-shm")}
    if not clean:
        for one, content in left.items():
            one.write_bytes(content)
    again = SqliteStore(path, synchronous_full=full, boot_id=boots[1])
    async with again.open("n", NOW):
        return before.epoch, (await again.load(KEY)).head.epoch


@pytest.mark.parametrize(
    ("clean", "full", "boots", "same"),
    [
        (True, False, ("one", "one"), True),
        (True, False, ("one", "two"), True),
        (False, False, ("one", "one"), True),
        (False, False, ("one", "two"), False),
        (False, False, ("", ""), False),
        (False, True, ("one", "two"), True),
    ],
)
async def test_epochs_are_new_if_the_file_was_left_open_and_the_machine_may_have_booted_since(
    path: Path, clean: bool, full: bool, boots: tuple[str, str], same: bool
) -> None:
    before, after = await generation_after(path, clean=clean, full=full, boots=boots)
    assert (before == after) is same


async def test_a_head_of_an_older_generation_is_stale_but_a_repeated_append_still_known(path: Path) -> None:
    async with (store := SqliteStore(path, boot_id="one")).open("n", NOW):
        old = await store.create(info(), "t", [message("t1")])
        with closing(sqlite3.connect(path)) as outside, outside:
            outside.execute("UPDATE opening SET generation = 'raised'")
    async with (again := SqliteStore(path, boot_id="one")).open("n", NOW):
        new = (await again.load(KEY)).head
        assert new.epoch.startswith("raised")
        assert new == replace(old, epoch=new.epoch)
        with pytest.raises(Stale):
            await again.append(KEY, old, "next", [message("t2")])
        assert await again.append(KEY, old, "t", [message("t1")]) == new


def test_durability_follows_synchronous() -> None:
    assert SqliteStore("x.db").durability == "process"
    assert SqliteStore("x.db", synchronous_full=True).durability == "disk"


@pytest.mark.parametrize(("full", "synchronous"), [(False, 1), (True, 2)])
async def test_synchronous_full_waits_for_the_disk_at_every_commit(
    path: Path, full: bool, synchronous: int
) -> None:
    store = SqliteStore(path, synchronous_full=full)

    def ask(database: Database) -> tuple[int, str]:
        execute = database.connection.execute
        return execute("PRAGMA synchronous").fetchone()[0], execute("PRAGMA journal_mode").fetchone()[0]

    async with store.open("n", NOW):
        assert await store._worker.do(ask) == (synchronous, "wal")


# ── One owner ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_second_gateway_is_refused_with_the_first_ones_process(path: Path) -> None:
    store = SqliteStore(path)
    async with store.open("n", NOW):
        with pytest.raises(StoreInUse, match=f"in use by another gateway .process {os.getpid()}."):
            await SqliteStore(path).open("m", NOW).__aenter__()
        with pytest.raises(StoreInUse):
            await store.open("n", NOW).__aenter__()
        await store.create(info(), "t")
    async with SqliteStore(path).open("m", NOW):
        pass


async def test_the_lock_is_the_files_by_whatever_name_it_is_reached(path: Path, tmp_path: Path) -> None:
    async with SqliteStore(path).open("n", NOW):
        (tmp_path / "link.db").symlink_to(path)
        with pytest.raises(StoreInUse):
            await SqliteStore(tmp_path / "link.db").open("m", NOW).__aenter__()


async def test_a_killed_process_holds_no_lock(path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(path), "0", cwd=ROOT, stdout=-1
    )
    assert process.stdout is not None
    async with asyncio.timeout(5):
        await process.stdout.readline()
        with pytest.raises(StoreInUse, match=f"process {process.pid}"):
            await SqliteStore(path).open("m", NOW).__aenter__()
        process.kill()
        await process.stdout.read()
        await process.wait()
    async with SqliteStore(path).open("m", NOW):
        pass


async def test_a_file_that_somebody_locks_from_outside_is_unavailable_until_they_are_done(path: Path) -> None:
    store = SqliteStore(path, patience=0.01)
    async with store.open("n", NOW):
        head = await store.create(info(), "t")
        with closing(sqlite3.connect(path, isolation_level=None)) as outside:
            outside.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked"):
                await store.append(KEY, head, "u", [message("t1")])
            assert (await store.load(KEY)).head == head
            outside.execute("ROLLBACK")
        assert (await store.append(KEY, head, "u", [message("t1")])).seq == 1


FULL_DISK = """
import asyncio, resource, sys
from gateway.interfaces import Info, Key, Unavailable
from gateway.stores.sqlite import SqliteStore
from protocol.records import Event

async def main():
    store, key = SqliteStore(sys.argv[1]), Key("a", "u", "s")
    async with store.open("n", 1.0):
        head = await store.create(Info(key, 1.0, 1.0), "t")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, hard))
        try:
            for n in range(100):
                head = await store.append(key, head, f"tag{n}", [Event("k", "x" * 20000, 1.0)])
        except Unavailable:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert (await store.load(key)).head == head
            after = await store.append(key, head, f"tag{n}", [Event("k", "x" * 20000, 1.0)])
            print(n, after.seq == head.seq + 1)

asyncio.run(main())
"""


async def test_a_full_disk_is_unavailable_and_nothing_is_half_written(path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FULL_DISK, str(path), cwd=ROOT, stdout=-1
    )
    async with asyncio.timeout(5):
        output, _ = await process.communicate()
    written, went_on = output.split()
    assert 0 < int(written) < 99
    assert went_on == b"True"


# ── The format ──────────────────────────────────────────────────────────────────────────────────────────────

NEXT = (*MIGRATIONS, "ALTER TABLE session ADD COLUMN mood TEXT DEFAULT 'fine'")


def opened(path: Path, migrations: Any = MIGRATIONS) -> Database:
    return Database(path, full=False, boot_id="b", patience=0.01, migrations=migrations)


def asked(path: Path, query: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchone()[0]


async def test_an_older_format_is_migrated_in_place_after_a_copy_is_left_beside(path: Path) -> None:
    async with (store := SqliteStore(path)).open("n", NOW):
        await store.create(info(), "t", [message("t1")])
    opened(path, NEXT).close()
    assert asked(path, "SELECT mood FROM session") == "fine"
    assert asked(path, "PRAGMA user_version") == len(NEXT)
    copy = Path(f"{path}.v{len(MIGRATIONS)}.bak")
    assert asked(copy, "PRAGMA user_version") == len(MIGRATIONS)
    assert asked(copy, "SELECT count(*) FROM record") == 1
    async with SqliteStore(copy).open("n", NOW):
        pass


async def test_a_file_of_the_first_format_is_taken_over_its_sessions_living_for_ever(path: Path) -> None:
    database = opened(path, MIGRATIONS[:1])
    database.connection.execute(
        "INSERT INTO session VALUES (1, ?, ?, ?, 'i', 1, 1, 't', 1, ?, ?, 'trip', ?, ?)",
        (*KEY, NOW, NOW + 1, b'{"mood":"good"}', b"{}"),
    )
    database.connection.execute(
        "INSERT INTO record VALUES (?, ?, ?)", (1 << 32 | 1, NOW + 1, encode_record(message("t1")))
    )
    database.close()
    async with (store := SqliteStore(path, boot_id="b")).open("n", NOW):
        loaded = await store.load(KEY)
        assert loaded.info == Info(KEY, NOW, NOW + 1, "trip", {"mood": "good"})
        assert [record for _, record in await store.read(KEY, 0, 9, 999) or []] == [message("t1")]
        assert await store.by_update("eliza", "ada", 9) == [await store.summary(KEY)]
        assert await store.census(NOW + 1e9) == Census(1, 0, 0)
        head = await store.append(
            KEY, loaded.head, "u", [], info=replace(loaded.info, life=LIFE), scopes=SHARED
        )
        assert await store.due(LIFE.expires_at, "n") == [Due(KEY, life=True)]
        assert await store.scope("eliza") == {"n": 2}
        assert head.seq == 1
    copy = Path(f"{path}.v1.bak")
    assert asked(copy, "PRAGMA user_version") == 1
    assert asked(copy, "SELECT count(*) FROM record") == 1


async def test_of_an_older_file_tombstones_and_what_nobody_shares_any_more_are_kept_as_if_new(
    path: Path,
) -> None:
    now = time.time()
    database = opened(path, MIGRATIONS[:3])
    for agent, user in ("eliza", "ada"), ("eliza", "bob"):
        state = json.encode({"name": user})
        database.connection.execute("INSERT INTO scope VALUES (?, ?)", (f"{agent}/{user}", state))
    database.connection.execute("INSERT INTO scope VALUES ('eliza', ?)", (json.encode({"n": 1}),))
    database.connection.execute("INSERT INTO tombstone VALUES (?, ?, ?, 'expired', ?)", (*KEY, now))
    session = "INSERT INTO session VALUES (1, 'eliza', 'ada', 's2', 'i', 1, 0, 't', 0, ?, ?, NULL, ?, ?"
    database.connection.execute(
        f"{session}, NULL, NULL, NULL, NULL)", (NOW, NOW, json.encode({}), json.encode({}))
    )
    database.close()
    async with (store := SqliteStore(path, boot_id="b", keep_shared_days=2)).open("n", now):
        await store.trim(now + DAY - 1)
        with pytest.raises(NoSession) as none:
            await store.load(KEY)
        assert (none.value.tombstone, none.value.ended_at) == ("expired", now)
        assert await store.scope("eliza/bob") == {"name": "bob"}
        await store.trim(now + 9 * DAY)
        assert await store.scope("eliza/bob") == {}
        assert await store.scope("eliza/ada") == {"name": "ada"}
        assert await store.scope("eliza") == {"n": 1}


def test_a_new_file_leaves_no_copy(path: Path) -> None:
    opened(path).close()
    opened(path).close()
    assert sorted(one.name for one in path.parent.iterdir()) == ["test.db", "test.db-lock"]


def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    opened(path).close()
    with pytest.raises(StoreUnusable, match="nonsense"):
        opened(path, (*MIGRATIONS, "DROP TABLE record; ALTER TABLE nonsense ADD COLUMN x"))
    assert asked(path, "SELECT count(*) FROM record") == 0
    opened(path).close()


async def test_a_newer_format_is_refused(path: Path) -> None:
    opened(path, NEXT).close()
    knows = rf"newer gateway \(format {len(NEXT)}; this one knows {len(MIGRATIONS)}\)"
    with pytest.raises(StoreUnusable, match=knows):
        await SqliteStore(path).open("n", NOW).__aenter__()
    opened(path, NEXT).close()


async def test_a_database_of_something_else_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreUnusable, match="database of something else"):
        await SqliteStore(path).open("n", NOW).__aenter__()
    assert asked(path, "SELECT count(*) FROM sqlite_master") == 1


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: path.write_bytes(b"this is not a database " * 100), "file is not a database"),
        (lambda path: path.mkdir(), "unable to open database file"),
        (lambda path: Path(f"{path}-lock").mkdir(), "Is a directory"),
    ],
    ids=["no database", "a directory", "a lock that cannot be had"],
)
async def test_a_file_that_cannot_be_used_is_refused_with_one_sentence(
    path: Path, spoil: Callable[[Path], Any], sentence: str
) -> None:
    spoil(path)
    with pytest.raises(StoreUnusable, match=f"cannot be used as a store: {sentence}") as unusable:
        await SqliteStore(path).open("n", NOW).__aenter__()
    assert str(path) in str(unusable.value)


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match=f"there is no directory {tmp_path}/none"):
        await SqliteStore(tmp_path / "none" / "test.db").open("n", NOW).__aenter__()


def damage(path: Path, table: str) -> None:
    """Overwrite the table's first page."""
    root = asked(path, f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'")
    content = bytearray(path.read_bytes())
    content[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    path.write_bytes(content)


async def test_a_damaged_page_costs_the_call_that_needs_it(path: Path) -> None:
    async with (store := SqliteStore(path)).open("n", NOW):
        for n in range(50):
            await store.create(info(numbered(n)), "t", [Event("k", "x" * 3000, NOW)])
    damage(path, "record")
    async with (again := SqliteStore(path)).open("n", NOW):
        with pytest.raises(Unavailable, match="malformed"):
            await again.read(numbered(3), 0, 10, 1000)
        assert len(await again.sessions(None, None, 100)) == 50


async def test_of_a_file_full_of_damage_only_so_much_is_remembered(path: Path) -> None:
    many = 2 * REMEMBERED + 7
    async with (store := SqliteStore(path)).open("n", NOW):
        await store.create(info(), "t", [Event("k", 1, NOW)] * many)
    database = opened(path)
    database.connection.execute("UPDATE record SET body = '{'")
    assert len(sqlite_read.read(database, KEY, 0, many, 1 << 30) or []) == many
    assert len(database.unreadable) == 7
    database.close()


async def test_trimming_lets_appends_through_in_between(path: Path) -> None:
    store = SqliteStore(path, keep_days=1)
    async with store.open("n", NOW):
        heads = [await store.create(info(numbered(n)), "t", [Event("k", n, NOW)]) for n in range(450)]
        done: list[str] = []

        async def trim() -> None:
            assert await store.trim(NOW + 2 * DAY) == 450
            done.append("trimmed")

        async def append() -> None:
            await store.append(numbered(0), heads[0], "u", [])
            done.append("appended")

        await asyncio.gather(trim(), append())
        assert done == ["appended", "trimmed"]
