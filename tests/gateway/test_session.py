"""The actor: its mailbox, what its agent is given, and what is left when it crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.interfaces import NO_SCOPES, Head, Info, Key, Scopes
from gateway.session import Open
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from protocol import frames
from protocol.errors import Refused
from protocol.records import Message, Record, Started
from protocol.session import Accepted, Cancel, Send
from tests.harness import WAIT, Client, Script, gateway, settle

KEY = Key("bot", "ann", "s")


class Gated(MemoryStore):
    """A store whose appends wait while `go` is not set, and fail with `bug` if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.go.set()
        self.waiting = asyncio.Event()
        self.bug: Exception | None = None

    async def append(
        self,
        key: Key,
        head: Head,
        tag: str,
        records: Sequence[Record],
        *,
        text: tuple[int, str] | None = None,
        info: Info | None = None,
        scopes: Scopes = NO_SCOPES,
    ) -> Head:
        self.waiting.set()
        await self.go.wait()
        if self.bug is not None:
            raise self.bug
        return await super().append(key, head, tag, records, text=text, info=info, scopes=scopes)


async def test_a_full_mailbox_refuses_messages_and_takes_cancels() -> None:
    store = Gated()
    async with (
        gateway({"bot": Script()}, store, Settings(max_asking=2, drain_timeout=0.01)) as g,
        g.opened(KEY, "again") as session,
    ):
        answers: list[Any] = []
        store.go.clear()
        for number in range(4):
            session.ask(Send(f"t{number}", "hi"), answers.append)
            await asyncio.wait_for(store.waiting.wait(), WAIT)
        [refused] = answers
        assert isinstance(refused, Refused)
        assert refused.code == "overloaded"
        session.ask(Cancel(), answers.append)
        assert len(answers) == 1
        store.go.set()
        await session.asked(Open())
        assert answers[-1] == Accepted("t0")


async def test_who_asked_may_die_and_what_was_asked_is_done() -> None:
    store, script = Gated(), Script()
    async with gateway({"bot": script}, store) as g, g.opened(KEY, "again") as session:
        store.go.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await session.asked(Send("t", "hi"))
        store.go.set()
        assert (await script.given("t")).turn.content == "hi"


async def test_an_agent_is_given_what_was_said_before_without_what_waits() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g, g.opened(KEY, "again") as session:
        for number in (1, 2, 3):
            await session.asked(Send(f"t{number}", f"q{number}", metadata={"n": number}), f"request-{number}")
        for number in (1, 2, 3):
            said = await script.given(f"t{number}")
            assert said.turn.request_id == f"request-{number}"
            assert said.turn.metadata == {"n": number}
            past = [one.content for one in said.turn.history]
            assert past == [f"{letter}{earlier}" for earlier in range(1, number) for letter in "qa"]
            said.say(f"a{number}")
            said.end()


async def test_a_bug_costs_one_session_whose_turn_is_interrupted_and_which_goes_on() -> None:
    store, script = Gated(), Script()
    async with gateway({"bot": script}, store, Settings(due_interval=0.05, drain_timeout=0.01)) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t1", content="hi")
        client.put("message", session_id="other", turn_id="o1", content="hi")
        said, other = await script.given("t1"), await script.given("o1")
        said.say("so far")
        await client.until(lambda frame: isinstance(frame, frames.TextDelta))
        await g.save()
        store.bug = ZeroDivisionError("a bug")
        client.put("message", session_id="s", turn_id="t2", content="more", ref="2")
        refused = await client.answer("2")
        assert (refused.code, refused.retryable) == ("internal", True)
        store.bug = None
        end = await client.terminal("t1")
        assert (end.code, end.partial) == ("turn_interrupted", "so far")
        client.put("message", session_id="s", turn_id="t2", content="more")
        (await script.given("t2")).end()
        assert (await client.terminal("t2")).status == "completed"
        other.end()
        assert (await client.terminal("o1")).status == "completed"
        assert g.runtime.metrics.crashes
        assert client.broken is None


async def test_a_name_given_while_a_turn_runs_survives_the_state_that_the_turn_saves() -> None:
    store, script = MemoryStore(), Script()
    async with gateway({"bot": script}, store) as g, g.opened(KEY, "again") as session:
        await session.asked(Send("t", "hi"))
        said = await script.given("t")
        said.turn.state["count"] = 1
        await store.label(KEY, "my name", 1.0)
        said.end()
        async with asyncio.timeout(WAIT):
            while session.answer is not None:
                await settle(1)
        info = (await store.load(KEY)).info
        assert (info.label, info.state) == ("my name", {"count": 1})


async def test_a_session_that_is_not_there_is_made_only_on_demand() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        with pytest.raises(Refused) as refused:
            async with g.opened(KEY):
                pass
        assert refused.value.code == "session_not_found"
        assert not g.sessions
        async with g.opened(KEY, "new"):
            pass
        await g.delete(KEY)
        with pytest.raises(Refused) as refused:
            async with g.opened(KEY, "new"):
                pass
        assert refused.value.code == "session_closed"
        async with g.opened(KEY, "again") as session:
            with pytest.raises(Refused) as refused:
                await session.asked(Open(must_be_new=True))
            assert refused.value.code == "session_exists"


async def test_a_turn_whose_records_are_damaged_has_an_end_and_the_session_goes_on() -> None:
    store, script = MemoryStore(), Script()
    begun = [Message("t1", "hi", 1.0), Started("t1", "a node that is gone", 1.0)]
    await store.create(Info(KEY, 1.0, 1.0), "made", begun)
    store._logs[KEY]._records = [b"{", b"}"]
    async with gateway({"bot": script}, store, Settings(due_interval=0.05, drain_timeout=0.01)) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t2", content="more")
        said = await script.given("t2")
        assert [(one.turn_id, one.status) for one in said.turn.history] == [("t1", None), ("t1", "failed")]
        said.end()
        assert (await client.terminal("t2")).status == "completed"
        late = Client(g)
        head = (await store.load(KEY)).head
        late.put("attach", sessions=[{"session_id": "s", "cursor": f"{head.epoch}.0.0"}])
        await late.terminal("t2")
        assert [type(frame) for frame in late.of("s", frames.Message, frames.Error, frames.Response)] == [
            frames.Message,
            frames.Error,
            frames.Message,
            frames.Response,
        ]
        assert client.broken is late.broken is None
