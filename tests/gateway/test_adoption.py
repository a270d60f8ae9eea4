"""A guest becomes a user: its sessions are moved whole, once, and to nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.adoption import Moved, adopt
from gateway.auth import Identity
from gateway.interfaces import Agent, Head, Key, NoSession, Unavailable
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol import frames
from protocol.errors import Refused
from tests.harness import Client, Script, gateway, settle

GUEST, ANN = "guest-1", "ann"
UNTIL = 1e10
SERVICE = Identity(GUEST, service=True)


@asynccontextmanager
async def running(
    store: MemoryStore | None = None, agents: Mapping[str, Agent] | None = None, **options: Any
) -> AsyncIterator[tuple[Supervisor, Script]]:
    bot = Script()
    settings = Settings(drain_timeout=0.01, guests=True, **options)
    async with gateway(agents or {"bot": bot, "other": bot}, store or MemoryStore(), settings) as supervisor:
        yield supervisor, bot


async def say(client: Client, bot: Script, session_id: str, turn_id: str, answer: str | None = None) -> None:
    """A whole turn; without an answer it goes on."""
    client.put("message", session_id=session_id, content=f"about {turn_id}", turn_id=turn_id, ref=turn_id)
    assert isinstance(await client.answer(turn_id), frames.Ok)
    said = await bot.given(turn_id)
    if answer is not None:
        said.say(answer)
        said.end()
        await client.terminal(turn_id)


async def contents(supervisor: Supervisor, session_id: str, user: str = ANN) -> list[str]:
    page = await supervisor.runtime.store.history(Key("bot", user, session_id), 100)
    return [one.record.content for one in page.messages]  # type: ignore[union-attr]


async def refused(supervisor: Supervisor, user: str = ANN) -> str:
    with pytest.raises(Refused) as refusal:
        await adopt(supervisor, GUEST, user, UNTIL)
    return refusal.value.code


async def test_its_sessions_are_the_users_and_the_conversation_goes_on() -> None:
    async with running() as (supervisor, bot):
        guest = Client(supervisor, GUEST)
        await say(guest, bot, "s", "t1", "one")
        await say(guest, bot, "r", "t2", "two")
        moved = await adopt(supervisor, GUEST, ANN, UNTIL)
        assert {*moved} == {Moved(Key("bot", ANN, "s"), "s"), Moved(Key("bot", ANN, "r"), "r")}
        assert await supervisor.runtime.store.sessions(None, GUEST, 10) == []
        assert await contents(supervisor, "s") == ["about t1", "one"]
        ann = Client(supervisor, ANN)
        ann.put("attach", sessions=[{"session_id": "s"}], ref="a")
        await ann.answer("a")
        await say(ann, bot, "s", "t3", "three")
        assert await contents(supervisor, "s") == ["about t1", "one", "about t3", "three"]
        assert [past.content for past in (await bot.given("t3")).turn.history] == ["about t1", "one"]
        assert ann.broken is None


async def test_who_follows_is_told_that_it_is_closed_and_the_guests_lines_are() -> None:
    async with running() as (supervisor, bot):
        guest, service = Client(supervisor, GUEST), Client(supervisor, GUEST, identity=SERVICE)
        await say(guest, bot, "s", "t1", "one")
        service.put("attach", sessions=[{"session_id": "s"}], ref="a")
        await service.answer("a")
        await adopt(supervisor, GUEST, ANN, UNTIL)
        ended = await service.until(lambda frame: isinstance(frame, frames.Session))
        assert (ended.session_id, ended.status) == ("s", "closed")  # type: ignore[union-attr]
        assert service.close_code is None
        told = await guest.until(lambda frame: isinstance(frame, frames.Error))
        assert told.code == "unauthenticated"  # type: ignore[union-attr]
        async with asyncio.timeout(5):
            while guest.close_code is None:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert guest.close_code == 4401


async def test_a_turn_that_runs_is_finished_first_and_those_that_wait_too() -> None:
    async with running() as (supervisor, bot):
        guest = Client(supervisor, GUEST)
        await say(guest, bot, "s", "t1")
        guest.put("message", session_id="s", content="about t2", turn_id="t2", ref="t2")
        await guest.answer("t2")
        async with asyncio.TaskGroup() as group:
            adopting = group.create_task(adopt(supervisor, GUEST, ANN, UNTIL))
            for turn_id in ("t1", "t2"):
                said = await bot.given(turn_id)
                await settle()
                assert not adopting.done()
                said.say(f"answer to {turn_id}")
                said.end()
        assert adopting.result() == [Moved(Key("bot", ANN, "s"), "s")]
        assert await contents(supervisor, "s") == [
            "about t1",
            "about t2",
            "answer to t1",
            "answer to t2",
        ]


async def test_one_that_takes_too_long_stays_until_it_is_asked_again() -> None:
    async with running(adopt_timeout=0) as (supervisor, bot):
        guest = Client(supervisor, GUEST)
        await say(guest, bot, "long", "t1")
        await say(guest, bot, "short", "t2", "two")
        assert await refused(supervisor) == "session_busy"
        assert await contents(supervisor, "short") == ["about t2", "two"]
        said = await bot.given("t1")
        said.say("at last")
        said.end()
        await supervisor.until(lambda: not supervisor.sessions, 5)
        assert await adopt(supervisor, GUEST, ANN, UNTIL) == [Moved(Key("bot", ANN, "long"), "long")]
        assert await contents(supervisor, "long") == ["about t1", "at last"]


async def test_it_becomes_no_other_user_and_the_same_one_only_once() -> None:
    async with running() as (supervisor, bot):
        await say(Client(supervisor, GUEST), bot, "s", "t1", "one")
        first, second = await asyncio.gather(
            adopt(supervisor, GUEST, ANN, UNTIL), adopt(supervisor, GUEST, ANN, UNTIL)
        )
        assert sorted([len(first), len(second)]) == [0, 1]
        assert await refused(supervisor, "bob") == "forbidden"
        assert await adopt(supervisor, GUEST, ANN, UNTIL) == []
        assert await contents(supervisor, "s") == ["about t1", "one"]


async def test_a_session_of_the_same_id_stays_the_users_own() -> None:
    async with running() as (supervisor, bot):
        await say(Client(supervisor, ANN), bot, "s", "t1", "mine")
        await say(Client(supervisor, GUEST), bot, "s", "t2", "the guest's")
        [(key, before)] = await adopt(supervisor, GUEST, ANN, UNTIL)
        assert (key.user, before) == (ANN, "s")
        assert key.session_id != "s"
        assert await contents(supervisor, "s") == ["about t1", "mine"]
        assert await contents(supervisor, key.session_id) == ["about t2", "the guest's"]


async def test_what_sessions_share_is_the_users_too_where_it_had_nothing() -> None:
    async with running() as (supervisor, _):
        for user, state in ((ANN, {"user:name": "Ann"}), (GUEST, {"user:name": "?", "user:theme": "dark"})):
            await supervisor.make(Identity(user), "bot", f"of-{user}", state=state, activate=True)
        await adopt(supervisor, GUEST, ANN, UNTIL)
        store = supervisor.runtime.store
        assert await store.scope("bot/ann") == {"name": "Ann", "theme": "dark"}
        assert await store.active("bot", ANN) == Key("bot", ANN, "of-ann")


async def test_what_is_said_while_it_is_moved_is_in_it_or_was_refused() -> None:
    for head_start in range(12):
        async with running() as (supervisor, bot):
            guest = Client(supervisor, GUEST)
            await say(guest, bot, "s", "t1", "one")
            service = Client(supervisor, GUEST, identity=SERVICE)
            service.put("attach", sessions=[{"session_id": "s"}], ref="a")
            await service.answer("a")
            async with asyncio.TaskGroup() as group:
                adopting = group.create_task(adopt(supervisor, GUEST, ANN, UNTIL))
                await settle(head_start)
                service.put("message", session_id="s", content="late", turn_id="t2", ref="t2", create=False)
                accepted = isinstance(await service.answer("t2"), frames.Ok)
                if accepted:
                    (await bot.given("t2")).end()
            assert len(adopting.result()) == 1
            late = ["late", ""] if accepted else []
            assert await contents(supervisor, "s") == ["about t1", "one", *late]


async def test_after_an_outage_in_the_middle_it_is_there_once_and_whole() -> None:
    class Outage(MemoryStore):
        """The answer to the first move is lost: it was done or not."""

        done = False
        moves = 0

        async def move(self, key: Key, head: Head, to: Key, *rest: Any, **more: Any) -> Head:
            self.moves += 1
            if self.moves == 1:
                if self.done:
                    await super().move(key, head, to, *rest, **more)
                raise Unavailable("away")
            return await super().move(key, head, to, *rest, **more)

    for done in (True, False):
        store = Outage()
        store.done = done
        async with running(store) as (supervisor, bot):
            await say(Client(supervisor, GUEST), bot, "s", "t1", "one")
            assert await refused(supervisor) == "store_unavailable"
            await adopt(supervisor, GUEST, ANN, UNTIL)
            assert await contents(supervisor, "s") == ["about t1", "one"]
            assert await store.sessions(None, GUEST, 10) == []
            with pytest.raises(NoSession):
                await store.load(Key("bot", GUEST, "s"))
