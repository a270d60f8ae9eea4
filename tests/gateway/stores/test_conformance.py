"""What every store promises, sentence by sentence. A new store is one more line in `STORES`."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, closing
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.interfaces import (
    Census,
    Due,
    Duplicate,
    Head,
    Info,
    Key,
    KnownTurn,
    NoSession,
    Place,
    Saved,
    Segment,
    SessionExists,
    Stale,
    Store,
    TooManySessions,
)
from gateway.stores.memory import MemoryStore
from gateway.stores.sqlite import SqliteStore
from protocol.cursor import format_cursor, parse_cursor
from protocol.history import DAY
from protocol.lifetime import Life, Terms, begin, due_at, renewed, warn_at
from protocol.records import (
    CancelRequested,
    Event,
    Failed,
    Message,
    Record,
    Response,
    Started,
    ToolCall,
    ToolResult,
    content_hash,
    encode_record,
)
from protocol.session import fold

STORES: dict[str, Callable[..., Any]] = {
    "memory": lambda _, **options: MemoryStore(**options),
    "sqlite": lambda directory, **options: SqliteStore(directory / "test.db", **options),
}
NODE = "node-1"
NOW = 1_000_000.0
KEY = Key("eliza", "ada", "s1")
MANY = 1 << 30
MOVED = KEY._replace(user="bob")

Open = Callable[..., Any]


@pytest.fixture(params=STORES)
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Makes a store of each kind with the options given, not yet open."""
    return partial(STORES[request.param], tmp_path)


@pytest.fixture
async def open_store(new_store: Callable[..., Any]) -> AsyncIterator[Open]:
    """Makes a store and opens it; it is closed when the test is over."""
    async with AsyncExitStack() as stack:

        async def open_store(**options: Any) -> Store:
            store: Store = new_store(**options)
            await stack.enter_async_context(store.open(NODE, NOW))
            return store

        yield open_store


@pytest.fixture
async def store(open_store: Open) -> Store:
    made: Store = await open_store()
    return made


tags = map("tag{}".format, count())


def described(key: Key = KEY, created_at: float = NOW, **known: Any) -> Info:
    return Info(key, created_at, created_at, **known)


def message(turn_id: str, at: float = NOW, **fields: Any) -> Message:
    return Message(turn_id, f"content of {turn_id}", at, **fields)


def started(turn_id: str, node: str = NODE, at: float = NOW) -> Started:
    return Started(turn_id, node, at)


def answer(turn_id: str, at: float = NOW, status: Any = "completed") -> Response:
    return Response(turn_id, f"answer to {turn_id}", status, at)


def failure(turn_id: str, at: float = NOW) -> Failed:
    return Failed(turn_id, "it broke", "agent_failed", True, "so f", at)


def exchange(turn_id: str, at: float = NOW, **fields: Any) -> list[Record]:
    """A whole turn: three records."""
    return [message(turn_id, at, **fields), started(turn_id, at=at), answer(turn_id, at)]


class Session:
    """One session, written by one who always knows its head."""

    def __init__(self, store: Store, key: Key = KEY) -> None:
        self.store = store
        self.key = key
        self.head = Head("", 0, "")

    async def create(self, *records: Record, **options: Any) -> Session:
        self.head = await self.store.create(described(self.key), next(tags), records, **options)
        return self

    async def append(self, *records: Record, **options: Any) -> Head:
        self.head = await self.store.append(self.key, self.head, next(tags), records, **options)
        return self.head

    async def log(self) -> list[Record]:
        entries = await self.store.read(self.key, 0, MANY, MANY)
        assert entries is not None
        assert [seq for seq, _ in entries] == list(range(1, len(entries) + 1))
        return [record for _, record in entries]

    async def save(self, turn_id: str, offset: int, text: str) -> Saved:
        return (await self.store.save_text([Segment(self.key, turn_id, offset, text)]))[0]

    async def said(self, limit: int = 100, **options: Any) -> list[int]:
        return [one.seq for one in (await self.store.history(self.key, limit, **options)).messages]


@pytest.fixture
async def session(store: Store) -> Session:
    return await Session(store).create()


# ── create ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_new_log_is_empty_and_has_the_tag_of_its_making(store: Store) -> None:
    head = await store.create(described(), "first")
    assert (head.seq, head.tag) == (0, "first")
    assert await store.load(KEY) == (described(), head, [], "")


async def test_a_session_can_be_made_with_its_first_records(store: Store) -> None:
    session = await Session(store).create(*exchange("t1"), message("t2"))
    assert session.head.seq == 4
    assert await session.log() == [*exchange("t1"), message("t2")]
    assert await store.due(NOW, NODE) == [Due(KEY)]


async def test_what_is_known_beside_the_log_comes_back_as_it_was_given(store: Store) -> None:
    info = described(label="läbel", state={"n": [1, 2.5, None, {"ü": "😀"}]}, metadata={"k": "v"})
    await store.create(info, "t")
    info.state["n"].append("changed by the caller")
    (await store.load(KEY)).info.metadata["k"] = "changed by a reader"
    known = (await store.load(KEY)).info
    assert known.state == {"n": [1, 2.5, None, {"ü": "😀"}]}
    assert (known.label, known.metadata) == ("läbel", {"k": "v"})


async def test_a_user_has_no_more_sessions_than_it_may_have(store: Store) -> None:
    first = Session(store, Key("bot", "ann", "s0"))
    await first.create(most=2)
    await Session(store, Key("other", "ann", "s1")).create(most=2)
    for agent in ("bot", "other"):
        with pytest.raises(TooManySessions):
            await Session(store, Key(agent, "ann", "s2")).create(*exchange("t"), most=2)
    with pytest.raises(NoSession):
        await store.load(Key("bot", "ann", "s2"))
    await Session(store, Key("bot", "bob", "s2")).create(most=2)
    assert await store.create(described(first.key), first.head.tag, most=2) == first.head
    await store.delete(first.key, NOW)
    await Session(store, Key("bot", "ann", "s2")).create(most=2)
    with pytest.raises(TooManySessions):
        await Session(store, first.key).create(over_tombstone=True, most=2)


async def test_however_many_are_made_at_the_same_time(store: Store) -> None:
    async def make(number: int) -> bool:
        try:
            await Session(store, Key("bot", "ann", f"s{number}")).create(most=5)
        except TooManySessions:
            return False
        return True

    assert sum(await asyncio.gather(*map(make, range(20)))) == 5
    assert len(await store.sessions(None, "ann", 100)) == 5


async def test_a_session_is_made_once(session: Session) -> None:
    with pytest.raises(SessionExists):
        await session.store.create(described(label="other"), "other", [message("t1")])
    assert (await session.store.load(KEY)).info.label is None
    assert await session.log() == []


async def test_a_create_that_is_repeated_with_its_tag_is_answered_as_the_first_time(store: Store) -> None:
    head = await store.create(described(), "same", [message("t1")])
    assert await store.create(described(), "same", [message("t1")]) == head
    await store.append(KEY, head, "next", [])
    with pytest.raises(SessionExists):
        await store.create(described(), "same", [message("t1")])


async def test_a_create_that_uses_a_turn_id_twice_makes_nothing(store: Store) -> None:
    with pytest.raises(ValueError, match="same turn_id"):
        await store.create(described(), "t", [message("t1"), message("t1")])
    assert await store.find("s1", None) == []


async def test_epochs_can_be_part_of_a_cursor(session: Session) -> None:
    epoch = session.head.epoch
    assert parse_cursor(format_cursor(epoch, 3, 4)) == (epoch, 3, 4)


async def test_sessions_of_one_id_are_apart_by_agent_and_by_user(store: Store) -> None:
    keys = [KEY, KEY._replace(agent="echo"), KEY._replace(user="bob")]
    for key in keys:
        await Session(store, key).create(message(f"of {key}"))
    for key in keys:
        assert await Session(store, key).log() == [message(f"of {key}")]


# ── append ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_records_come_back_in_order_and_as_they_were(session: Session) -> None:
    records = [
        message("t1", metadata={"k": [1]}, parts=[{"text": "hi"}]),
        started("t1"),
        ToolCall("t1", 3, "c1", "search", {"q": "x"}, NOW),
        ToolResult("t1", 3, "c1", ["found", 1], False, NOW),
        CancelRequested("t1", NOW),
        Event("adk", {"delta": {"a": 1}}, NOW),
        answer("t1", status="cancelled"),
        message("t2", replaces="t1"),
        failure("t2"),
    ]
    assert (await session.append(*records[:4])).seq == 4
    assert (await session.append(*records[4:])).seq == 9
    assert await session.log() == records


async def test_an_append_counts_only_directly_after_the_head_it_was_decided_on(session: Session) -> None:
    before = session.head
    await session.append(message("t1"))
    with pytest.raises(Stale):
        await session.store.append(KEY, before, "other", [message("t2")])
    assert await session.log() == [message("t1")]
    assert await session.store.turn(KEY, "t2") is None


@pytest.mark.parametrize("wrong", [{"epoch": "x"}, {"seq": 7}, {"tag": "x"}])
async def test_a_head_that_differs_in_anything_is_stale(session: Session, wrong: dict[str, Any]) -> None:
    with pytest.raises(Stale):
        await session.store.append(KEY, replace(session.head, **wrong), "new", [message("t1")])


async def test_a_repeated_append_is_known_by_its_tag_and_answered_as_the_first_time(session: Session) -> None:
    head = await session.store.append(KEY, session.head, "same", [message("t1"), started("t1")])
    again = await session.store.append(KEY, session.head, "same", [message("t1"), started("t1")])
    assert again == head
    assert await session.log() == [message("t1"), started("t1")]


async def test_a_repeated_append_that_others_have_appended_after_is_a_duplicate(session: Session) -> None:
    head = await session.store.append(KEY, session.head, "same", [message("t1")])
    await session.store.append(KEY, head, "next", [message("t2")])
    with pytest.raises(Duplicate):
        await session.store.append(KEY, session.head, "same", [message("t1")])


async def test_a_repeated_append_without_messages_that_others_have_appended_after_is_stale(
    session: Session,
) -> None:
    head = await session.store.append(KEY, session.head, "same", [Event("k", 1, NOW)])
    await session.store.append(KEY, head, "next", [Event("k", 2, NOW)])
    with pytest.raises(Stale):
        await session.store.append(KEY, session.head, "same", [Event("k", 1, NOW)])


async def test_a_known_turn_is_a_duplicate_with_its_state_even_on_a_wrong_head(session: Session) -> None:
    first = await session.append(message("t1"), started("t1"))
    for head in first, replace(first, tag="wrong"):
        with pytest.raises(Duplicate) as duplicate:
            await session.store.append(KEY, head, "new", [message("t0"), message("t1")])
        assert duplicate.value.turn == KnownTurn("t1", 1, content_hash("content of t1"), "running", "t1")
    assert await session.log() == [message("t1"), started("t1")]


async def test_an_append_that_uses_a_turn_id_twice_is_refused_whole(session: Session) -> None:
    for head, tag in (session.head, "new"), (session.head, session.head.tag), (Head("", 3, "wrong"), "new"):
        with pytest.raises(ValueError, match="same turn_id"):
            await session.store.append(KEY, head, tag, [message("t1"), message("t1")])
    assert (await session.store.load(KEY)).head == session.head


async def test_an_append_never_makes_a_log(store: Store) -> None:
    with pytest.raises(NoSession) as none:
        await store.append(KEY, Head("e", 0, ""), "t", [message("t1")])
    assert none.value.tombstone is None
    assert await store.find("s1", None) == []


async def test_an_append_of_nothing_moves_only_the_tag(session: Session) -> None:
    before = session.head
    after = await session.append()
    assert (after.epoch, after.seq) == (before.epoch, before.seq)
    assert after.tag != before.tag


async def test_an_append_may_replace_the_state_and_the_metadata_and_they_stay(session: Session) -> None:
    state, metadata = {"mood": "good"}, {"m": 1}
    await session.append(message("t1"), info=described(state=state, metadata=metadata))
    await session.append(started("t1"))
    assert (await session.store.load(KEY)).info == described(state=state, metadata=metadata)
    await session.append(info=described())
    assert (await session.store.load(KEY)).info == described()


async def test_an_append_with_what_was_known_before_undoes_no_label(session: Session) -> None:
    known = (await session.store.load(KEY)).info
    await session.store.label(KEY, "trip", NOW + 1)
    await session.append(info=Info(KEY, 0.0, 0.0, known.label, {"n": 1}))
    assert (await session.store.load(KEY)).info == Info(KEY, NOW, NOW + 1, "trip", {"n": 1})
    assert await session.store.by_label("eliza", "ada", "trip") == KEY


async def test_every_append_moves_the_time_of_the_last_change_to_its_last_record(session: Session) -> None:
    async def updated_at() -> float:
        summary = await session.store.summary(KEY)
        assert (await session.store.load(KEY)).info == summary.info
        assert await session.store.sessions(None, None, 10) == [summary]
        assert summary.info.created_at == NOW
        return summary.info.updated_at

    await session.append(message("t1", NOW + 1), started("t1", at=NOW + 2))
    assert await updated_at() == NOW + 2
    await session.save("t1", 0, "text")
    await session.append()
    assert await updated_at() == NOW + 2
    await session.store.label(KEY, "trip", NOW + 3)
    assert await updated_at() == NOW + 3
    await session.append(answer("t1", NOW + 4), info=described(state={"n": 1}))
    assert await updated_at() == NOW + 4
    with pytest.raises(Stale):
        await session.store.append(KEY, Head("", 1, "wrong"), "new", [Event("k", 1, NOW + 5)])
    await session.store.append(KEY, session.head, session.head.tag, [Event("k", 1, NOW + 5)])
    assert await updated_at() == NOW + 4


async def test_a_session_made_with_records_was_changed_when_the_last_of_them_was(store: Store) -> None:
    await store.create(described(), "t", [message("t1", NOW + 1), answer("t1", NOW + 2)])
    assert (await store.load(KEY)).info == Info(KEY, NOW, NOW + 2)


async def test_a_stale_append_leaves_text_and_info_alone(session: Session) -> None:
    await session.append(message("t1"), started("t1"))
    wrong = replace(session.head, seq=1)
    with pytest.raises(Stale):
        await session.store.append(KEY, wrong, "x", [], text=(0, "lost"), info=described(state={"lost": 1}))
    assert await session.store.text(KEY) == ("t1", "")
    assert (await session.store.load(KEY)).info.state == {}


async def test_of_many_appends_on_one_head_exactly_one_wins(session: Session) -> None:
    tries = [
        session.store.append(KEY, session.head, f"try{n}", [message(f"a{n}"), message(f"b{n}")])
        for n in range(20)
    ]
    results = await asyncio.gather(*tries, return_exceptions=True)
    won = [n for n, result in enumerate(results) if isinstance(result, Head)]
    assert len(won) == 1
    assert all(isinstance(result, Stale) for n, result in enumerate(results) if n != won[0])
    assert await session.log() == [message(f"a{won[0]}"), message(f"b{won[0]}")]


async def test_cancelling_never_leaves_half_an_append(session: Session) -> None:
    async def append(n: int, began: asyncio.Event) -> None:
        began.set()
        records = [message(f"{n}.{part}") for part in range(5)]
        await session.store.append(KEY, session.head, f"cancelled{n}", records, text=(0, "x"))

    for n in range(10):
        began = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(append(n, began))
            await began.wait()
            task.cancel()
        session.head = (await session.store.load(KEY)).head
        written = [record.turn_id for record in await session.log() if isinstance(record, Message)]
        whole = [f"{turn}.{part}" for turn in range(n + 1) for part in range(5) if f"{turn}.0" in written]
        assert written == whole


# ── The index of turns ──────────────────────────────────────────────────────────────────────────────────────


async def status(session: Session, turn_id: str) -> str | None:
    known = await session.store.turn(session.key, turn_id)
    return known.status if known else None


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (answer("t1"), "completed"),
        (answer("t1", status="cancelled"), "cancelled"),
        (failure("t1"), "failed"),
    ],
)
async def test_a_turn_waits_then_runs_then_is_over(session: Session, end: Record, expected: str) -> None:
    assert await status(session, "t1") is None
    for record, then in (message("t1"), "waiting"), (started("t1"), "running"), (end, expected):
        await session.append(record)
        assert await status(session, "t1") == then


async def test_a_waiting_turn_can_end_without_having_run(session: Session) -> None:
    await session.append(message("t1"), started("t1"), message("t2"))
    await session.save("t1", 0, "still here")
    await session.append(answer("t2", status="cancelled"))
    assert await status(session, "t2") == "cancelled"
    assert await session.store.text(KEY) == ("t1", "still here")


async def test_a_turn_is_known_by_its_seq_and_the_hash_of_its_content(session: Session) -> None:
    await session.append(*exchange("t1"), message("t2", parts=[{"b": 1, "a": 2}]))
    hashed = content_hash("content of t2", [{"a": 2, "b": 1}])
    assert await session.store.turn(KEY, "t2") == KnownTurn("t2", 4, hashed, "waiting", "t2")


async def test_a_replaced_turn_and_all_after_it_give_way_to_the_first_that_stands(session: Session) -> None:
    for turn_id in "t1", "t2", "t3":
        await session.append(*exchange(turn_id))
    await session.append(*exchange("t4", replaces="t2"))
    stands = {turn_id: await session.store.turn(KEY, turn_id) for turn_id in ("t1", "t2", "t3", "t4")}
    assert {name: turn.stands for name, turn in stands.items() if turn} == {
        "t1": "t1",
        "t2": "t4",
        "t3": "t4",
        "t4": "t4",
    }


async def test_the_first_replacing_of_a_turn_stays(session: Session) -> None:
    await session.append(*exchange("t1"), *exchange("t2"))
    await session.append(*exchange("t3", replaces="t2"))
    await session.append(*exchange("t4", replaces="t1"))
    assert await session.said() == [10, 12]
    assert await session.said(as_of=9) == [1, 3, 7, 9]
    assert await session.said(as_of=6) == [1, 3, 4, 6]


async def test_replacing_a_turn_that_is_not_known_replaces_nothing(session: Session) -> None:
    await session.append(*exchange("t1"), *exchange("t2", replaces="never seen"))
    assert await session.said() == [1, 3, 4, 6]


async def test_a_log_loads_with_the_records_of_turns_that_are_not_over(session: Session) -> None:
    call = ToolCall("t2", 2, "c", "n", None, NOW)
    await session.append(*exchange("t0"), message("t1"), started("t1"), message("t2"), message("t3"))
    await session.append(Event("k", None, NOW), answer("t1"), started("t2"), call)
    await session.append(CancelRequested("t2", NOW), answer("t3", status="cancelled"))
    await session.save("t2", 0, "so far")
    loaded = await session.store.load(KEY)
    assert loaded.head == session.head
    assert loaded.text == "so far"
    assert loaded.entries == [
        (6, message("t2")),
        (10, started("t2")),
        (11, call),
        (12, CancelRequested("t2", NOW)),
    ]


# ── Running text ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def running(session: Session) -> Session:
    await session.append(message("t1"), started("t1"))
    return session


async def test_saved_text_grows_by_segments_and_moves_no_head(running: Session) -> None:
    assert await running.save("t1", 0, "Hello ") == (running.head, True)
    assert await running.save("t1", 6, "wörld 😀") == (running.head, True)
    assert await running.save("t1", 13, "!") == (running.head, True)
    assert await running.store.text(KEY) == ("t1", "Hello wörld 😀!")


async def test_text_that_is_there_already_is_not_written_twice(running: Session) -> None:
    for offset, text in (0, "abc"), (0, "abc"), (1, "b"), (2, "cde"), (0, "abcdefg"):
        await running.save("t1", offset, text)
    assert await running.store.text(KEY) == ("t1", "abcdefg")


async def test_a_segment_that_would_leave_a_gap_is_not_written(running: Session) -> None:
    await running.save("t1", 0, "abc")
    assert await running.save("t1", 4, "e") == (running.head, True)
    assert await running.store.text(KEY) == ("t1", "abc")


async def test_offsets_count_characters_whatever_they_are(running: Session) -> None:
    pieces = ["a\x00b", "\n", "é", "e\u0301", "😀\x00", "z"]
    for offset, piece in zip((0, 3, 4, 5, 7, 9), pieces, strict=True):
        await running.save("t1", offset, piece)
    await running.append(ToolCall("t1", 11, "c", "n", None, NOW), text=(10, "\x00end"))
    assert await running.store.text(KEY) == ("t1", "a\x00b\néé😀\x00z\x00end".replace("éé", "ée\u0301"))


async def test_a_batch_is_answered_segment_by_segment(store: Store) -> None:
    one, two = [await Session(store, KEY._replace(session_id=name)).create() for name in ("one", "two")]
    gone = KEY._replace(session_id="gone")
    await one.append(message("t1"), started("t1"))
    await two.append(message("t1"), started("t1"), answer("t1"))
    batch = [Segment(key, "t1", 0, "text") for key in (one.key, two.key, gone)]
    assert await store.save_text(batch) == [(one.head, True), (two.head, False), (None, False)]
    assert await store.text(one.key) == ("t1", "text")
    assert await store.text(two.key) == (None, "")


async def test_segments_of_one_turn_may_be_in_one_batch(running: Session) -> None:
    await running.store.save_text([Segment(KEY, "t1", 0, "ab"), Segment(KEY, "t1", 2, "cd")])
    assert await running.store.text(KEY) == ("t1", "abcd")


@pytest.mark.parametrize("turn_id", ["t0", "t2", "never"])
async def test_a_segment_of_a_turn_that_does_not_run_is_not_written(session: Session, turn_id: str) -> None:
    await session.append(*exchange("t0"), message("t1"), started("t1"), message("t2"))
    assert await session.save(turn_id, 0, "x") == (session.head, False)
    assert await session.store.text(KEY) == ("t1", "")


async def test_an_append_writes_the_unsaved_text_before_its_records(running: Session) -> None:
    await running.save("t1", 0, "abc")
    await running.append(ToolCall("t1", 6, "c", "n", None, NOW), text=(3, "def"))
    assert await running.store.text(KEY) == ("t1", "abcdef")
    assert (await running.store.load(KEY)).text == "abcdef"


async def test_an_append_writes_nothing_of_its_text_twice_and_leaves_no_gap(running: Session) -> None:
    await running.save("t1", 0, "abcd")
    for offset, text, then in [
        (0, "abcd", "abcd"),
        (2, "c", "abcd"),
        (2, "cdef", "abcdef"),
        (7, "h", "abcdef"),
        (6, "", "abcdef"),
        (0, "abcdefg", "abcdefg"),
    ]:
        await running.append(text=(offset, text))
        assert await running.store.text(KEY) == ("t1", then)
    assert await running.save("t1", 5, "fgh") == (running.head, True)
    assert await running.store.text(KEY) == ("t1", "abcdefgh")


async def test_the_end_of_a_turn_deletes_its_text_and_the_next_begins_with_none(running: Session) -> None:
    await running.save("t1", 0, "of t1")
    await running.append(message("t2"), answer("t1"), started("t2"), text=(5, " more"))
    assert await running.store.text(KEY) == ("t2", "")
    await running.save("t2", 0, "of t2")
    assert (await running.store.load(KEY)).text == "of t2"


async def test_text_given_while_nothing_runs_is_nothing(session: Session) -> None:
    await session.append(message("t1"), text=(0, "nobody's"))
    await session.append(started("t1"))
    assert await session.store.text(KEY) == ("t1", "")


# ── read ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_reading_begins_after_a_seq_and_ends_at_the_limit(session: Session) -> None:
    await session.append(*exchange("t1"), *exchange("t2"))
    assert await session.store.read(KEY, 2, 2, MANY) == [(3, answer("t1")), (4, message("t2"))]
    assert await session.store.read(KEY, 6, 2, MANY) == []
    assert await session.store.read(KEY, 10**12, 2, MANY) == []


async def test_reading_ends_at_so_many_bytes_but_gives_one_record_at_least(session: Session) -> None:
    await session.append(*exchange("t1"))
    size = len(encode_record(message("t1"))) + len(encode_record(started("t1")))
    for max_bytes, expected in (0, 1), (1, 1), (size - 1, 1), (size, 2), (MANY, 3):
        entries = await session.store.read(KEY, 0, MANY, max_bytes)
        assert entries is not None
        assert len(entries) == expected


async def test_reading_stays_within_the_session(store: Store) -> None:
    for name in "one", "two", "three":
        await Session(store, KEY._replace(session_id=name)).create(*exchange(name))
    two = Session(store, KEY._replace(session_id="two"))
    assert await two.log() == exchange("two")
    for beyond in 10**12, -1:
        assert await two.said(position=beyond, direction="after") == ([1, 3] if beyond < 0 else [])
    assert await two.said(position=10**12) == [1, 3]
    assert await two.said(as_of=10**12) == [1, 3]


VERBS: dict[str, Callable[[Store], Any]] = {
    "load": lambda store: store.load(KEY),
    "append": lambda store: store.append(KEY, Head("e", 0, ""), "t", []),
    "read": lambda store: store.read(KEY, 0, 1, 1),
    "text": lambda store: store.text(KEY),
    "history": lambda store: store.history(KEY, 1),
    "turn": lambda store: store.turn(KEY, "t1"),
    "summary": lambda store: store.summary(KEY),
    "activate": lambda store: store.activate(KEY),
    "label": lambda store: store.label(KEY, "name", NOW),
    "delete": lambda store: store.delete(KEY, NOW),
    "move": lambda store: store.move(KEY, Head("e", 0, ""), MOVED, NOW),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_verb_about_no_session_says_so(store: Store, verb: str) -> None:
    with pytest.raises(NoSession) as none:
        await VERBS[verb](store)
    assert (none.value.tombstone, none.value.ended_at) == (None, 0.0)


# ── history ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_history_is_messages_and_ends_of_turns_in_log_order(session: Session) -> None:
    await session.append(message("t1"), started("t1"), message("t2"), Event("k", 1, NOW), answer("t1"))
    await session.append(started("t2"), failure("t2"), message("t3"), answer("t3", status="cancelled"))
    page = await session.store.history(KEY, 100)
    assert not page.has_more
    assert [(one.seq, one.record) for one in page.messages] == [
        (1, message("t1")),
        (3, message("t2")),
        (5, answer("t1")),
        (7, failure("t2")),
        (8, message("t3")),
        (9, answer("t3", status="cancelled")),
    ]


async def test_the_end_of_a_turn_comes_with_the_tools_it_used(session: Session) -> None:
    call, result = ToolCall("t1", 0, "c", "n", {"x": 1}, NOW), ToolResult("t1", 4, "c", "r", True, NOW)
    other = ToolCall("t2", 0, "d", "n", None, NOW)
    await session.append(message("t1"), started("t1"), call, message("t2"), result, answer("t1"))
    await session.append(started("t2"), other, answer("t2"))
    tools = {one.seq: one.tools for one in (await session.store.history(KEY, 100)).messages}
    assert tools == {1: [], 4: [], 6: [call, result], 9: [other]}


async def test_tools_of_an_imported_turn_that_never_started_are_found(store: Store) -> None:
    call = ToolCall("t1", 0, "c", "n", None, NOW)
    await store.create(described(), "t", [message("t1"), call, answer("t1")])
    assert [one.tools for one in (await store.history(KEY, 100)).messages] == [[], [call]]


async def test_each_of_several_turns_that_never_started_has_its_own_tools(store: Store) -> None:
    calls = [ToolCall(turn_id, 0, turn_id, "n", None, NOW) for turn_id in ("t1", "t2")]
    await store.create(described(), "t", [message("t1"), message("t2"), *calls, answer("t1"), answer("t2")])
    assert [one.tools for one in (await store.history(KEY, 100)).messages] == [[], [], calls[:1], calls[1:]]


async def test_history_is_read_in_pages_either_way(session: Session) -> None:
    for turn_id in "t1", "t2", "t3":
        await session.append(*exchange(turn_id))
    for options, seqs, has_more in [
        ({}, [7, 9], True),
        ({"position": 7}, [4, 6], True),
        ({"position": 4}, [1, 3], False),
        ({"position": 1}, [], False),
        ({"direction": "after"}, [1, 3], True),
        ({"direction": "after", "position": 3}, [4, 6], True),
        ({"direction": "after", "position": 6}, [7, 9], False),
        ({"direction": "after", "position": 9}, [], False),
    ]:
        page = await session.store.history(KEY, 2, **options)  # type: ignore[arg-type]
        assert [one.seq for one in page.messages] == seqs, options
        assert page.has_more is has_more, options


async def test_a_page_of_no_messages_still_says_whether_there_are_any(session: Session) -> None:
    assert await session.store.history(KEY, 0) == ([], False)
    await session.append(message("t1"))
    assert await session.store.history(KEY, 0) == ([], True)


async def test_history_can_be_bounded_by_time_either_way(session: Session) -> None:
    for n in range(1, 4):
        await session.append(*exchange(f"t{n}", at=NOW + n))
    assert await session.said(time=NOW + 3) == [1, 3, 4, 6]
    assert await session.said(1, time=NOW + 3) == [6]
    assert await session.said(time=NOW + 1, direction="after") == [4, 6, 7, 9]
    assert await session.said(1, time=NOW + 1, direction="after") == [4]
    assert await session.said(time=NOW) == []


async def test_replaced_turns_are_left_out_whenever_they_end(session: Session) -> None:
    await session.append(*exchange("t1"), message("t2"), started("t2"))
    await session.append(message("t3", replaces="t1"), answer("t2"), started("t3"), answer("t3"))
    assert await session.said() == [6, 9]


async def test_the_history_as_of_a_seq_leaves_later_records_and_later_replacing_out(
    session: Session,
) -> None:
    await session.append(*exchange("t1"), *exchange("t2"), *exchange("t3", replaces="t2"))
    assert await session.said(as_of=5) == [1, 3, 4]
    assert await session.said(as_of=6) == [1, 3, 4, 6]
    assert await session.said(as_of=7) == [1, 3, 7]
    assert await session.said(as_of=7, direction="after", position=1) == [3, 7]
    assert await session.said(as_of=4, position=9) == [1, 3, 4]
    assert await session.said() == [1, 3, 7, 9]


async def test_a_page_ends_at_so_many_bytes_with_tools_counted_but_gives_one_message_at_least(
    session: Session,
) -> None:
    call = ToolCall("t1", 0, "c", "n", "x" * 1000, NOW)
    await session.append(message("t1"), started("t1"), call, answer("t1"), message("t2"))
    last = len(encode_record(message("t2")))
    before = len(encode_record(answer("t1"))) + len(encode_record(call))
    for max_bytes, expected in [(1, [5]), (last + before - 1, [5]), (last + before, [4, 5])]:
        page = await session.store.history(KEY, 100, max_bytes=max_bytes)
        assert [one.seq for one in page.messages] == expected
        assert page.has_more


# ── Finding sessions ────────────────────────────────────────────────────────────────────────────────────────


async def make(store: Store, *keys: Sequence[str]) -> list[Key]:
    """Sessions, each a second younger than the one before."""
    made = [Key(*key) for key in keys]
    for age, key in enumerate(made):
        await store.create(described(key, NOW + age), next(tags))
    return made


async def test_sessions_are_found_by_their_id_and_user(store: Store) -> None:
    ada, echo, bob, _ = await make(
        store, ("eliza", "ada", "s"), ("echo", "ada", "s"), ("eliza", "bob", "s"), ("eliza", "bob", "other")
    )
    assert await store.find("s", "bob") == [bob]
    assert set(await store.find("s", "ada")) == {ada, echo}
    assert len(await store.find("s", None)) == 2
    assert await store.find("none", None) == await store.find("s", "carol") == []


async def test_sessions_are_found_by_their_id_and_agents(store: Store) -> None:
    ada, _, _, last = await make(
        store, ("a", "ada", "s"), ("a", "bob", "s"), ("b", "ada", "s"), ("c", "ada", "s")
    )
    assert await store.find("s", None, {"c"}) == [last]
    assert set(await store.find("s", "ada", ["a", "c", "none"])) == {ada, last}
    assert await store.find("s", None, frozenset()) == []
    await store.delete(last, NOW)
    assert await store.find("s", "ada", {"c"}) == [last]
    assert await store.find("s", "ada", {"a", "c"}) == [ada]


async def test_only_where_no_session_has_an_id_its_tombstones_are_found(store: Store) -> None:
    ada, echo, bob = await make(store, ("eliza", "ada", "s"), ("echo", "ada", "s"), ("eliza", "bob", "s"))
    await store.delete(ada, NOW)
    assert await store.find("s", "ada") == [echo]
    await store.delete(echo, NOW)
    assert set(await store.find("s", "ada")) == {ada, echo}
    assert await store.find("s", None) == [bob]
    await store.create(described(ada), next(tags), over_tombstone=True)
    assert await store.find("s", "ada") == [ada]
    await store.trim(NOW + DAY)
    await store.delete(ada, NOW + DAY)
    assert await store.find("s", "ada") == [ada]


async def test_sessions_are_listed_newest_first_in_pages(store: Store) -> None:
    a1, b1, a2, c1 = await make(
        store, ("eliza", "ada", "a1"), ("eliza", "bob", "b1"), ("eliza", "ada", "a2"), ("echo", "ada", "c1")
    )

    async def listed(agent: str | None, user: str | None, limit: int = 10, **options: Any) -> list[Key]:
        return [one.info.key for one in await store.sessions(agent, user, limit, **options)]

    assert await listed(None, None) == [c1, a2, b1, a1]
    assert await listed("eliza", None) == [a2, b1, a1]
    assert await listed(None, "ada") == [c1, a2, a1]
    assert await listed("eliza", "ada") == [a2, a1]
    assert await listed("eliza", "ada", 1) == [a2]
    assert await listed("eliza", "ada", before=Place(NOW + 2, *a2)) == [a1]
    assert await listed(None, None, 2, before=Place(NOW + 3, *c1)) == [a2, b1]
    assert await listed("eliza", None, before=Place(NOW + 2.5, *KEY)) == [a2, b1, a1]
    assert await listed("nobody", "ada") == []


@pytest.mark.parametrize("agent", [None, "a", "b"])
@pytest.mark.parametrize("user", [None, "a", "b"])
@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_pages_of_sessions_of_one_age_repeat_none_and_leave_none_out(
    store: Store, agent: str | None, user: str | None, limit: int
) -> None:
    keys = [Key(*names) for names in product("ba", "ab", "bca")]
    for key in keys:
        await store.create(described(key), next(tags))
    await store.create(described(Key("z", "z", "older"), NOW - 1), next(tags))
    of_these = [key for key in keys if agent in (None, key.agent) and user in (None, key.user)]
    expected = sorted(of_these, reverse=True)
    if agent is user is None:
        expected.append(Key("z", "z", "older"))

    listed: list[Key] = []
    before = None
    while page := await store.sessions(agent, user, limit, before):
        listed += [one.info.key for one in page]
        before = Place(page[-1].info.created_at, *page[-1].info.key)
    assert listed == expected


async def test_a_list_goes_on_from_any_place_whether_a_session_stands_there_or_not(store: Store) -> None:
    keys = [Key(agent, user, "s") for agent in "bd" for user in "bd"]
    for key in keys:
        await store.create(described(key), next(tags))
    for agent, user in product((None, "b", "d"), (None, "b", "d")):
        for place in product((NOW - 1, NOW, NOW + 1), "abcde", "abcde", ("r", "s", "t")):
            listed = [one.info.key for one in await store.sessions(agent, user, 9, Place(*place))]
            assert listed == [
                key
                for key in reversed(keys)
                if agent in (None, key.agent) and user in (None, key.user) and (NOW, *key) < place
            ]


async def test_a_summary_counts_the_messages_that_the_history_shows(session: Session) -> None:
    async def counted() -> int:
        assert [await session.store.summary(KEY)] == await session.store.sessions(None, None, 10)
        return (await session.store.summary(KEY)).messages

    assert await counted() == 0
    await session.append(*exchange("t1"), *exchange("t2"), message("t3"), Event("k", 1, NOW))
    assert await counted() == 5
    await session.append(message("t4", replaces="t2"))
    assert await counted() == 3
    await session.append(answer("t3", status="cancelled"), started("t4"), failure("t4"))
    assert await counted() == 4
    assert await session.said() == [1, 3, 9, 12]


async def test_one_session_of_a_user_with_an_agent_is_the_active_one(store: Store) -> None:
    one = await Session(store, KEY).create(activate=True)
    two = await Session(store, KEY._replace(session_id="s2")).create()
    await Session(store, KEY._replace(agent="echo")).create(activate=True)
    assert await store.active("eliza", "ada") == one.key
    await store.activate(two.key)
    assert await store.active("eliza", "ada") == two.key
    assert await store.active("echo", "ada") == KEY._replace(agent="echo")
    assert await store.active("eliza", "bob") is None
    await store.delete(two.key, NOW)
    assert await store.active("eliza", "ada") is None


async def test_of_many_that_are_made_at_once_unless_one_is_active_one_is_made(store: Store) -> None:
    async def make(number: int, user: str) -> bool:
        key = Key("eliza", user, f"s{number}")
        try:
            await Session(store, key).create(activate=True, unless_active=True)
        except SessionExists:
            return False
        return True

    users = ["ada", "bob"] * 10
    assert sum(await asyncio.gather(*map(make, range(20), users))) == 2
    [one] = await store.sessions("eliza", "ada", 100)
    assert await store.active("eliza", "ada") == one.info.key
    await store.delete(one.info.key, NOW)
    assert await make(21, "ada")


async def test_a_deleted_session_that_is_made_again_is_not_active_by_itself(store: Store) -> None:
    session = await Session(store).create(activate=True)
    await store.delete(KEY, NOW)
    await session.create(over_tombstone=True)
    assert await store.active("eliza", "ada") is None


async def test_a_label_finds_the_newest_session_of_that_name(store: Store) -> None:
    old, new, other = await make(store, ("eliza", "ada", "z"), ("eliza", "ada", "a"), ("eliza", "bob", "b"))
    for key in new, old, other:
        await store.label(key, "trip", NOW + 9)
    assert await store.by_label("eliza", "ada", "trip") == new
    assert (await store.load(new)).info == Info(new, NOW + 1, NOW + 9, "trip")
    await store.label(new, None, NOW + 10)
    assert await store.by_label("eliza", "ada", "trip") == old
    assert await store.by_label("echo", "ada", "trip") is None
    assert await store.by_label("eliza", "ada", "none") is None


# ── delete ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_deleted_session_leaves_nothing_but_a_tombstone(running: Session) -> None:
    store = running.store
    await running.save("t1", 0, "text")
    await store.label(KEY, "name", NOW)
    await store.delete(KEY, NOW, "expired")
    for verb in VERBS.values():
        with pytest.raises(NoSession) as none:
            await verb(store)
        assert (none.value.tombstone, none.value.ended_at) == ("expired", NOW)
    assert await store.save_text([Segment(KEY, "t1", 4, "x")]) == [(None, False)]
    assert await store.find("s1", None) == [KEY]
    assert await store.sessions(None, None, 10) == []
    assert await store.by_label("eliza", "ada", "name") is None
    assert await store.due(NOW, "another node") == []


async def test_nothing_is_deleted_that_was_decided_on_another_head(running: Session) -> None:
    old = running.head
    await running.append(last := Event("k", 1, NOW))
    renewed = await running.append()
    assert renewed.seq == old.seq + 1
    for head in old, replace(renewed, tag="x"), replace(renewed, epoch="x"):
        with pytest.raises(Stale):
            await running.store.delete(KEY, NOW, "expired", head)
    assert (await running.log())[-1] == last
    await running.store.delete(KEY, NOW, "expired", renewed)
    with pytest.raises(NoSession):
        await running.store.delete(KEY, NOW, "expired", renewed)


async def test_over_a_tombstone_a_session_is_made_only_on_purpose_and_with_a_new_epoch(
    running: Session,
) -> None:
    old = running.head
    await running.save("t1", 0, "old text")
    await running.store.delete(KEY, NOW)
    with pytest.raises(NoSession) as none:
        await running.create()
    assert none.value.tombstone == "closed"
    await running.create(message("t1"), started("t1"), over_tombstone=True)
    assert running.head.epoch != old.epoch
    assert await running.store.text(KEY) == ("t1", "")
    with pytest.raises(Stale):
        await running.store.append(KEY, replace(old, tag=running.head.tag), "x", [message("t2")])
    await running.store.delete(KEY, NOW + 1)


async def test_a_tombstone_stays_for_a_day_however_long_ago_the_session_had_ended(session: Session) -> None:
    store = session.store
    await store.delete(KEY, NOW + 9 * DAY, "expired", ended_at=NOW)
    await store.trim(NOW + 10 * DAY - 1)
    with pytest.raises(NoSession) as none:
        await store.load(KEY)
    assert (none.value.tombstone, none.value.ended_at) == ("expired", NOW)
    await store.trim(NOW + 10 * DAY)
    with pytest.raises(NoSession) as none:
        await store.load(KEY)
    assert none.value.tombstone is None


async def test_what_a_users_sessions_share_is_kept_for_a_while_after_the_last_of_them(
    open_store: Open,
) -> None:
    store = await open_store(keep_shared_days=2)
    of_ada, of_all = "eliza/ada", "eliza"
    one = await Session(store, KEY).create(scopes={of_ada: {"n": 1}, of_all: {"n": 2}})
    two = await Session(store, KEY._replace(session_id="s2")).create()
    await Session(store, KEY._replace(agent="echo")).create()

    async def kept(at: float) -> tuple[dict[str, Any], dict[str, Any]]:
        await store.trim(at)
        return await store.scope(of_ada), await store.scope(of_all)

    both: tuple[dict[str, Any], dict[str, Any]] = {"n": 1}, {"n": 2}
    await store.delete(one.key, NOW)
    assert await kept(NOW + 99 * DAY) == both, "the other one shares it"
    await store.delete(two.key, NOW + 99 * DAY)
    assert await kept(NOW + 101 * DAY - 1) == both
    await one.create(over_tombstone=True)
    assert await kept(NOW + 999 * DAY) == both, "it is wanted again"
    moved = await store.move(KEY, one.head, MOVED, NOW + 999 * DAY)
    assert await kept(NOW + 1001 * DAY - 1) == both
    assert await kept(NOW + 1001 * DAY) == ({}, {"n": 2})
    assert moved.seq == 0


async def test_without_a_limit_what_sessions_shared_is_kept(store: Store) -> None:
    await Session(store, KEY).create(scopes={"eliza/ada": {"n": 1}})
    await store.delete(KEY, NOW)
    await store.trim(NOW + 9_999 * DAY)
    assert await store.scope("eliza/ada") == {"n": 1}


async def test_a_tombstone_goes_after_a_day(session: Session) -> None:
    await session.store.delete(KEY, NOW)
    await session.store.trim(NOW + DAY - 1)
    with pytest.raises(NoSession) as none:
        await session.store.load(KEY)
    assert none.value.tombstone == "closed"
    await session.store.trim(NOW + DAY)
    with pytest.raises(NoSession) as none:
        await session.store.load(KEY)
    assert none.value.tombstone is None
    await session.create()


# ── move ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_moved_session_is_another_users_with_all_that_it_was(store: Store) -> None:
    life = begin(Terms(30.0, True, 720.0, 5.0), NOW, NOW)
    info = described(label="trip", state={"n": 1}, metadata={"m": 2}, life=life)
    head = await store.create(info, "t", [*exchange("t1"), message("t2"), started("t2")])
    await store.save_text([Segment(KEY, "t2", 0, "half of it")])
    moved = await store.move(KEY, head, MOVED, NOW + 1)
    assert (moved.seq, moved.epoch == head.epoch) == (head.seq, False)

    loaded = await store.load(MOVED)
    assert (loaded.head, loaded.text) == (moved, "half of it")
    assert loaded.info == replace(info, key=MOVED, updated_at=NOW)
    assert await Session(store, MOVED).log() == [*exchange("t1"), message("t2"), started("t2")]
    assert await Session(store, MOVED).said() == [1, 3, 4]
    assert (await store.turn(MOVED, "t1")) == KnownTurn(
        "t1", 1, content_hash("content of t1"), "completed", "t1"
    )
    assert (await store.summary(MOVED)).messages == 3
    assert await store.find("s1", "bob") == await store.find("s1", None) == [MOVED]
    assert [one.info.key for one in await store.sessions(None, None, 10)] == [MOVED]
    assert [one.info.key for one in await store.by_update("eliza", "bob", 10)] == [MOVED]
    assert await store.by_label("eliza", "bob", "trip") == MOVED
    assert await store.due(due_at(life), NODE) == [Due(MOVED, life=True)]
    with pytest.raises(Duplicate):
        await store.append(MOVED, moved, "again", [message("t1")])
    assert await store.append(MOVED, moved, "end", [answer("t2")])
    assert await store.text(MOVED) == (None, "")


async def test_where_a_moved_session_was_there_is_what_a_deleted_one_leaves(running: Session) -> None:
    store = running.store
    await store.label(KEY, "name", NOW)
    await store.move(KEY, running.head, MOVED, NOW + 1)
    for name, verb in VERBS.items():
        with pytest.raises(NoSession) as none:
            await verb(store)
        assert (none.value.tombstone, none.value.ended_at) == ("closed", NOW + 1), name
    assert await store.save_text([Segment(KEY, "t1", 0, "x")]) == [(None, False)]
    assert await store.sessions(None, "ada", 10) == await store.by_update("eliza", "ada", 10) == []
    assert await store.find("s1", "ada") == [KEY]
    assert await store.by_label("eliza", "ada", "name") is None
    again = await running.create(over_tombstone=True)
    assert await again.log() == []
    assert (await store.load(MOVED)).head.seq == 2


async def test_nothing_is_moved_that_was_decided_on_another_head_or_to_where_a_session_is(
    running: Session,
) -> None:
    store, old = running.store, running.head
    renewed = await running.append()
    for head in old, replace(renewed, tag="x"), replace(renewed, epoch="x"):
        with pytest.raises(Stale):
            await store.move(KEY, head, MOVED, NOW)
    there = await Session(store, MOVED).create(message("t9"))
    with pytest.raises(SessionExists):
        await store.move(KEY, renewed, MOVED, NOW)
    assert await there.log() == [message("t9")]
    assert await running.log() == [message("t1"), started("t1")]
    await store.delete(MOVED, NOW)
    moved = await store.move(KEY, renewed, MOVED, NOW)  # over the tombstone
    assert (await store.load(MOVED)).head == moved
    with pytest.raises(Stale):
        await store.append(MOVED, replace(renewed, tag=moved.tag), "x", [])


async def test_of_appends_and_a_move_at_the_same_time_whatever_was_acknowledged_is_there(
    store: Store,
) -> None:
    for number in range(20):
        key, to = (one._replace(session_id=f"s{number}") for one in (KEY, MOVED))
        session = await Session(store, key).create()
        appends = [session.store.append(key, session.head, f"a{n}", [Event("k", n, NOW)]) for n in range(3)]
        moves = [store.move(key, session.head, to, NOW) for _ in range(2)]
        verbs = [*appends[:2], *moves, *appends[2:]] if number % 2 else [*moves, *appends]
        done = await asyncio.gather(*verbs, return_exceptions=True)
        assert sum(isinstance(one, Head) for one in done) == 1
        assert all(isinstance(one, Head | Stale | NoSession) for one in done)
        [summary] = [one for one in await store.sessions(None, None, 100) if one.info.key in (key, to)]
        last = next(one for one in done if isinstance(one, Head))
        assert (await store.load(summary.info.key)).head == last


async def test_an_active_session_is_its_new_users_active_one_unless_that_has_one(store: Store) -> None:
    one = await Session(store, KEY).create(activate=True)
    await store.move(KEY, one.head, MOVED, NOW)
    assert await store.active("eliza", "ada") is None
    assert await store.active("eliza", "bob") == MOVED
    two = await Session(store, KEY._replace(session_id="s2")).create(activate=True)
    three = await Session(store, KEY._replace(session_id="s3")).create()
    for session in (two, three):
        await store.move(session.key, session.head, session.key._replace(user="bob"), NOW)
    assert await store.active("eliza", "bob") == MOVED
    four = await Session(store, KEY._replace(session_id="s4")).create()
    await store.move(four.key, four.head, four.key._replace(user="cleo"), NOW)
    assert await store.active("eliza", "cleo") is None


async def test_shared_state_is_taken_over_where_there_is_none(store: Store) -> None:
    await Session(store, MOVED).create(scopes={"eliza/bob": {"a": 1, "n": None}})
    session = await Session(store).create(scopes={"eliza/ada": {"a": 2, "n": 3, "b": 4}, "eliza": {"x": 5}})
    to = KEY._replace(user="bob", session_id="s2")
    await store.move(KEY, session.head, to, NOW, {"eliza/ada": "eliza/bob", "none": "eliza/bob"})
    assert await store.scope("eliza/bob") == {"a": 1, "n": None, "b": 4}
    assert await store.scope("eliza/ada") == {}
    assert await store.scope("eliza") == {"x": 5}
    head = (await store.load(to)).head
    await store.move(to, head, KEY._replace(user="cleo"), NOW, {"eliza/bob": "eliza/cleo"})
    assert await store.scope("eliza/cleo") == {"a": 1, "n": None, "b": 4}


# ── guests ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_guest_becomes_one_user_whoever_asks_first(store: Store) -> None:
    assert await store.adopter("guest-1") is None
    users = [f"user{n}" for n in range(20)]
    adopters = await asyncio.gather(*(store.adopt("guest-1", user, NOW + n) for n, user in enumerate(users)))
    assert {*adopters} == {adopters[0]}
    assert adopters[0] in users
    assert await store.adopter("guest-1") == adopters[0]
    assert await store.adopter("guest-2") is None


async def test_that_is_forgotten_when_its_token_would_be_over(store: Store) -> None:
    await store.adopt("guest-1", "ann", NOW + 60)
    await store.trim(NOW + 59)
    assert await store.adopter("guest-1") == "ann"
    await store.trim(NOW + 60)
    assert await store.adopter("guest-1") is None


# ── due ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_session_with_a_waiting_turn_and_none_running_is_due(session: Session) -> None:
    await session.append(message("t1"), message("t2"))
    assert await session.store.due(NOW, NODE) == [Due(KEY)]
    await session.append(started("t1"))
    assert await session.store.due(NOW, NODE) == []
    await session.append(answer("t1"))
    assert await session.store.due(NOW, NODE) == [Due(KEY)]
    await session.append(answer("t2", status="cancelled"))
    assert await session.store.due(NOW, NODE) == []


async def test_a_turn_whose_node_is_not_open_is_orphaned(session: Session) -> None:
    await session.append(message("t1"), message("t2"), started("t1", node="long gone"))
    assert await session.store.due(NOW, NODE) == [Due(KEY, "t1")]
    await session.append(failure("t1"))
    assert await session.store.due(NOW, NODE) == [Due(KEY)]


async def test_when_a_node_is_closed_its_turns_are_orphaned_even_if_one_of_its_name_opens(
    new_store: Callable[..., Any],
) -> None:
    store: Store = new_store()
    async with store.open("same", NOW):
        again = await Session(store).create(message("t1"), started("t1", node="same"))
        assert await store.due(NOW, "same") == []
    async with store.open("same", NOW):
        assert await store.due(NOW, "same") == [Due(KEY, "t1")]
        await again.append(failure("t1"))
        assert await store.due(NOW, "same") == []


# ── Lives ───────────────────────────────────────────────────────────────────────────────────────────────────


def lasting(minutes: float = 30.0, began: float = NOW) -> Life:
    """A life that begins now, and is warned of its end five minutes before."""
    return begin(Terms(minutes, True, 720.0, 5.0), began, began)


async def due_lives(store: Store, now: float) -> list[Key]:
    dues = await store.due(now, NODE)
    assert all(due.orphan is None for due in dues)
    return [due.key for due in dues if due.life]


async def test_a_life_comes_back_as_it_was_given_and_is_there_wherever_a_session_is_shown(
    store: Store,
) -> None:
    life = replace(renewed(lasting(7.5), NOW + 0.123), warned=True, base=NOW - 1 / 3)
    await store.create(described(life=life), next(tags))
    assert (await store.load(KEY)).info.life == life
    assert (await store.summary(KEY)).info.life == life
    for listed in await store.sessions(None, None, 9), await store.by_update("eliza", "ada", 9):
        assert [one.info.life for one in listed] == [life]


async def test_an_append_may_change_the_life_begin_one_and_take_it_away(session: Session) -> None:
    async def known() -> Life | None:
        assert (await session.store.summary(KEY)).info.life == (await session.store.load(KEY)).info.life
        return (await session.store.load(KEY)).info.life

    assert await known() is None
    for life in lasting(), renewed(lasting(), NOW + 60), None, lasting(99):
        await session.append(info=described(life=life))
        assert await known() == life
        await session.append(Event("k", 1, NOW))
        assert await known() == life, "an append without info leaves it alone"
    await session.store.label(KEY, "name", NOW)
    assert await known() == lasting(99)


async def test_an_append_that_is_refused_or_repeated_leaves_the_life_alone(session: Session) -> None:
    await session.append(message("t1"), info=described(life=lasting()))
    other = described(life=lasting(60))
    with pytest.raises(Stale):
        await session.store.append(KEY, replace(session.head, tag="x"), "new", [], info=other)
    with pytest.raises(Duplicate):
        await session.store.append(KEY, session.head, "new", [message("t1")], info=other)
    await session.store.append(KEY, session.head, session.head.tag, [], info=other)
    assert (await session.store.load(KEY)).info.life == lasting()
    assert await due_lives(session.store, due_at(lasting())) == [KEY]


async def test_a_session_is_due_from_its_warning_on_and_once_warned_from_its_end_on(
    session: Session,
) -> None:
    store, life = session.store, lasting()
    await session.append(info=described(life=life))
    assert await due_lives(store, warn_at(life) - 0.001) == []
    assert await due_lives(store, warn_at(life)) == [KEY]
    assert await store.census(warn_at(life)) == Census(1, 0, 1), "and so it counts as expiring"
    await session.append(info=described(life=replace(life, warned=True)))
    assert await due_lives(store, life.expires_at - 0.001) == []
    assert await due_lives(store, life.expires_at) == [KEY]
    await session.append(info=described(life=renewed(life, NOW + 60)))
    assert await due_lives(store, warn_at(life)) == []
    assert await due_lives(store, warn_at(life) + 60) == [KEY]
    await session.append(info=described())
    assert await due_lives(store, NOW + 1e9) == []


async def test_a_session_made_with_a_life_is_due_and_its_end_may_have_been(store: Store) -> None:
    lives = {"long": lasting(60), "over": lasting(30, NOW - 7200), "short": lasting(6), "eternal": None}
    for name, life in lives.items():
        await store.create(described(KEY._replace(session_id=name), life=life), next(tags))

    async def due(now: float) -> list[str]:
        return [key.session_id for key in await due_lives(store, now)]

    assert await due(NOW) == ["over"]
    assert await due(NOW + 60) == ["over", "short"], "what is due longest comes first"
    assert await due(NOW + 1e9) == ["over", "short", "long"]


async def test_a_life_and_turns_that_nobody_runs_are_due_each_for_itself(session: Session) -> None:
    await session.append(message("t1"), info=described(life=lasting()))
    assert await session.store.due(NOW, NODE) == [Due(KEY)]
    assert await session.store.due(NOW + 1800, NODE) == [Due(KEY), Due(KEY, life=True)]
    await session.append(started("t1", node="long gone"))
    assert await session.store.due(NOW + 1800, NODE) == [Due(KEY, "t1"), Due(KEY, life=True)]


async def test_a_deleted_session_is_due_no_more_and_one_made_again_as_it_is_made(session: Session) -> None:
    await session.append(info=described(life=lasting()))
    await session.store.delete(KEY, NOW, "expired")
    assert await due_lives(session.store, NOW + 1e9) == []
    assert await session.store.census(NOW + 1e9) == Census(0, 0, 0)
    await session.create(over_tombstone=True)
    assert (await session.store.load(KEY)).info.life is None
    assert await due_lives(session.store, NOW + 1e9) == []


async def test_the_census_counts_all_those_past_their_end_and_those_near_it(store: Store) -> None:
    assert await store.census(NOW) == Census(0, 0, 0)
    lives = [None, None, lasting(30), lasting(30), lasting(60), replace(lasting(30), warned=True)]
    for n, life in enumerate(lives):
        await store.create(described(KEY._replace(session_id=f"s{n}"), life=life), next(tags))
    for minutes, expired, expiring in (
        (0, 0, 0),
        (24.99, 0, 0),
        (25, 0, 3),
        (30, 3, 0),
        (56, 3, 1),
        (99, 4, 0),
    ):
        assert await store.census(NOW + 60 * minutes) == Census(6, expired, expiring)


# ── by_update ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_sessions_of_a_user_with_an_agent_are_listed_longest_unchanged_first(store: Store) -> None:
    a, b, c = [Session(store, KEY._replace(session_id=name)) for name in "abc"]
    for session in a, b, c:
        await session.create()
    await make(store, ("echo", "ada", "other"), ("eliza", "bob", "other"))

    async def listed(limit: int = 9, after: Place | None = None) -> list[str]:
        page = await store.by_update("eliza", "ada", limit, after)
        assert page == [await store.summary(one.info.key) for one in page]
        return [one.info.key.session_id for one in page]

    assert await listed() == ["a", "b", "c"]
    await a.append(message("t1", NOW + 1))
    assert await listed() == ["b", "c", "a"]
    await store.label(b.key, "name", NOW + 2)
    assert await listed() == ["c", "a", "b"]
    await c.append(info=described(c.key, life=lasting()))
    assert await listed(2) == ["c", "a"], "what is only kept beside changes no order"
    assert await listed(9, Place(NOW, *c.key)) == ["a", "b"]
    assert await listed(1, Place(NOW, "eliza", "ada", "a")) == ["c"]
    await store.delete(a.key, NOW + 3)
    assert await listed() == ["c", "b"]
    assert await store.by_update("eliza", "nobody", 9) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_of_sessions_changed_at_one_moment_repeat_none_and_leave_none_out(
    store: Store, limit: int
) -> None:
    names = ["b", "a", "d", "c", "B", "é", "a.b", "-"]
    for name in names:
        await store.create(described(KEY._replace(session_id=name)), next(tags))
    await store.create(described(KEY._replace(session_id="z"), NOW - 1), next(tags))
    listed: list[str] = []
    after = None
    while page := await store.by_update("eliza", "ada", limit, after):
        listed += [one.info.key.session_id for one in page]
        after = Place(page[-1].info.updated_at, *page[-1].info.key)
    assert listed == ["z", *sorted(names)]


# ── scopes ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_shared_is_merged_key_by_key_by_create_and_append(store: Store) -> None:
    assert await store.scope("bot") == {}
    session = await Session(store).create(scopes={"bot": {"a": 1, "b": {"deep": [1]}}, "bot/ada": {"a": 2}})
    assert await store.scope("bot") == {"a": 1, "b": {"deep": [1]}}
    await session.append(scopes={"bot": {"b": {"other": "ü😀"}, "c": None}})
    await session.append(message("t1"), scopes={"bot/bob": {"a": 3}})
    assert await store.scope("bot") == {"a": 1, "b": {"other": "ü😀"}, "c": None}
    assert await store.scope("bot/ada") == {"a": 2}
    assert await store.scope("bot/bob") == {"a": 3}
    assert await store.scope("bo") == await store.scope("bot/") == await store.scope("") == {}


async def test_nobody_can_change_what_is_shared_but_by_an_append(session: Session) -> None:
    shared: dict[str, Any] = {"a": [1]}
    await session.append(scopes={"bot": shared})
    shared["a"].append(2)
    (await session.store.scope("bot"))["a"].append(3)
    assert await session.store.scope("bot") == {"a": [1]}


async def test_what_does_not_happen_leaves_what_is_shared_alone(session: Session) -> None:
    await session.append(message("t1"), scopes={"bot": {"n": 1}})
    store, head, other = session.store, session.head, {"bot": {"n": 2, "m": 2}}
    with pytest.raises(Stale):
        await store.append(KEY, replace(head, tag="x"), "new", [], scopes=other)
    with pytest.raises(Duplicate):
        await store.append(KEY, head, "new", [message("t1")], scopes=other)
    with pytest.raises(ValueError, match="same turn_id"):
        await store.append(KEY, head, "new", [message("t2"), message("t2")], scopes=other)
    with pytest.raises(NoSession):
        await store.append(KEY._replace(user="bob"), head, "new", [], scopes=other)
    with pytest.raises(SessionExists):
        await store.create(described(), "new", scopes=other)
    bob = described(KEY._replace(user="bob"))
    with pytest.raises(ValueError, match="same turn_id"):
        await store.create(bob, "new", [message("t2"), message("t2")], scopes=other)
    await store.delete(KEY, NOW)
    with pytest.raises(NoSession):
        await store.create(described(), "new", scopes=other)
    assert await store.scope("bot") == {"n": 1}, "what was deleted had its say, too"


async def test_an_append_that_is_repeated_sets_nothing_again(session: Session) -> None:
    first = session.head
    await session.append(scopes={"bot": {"n": 1}})
    other = await Session(session.store, KEY._replace(user="bob")).create(scopes={"bot": {"n": 2}})
    again = await session.store.append(KEY, first, session.head.tag, [], scopes={"bot": {"n": 1}})
    assert again == session.head
    assert await session.store.create(described(other.key), other.head.tag, scopes={"bot": {"n": 9}})
    assert await session.store.scope("bot") == {"n": 2}


async def test_of_what_two_sessions_set_at_once_nothing_is_lost(store: Store) -> None:
    many = [await Session(store, KEY._replace(session_id=f"s{n}")).create() for n in range(20)]
    await asyncio.gather(*(one.append(scopes={"bot": {one.key.session_id: 1}}) for one in many))
    assert await store.scope("bot") == {f"s{n}": 1 for n in range(20)}


# ── trim ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_without_a_bound_everything_is_kept(session: Session) -> None:
    await session.append(*exchange("t1"))
    assert await session.store.trim(NOW + 1000 * DAY) == 0
    assert await session.log() == exchange("t1")


async def test_records_beyond_the_newest_ones_kept_go_in_whole_turns(open_store: Open) -> None:
    store = await open_store(keep_records=4)
    session = await Session(store).create(*exchange("t1"), *exchange("t2"), *exchange("t3"))
    assert await store.trim(NOW) == 3
    assert await store.read(KEY, 2, MANY, MANY) is None
    entries = await store.read(KEY, 3, MANY, MANY)
    assert [seq for seq, _ in entries] == [4, 5, 6, 7, 8, 9]
    assert await session.said() == [4, 6, 7, 9]
    assert await session.said(direction="after") == [4, 6, 7, 9]
    assert not (await store.history(KEY, 4)).has_more
    assert (await store.summary(KEY)).messages == 4
    assert (await store.load(KEY)).head == session.head
    await session.append(message("t4"))
    assert await store.trim(NOW) == 3
    assert await session.said() == [7, 9, 10]


async def test_records_older_than_kept_go_and_the_first_young_one_protects_all_after_it(
    open_store: Open,
) -> None:
    store = await open_store(keep_days=10)
    records = [
        *exchange("t1"),
        *exchange("t2", NOW + 5 * DAY),
        *exchange("t3"),
        *exchange("t4", NOW + 9 * DAY),
    ]
    session = await Session(store).create(*records)
    assert await store.trim(NOW + 10 * DAY) == 0
    assert await store.trim(NOW + 11 * DAY) == 3
    assert await session.said() == [4, 6, 7, 9, 10, 12]
    assert await store.trim(NOW + 100 * DAY) == 9
    assert await session.said() == []
    assert await store.read(KEY, 12, MANY, MANY) == []
    assert (await session.append(message("t5"))).seq == 13


async def test_a_turn_that_is_not_over_keeps_itself_and_all_after_it(open_store: Open) -> None:
    store = await open_store(keep_records=0)
    session = await Session(store).create(*exchange("t1"), message("t2"), *exchange("t3"), message("t4"))
    assert await store.trim(NOW) == 3
    assert await session.said() == [4, 5, 7, 8]
    await session.append(answer("t2", status="cancelled"))
    assert await store.trim(NOW) == 0
    await session.append(answer("t4", status="cancelled"))
    assert await store.trim(NOW) == 7
    assert await session.said() == []


async def test_a_turn_is_known_for_a_day_after_its_end_though_its_records_went(open_store: Open) -> None:
    store = await open_store(keep_records=0)
    session = await Session(store).create(*exchange("t1"))
    assert await store.trim(NOW + DAY - 1) == 3
    assert await status(session, "t1") == "completed"
    with pytest.raises(Duplicate):
        await session.append(message("t1"))
    assert await store.trim(NOW + DAY) == 0
    assert await store.turn(KEY, "t1") is None
    await session.append(message("t1"))
    assert await session.said() == [4]


async def test_a_turn_whose_records_are_kept_is_known_however_old_it_is(open_store: Open) -> None:
    store = await open_store(keep_records=3)
    session = await Session(store).create(*exchange("t1"), *exchange("t2"))
    assert await store.trim(NOW + 99 * DAY) == 3
    assert await status(session, "t1") is None
    assert await status(session, "t2") == "completed"


async def test_replacing_a_turn_whose_records_went_hides_only_what_was_shown(open_store: Open) -> None:
    store = await open_store(keep_records=3)
    session = await Session(store).create(*exchange("t1"), *exchange("t2"))
    await store.trim(NOW)
    await session.append(message("t3", replaces="t1"))
    assert await session.said() == [7]
    assert (await store.summary(KEY)).messages == 1


async def test_every_session_is_trimmed_however_many_there_are(open_store: Open) -> None:
    store = await open_store(keep_records=0)
    for n in range(450):
        await store.create(described(KEY._replace(session_id=f"s{n}")), "t", [Event("k", n, NOW)])
    assert await store.trim(NOW) == 450
    assert await store.trim(NOW) == 0


# ── A damaged record ────────────────────────────────────────────────────────────────────────────────────────

DAMAGED: list[bytes | None] = [
    b"",
    None,
    b"\x00\xff",
    b'{"type":"poem"}',
    b'{"type":"response","turn_id":"t","content":"c","status":"completed","created_at":1,"input_tokens":2.5}',
    b'{"type":"event","kind":"k","body":' + b"[" * 5_000 + b"]" * 5_000 + b',"created_at":1}',
]


def damage(store: Store, directory: Path, seq: int, body: bytes | None) -> None:
    """Put something else in the place of a record, behind the store's back."""
    match store:
        case MemoryStore():
            store._logs[KEY]._records[seq - 1] = body  # type: ignore[index, call-overload]
        case SqliteStore():
            with closing(sqlite3.connect(directory / "test.db")) as file:
                written = file.execute("UPDATE record SET body = ? WHERE place & 0xFFFFFFFF = ?", (body, seq))
                assert written.rowcount == 1
                file.commit()


DAMAGEABLE: list[Record] = [
    message("t1"),
    started("t1"),
    ToolCall("t1", 0, "c", "look", {"at": "it"}, NOW),
    ToolResult("t1", 0, "c", "seen", False, NOW),
    answer("t1"),
    Event("note", {"a": 1}, NOW),
    message("t2"),
    message("t3"),
    failure("t3"),
    started("t2"),
]


@pytest.mark.parametrize("body", DAMAGED, ids=range(len(DAMAGED)))
@pytest.mark.parametrize("seq", range(1, len(DAMAGEABLE) + 1))
async def test_a_damaged_record_is_said_once_and_those_around_it_can_be_read(
    store: Store, tmp_path: Path, logged: Callable[..., io.StringIO], seq: int, body: bytes | None
) -> None:
    logs, whole = logged(), DAMAGEABLE[seq - 1]
    await store.create(described(), "made", DAMAGEABLE)
    expected = await store.history(KEY, MANY)
    damage(store, tmp_path, seq, body)
    for _ in range(2):
        entries = await store.read(KEY, 0, MANY, MANY)
        assert entries is not None
        assert [number for number, _ in entries] == [*range(1, len(DAMAGEABLE) + 1)]
        assert [record for number, record in entries if number != seq] == [
            record for record in DAMAGEABLE if record is not whole
        ]
        read = entries[seq - 1].record
        match whole:
            case Message(turn_id=turn_id):
                assert isinstance(read, Message)
                assert read.turn_id == turn_id
            case Response(turn_id=turn_id) | Failed(turn_id=turn_id):
                assert isinstance(read, Failed)
                assert (read.turn_id, read.code) == (turn_id, "internal")
            case Started(turn_id=turn_id):
                assert isinstance(read, Started)
                assert read.turn_id == turn_id
            case _:
                assert isinstance(read, Event)
        page = await store.history(KEY, MANY)
        assert [one.seq for one in page.messages] == [one.seq for one in expected.messages]
        loaded = await store.load(KEY)
        assert fold(loaded.entries, loaded.head.seq).running is not None
        await store.trim(NOW + 1)
    [line] = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert (line["session_id"], line["agent"], line["seq"]) == ("s1", "eliza", seq)


@pytest.mark.parametrize("seq", [1, 5])
async def test_a_record_of_another_kind_than_the_index_says_is_damaged(
    store: Store, tmp_path: Path, seq: int
) -> None:
    await store.create(described(), "made", DAMAGEABLE)
    before = await store.history(KEY, MANY)
    damage(store, tmp_path, seq, encode_record(Event("note", {"a": 1}, NOW)))
    page = await store.history(KEY, MANY)
    assert [one.seq for one in page.messages] == [one.seq for one in before.messages]
    assert "damaged" in repr(page.messages)
