"""The live sessions: found, let go, saved together, taken over from the dead, and drained."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.auth import Identity
from gateway.interfaces import Due, Info, Key, Saved, Segment
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.stores.sqlite import SqliteStore
from protocol import frames
from protocol.errors import Refused
from protocol.records import CancelRequested, Message, Record, Response, Started
from protocol.session import fold
from tests.harness import WAIT, Client, Script, gateway, settle

KEY = Key("bot", "ann", "s")
LONG = Key("bot", "ann", "long")


async def test_a_session_that_nobody_needs_is_let_go() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        client.vanish()
        await settle()
        assert list(g.sessions) == [KEY], "its turn runs on"
        said.end()
        await asyncio.wait_for(said.closed.wait(), WAIT)
        await settle()
        assert not g.sessions


class Counting(MemoryStore):
    """A store that keeps the batches of text that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Segment]] = []

    async def save_text(self, batch: Sequence[Segment]) -> list[Saved]:
        self.batches.append([*batch])
        return await super().save_text(batch)


async def test_the_text_of_all_sessions_is_saved_in_one_commit_and_only_what_is_new() -> None:
    store, script = Counting(), Script()
    async with gateway({"bot": script}, store, Settings(save_interval=1000, drain_timeout=0.01)) as g:
        client = Client(g)
        for name in ("a", "b", "c"):
            client.put("message", session_id=name, turn_id=name, content="hi")
            (await script.given(name)).say(f"said in {name}")
        await settle()
        await g.save()
        [batch] = [batch for batch in store.batches if batch]
        assert [(segment.offset, segment.text) for segment in batch] == [
            (0, "said in a"), (0, "said in b"), (0, "said in c"),
        ]  # fmt: skip
        await g.save()
        (await script.given("b")).say(", more")
        await settle()
        await g.save()
        assert [(one.turn_id, one.offset, one.text) for one in store.batches[-1]] == [("b", 9, ", more")]
        assert len([batch for batch in store.batches if batch]) == 2


async def test_turns_of_a_dead_process_end_as_interrupted_and_those_that_waited_run() -> None:
    store, script = MemoryStore(), Script()
    left = [Message("t1", "one", 1.0), Started("t1", "dead", 1.0), Message("t2", "two", 1.0)]
    await store.create(Info(KEY, 1.0, 1.0), "tag", left)
    await store.save_text([Segment(KEY, "t1", 0, "so far")])
    async with gateway({"bot": script}, store) as g:
        (await script.given("t2")).end()
        client = Client(g)
        client.put("attach", sessions=[{"session_id": "s"}], ref="a")
        await client.answer("a")
        attached = client.of("s", frames.Attached)[0]
        said = [(one.turn_id, one.content, one.code) for one in attached.messages if one.role == "agent"]
        assert said[0] == ("t1", "so far", "turn_interrupted")
        assert [turn.turn.turn_id for turn in script.turns] == ["t2"]


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_turn_of_a_dead_process_that_was_asked_to_stop_ends_as_cancelled(
    kind: str, interrupted: bool, tmp_path: Path
) -> None:
    store, script = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "test.db"), Script()
    left: list[Record] = [Message("t1", "one", 1.0), Started("t1", "dead", 1.0), CancelRequested("t1", 1.0)]
    if interrupted:
        left.append(Message("t2", "instead", 1.0, interrupts=True))
    async with store.open("dead", 1.0):
        await store.create(Info(KEY, 1.0, 1.0), "tag", left)
        await store.save_text([Segment(KEY, "t1", 0, "so far")])
    async with gateway({"bot": script}, store, Settings(due_interval=0.05, drain_timeout=0.01)) as g:
        client = Client(g)
        client.put("attach", sessions=[{"session_id": "s"}])
        client.put("message", session_id="s", turn_id="t3", content="next", ref="3")
        assert (await client.answer("3")).status
        for turn_id in ("t2", "t3") if interrupted else ("t3",):
            (await script.given(turn_id)).end()
            assert (await client.terminal(turn_id)).status == "completed"
        history = (await store.history(KEY, 10)).messages
        ended = next(one.record for one in history if not isinstance(one.record, Message))
        assert isinstance(ended, Response)
        assert (ended.turn_id, ended.content, ended.status) == ("t1", "so far", "cancelled")
        assert "t1" not in [said.turn.turn_id for said in script.turns]
        assert client.broken is None


async def test_a_drain_lets_turns_end_interrupts_what_does_not_and_leaves_what_waits() -> None:
    store, script = MemoryStore(), Script()
    async with gateway({"bot": script}, store, Settings(drain_timeout=0.2)) as g:
        client = Client(g)
        client.put("message", session_id="short", turn_id="short", content="hi")
        client.put("message", session_id="long", turn_id="long", content="hi")
        client.put("message", session_id="long", turn_id="next", content="wait", ref="w")
        await client.answer("w")
        (await script.given("long")).say("so far")
        short = await script.given("short")
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(g.drain())
            await client.until(lambda frame: isinstance(frame, frames.Goaway))
            client.put("message", session_id="short", content="too late", ref="late")
            assert (await client.answer("late")).code == "draining"
            short.end()
            assert (await client.terminal("short")).status == "completed"
            cut = await client.terminal("long")
            assert (cut.code, cut.partial) == ("turn_interrupted", "so far")
            await asyncio.wait_for(draining, WAIT)
        assert client.close_code == 1001
        await g.drain()
        assert not g.lines
    assert [message.turn_id for message in fold((await store.load(LONG)).entries, 0).waiting] == ["next"]


ANN, ALL = Identity("ann"), Identity("user", everyone=True)


async def test_an_id_means_the_named_agents_session_else_the_only_one_else_a_new_one() -> None:
    async with gateway({"bot": Script(), "other": Script()}, MemoryStore()) as g:
        assert await g.resolve(ANN, "s", None) == KEY
        assert await g.resolve(ANN, "s", None, "other") == Key("other", "ann", "s")
        await g.make(ANN, "other", "s")
        assert await g.resolve(ANN, "s", None) == Key("other", "ann", "s")
        assert await g.resolve(ANN, "s", "bot") == KEY
        assert await g.resolve(ALL, "s", None) == Key("other", "ann", "s")
        assert await g.resolve(Identity("bob"), "s", None) == Key("bot", "bob", "s")
        await g.make(Identity("bob"), "bot", "s")
        for identity, session_id, agent, code in (
            (ALL, "s", None, "session_ambiguous"),
            (ANN, "s", "nobody", "agent_not_found"),
            (ANN, "a b", None, "bad_id"),
            (ANN, "s", "a b", "bad_id"),
        ):
            with pytest.raises(Refused) as refused:
                await g.resolve(identity, session_id, agent)
            assert refused.value.code == code


async def test_the_active_session_is_made_once_and_stays_until_another_is() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        first = await g.active(ANN, None)
        assert await g.active(ANN, "bot") == first
        second = await g.make(ANN, "bot", activate=True)
        assert await g.active(ANN, None) == second != first


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_however_many_first_messages_come_at_once_one_session_is_made(
    kind: str, tmp_path: Path
) -> None:
    store = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "test.db")
    async with gateway({"bot": Script()}, store) as g:
        clients = [Client(g) for _ in range(8)]
        for client in clients:
            client.put("message", content="hi", ref="first")
        made = await asyncio.gather(*(g.active(ANN, "bot") for _ in range(8)))
        told = [(await client.answer("first")).session_id for client in clients]
        [session] = await store.sessions(None, "ann", 100)
        assert {session.info.key.session_id} == {*told} == {key.session_id for key in made}


async def test_the_metrics_say_what_is_the_case() -> None:
    class Hung(Script):
        hung = 3

    script = Hung()
    async with gateway({"bot": script}, MemoryStore(), Settings(save_interval=1000, drain_timeout=0.01)) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t1", content="hi")
        client.put("message", session_id="s", turn_id="t2", content="wait", ref="w")
        await client.answer("w")
        (await script.given("t1")).say("12345")
        await client.until(lambda frame: isinstance(frame, frames.TextDelta))
        assert g.gauges() == {
            "connections": 1, "sessions_live": 1, "turns_running": 1, "turns_waiting": 1,
            "unsaved_text_bytes": 5, "agent_threads_hung": 3, "readers_lagging": 0,
        }  # fmt: skip


class OldNews(MemoryStore):
    """A store that, asked what is due, says what `due_then` holds: what was so a moment ago."""

    def __init__(self) -> None:
        super().__init__()
        self.due_then: list[Due] = []
        self.asked = asyncio.Event()

    async def due(self, now: float, node: str) -> list[Due]:
        if self.due_then:
            self.asked.set()
        return self.due_then or await super().due(now, node)


async def test_a_turn_that_runs_is_not_ended_for_an_orphan_that_another_node_settled_before() -> None:
    store, script = OldNews(), Script()
    quick = Settings(due_interval=0.01, drain_timeout=0.01)
    agents = {"bot": script}
    async with gateway(agents, store, Settings(drain_timeout=0.01)) as there, gateway(agents, store, quick):
        client = Client(there)
        client.put("message", session_id="s", turn_id="t2", content="hi")
        said = await script.given("t2")
        store.due_then = [Due(KEY, "t1")]
        await asyncio.wait_for(store.asked.wait(), WAIT)
        store.due_then = []
        await settle()
        said.end()
        assert (await client.terminal("t2")).status == "completed"


async def test_a_crashed_session_that_is_gone_keeps_no_other_from_being_looked_after() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore(), Settings(due_interval=0.01, drain_timeout=0.01)) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        await script.given("t")
        session = g.sessions[KEY]
        for number in range(20):
            g._crashed[Key("bot", "ann", f"gone{number}")] = None
        session._crash()
        assert (await client.terminal("t")).code == "turn_interrupted"
