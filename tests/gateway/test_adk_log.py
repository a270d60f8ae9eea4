"""A log as ADK's clients read it: windows, places, what was replaced, what was trimmed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.adk_log import AdkLog
from gateway.interfaces import Info, Key, NoSession, Store
from gateway.stores.memory import MemoryStore
from gateway.stores.sqlite import SqliteStore
from protocol.adk import KIND, note
from protocol.adk_import import imported
from protocol.adk_request import NewSession, fit
from protocol.errors import Refused
from protocol.records import Event, Message, Record, Response, Started, ToolCall, ToolResult

KEY = Key("bot", "u", "s")


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "log.db")
    async with made.open("node", 0.0):
        yield made


async def log_of(store: Store, *records: Record, page_bytes: int = 1 << 18) -> AdkLog:
    """A session with these records."""
    await store.create(Info(KEY, 0.0, 0.0), "tag", records)
    return AdkLog(store, KEY, page_bytes)


def turn(turn_id: str, **fields: Any) -> list[Record]:
    """A turn with one tool, that is over."""
    return [
        Message(turn_id, f"{turn_id}?", 1.0, **fields),
        Started(turn_id, "node", 1.0),
        ToolCall(turn_id, 0, "c", "add", {}, 1.0),
        ToolResult(turn_id, 0, "c", {}, False, 1.0),
        Response(turn_id, f"{turn_id}!", "completed", 1.0),
    ]


def turns(count: int) -> list[Record]:
    return [record for number in range(count) for record in turn(f"t{number}")]


def history(count: int) -> list[Record]:
    """An imported one of so many events."""
    events = [
        {"id": f"e{number}", "author": "bot" if number % 2 else "user", "content": {"parts": [{"text": "x"}]}}
        for number in range(count)
    ]
    ids = iter(range(10_000))
    return imported(
        events, fit({"events": events}, NewSession).events or [], "bot", 1.0, lambda: f"i{next(ids)}"
    )


def id_of(event: Any) -> str:
    return str(event["id"] if isinstance(event, dict) else event.id)


def text_of(event: Any) -> str:
    (part,) = event.content.parts
    return str(part.get("text", "tool"))


async def pages(log: AdkLog, limit: int) -> list[str]:
    """The ids of all events, read page by page, oldest first."""
    found: list[str] = []
    while page := await log.events(limit, found[0] if found else None):
        assert len(page) <= limit
        found = [*map(id_of, page), *found]
    return found


@pytest.mark.parametrize("page_bytes", [1, 1 << 18])
async def test_pages_are_the_whole_cut_into_pieces(store: Store, page_bytes: int) -> None:
    log = await log_of(store, *turns(30), page_bytes=page_bytes)
    whole = [id_of(event) for event in await log.events()]
    assert len(whole) == 4 * 30
    for limit in (1, 3, 50, 1000):
        assert await pages(log, limit) == whole


async def test_a_window_looks_beyond_its_edge_for_what_a_tool_is_called(store: Store) -> None:
    uses = [ToolCall("t", 0, "c", "add", {}, 1.0)]
    uses += [ToolCall("t", 0, f"c{number}", "more", {}, 1.0) for number in range(50)]
    result = ToolResult("t", 0, "c", {}, False, 1.0)
    log = await log_of(store, Message("t", "?", 1.0), Started("t", "node", 1.0), *uses, result)
    (event,) = await log.events(1)
    assert event.content.parts[0]["functionResponse"]["name"] == "add"


async def test_a_window_looks_beyond_its_edge_for_what_never_started(store: Store) -> None:
    waits, stopped = Message("w", "?", 1.0), Response("w", "", "cancelled", 1.0)
    log = await log_of(store, *turn("a")[:2], waits, *turns(10), stopped, *turn("a")[2:])
    assert len(await log.events(1)) == 1
    assert sum("w." in event for event in await pages(log, 1)) == 1


async def test_turns_that_were_replaced_are_left_out_wherever_the_windows_end(store: Store) -> None:
    log = await log_of(store, *turns(8), *turn("new", replaces="t2"), *turn("last"))
    kept = ["t0", "t1", "new", "last"]
    found = await pages(log, 2)
    assert found == [id_of(event) for event in await log.events()]
    assert list(dict.fromkeys(event.split(".")[0] for event in found)) == kept
    assert [id_of(event) for event in await log.events(4, "t4.23")][-1] == "t1.10"


async def test_a_long_turn_that_was_replaced_is_left_out_of_every_window(store: Store) -> None:
    tools = [ToolCall("old", 0, f"c{number}", "add", {}, 1.0) for number in range(100)]
    old = turn("old")
    log = await log_of(store, *old[:2], *tools, *old[4:], *turn("new", replaces="old"))
    assert {event.split(".")[0] for event in await pages(log, 5)} == {"new"}


async def test_what_was_imported_is_found_by_the_ids_it_came_with(store: Store) -> None:
    log = await log_of(store, *history(40), *turns(5))
    found = await pages(log, 7)
    assert found[:40] == [f"e{number}" for number in range(40)]
    assert found == [id_of(event) for event in await log.events()]


async def test_an_imported_turn_that_was_replaced_is_left_out_with_its_events(store: Store) -> None:
    past = history(4)
    last = [record.turn_id for record in past if isinstance(record, Message)][-1]
    log = await log_of(store, *past, *turn("new", replaces=last))
    assert [id_of(event) for event in await log.events()][:3] == ["e0", "e1", "new.12"]


async def test_a_change_of_state_has_a_place_among_the_turns(store: Store) -> None:
    log = await log_of(store, *turn("a"), note("p-1", {"a": 1}, 1.0), *turn("b"))
    assert await pages(log, 1) == [id_of(event) for event in await log.events()]
    assert [id_of(event) for event in await log.events(1, "b.8")] == ["p-1.6"]


@pytest.mark.parametrize("event", ["", "nothing", "t0.1000", "t0.0", "t1.2", "e1", "t0.99999999999999999"])
async def test_an_event_that_is_not_there_is_refused(store: Store, event: str) -> None:
    log = await log_of(store, *turns(3), Event(KIND, {"turn": None, "event": {"id": "x"}}, 1.0))
    with pytest.raises(Refused, match="no such event") as refused:
        await log.events(1, event)
    assert refused.value.code == "bad_request"


async def test_none_are_none(store: Store) -> None:
    log = await log_of(store, *turns(2))
    assert await log.events(0) == []
    assert await log.events(5, "t0.2") == []


async def test_an_empty_log_has_no_events(store: Store) -> None:
    assert await (await log_of(store)).events() == []
    with pytest.raises(Refused):
        await (AdkLog(store, KEY, 1000)).events(before="t.1")


async def test_a_session_that_is_not_there_has_no_log(store: Store) -> None:
    with pytest.raises(NoSession):
        await AdkLog(store, KEY, 1000).events()


@pytest.mark.parametrize("keep", [1, 7, 44])
async def test_what_was_trimmed_is_left_out(tmp_path: Path, keep: int) -> None:
    stores: Sequence[Callable[[], Any]] = (
        lambda: MemoryStore(keep_records=keep),
        lambda: SqliteStore(tmp_path / "log.db", keep_records=keep),
    )
    for make in stores:
        store: Store = make()
        async with store.open("node", 0.0):
            log = await log_of(store, *turns(10))
            whole = [id_of(event) for event in await log.events()]
            assert await store.trim(2.0) > 0
            left = [id_of(event) for event in await log.events()]
            assert left == whole[-4 * -(-keep // 5) :]
            assert await pages(log, 3) == left
            with pytest.raises(Refused):
                await log.events(1, whole[0])


async def test_a_long_log_costs_the_newest_no_more(store: Store) -> None:
    read: list[int] = []

    class Counted(AdkLog):
        async def records(self, after: int, end: int) -> list[Any]:
            read.append(end - after)
            return await super().records(after, end)

    await log_of(store, *turns(1000))
    assert len(await Counted(store, KEY, 1 << 18).events(10)) == 10
    assert sum(read) < 100


async def test_a_turn_tells_each_event_once(store: Store) -> None:
    log = await log_of(store, *turn("a"), *turn("b"))
    told = log.turn("b")
    assert [text_of(event) for event in await told.events(8)] == ["tool"]
    assert [text_of(event) for event in await told.events(8)] == []
    assert [text_of(event) for event in await told.events(10)] == ["tool", "b!"]
    assert [text_of(event) for event in await log.turn("a").events(10)] == ["tool", "tool", "a!"]
