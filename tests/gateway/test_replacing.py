"""Turns that replace others: their state is as it was before those, whatever had been tried in between."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.interfaces import Key, Store
from gateway.stores.memory import MemoryStore
from gateway.stores.sqlite import SqliteStore
from protocol.records import Event
from protocol.session import Note, Send
from tests.harness import Client, Script, gateway

KEY = Key("bot", "ann", "s")


class Step(NamedTuple):
    """A turn: which earlier one it replaces, what it does to the state, and how it ends."""

    replaces: int | None
    sets: dict[str, Any]
    takes: frozenset[str]
    ends: Literal["completed", "failed", "cancelled"]


keys = st.sampled_from("abc")
steps = st.builds(
    Step,
    st.none() | st.integers(0, 5),
    st.dictionaries(keys, st.sampled_from([None, 0, 1, [1]]), max_size=2),
    st.frozensets(keys, max_size=2),
    st.sampled_from(["completed", "completed", "completed", "failed", "cancelled"]),
)


class Model:
    """What is right: each turn remembers what it was given, and who replaces it is given the same."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.given: list[dict[str, Any]] = []
        self.hidden: set[int] = set()

    def begin(self, replaces: int | None) -> dict[str, Any]:
        number = len(self.given)
        if replaces is None:
            state = self.kept
        else:
            stands = next(other for other in range(replaces, number) if other not in self.hidden)
            state = self.given[stands]
            self.hidden |= set(range(stands, number))
        self.given.append(deepcopy(state))
        return deepcopy(state)


async def run(store: Store, script: list[Step]) -> None:
    agent, model = Script(), Model()
    async with gateway({"bot": agent}, store) as g:
        client = Client(g)
        for number, step in enumerate(script):
            replaces = None if step.replaces is None or number == 0 else step.replaces % number
            named = {} if replaces is None else {"replaces": f"t{replaces}"}
            client.put("message", session_id="s", turn_id=f"t{number}", content="hi", **named)
            said = await agent.given(f"t{number}")
            expected = model.begin(replaces)
            assert said.turn.state == expected
            assert (said.turn.replaces is None) == (replaces is None)
            for state in said.turn.state, expected:
                state.update(step.sets)
                for key in step.takes:
                    state.pop(key, None)
            match step.ends:
                case "completed":
                    model.kept = expected
                    said.end()
                case "failed":
                    said.fail()
                case "cancelled":
                    client.put("cancel", session_id="s")
            await client.terminal(f"t{number}")
            assert (await store.load(KEY)).info.state == model.kept


@settings(deadline=None)
@given(st.lists(steps, min_size=2, max_size=8))
def test_a_turn_is_given_the_state_as_it_was_before_what_it_replaces(script: list[Step]) -> None:
    asyncio.run(run(MemoryStore(), script))


@settings(deadline=None, max_examples=10)
@given(st.lists(steps, min_size=2, max_size=8))
def test_so_it_is_in_sqlite(script: list[Step]) -> None:
    with TemporaryDirectory() as directory:
        asyncio.run(run(SqliteStore(Path(directory) / "test.db"), script))


def step(replaces: int | None, value: int, ends: Any = "completed") -> Step:
    return Step(replaces, {"a": value}, frozenset(), ends)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([step(None, 1), step(0, 2), step(1, 3), step(2, 4)], id="regenerate three times"),
        pytest.param([step(None, n) for n in range(1, 6)] + [step(1, 9)], id="edit an earlier message"),
        pytest.param(
            [step(None, 1), step(None, 2), step(1, 3, "failed"), step(2, 4, "cancelled"), step(1, 5)],
            id="retries that fail, then one that does not",
        ),
        pytest.param([step(None, 1), step(0, 1), step(1, 2)], id="the same answer again"),
        pytest.param(
            [step(None, 1), *[Step(n, {}, frozenset("a"), "completed") for n in (None, 1, 2)]],
            id="the same key taken away again",
        ),
    ],
)
async def test_regenerating_and_editing(script: list[Step]) -> None:
    await run(MemoryStore(), script)


async def test_what_a_client_sets_and_what_is_shared_is_not_undone() -> None:
    agent, store = Script(), MemoryStore()
    async with gateway({"bot": agent}, store) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t1", content="hi")
        said = await agent.given("t1")
        said.turn.state.update({"own": 1, "set": 1, "user:n": 1})
        said.end()
        await client.terminal("t1")
        async with g.opened(KEY) as session:
            await session.asked(Note(Event("k", None, 1.0), {"set": 2}))
            await session.asked(Send("t2", "again", replaces="t1"))
        said = await agent.given("t2")
        assert said.turn.state == {"set": 2, "user:n": 1}
        assert said.turn.replaces == "t1"
        said.turn.state["new"] = 1
        said.end()
        await client.terminal("t2")
        assert (await store.load(KEY)).info.state == {"set": 2, "new": 1}
        assert await store.scope("bot/ann") == {"n": 1}


async def test_where_the_records_of_the_replaced_turn_are_trimmed_away_the_state_is_as_it_is() -> None:
    agent, store = Script(), MemoryStore(keep_records=3)
    async with gateway({"bot": agent}, store) as g:
        client = Client(g)
        for number in (1, 2):
            client.put("message", session_id="s", turn_id=f"t{number}", content="hi")
            said = await agent.given(f"t{number}")
            said.turn.state[f"by{number}"] = number
            said.end()
            await client.terminal(f"t{number}")
        await store.trim(1.0)
        client.put("message", session_id="s", turn_id="t3", content="hi", replaces="t1")
        said = await agent.given("t3")
        assert said.turn.state == {"by1": 1, "by2": 2}
        said.end()
        await client.terminal("t3")
