"""What only the store in memory does: several nodes at once, watching, and staying small."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from gateway.interfaces import Due, Head, Info, Key, Segment, Stale
from gateway.stores.memory import MemoryStore
from protocol.records import Message, Response, Started

NOW = 1_000_000.0
KEY = Key("eliza", "ada", "s1")


def info(key: Key = KEY) -> Info:
    return Info(key, NOW, NOW)


async def test_nodes_share_the_sessions_and_only_the_turns_of_one_that_left_are_orphaned() -> None:
    store = MemoryStore()
    async with store.open("one", NOW):
        async with store.open("two", NOW):
            await store.create(info(), "t", [Message("t1", "hi", NOW), Started("t1", "two", NOW)])
            assert await store.due(NOW, "one") == []
        assert await store.due(NOW, "one") == [Due(KEY, "t1")]


async def test_the_generation_begins_every_epoch_and_a_new_store_has_a_new_one() -> None:
    one = await MemoryStore(generation="gen7").create(info(), "t")
    assert one.epoch.startswith("gen7")
    first, second = [await MemoryStore().create(info(), "t") for _ in range(2)]
    assert first.epoch != second.epoch


async def test_a_watcher_hears_of_every_change_of_its_session() -> None:
    store = MemoryStore()
    heard: list[Head | None] = []
    head = await store.create(info(), "made")

    changed = heard.append
    store.watch(KEY, changed)
    await store.create(info(KEY._replace(session_id="another")), "x")
    assert heard == []
    records = [Message("t1", "hi", NOW), Started("t1", "n", NOW)]
    head = await store.append(KEY, head, "one", records)
    assert heard == [head]
    await store.save_text([Segment(KEY, "t1", 0, "text")])
    assert heard == [head, head]
    await store.delete(KEY, NOW)
    assert heard == [head, head, None]
    store.unwatch(KEY, changed)
    store.unwatch(KEY, changed)
    await store.create(info(), "again", over_tombstone=True)
    assert heard == [head, head, None]


async def test_what_changed_nothing_is_not_heard() -> None:
    store = MemoryStore()
    head = await store.create(info(), "made", [Message("t1", "hi", NOW), Started("t1", "n", NOW)])
    await store.save_text([Segment(KEY, "t1", 0, "text")])
    heard: list[Head | None] = []
    store.watch(KEY, heard.append)
    await store.save_text([Segment(KEY, "t1", 0, "text"), Segment(KEY, "other", 4, "x")])
    await store.append(KEY, head, "made", [])
    with pytest.raises(Stale):
        await store.append(KEY, replace(head, tag="wrong"), "new", [])
    assert heard == []


async def test_one_watcher_stops_without_the_others() -> None:
    store = MemoryStore()
    head = await store.create(info(), "made")
    heard: list[str] = []
    one: Callable[[Head | None], None] = lambda _: heard.append("one")  # noqa: E731
    store.watch(KEY, one)
    store.watch(KEY, lambda _: heard.append("two"))
    store.unwatch(KEY, one)
    await store.append(KEY, head, "next", [])
    assert heard == ["two"]


async def test_saved_text_is_kept_by_reference() -> None:
    store = MemoryStore()
    await store.create(info(), "made", [Message("t1", "hi", NOW), Started("t1", "n", NOW)])
    piece = "x" * 100_000
    tracemalloc.start()
    await store.save_text([Segment(KEY, "t1", 0, piece)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000


async def test_a_session_nobody_spoke_in_yet_costs_less_than_a_kibibyte() -> None:
    store = MemoryStore()
    tracemalloc.start()
    for n in range(2000):
        await store.create(info(Key("eliza", "ada", f"session-{n}")), f"{n:016x}")
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / 2000 < 1024


async def test_an_ended_turn_leaves_no_text_behind() -> None:
    store = MemoryStore()
    head = await store.create(info(), "made", [Message("t1", "hi", NOW), Started("t1", "n", NOW)])
    tracemalloc.start()
    await store.save_text([Segment(KEY, "t1", 0, "x" * 500_000)])
    await store.append(KEY, head, "end", [Response("t1", "", "completed", NOW)])
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 50_000
