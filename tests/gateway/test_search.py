"""What an operator finds."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import search as module
from gateway.auth import Identity
from gateway.search import search
from gateway.stores.memory import MemoryStore
from tests.harness import Client, Script, gateway, settle


async def found(g: Any, text: str, limit: int = 50, **options: Any) -> list[str]:
    rows, _ = await search(g, text, limit, contents=options.get("contents", False))
    return [row.session_id for row in rows]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", ["b-2", "a-1"]),
        ("A-", ["a-1"]),
        (" bob ", ["b-2"]),
        ("other", ["b-2"]),
        ("b-2", ["b-2"]),
        ("%", []),
        ("\x00", []),
        ("trip", []),
    ],
)
async def test_a_session_is_found_by_a_part_of_its_id_user_or_agent(text: str, ids: list[str]) -> None:
    now = iter(range(1, 1_000))
    async with gateway(
        {"bot": Script(), "other": Script()}, MemoryStore(), now=lambda: float(next(now))
    ) as g:
        await g.make(Identity("ann"), "bot", "a-1", label="Trip")
        await g.make(Identity("bob"), "other", "b-2")
        assert await found(g, text) == ids


async def test_labels_are_contents() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        await g.make(Identity("ann"), "bot", "s", label="Trip")
        (row,), _ = await search(g, "trip", 5, contents=True)
        assert row.label == "Trip"
        (row,), _ = await search(g, "", 5, contents=False)
        assert row.label is None


async def test_who_runs_a_turn_comes_first_and_how_it_is_with_each_is_told() -> None:
    bot, now = Script(), iter(range(1, 1_000))
    async with gateway({"bot": bot}, MemoryStore(), now=lambda: float(next(now))) as g:
        for name in ("s", "live", "newest"):
            await g.make(Identity("ann"), "bot", name)
        ann = Client(g)
        ann.put("attach", sessions=[{"session_id": "live"}])
        ann.put("message", session_id="s", turn_id="t", content="x")
        ann.put("message", session_id="s", turn_id="u", content="x")
        await bot.given("t")
        await settle()
        (running, live, asleep), all_of_it = await search(g, "", 50, contents=False)
        assert all_of_it.complete
        assert (running.session_id, running.live, running.running, running.waiting, running.readers) == (
            "s", True, "t", 1, 1,
        )  # fmt: skip
        assert (live.session_id, live.live, live.running, live.readers) == ("live", True, None, 1)
        assert (asleep.session_id, asleep.live, asleep.readers, asleep.messages) == ("newest", False, 0, 0)
        assert not (await search(g, "", 2, contents=False))[1].complete


async def test_more_than_is_asked_for_and_more_than_is_looked_at_is_not_complete() -> None:
    now = iter(range(1, 10_000))
    async with gateway({"bot": Script()}, MemoryStore(), now=lambda: float(next(now))) as g:
        for number in range(module.NEWEST + 5):
            await g.make(Identity("ann" if number else "eve"), "bot", f"s-{number}")
        rows, part = await search(g, "", 3, contents=False)
        assert [row.session_id for row in rows] == ["s-1004", "s-1003", "s-1002"]
        assert not part.complete
        rows, part = await search(g, "ev", 50, contents=False)
        assert (rows, part.looked_at, part.complete) == ([], module.NEWEST, False)
        for whole in ("eve", "s-0"):  # however old
            assert [row.user for row in (await search(g, whole, 50, contents=False))[0]] == ["eve"]
