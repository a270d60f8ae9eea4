"""The mailbox: how much may wait in it, and for how long, while the store does not answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import Turn
from gateway.actor import Ask, Delete, Move, Refresh
from gateway.agents.function import FunctionAgent
from gateway.interfaces import NO_SCOPES, Head, Info, Key, Scopes, ToolCall, Unavailable
from gateway.opening import Open
from gateway.session import Session
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from protocol import frames
from protocol.errors import Refused
from protocol.lifetime import Configure, Renew, Tend, Terms
from protocol.records import Event, Message, Record, Response, Started
from protocol.session import Accepted, Cancel, Note, Send
from tests.gateway.asgi import played
from tests.harness import WAIT, Client, Script, gateway, settle

KEY = Key("bot", "ann", "s")
SETTINGS = Settings(max_asking=100, store_timeout=0.2, save_interval=0.01, drain_timeout=0.01)

Outage = Literal["refuses", "hangs", "forgets to answer"]


class Away(MemoryStore):
    """A store that is away while the test says so: what is to be appended it refuses, or does not answer; or
    it appends that, and nobody hears of it."""

    def __init__(self) -> None:
        super().__init__()
        self.outage: Outage | None = None
        self.asked = asyncio.Event()
        """Somebody wants something to be appended during an outage."""
        self._back = asyncio.Event()

    def goes(self, outage: Outage) -> None:
        self.outage = outage
        self.asked.clear()
        self._back.clear()

    def comes_back(self) -> None:
        self.outage = None
        self._back.set()

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
        if self.outage is not None:
            self.asked.set()
            if self.outage == "hangs":
                await self._back.wait()
            elif self.outage == "forgets to answer":
                await super().append(key, head, tag, records, text=text, info=info, scopes=scopes)
            raise Unavailable
        return await super().append(key, head, tag, records, text=text, info=info, scopes=scopes)

    async def log(self) -> list[Record]:
        entries = await self.read(KEY, 0, 1_000, 1 << 30)
        assert entries is not None
        return [entry.record for entry in entries]


class Askers:
    """Everybody who asks, and what each was told."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._told = asyncio.Event()
        self.answers: list[tuple[Ask, Accepted | BaseException]] = []

    def ask(self, ask: Ask) -> None:
        def answer(answered: Accepted | BaseException) -> None:
            self.answers.append((ask, answered))
            self._told.set()

        self._session.ask(ask, answer)

    async def told(self, number: int) -> Counter[str]:
        """What so many of them were told, when they were: codes of refusals, or `ok`."""
        async with asyncio.timeout(WAIT):
            while len(self.answers) < number:
                self._told.clear()
                await self._told.wait()
        return Counter(
            answered.code if isinstance(answered, Refused) else type(answered).__name__
            for _, answered in self.answers
        )


@pytest.mark.parametrize("outage", ["refuses", "hangs"])
async def test_in_an_outage_whoever_asks_anything_is_answered_and_few_wait(outage: Outage) -> None:
    store, script = Away(), Script()
    others: list[Ask] = [
        Delete(),
        Move(KEY._replace(user="eve")),
        Open(),
        Refresh(),
        Renew(),
        Tend(),
        Configure(Terms(timeout_minutes=60)),
        Note(Event("test", {}, 1.0), {"key": "set by a note"}),
        Cancel("t1"),
        *[Send(f"u{number}", "hi") for number in range(200)],
    ]
    async with gateway({"bot": script}, store, SETTINGS) as g, g.opened(KEY, "again") as session:
        askers = Askers(session)
        store.goes(outage)
        askers.ask(Send("t1", "hi"))
        await asyncio.wait_for(store.asked.wait(), WAIT)
        for ask in others:
            askers.ask(ask)
        for _ in range(4_000):
            askers.ask(Cancel("never seen"))
        told = await askers.told(1 + len(others) + 4_000)
        assert told.keys() == {"store_unavailable", "overloaded"}
        assert told["store_unavailable"] <= 1 + 2 * SETTINGS.max_asking
        assert all(answered.retryable for _, answered in askers.answers if isinstance(answered, Refused))
        store.comes_back()
        said = await script.given("t1")
        assert await session.asked(Send("t1", "hi")) == Accepted("t1", "started", duplicate=True)
        await session.asked(Send("u1", "hi"))
        said.end()
        (await script.given("u1")).end()
        await settle()
        assert [type(record) for record in await store.log()] == [
            Message, Started, Message, Response, Started, Response,
        ]  # fmt: skip
        loaded = await store.load(KEY)
        assert (loaded.info.state, loaded.info.life) == ({}, None), "what was refused was done"
        assert len(askers.answers) == 1 + len(others) + 4_000, "somebody was answered twice"


@pytest.mark.parametrize("outage", ["refuses", "hangs"])
@pytest.mark.parametrize("behind", ["nothing", "a message", "a tool"])
async def test_a_turn_that_runs_here_is_stopped_though_the_store_does_not_answer(
    behind: str, outage: Outage
) -> None:
    store, script = Away(), Script()
    async with gateway({"bot": script}, store, SETTINGS) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t1", content="hi")
        said = await script.given("t1")
        said.say("so far")
        await client.until(lambda frame: isinstance(frame, frames.TextDelta))
        store.goes(outage)
        if behind == "a message":
            client.put("message", session_id="s", turn_id="t2", content="hi", ref="2")
        elif behind == "a tool":
            said.say(ToolCall("c", "look", {}))
        if behind != "nothing":
            await asyncio.wait_for(store.asked.wait(), WAIT)
        client.put("cancel", session_id="s", turn_id="t1", ref="c")
        refused = await client.answer("c")
        assert (refused.code, refused.retryable) == ("store_unavailable", True)
        await asyncio.wait_for(said.closed.wait(), WAIT)
        assert not client.of("s", frames.Response), "an end was told that is not durable"
        store.comes_back()
        end = await client.terminal("t1")
        assert (end.status, end.content) == ("cancelled", "so far")
        client.put("cancel", session_id="s", turn_id="t1", ref="again")
        assert await client.answer("again") == frames.Ok("again", "s", "t1")
        if behind == "a message":
            (await script.given("t2")).end()
            assert (await client.terminal("t2")).status == "completed"
        ends = [record.turn_id for record in await store.log() if isinstance(record, Response)]
        assert ends == ["t1", "t2"][: len(ends)]
        assert client.broken is None


async def test_what_nobody_in_particular_asks_waits_once() -> None:
    store: Any = Away()
    async with gateway({"bot": Script()}, store, SETTINGS) as g, g.opened(KEY, "again") as session:
        loads = 0

        async def load(key: Key) -> Any:
            nonlocal loads
            loads += 1
            return await MemoryStore.load(store, key)

        store.goes("hangs")
        session.ask(Send("t1", "hi"))
        store.load = load
        for _ in range(1_000):
            session.ask(Refresh())
        store.comes_back()
        await session.asked(Open())
        assert loads == 1


# ── In every interleaving ───────────────────────────────────────────────────────────────────────────────────


class Scene(NamedTuple):
    """The store goes or comes back (None), this is asked, and so many seconds pass."""

    outage: Outage | None
    asks: list[Ask]
    seconds: float


scenes: st.SearchStrategy[list[Scene]] = st.lists(
    st.builds(
        Scene,
        st.sampled_from([None, "refuses", "hangs", "forgets to answer"]),
        st.lists(
            st.one_of(
                st.builds(
                    Send,
                    st.sampled_from([f"t{number}" for number in range(6)]),
                    st.just("hi"),
                    st.sampled_from(["enqueue", "interrupt", "reject"]),
                ),
                st.builds(Cancel, st.sampled_from([None, "t0", "t1", "t2", "t3"])),
                st.integers(0, 9).map(lambda number: Note(Event("note", number, 1.0))),
            ),
            max_size=6,
        ),
        st.sampled_from([0.0, 0.3, 3.0, 15.0]),
    ),
    max_size=8,
)


async def brief(_: Turn) -> AsyncIterator[str]:
    """An agent that needs some seconds for two words."""
    yield "two "
    await asyncio.sleep(4.0)
    yield "words"


async def told_in(story: list[Scene]) -> None:
    """Play it; check that everybody was told in time what is then found in the log."""
    store, loop = Away(), asyncio.get_running_loop()
    limits = Settings(max_asking=2, store_timeout=5.0, drain_timeout=0.01)
    told: list[tuple[Ask, Accepted | BaseException]] = []
    late: list[Ask] = []

    def asking(ask: Ask) -> Callable[[Accepted | BaseException], None]:
        at = loop.time()

        def answer(answered: Accepted | BaseException) -> None:
            told.append((ask, answered))
            if loop.time() - at > limits.store_timeout + 1.1:
                late.append(ask)

        return answer

    agents = {"bot": FunctionAgent(brief)}
    async with gateway(agents, store, limits, now=loop.time) as g, g.opened(KEY, "again") as session:
        for outage, asks, seconds in story:
            store.comes_back()
            if outage is not None:
                store.goes(outage)
            for ask in asks:
                session.ask(ask, asking(ask))
            await asyncio.sleep(seconds)
        store.comes_back()
        await asyncio.sleep(200.0)
        log = await store.log()
    assert not late, "whoever asked waited for too long"
    assert len(told) == sum(len(scene.asks) for scene in story), "somebody was not answered, or twice"
    messages = Counter(record.turn_id for record in log if isinstance(record, Message))
    notes = Counter(record.body for record in log if isinstance(record, Event))
    ends = {record.turn_id: record.status for record in log if isinstance(record, Response)}
    assert set(messages.values()) <= {1}
    assert ends.keys() == messages.keys(), "a turn has no end"
    done, possible = Counter[int](), Counter[int]()
    for ask, answered in told:
        match ask:
            case Send() if isinstance(answered, Accepted):
                assert messages[ask.turn_id] == 1, "what was accepted is lost"
            case Note():
                done[ask.event.body] += isinstance(answered, Accepted)
                possible[ask.event.body] += not _was_not_done(answered)
    assert done <= notes <= possible, "a note was lost, or refused and noted all the same"
    taken = {ask.turn_id for ask, answered in told if isinstance(ask, Send) and not _was_not_done(answered)}
    assert messages.keys() <= taken, "a message was refused and taken all the same"


def _was_not_done(answered: Accepted | BaseException) -> bool:
    return isinstance(answered, Refused) and "whether" not in answered.content


@settings(deadline=None)
@given(scenes)
def test_whatever_is_asked_and_however_the_store_goes_and_comes_what_is_told_is_true(
    story: list[Scene],
) -> None:
    played(told_in(story))
