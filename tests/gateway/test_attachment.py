"""How a session comes to be followed: what each cursor is worth."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from gateway import ToolCall
from gateway.auth import Identity
from gateway.interfaces import Key, NoSession, Page
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol import codec, frames
from protocol.records import Message, Response, Started
from tests.harness import WAIT, Client, Script, gateway, settle

KEY = Key("bot", "ann", "s")


async def attach(g: Supervisor, **target: Any) -> frames.Attached:
    """What a new line is told of the session."""
    client = Client(g)
    client.put("attach", sessions=[{"session_id": "s", **target}], ref="a")
    await client.answer("a")
    attached = client.of("s", frames.Attached)[0]
    client.vanish()
    assert isinstance(attached, frames.Attached)
    return attached


async def talk(g: Supervisor, script: Script, turns: int, name: str = "t") -> str:
    """So many turns of a session; the last cursor."""
    client = Client(g)
    for number in range(turns):
        turn_id = f"{name}{number}"
        client.put("message", session_id="s", turn_id=turn_id, content=f"q{number}")
        said = await script.given(turn_id)
        said.say(f"a{number}")
        said.end()
        await client.terminal(turn_id)
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


# ── Readers who lag, and clients that read nothing ──────────────────────────────────────────────────────────

SMALL = Settings(tail_bytes=500, drain_timeout=0.01)


class Watched(MemoryStore):
    """Counts how often records are read, and reads no history before it may."""

    lost = False
    """No records are kept any more."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.reads = 0
        self.may = asyncio.Event()
        self.may.set()
        self.asked = asyncio.Event()
        """A history was asked for since this was cleared."""

    async def read(self, *args: Any) -> Any:
        self.reads += 1
        return None if self.lost else await super().read(*args)

    async def history(self, *args: Any, **options: Any) -> Page:
        self.asked.set()
        await self.may.wait()
        return await super().history(*args, **options)


class Halting(Client):
    """Takes one batch for each permit."""

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__(supervisor)
        self.permits = asyncio.Semaphore(1_000_000)

    async def send(self, batch: list[bytes]) -> None:
        await self.permits.acquire()
        await super().send(batch)


async def trimmed(g: Supervisor, script: Script, store: Watched, slow: Client) -> None:
    """What `slow` has not been sent yet of the session that it follows is not kept any more."""
    slow.put("attach", sessions=[{"session_id": "s", "create": True}], ref="a")
    await slow.answer("a")
    slow.stall()
    slow.put("ping")
    await settle()
    await talk(g, script, 5)
    await store.trim(0.0)
    store.reads = 0


def has_restarted(client: Client) -> Callable[[frames.ServerFrame], bool]:
    return lambda _: len(client.of("s", frames.Attached)) > 1


async def test_a_laggard_whose_place_was_trimmed_is_sent_a_snapshot_and_goes_on_from_there() -> None:
    script, store = Script(), Watched(keep_records=3)
    async with gateway({"bot": script}, store, SMALL) as g:
        slow = Client(g)
        await trimmed(g, script, store, slow)
        slow.resume()
        await slow.until(has_restarted(slow))
        attached = slow.of("s", frames.Attached)[-1]
        assert (attached.mode, attached.reason) == ("snapshot", "trimmed")
        assert [message.content for message in attached.messages][-2:] == ["q4", "a4"]
        slow.put("message", session_id="s", turn_id="next", content="hi")
        (await script.given("next")).end()
        await slow.terminal("next")
        assert store.reads <= 2
        assert slow.broken is None


@pytest.mark.parametrize("heard", [True, False])
async def test_a_laggard_whose_session_is_gone_is_told_its_end_and_the_store_is_not_asked_again(
    heard: bool,
) -> None:
    script, store = Script(), Watched()
    async with gateway({"bot": script}, store, SMALL) as g:
        slow = Client(g)
        await trimmed(g, script, store, slow)
        if not heard:  # as where the store's word is late, or lost
            store.unwatch(KEY, g.sessions[KEY].changed)
        await store.delete(KEY, 0.0)
        slow.resume()
        end = await slow.until(lambda frame: isinstance(frame, frames.Session))
        assert isinstance(end, frames.Session)
        assert end.status == "closed"
        await settle(200)
        assert store.reads <= 1
        assert not g.sessions


async def test_a_laggard_of_whose_running_turn_records_are_missing_is_told_so_once() -> None:
    script, store = Script(), Watched()
    async with gateway({"bot": script}, store, SMALL) as g:
        slow = Client(g)
        slow.put("attach", sessions=[{"session_id": "s", "create": True}], ref="a")
        await slow.answer("a")
        slow.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        await slow.until(lambda frame: isinstance(frame, frames.Typing))
        slow.stall()
        slow.put("ping")
        await settle()
        for number in range(5):
            said.say(ToolCall(f"c{number}", "look", "x" * 300))
            await settle()
        store.lost = True
        slow.resume()
        error = await slow.until(lambda frame: isinstance(frame, frames.Error))
        assert isinstance(error, frames.Error)
        assert (error.code, error.session_id) == ("internal", "s")
        count = store.reads
        await settle(200)
        assert store.reads == count <= 4
        assert not g.sessions[KEY].log.readers
        assert slow.close_code is None


async def test_a_laggard_that_detaches_while_it_begins_anew_is_sent_nothing_more() -> None:
    script, store = Script(), Watched(keep_records=3)
    async with gateway({"bot": script}, store, SMALL) as g:
        slow = Client(g)
        await trimmed(g, script, store, slow)
        store.may.clear()
        store.asked.clear()
        slow.resume()
        await asyncio.wait_for(store.asked.wait(), WAIT)
        slow.put("detach", session_ids=["s"], ref="d")
        store.may.set()
        await slow.answer("d")
        count = len(slow.of("s"))
        await talk(g, script, 1, "again")
        assert len(slow.of("s")) == count
        assert slow.broken is None
        assert not g.sessions


async def test_a_laggard_that_is_attached_again_while_it_begins_anew_follows_once() -> None:
    script, store = Script(), Watched(keep_records=3)
    async with gateway({"bot": script}, store, SMALL) as g:
        slow = Client(g)
        await trimmed(g, script, store, slow)
        store.may.clear()
        store.asked.clear()
        slow.resume()
        await asyncio.wait_for(store.asked.wait(), WAIT)
        for ref in "bcd":
            slow.put("attach", sessions=[{"session_id": "s"}], ref=ref)
        store.may.set()
        for ref in "bcd":
            await slow.answer(ref)
        assert len(g.sessions[KEY].log.readers) == 1
        slow.put("message", session_id="s", turn_id="next", content="hi")
        (await script.given("next")).end()
        await slow.terminal("next")
        assert slow.broken is None


async def test_a_line_that_goes_while_a_page_or_a_snapshot_is_read_leaves_no_reader() -> None:
    script, store = Script(), Watched(keep_records=3)
    async with gateway({"bot": script}, store, SMALL) as g:
        slow, late = Client(g), Client(g)
        await trimmed(g, script, store, slow)
        store.may.clear()
        store.asked.clear()
        slow.resume()
        await asyncio.wait_for(store.asked.wait(), WAIT)
        late.put("attach", sessions=[{"session_id": "s"}])
        await settle()
        slow.vanish()
        late.vanish()
        store.may.set()
        await settle(200)
        assert not g.sessions


async def test_pages_of_sessions_that_lag_are_read_only_as_fast_as_the_line_takes_them() -> None:
    class Same(Script):
        async def __call__(self, turn):  # type: ignore[no-untyped-def, override]
            yield turn.content

    store = Watched()
    async with gateway({"bot": Same()}, store, SMALL) as g:
        names = [f"s{number}" for number in range(20)]
        slow = Halting(g)
        slow.put("attach", sessions=[{"session_id": name, "create": True} for name in names], ref="a")
        await slow.answer("a")
        slow.permits = asyncio.Semaphore(0)
        slow.put("ping")
        await settle()
        fast = Client(g)
        for name in names:
            fast.put("message", session_id=name, turn_id=name, content="x" * 60_000)
            await fast.terminal(name)
        store.reads = 0
        for permits in range(1, 4):
            slow.permits.release()
            await settle(500)
            assert store.reads <= 4 + permits
        for _ in range(1_000):
            slow.permits.release()
        for name in names:
            await slow.terminal(name)
        assert slow.broken is None


async def test_a_session_deleted_while_its_attach_waits_for_the_line_is_refused_and_the_others_go_on() -> (
    None
):
    script, store = Script(), Watched()
    settings = Settings(max_ahead_bytes=1, drain_timeout=0.01)
    async with gateway({"bot": script}, store, settings) as g:
        for name in ("s", "t", "u"):
            await g.make(Identity("ann"), "bot", name)
        client = Client(g)
        client.stall()
        client.put("ping")
        await settle()
        client.put("attach", sessions=[{"session_id": name} for name in ("s", "t", "u")], ref="a")
        await settle()
        assert KEY in g.sessions
        assert len(g.sessions) == 1, "the others wait until the first one is sent"
        await g.delete(Key("bot", "ann", "t"))
        client.resume()
        assert await client.answer("a") == frames.Ok("a")
        told = {name: [type(frame).__name__ for frame in client.of(name)] for name in ("s", "t", "u")}
        assert told == {"s": ["Attached"], "t": ["Error"], "u": ["Attached"]}


async def test_a_thousand_sessions_with_history_cost_a_client_that_reads_nothing_at_most_one_mebibyte() -> (
    None
):
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        said = [
            record
            for n in range(4)
            for record in (
                Message(f"t{n}", "x" * 4_000, 1.0),
                Started(f"t{n}", "n", 1.0),
                Response(f"t{n}", "y" * 4_000, "completed", 2.0),
            )
        ]
        names = [f"s{number}" for number in range(1_000)]
        for name in names:
            await g.make(Identity("ann"), "bot", name, records=said)
        client = Client(g)
        client.stall()
        client.put("ping")
        await settle()
        attach = codec.encode(frames.Attach([frames.Target(name) for name in names], "a"))
        tracemalloc.start()
        try:
            client.line.receive(attach)
            await settle(2_000)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held <= 1 << 20
        client.resume()
        assert await client.answer("a") == frames.Ok("a")
        assert len([frame for frame in client.frames if isinstance(frame, frames.Attached)]) == 1_000


async def test_a_client_that_reads_nothing_and_sends_cancels_is_not_read_any_more() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        client = Client(g)
        client.put("attach", sessions=[{"session_id": "s", "create": True}], ref="a")
        await client.answer("a")
        client.stall()
        sent = 0
        while not client.line.full:
            client.put("cancel", session_id="s", ref=f"{sent:0100}")
            await settle(2)
            sent += 1
        assert sent < 1_000
        client.resume()
        async with asyncio.timeout(WAIT):
            await client.line.room()
        await client.answer(f"{sent - 1:0100}")


async def test_a_session_deleted_after_its_actor_crashed_is_told_as_ended_to_who_follows_it() -> None:
    class Odd(MemoryStore):
        odd = False

        async def append(self, *args: Any, **options: Any) -> Any:
            if self.odd:
                raise RuntimeError
            return await super().append(*args, **options)

    store = Odd()
    async with gateway({"bot": Script()}, store) as g:
        follower, other = Client(g), Client(g)
        follower.put("attach", sessions=[{"session_id": "s", "create": True}], ref="a")
        await follower.answer("a")
        store.odd = True
        other.put("message", session_id="s", content="hi", ref="m")
        assert (await other.answer("m")).code == "internal"
        await store.delete(KEY, 0.0)
        other.put("renew", session_id="s", ref="r")
        assert (await other.answer("r")).code == "session_closed"
        end = await follower.until(lambda frame: isinstance(frame, frames.Session))
        assert isinstance(end, frames.Session)
        assert end.status == "closed"
        assert not g.sessions
