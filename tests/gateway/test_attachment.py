"""How a session comes to be followed: what each cursor is worth."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.interfaces import Key, NoSession, Page
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol import frames
from tests.harness import Client, Script, gateway


async def attach(g: Supervisor, **target: Any) -> frames.Attached:
    """What a new line is told of the session."""
    client = Client(g)
    client.put("attach", sessions=[{"session_id": "s", **target}], ref="a")
    await client.answer("a")
    attached = client.of("s", frames.Attached)[0]
    client.vanish()
    assert isinstance(attached, frames.Attached)
    return attached


async def talk(g: Supervisor, script: Script, turns: int) -> str:
    """So many turns of a session; the last cursor."""
    client = Client(g)
    for number in range(turns):
        client.put("message", session_id="s", turn_id=f"t{number}", content=f"q{number}")
        said = await script.given(f"t{number}")
        said.say(f"a{number}")
        said.end()
        await client.terminal(f"t{number}")
    cursor = client.cursors["s"][-1]
    client.vanish()
    return cursor


async def test_a_cursor_of_this_log_is_replayed_from_and_any_other_gets_a_snapshot_that_says_why() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        cursor = await talk(g, script, 2)
        epoch, seq, _ = cursor.split(".")
        kept = await attach(g, cursor=f"{epoch}.1.0")
        assert (kept.mode, kept.cursor, kept.reason, kept.messages) == ("replay", f"{epoch}.1.0", None, None)
        stale = await attach(g, cursor=f"{epoch}.{seq}.99")
        assert (stale.mode, stale.cursor) == ("replay", f"{epoch}.{seq}.0"), "no turn runs, none is behind"
        for other, reason in (
            (f"other.{seq}.0", "epoch"),
            (f"{epoch}.{int(seq) + 1}.0", "ahead"),
            ("nonsense", "malformed"),
            (None, None),
        ):
            snapshot = await attach(g, **({} if other is None else {"cursor": other}))
            assert (snapshot.mode, snapshot.reason, snapshot.cursor) == ("snapshot", reason, cursor)
            assert [m.content for m in snapshot.messages or []] == ["q0", "a0", "q1", "a1"]


async def test_a_cursor_older_than_what_is_kept_gets_a_snapshot() -> None:
    script, store = Script(), MemoryStore(keep_records=3)
    async with gateway({"bot": script}, store, Settings(drain_timeout=0.01)) as g:
        cursor = await talk(g, script, 3)
        assert await store.trim(0.0)
        snapshot = await attach(g, cursor=f"{cursor.split('.')[0]}.1.0")
        assert (snapshot.mode, snapshot.reason) == ("snapshot", "trimmed")


async def test_a_session_made_again_is_another_log() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        cursor = await talk(g, script, 1)
        await g.delete(Key("bot", "ann", "s"))
        again = await attach(g, cursor=cursor, create=True)
        assert (again.mode, again.reason, again.messages) == ("snapshot", "epoch", [])


@pytest.mark.parametrize(("wanted", "shown"), [(0, []), (1, ["a2"]), (3, ["a1", "q2", "a2"]), (200, None)])
async def test_a_snapshot_holds_as_many_messages_as_wanted(wanted: int, shown: list[str] | None) -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        await talk(g, script, 3)
        snapshot = await attach(g, history=wanted)
        expected = ["q0", "a0", "q1", "a1", "q2", "a2"] if shown is None else shown
        assert [m.content for m in snapshot.messages or []] == expected
        assert snapshot.has_more == (shown is not None)


@pytest.mark.parametrize("node", ["where it runs", "another"])
async def test_a_snapshot_says_who_waited_at_its_cursor_and_then_what_became_of_them(node: str) -> None:
    script, store = Script(), MemoryStore()
    async with gateway({"bot": script}, store) as g, gateway({"bot": script}, store) as other:
        user, reader = Client(g), Client(g if node == "where it runs" else other)
        for turn_id in "t0", "t1", "t2":
            user.put("message", session_id="s", turn_id=turn_id, content="hi")
        (await script.given("t0")).end()
        await script.given("t1")
        user.put("cancel", session_id="s", turn_id="t2")
        await user.terminal("t2")
        user.put("message", session_id="s", turn_id="t3", content="hi", ref="m")
        await user.answer("m")
        reader.put("attach", sessions=[{"session_id": "s", "history": 0}])
        ended = await reader.terminal("t2")
        [attached] = reader.of("s", frames.Attached)
        assert (attached.turn_id, attached.queued) == ("t1", ["t2"])
        assert ended.status == "cancelled"
        assert [one.turn_id for one in reader.of("s", frames.Message)] == ["t3"]
        assert reader.transcripts["s"].queue == ["t3"]
        assert reader.broken is None


async def test_following_leaves_nothing_behind() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        await talk(g, script, 1)
        await attach(g)
        assert not g.sessions


class Vanishing(MemoryStore):
    """A store in which a session is deleted just before its history is read."""

    async def history(self, *_: Any, **__: Any) -> Page:
        raise NoSession("closed")


async def test_a_session_deleted_while_its_history_is_read_is_refused_and_the_others_are_attached() -> None:
    script = Script()
    script.history = 0
    async with gateway({"bot": script}, Vanishing()) as g:
        first, second = Client(g), Client(g)
        first.put("message", session_id="s", turn_id="t", content="hi")
        await script.given("t")
        sessions = [{"session_id": "s"}, {"session_id": "new", "create": True}]
        second.put("attach", sessions=sessions, ref="a")
        assert await second.answer("a") == frames.Ok("a")
        assert [error.code for error in second.of("s", frames.Error)] == ["session_closed"]
        assert [attached.session_id for attached in second.of("new", frames.Attached)] == ["new"]
