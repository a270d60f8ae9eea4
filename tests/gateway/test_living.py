"""Sessions that live for a while, scene by scene: what clients are told and what is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import Identity
from gateway.interfaces import Head, Key, NoSession, Store
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.stores.sqlite import SqliteStore
from gateway.supervisor import Supervisor
from protocol import frames
from protocol.errors import Refused
from protocol.history import DAY
from protocol.lifetime import Configure, Renew, Terms, Tiers
from protocol.records import Event, Message, Response, Started
from protocol.session import Note
from tests.harness import WAIT, Client, Script, gateway, settle

QUIET = Settings(save_interval=1000.0, due_interval=1000.0, trim_interval=1000.0, drain_timeout=0.01)
ANN = Identity("ann")
KEY = Key("bot", "ann", "s")
HALF_AN_HOUR = Terms(30.0, True, 720.0, 5.0)


class Clock:
    """Unix seconds; stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def minutes(self, minutes: float) -> None:
        """So much time passes."""
        self.now += 60 * minutes


class Scene:
    """One gateway, one agent, one clock."""

    def __init__(self, supervisor: Supervisor, script: Script, clock: Clock) -> None:
        self.supervisor = supervisor
        self.script = script
        self.clock = clock

    async def make(self, terms: Terms | None = HALF_AN_HOUR, **options: Any) -> None:
        await self.supervisor.make(ANN, "bot", "s", timeout=terms, **options)

    async def follower(self) -> Client:
        client = Client(self.supervisor)
        client.put("attach", sessions=[{"session_id": "s"}], ref="attach")
        await client.answer("attach")
        return client

    async def later(self, minutes: float) -> None:
        """Time passes, and the gateway looks for what is due."""
        self.clock.minutes(minutes)
        await self.supervisor.look_after_due()
        await settle()

    async def ask(self, command: Renew | Configure | Note) -> None:
        async with self.supervisor.opened(KEY) as session:
            await session.asked(command)


def told(client: Client) -> list[str]:
    return [notice.status for notice in client.of("s", frames.Session)]


async def attempt(client: Client, type: str, **fields: Any) -> Any:  # noqa: A002
    """What a line is answered."""
    ref = f"try{len(client.frames)}"
    client.put(type, ref=ref, **fields)
    return await client.answer(ref)


def started(store: Store | None = None, script: Script | None = None, **options: Any) -> Any:
    agent = script or Script()
    return gateway({"bot": agent}, store or MemoryStore(), options.pop("settings", QUIET), **options)


async def test_a_follower_is_warned_told_of_the_renewal_warned_again_and_told_of_the_end() -> None:
    clock, script = Clock(), Script()
    async with started(script=script, now=clock) as supervisor:
        scene = Scene(supervisor, script, clock)
        await scene.make()
        client = await scene.follower()
        await scene.later(26)
        await scene.later(1)
        client.put("renew", session_id="s")
        await settle()
        await scene.later(26)
        await scene.later(4)
        await scene.later(1)
        notices = [
            (one.status, one.renewal_count, one.minutes_remaining) for one in client.of("s", frames.Session)
        ]
        assert notices == [
            ("expiring", 0, 4.0), ("renewed", 1, None), ("expiring", 1, 4.0), ("expired", 1, None),
        ]  # fmt: skip
        assert not supervisor.sessions, "and nobody holds it any more"


async def test_who_attaches_while_the_session_is_expiring_is_told_so_once_after_attached() -> None:
    clock, script = Clock(), Script()
    async with started(script=script, now=clock) as supervisor:
        scene = Scene(supervisor, script, clock)
        await scene.make()
        early = await scene.follower()
        await scene.later(26)
        clock.minutes(1)
        late, again = await scene.follower(), early
        again.put("attach", sessions=[{"session_id": "s", "cursor": early.cursors["s"][0]}], ref="again")
        await again.answer("again")
        for client, minutes in ((late, [3.0]), (early, [4.0, 3.0])):
            notices = client.of("s", frames.Session)
            assert [one.status for one in notices] == ["expiring"] * len(minutes)
            assert [one.minutes_remaining for one in notices] == minutes
        assert [type(frame) for frame in late.of("s")] == [frames.Attached, frames.Session]
        assert late.of("s", frames.Attached)[0].expires_at == late.of("s", frames.Session)[0].expires_at
        late.put("renew", session_id="s")
        await late.until(lambda frame: getattr(frame, "status", None) == "renewed")
        assert told(await scene.follower()) == []
        assert told(late) == ["expiring", "renewed"]


async def test_a_session_without_a_timeout_is_told_as_such_and_never_ends() -> None:
    clock, script = Clock(), Script()
    async with started(script=script, now=clock) as supervisor:
        scene = Scene(supervisor, script, clock)
        await scene.make(None)
        client = await scene.follower()
        assert client.of("s", frames.Attached)[0].expires_at is None
        assert isinstance(await attempt(client, "renew", session_id="s"), frames.Ok)
        await scene.later(1e6)
        assert told(client) == []
        assert isinstance(await attempt(client, "message", session_id="s", content="hi"), frames.Ok)


async def test_a_default_of_the_worlds_holds_for_sessions_that_nobody_gave_a_timeout() -> None:
    clock, script = Clock(), Script()
    tiers = Tiers(world=HALF_AN_HOUR, explicit=True)
    async with started(script=script, now=clock, tiers=tiers) as supervisor:
        client = Client(supervisor)
        assert isinstance(await attempt(client, "message", session_id="s", content="hi"), frames.Ok)
        assert client.of("s", frames.Attached)[0].expires_at == clock.now + 1800


async def test_a_running_turn_is_finished_what_waits_is_cancelled_and_only_then_the_session_ends() -> None:
    clock, script = Clock(), Script()
    async with started(script=script, now=clock) as supervisor:
        scene = Scene(supervisor, script, clock)
        await scene.make(Terms(30.0, False, 720.0, 5.0))
        client = await scene.follower()
        for turn in "runs", "waits":
            await attempt(client, "message", session_id="s", turn_id=turn, content="hi")
        said = await script.given("runs")
        await scene.later(30)
        assert told(client) == []
        refusal = await attempt(client, "message", session_id="s", content="too late")
        assert (refusal.code, refusal.expires_at) == ("session_expired", clock.now)
        said.say("the whole answer")
        said.end()
        await client.terminal("waits")
        await settle()
        ends = client.of("s", frames.Response, frames.Session)
        assert [(one.status, getattr(one, "content", None)) for one in ends] == [
            ("completed", "the whole answer"), ("cancelled", ""), ("expired", None),
        ]  # fmt: skip
        assert len(script.turns) == 1


async def test_for_a_day_an_expired_session_says_when_it_expired_and_then_nobody_knows_it() -> None:
    clock, script = Clock(), Script()
    async with started(script=script, now=clock) as supervisor:
        scene = Scene(supervisor, script, clock)
        await scene.make()
        ends = clock.now + 1800
        await scene.later(DAY / 60)
        await supervisor.runtime.store.trim(clock.now + DAY - 1)
        asking = Client(supervisor)
        for type_, fields in (
            ("attach", {"sessions": [{"session_id": "s"}]}),
            ("message", {"session_id": "s", "content": "hi"}),
            ("renew", {"session_id": "s"}),
        ):
            asking.frames.clear()
            asking.put(type_, ref="r", **fields)
            await settle()
            [refusal] = [one for one in asking.frames if isinstance(one, frames.Error)]
            assert (refusal.code, refusal.expires_at) == ("session_expired", ends)
        await supervisor.runtime.store.trim(clock.now + DAY)
        refusal = await attempt(Client(supervisor), "renew", session_id="s")
        assert refusal.code == "session_not_found"


@pytest.mark.parametrize("swept", [True, False])
async def test_an_expired_session_is_made_again_on_purpose_with_a_new_epoch(swept: bool) -> None:
    clock, script = Clock(), Script()
    async with started(script=script, now=clock) as supervisor:
        scene = Scene(supervisor, script, clock)
        await scene.make()
        old = (await supervisor.runtime.store.load(KEY)).head.epoch
        clock.minutes(30)
        if swept:
            await supervisor.look_after_due()
        client = Client(supervisor)
        assert (await attempt(client, "message", session_id="s", content="hi")).code == "session_expired"
        made = await attempt(client, "message", session_id="s", content="hi", create=True)
        assert isinstance(made, frames.Ok)
        loaded = await supervisor.runtime.store.load(KEY)
        assert loaded.head.epoch != old
        assert loaded.info.life is None


async def test_over_a_session_whose_time_is_over_another_is_made_and_its_followers_are_told() -> None:
    clock, script = Clock(), Script()
    async with started(script=script, now=clock) as supervisor:
        scene = Scene(supervisor, script, clock)
        await scene.make(state={"old": True})
        client = await scene.follower()
        with pytest.raises(Refused) as refusal:
            await scene.make()
        assert refusal.value.code == "session_exists"
        clock.minutes(30)
        await scene.make(Terms(9.0, True, 720.0, 5.0))
        await settle()
        assert told(client) == ["expired"]
        info = (await supervisor.runtime.store.load(KEY)).info
        assert (info.state, info.life and info.life.expires_at) == ({}, clock.now + 540)


async def test_a_session_whose_time_is_over_ends_at_the_first_touch_also_if_nobody_looked() -> None:
    clock, script = Clock(), Script()
    async with started(script=script, now=clock) as supervisor:
        scene = Scene(supervisor, script, clock)
        await scene.make()
        client = await scene.follower()
        clock.minutes(30)
        with pytest.raises(Refused) as refusal:
            await scene.ask(Configure(Terms(timeout_minutes=60)))
        assert refusal.value.code == "session_expired"
        await settle()
        assert told(client) == ["expired"]


async def test_at_its_maximum_duration_a_renewal_by_hand_is_refused_and_a_heartbeat_is_not() -> None:
    clock, script = Clock(), Script()
    async with started(script=script, now=clock) as supervisor:
        scene = Scene(supervisor, script, clock)
        await scene.make(Terms(30.0, True, 40.0, 5.0))
        client = await scene.follower()
        clock.minutes(20)
        await scene.ask(Renew(manual=True))
        with pytest.raises(Refused) as refusal:
            await scene.ask(Renew(manual=True))
        assert (refusal.value.code, refusal.value.status) == ("renewal_refused", 422)
        assert isinstance(await attempt(client, "renew", session_id="s"), frames.Ok)
        assert told(client) == ["renewed"]


async def test_what_happens_on_one_gateway_is_told_to_the_followers_of_the_other() -> None:
    clock, script, store = Clock(), Script(), MemoryStore()
    async with (
        started(store, script, now=clock) as one,
        started(store, script, now=clock) as other,
    ):
        here, there = Scene(one, script, clock), Scene(other, script, clock)
        await here.make()
        client = await there.follower()
        await here.later(26)
        await here.ask(Renew())
        await here.later(26)
        await there.later(0)
        await here.later(4)
        assert told(client) == ["expiring", "renewed", "expiring", "expired"]


async def test_lives_are_looked_after_no_more_often_than_the_cleanup_interval() -> None:
    clock, script = Clock(), Script()
    async with started(script=script, now=clock, tiers=Tiers(cleanup_minutes=10)) as supervisor:
        await settle()  # the first look is when it starts
        scene = Scene(supervisor, script, clock)
        await scene.make(Terms(5.0, True, 720.0, 1.0))
        client = await scene.follower()
        await scene.later(9.9)
        assert told(client) == []
        await scene.later(0.1)
        assert told(client) == ["expired"]


async def test_lives_are_looked_after_also_when_the_clock_was_set_back() -> None:
    clock, script = Clock(), Script()
    async with started(script=script, now=clock, tiers=Tiers(cleanup_minutes=10)) as supervisor:
        await settle()
        clock.minutes(-120)
        scene = Scene(supervisor, script, clock)
        await scene.make(Terms(5.0, True, 720.0, 1.0))
        client = await scene.follower()
        await scene.later(0)
        assert told(client) == []
        await scene.later(10)
        assert told(client) == ["expired"]


async def test_turns_are_looked_after_as_often_as_ever_whatever_the_cleanup_interval() -> None:
    clock, script, store = Clock(), Script(), MemoryStore()
    async with started(store, script, now=clock, tiers=Tiers(cleanup_minutes=10)) as supervisor:
        await settle()
        scene = Scene(supervisor, script, clock)
        await scene.make(records=[Message("t1", "hi", clock.now), Started("t1", "dead", clock.now)])
        client = await scene.follower()
        await scene.later(0.1)
        assert (await client.terminal("t1")).code == "turn_interrupted"


async def test_a_note_is_no_sign_of_life_but_sets_state() -> None:
    clock, script = Clock(), Script()
    async with started(script=script, now=clock) as supervisor:
        scene = Scene(supervisor, script, clock)
        await scene.make()
        before = (await supervisor.runtime.store.load(KEY)).info.life
        clock.minutes(1)
        await scene.ask(Note(Event("k", 1, clock.now), {"n": 1, "user:n": 2, "app:n": 3, "temp:n": 4}))
        store = supervisor.runtime.store
        info = (await store.load(KEY)).info
        assert (info.state, info.life) == ({"n": 1}, before)
        assert (await store.scope("bot/ann"), await store.scope("bot")) == ({"n": 2}, {"n": 3})


# ── Restarts ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_after_a_restart_lives_warnings_and_tombstones_are_as_they_were(tmp_path: Path) -> None:
    clock, script = Clock(), Script()

    def store() -> SqliteStore:
        return SqliteStore(tmp_path / "test.db")

    async with started(store(), script, now=clock) as supervisor:
        scene = Scene(supervisor, script, clock)
        await scene.make()
        await supervisor.make(ANN, "bot", "gone", timeout=Terms(5.0, True, 720.0, 1.0))
        ends = clock.now + 300
        await scene.later(26)
        kept = (await supervisor.runtime.store.load(KEY)).info
        assert kept.life is not None
        assert kept.life.warned

    async with started(store(), script, now=clock) as supervisor:
        scene = Scene(supervisor, script, clock)
        assert (await supervisor.runtime.store.load(KEY)).info == kept
        client = await scene.follower()
        await scene.later(1)
        assert told(client) == ["expiring"], "others were warned before"
        with pytest.raises(NoSession) as none:
            await supervisor.runtime.store.load(KEY._replace(session_id="gone"))
        assert (none.value.tombstone, none.value.ended_at) == ("expired", ends)
        await scene.later(3)
        assert told(client) == ["expiring", "expired"]


async def test_what_expired_while_no_gateway_ran_is_ended_by_the_next_one(tmp_path: Path) -> None:
    clock, script = Clock(), Script()
    async with started(SqliteStore(tmp_path / "test.db"), script, now=clock) as supervisor:
        await Scene(supervisor, script, clock).make()
        ends = clock.now + 1800
    clock.minutes(31)
    store = SqliteStore(tmp_path / "test.db")
    async with started(store, script, now=clock) as supervisor:
        await supervisor.look_after_due()
        with pytest.raises(NoSession) as none:
            await store.load(KEY)
        assert (none.value.tombstone, none.value.ended_at) == ("expired", ends)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_what_expired_long_before_a_gateway_came_is_known_as_expired_for_a_day(
    kind: str, tmp_path: Path
) -> None:
    clock, script, kept = Clock(), Script(), MemoryStore()

    def store() -> Store:
        return kept if kind == "memory" else SqliteStore(tmp_path / "test.db")

    async with started(store(), script, now=clock) as supervisor:
        await Scene(supervisor, script, clock).make()
        ends = clock.now + 1800
    clock.minutes(3 * 24 * 60)
    async with started(store(), script, now=clock) as supervisor:
        await supervisor.look_after_due()
        await supervisor.runtime.store.trim(clock.now)
        clock.minutes(24 * 60 - 1)
        await supervisor.runtime.store.trim(clock.now)
        client = Client(supervisor)
        refusal = await attempt(client, "message", session_id="s", content="hi")
        assert (refusal.code, refusal.expires_at) == ("session_expired", ends)
        clock.minutes(1)
        await supervisor.runtime.store.trim(clock.now)
        assert (await attempt(client, "renew", session_id="s")).code == "session_not_found"


class Gated(MemoryStore):
    """A store whose appends wait for the gate, if it is there."""

    gate: asyncio.Event | None = None

    async def append(self, *about: Any, **options: Any) -> Head:
        if self.gate is not None:
            await self.gate.wait()
        return await super().append(*about, **options)


async def test_a_note_that_comes_too_late_stores_nothing_though_turns_wait() -> None:
    clock, script, store = Clock(), Script(), Gated()
    async with started(store, script, now=clock) as supervisor:
        scene = Scene(supervisor, script, clock)
        await scene.make()
        client = Client(supervisor)
        client.put("message", session_id="s", turn_id="t1", content="hi")
        client.put("message", session_id="s", turn_id="t2", content="wait")
        said = await script.given("t1")
        await settle()
        clock.minutes(31)
        store.gate = asyncio.Event()
        said.end()
        await asyncio.wait_for(said.closed.wait(), WAIT)
        await settle()  # the end of the turn is being appended
        note = Note(Event("k", 1, clock.now), {"n": 1, "user:n": 2, "app:n": 3})
        answers: list[Any] = []
        supervisor.sessions[KEY].ask(note, answers.append)
        store.gate.set()
        assert (await client.terminal("t2")).status == "cancelled"
        await settle()
        [refusal] = answers
        assert refusal.code == "session_expired"
        assert (await store.scope("bot/ann"), await store.scope("bot")) == ({}, {})


async def test_a_turn_that_a_dead_process_left_in_a_session_whose_time_is_over_has_its_end_first() -> None:
    clock, script, store = Clock(), Script(), MemoryStore()
    async with started(store, script, now=clock) as supervisor:
        scene = Scene(supervisor, script, clock)
        await settle()
        await scene.make(records=[Message("t1", "hi", clock.now), Started("t1", "dead", clock.now)])
        client = await scene.follower()
        await scene.later(30)
        assert (await client.terminal("t1")).code == "turn_interrupted"
        await settle()
        assert told(client) == ["expired"]


# ── State that is shared ────────────────────────────────────────────────────────────────────────────────────


async def test_what_a_turn_sets_is_seen_by_the_sessions_it_is_shared_with() -> None:
    script = Script()
    async with started(script=script) as supervisor:
        ann, bob = Client(supervisor), Client(supervisor, "bob")
        ann.put("message", session_id="one", turn_id="t1", content="hi")
        first = await script.given("t1")
        assert first.turn.state == {}
        first.turn.state |= {"n": 1, "user:n": 2, "app:n": 3, "temp:n": 4}
        first.end()
        await ann.terminal("t1")
        seen = {}
        for client, name in (ann, "one"), (ann, "two"), (bob, "three"):
            client.put("message", session_id=name, turn_id=f"in {name}", content="hi")
            seen[name] = (await script.given(f"in {name}")).turn.state
        assert seen == {
            "one": {"n": 1, "user:n": 2, "app:n": 3},
            "two": {"user:n": 2, "app:n": 3},
            "three": {"app:n": 3},
        }


async def test_what_a_turn_takes_out_is_gone_for_its_session_and_none_for_those_who_share_it() -> None:
    script = Script()
    async with started(script=script) as supervisor:
        await supervisor.make(ANN, "bot", "s", state={"n": 1, "m": 2, "user:n": 3, "app:n": 4, "temp:n": 5})
        client = Client(supervisor)
        client.put("message", session_id="s", turn_id="t1", content="hi")
        said = await script.given("t1")
        assert said.turn.state == {"n": 1, "m": 2, "user:n": 3, "app:n": 4}
        del said.turn.state["n"], said.turn.state["user:n"]
        said.end()
        await client.terminal("t1")
        client.put("message", session_id="s", turn_id="t2", content="hi")
        assert (await script.given("t2")).turn.state == {"m": 2, "user:n": None, "app:n": 4}
        [_, _, answer, *_] = await supervisor.runtime.store.read(KEY, 0, 10, 1 << 20) or []
        assert isinstance(answer.record, Response)
        assert answer.record.state_delta == {"n": None, "user:n": None}


@pytest.mark.parametrize("end", ["fail", "cancel"])
async def test_a_turn_that_fails_or_is_cancelled_leaves_all_state_as_it_was(end: str) -> None:
    script = Script()
    async with started(script=script) as supervisor:
        await supervisor.make(ANN, "bot", "s", state={"n": 1, "user:n": 2})
        client = Client(supervisor)
        client.put("message", session_id="s", turn_id="t1", content="hi")
        said = await script.given("t1")
        said.turn.state |= {"n": 9, "user:n": 9, "app:n": 9}
        if end == "fail":
            said.fail()
        else:
            client.put("cancel", session_id="s")
        await client.terminal("t1")
        client.put("message", session_id="s", turn_id="t2", content="hi")
        assert (await script.given("t2")).turn.state == {"n": 1, "user:n": 2}


async def test_turns_of_two_sessions_that_set_other_keys_of_what_they_share_lose_none() -> None:
    script = Script()
    async with started(script=script) as supervisor:
        client = Client(supervisor)
        for name in "one", "two":
            client.put("message", session_id=name, turn_id=name, content="hi")
        turns = [await script.given(name) for name in ("one", "two")]
        for said in turns:
            said.turn.state[f"user:{said.turn.turn_id}"] = 1
            said.end()
        await asyncio.gather(*(client.terminal(name) for name in ("one", "two")))
        assert await supervisor.runtime.store.scope("bot/ann") == {"one": 1, "two": 1}


async def test_a_session_whose_time_is_over_but_that_a_turn_keeps_elsewhere_cannot_be_made_anew() -> None:
    clock, script, store = Clock(), Script(), MemoryStore()
    async with started(store, script, now=clock) as one, started(store, script, now=clock) as other:
        await Scene(one, script, clock).make()
        client = Client(one)
        await attempt(client, "message", session_id="s", turn_id="t1", content="hi")
        await script.given("t1")
        clock.minutes(31)
        with pytest.raises(Refused) as refusal:
            await Scene(other, script, clock).make()
        assert refusal.value.code == "session_exists"


async def test_a_session_over_in_which_a_dead_process_left_a_turn_cannot_be_made_anew() -> None:
    clock, script, store = Clock(), Script(), MemoryStore()
    async with started(store, script, now=clock) as supervisor:
        await settle()
        scene = Scene(supervisor, script, clock)
        await scene.make(records=[Message("t1", "hi", clock.now), Started("t1", "dead", clock.now)])
        clock.minutes(31)
        supervisor.sessions.clear()
        with pytest.raises(Refused) as refusal:
            await scene.make()
        assert refusal.value.code == "session_exists"


async def test_that_it_expired_is_told_on_the_other_gateway_also_if_it_is_made_again_at_once() -> None:
    clock, script, store = Clock(), Script(), MemoryStore()
    async with started(store, script, now=clock) as one, started(store, script, now=clock) as other:
        await Scene(one, script, clock).make()
        client = await Scene(one, script, clock).follower()
        clock.minutes(31)
        await Scene(other, script, clock).make()
        await settle()
        assert told(client) == ["expired"]


async def test_deleting_a_session_whose_time_is_over_succeeds_while_a_turn_keeps_it_elsewhere() -> None:
    clock, script, store = Clock(), Script(), MemoryStore()
    async with started(store, script, now=clock) as one, started(store, script, now=clock) as other:
        await Scene(one, script, clock).make()
        client = Client(one)
        await attempt(client, "message", session_id="s", turn_id="t1", content="hi")
        await script.given("t1")
        clock.minutes(31)
        await other.delete(KEY)


async def test_who_follows_a_session_whose_time_is_over_and_attaches_again_is_told_of_its_end() -> None:
    clock, script = Clock(), Script()
    async with started(script=script, now=clock) as one:
        await Scene(one, script, clock).make()
        client = await Scene(one, script, clock).follower()
        clock.minutes(31)
        await attempt(client, "attach", sessions=[{"session_id": "s", "create": True}])
        await settle()
        assert told(client) == ["expired"]


async def test_a_message_sent_again_while_its_turn_outlives_the_session_is_a_duplicate() -> None:
    clock, script = Clock(), Script()
    async with started(script=script, now=clock) as one:
        await Scene(one, script, clock).make()
        client = Client(one)
        await attempt(client, "message", session_id="s", turn_id="t1", content="hi")
        await script.given("t1")
        clock.minutes(31)
        again = await attempt(client, "message", session_id="s", turn_id="t1", content="hi")
        assert isinstance(again, frames.Ok)
        assert again.duplicate
