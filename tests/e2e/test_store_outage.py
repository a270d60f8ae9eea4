"""A store that does not answer for a while: who asks is told, and nothing is lost or done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import pytest

from gateway import ToolCall, ToolResult
from gateway.interfaces import Key, Store, Unavailable
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from protocol import frames, records
from tests.harness import WAIT, Client, Script, gateway, settle

When = Literal["before", "after", "never"]
KEY = Key("bot", "ann", "s")
QUICK = Settings(save_interval=0.01, drain_timeout=0.01, tail_bytes=1_000)


class Flaky:
    """A store whose verbs fail while they are in `failing`: before they did anything, or after; or they only
    wait until it is healed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failing: dict[str, When] = {}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        """Every call that failed, and its arguments."""
        self._failed = asyncio.Event()
        self._healed = asyncio.Event()

    def fail(self, when: When, *verbs: str) -> None:
        self._healed.clear()
        self.failing = dict.fromkeys(verbs, when)

    def heal(self) -> None:
        self.failing = {}
        self._healed.set()

    async def failed(self, verb: str, times: int) -> None:
        """Wait until that verb failed so often."""
        async with asyncio.timeout(WAIT):
            while sum(name == verb for name, _ in self.calls) < times:
                self._failed.clear()
                await self._failed.wait()

    def __getattr__(self, name: str) -> Any:
        verb: Callable[..., Any] = getattr(self.store, name)
        if not asyncio.iscoroutinefunction(verb):
            return verb

        async def call(*args: Any, **kwargs: Any) -> Any:
            when = self.failing.get(name)
            if when in ("after", None):
                answer = await verb(*args, **kwargs)
            if when is None:
                return answer
            self.calls.append((name, args))
            self._failed.set()
            if when == "never":
                await self._healed.wait()
            raise Unavailable

        return call


async def log_of(store: Flaky) -> list[records.Record]:
    entries = await store.store.read(KEY, 0, 1_000, 1 << 30)
    assert entries is not None
    return [entry.record for entry in entries]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_message_whose_fate_is_unknown_is_repeated_by_the_gateway_and_may_be_by_its_sender(
    when: When,
) -> None:
    script, store = Script(), Flaky(MemoryStore())
    async with gateway({"bot": script}, store, QUICK) as g:  # type: ignore[arg-type]
        client = Client(g)
        client.put("attach", sessions=[{"session_id": "s", "create": True}], ref="a")
        await client.answer("a")
        store.fail(when, "append")
        client.put("message", session_id="s", turn_id="t", content="hi", ref="1")
        refused = await client.answer("1")
        assert (refused.code, refused.retryable, refused.turn_id) == ("store_unavailable", True, "t")
        await store.failed("append", 2)
        assert not script.turns, "a turn ran that nobody had promised"
        assert len({args[2] for _, args in store.calls}) == 1, "it was not repeated under its own tag"
        store.heal()
        said = await script.given("t")
        client.put("message", session_id="s", turn_id="t", content="hi", ref="2")
        assert await client.answer("2") == frames.Ok("2", "s", "t", "started", True)
        said.say("hello")
        said.end()
        assert (await client.terminal("t")).content == "hello"
        kinds = [type(record) for record in await log_of(store)]
        assert kinds == [records.Message, records.Started, records.Response]
        assert len(script.turns) == 1
        assert client.broken is None


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_answer_that_ends_in_an_outage_is_kept_whole_and_the_next_turn_runs(when: When) -> None:
    script, store = Script(), Flaky(MemoryStore())
    async with gateway({"bot": script}, store, QUICK) as g:  # type: ignore[arg-type]
        client = Client(g)
        client.put("message", session_id="s", turn_id="t1", content="hi")
        client.put("message", session_id="s", turn_id="t2", content="wait", ref="2")
        await client.answer("2")
        said = await script.given("t1")
        said.say("before, ")
        await settle()
        store.fail(when, "append", "save_text")
        said.say("meanwhile")
        await client.until(lambda frame: isinstance(frame, frames.TextDelta) and "mean" in frame.content)
        await store.failed("save_text", 1)
        assert not g.store_reachable
        said.end()
        await store.failed("append", 2)
        assert not client.of("s", frames.Response), "an end was told that is not durable"
        store.heal()
        assert (await client.terminal("t1")).content == "before, meanwhile"
        said = await script.given("t2")
        said.end()
        await client.terminal("t2")
        ends = [record for record in await log_of(store) if isinstance(record, records.Terminal)]
        assert [end.turn_id for end in ends] == ["t1", "t2"]
        assert client.broken is None


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_tool_used_in_an_outage_costs_the_turn_nothing_but_time(when: When) -> None:
    script, store = Script(), Flaky(MemoryStore())
    async with gateway({"bot": script}, store, QUICK) as g:  # type: ignore[arg-type]
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        said.say("Let me see. ")
        store.fail(when, "append")
        said.say(ToolCall("c", "look", {}))
        await store.failed("append", 2)
        store.heal()
        said.say(ToolResult("c", "found"))
        said.say("There.")
        said.end()
        assert (await client.terminal("t")).content == "Let me see. There."
        assert [type(record) for record in await log_of(store)] == [
            records.Message, records.Started, records.ToolCall, records.ToolResult, records.Response,
        ]  # fmt: skip
        assert client.broken is None


async def test_a_laggard_whose_page_could_not_be_read_gets_it_later() -> None:
    script, store = Script(), Flaky(MemoryStore())
    async with gateway({"bot": script}, store, QUICK) as g:  # type: ignore[arg-type]
        fast, slow = Client(g), Client(g)
        slow.put("attach", sessions=[{"session_id": "s", "create": True}], ref="a")
        await slow.answer("a")
        slow.stall()
        for number in range(8):
            fast.put("message", session_id="s", turn_id=f"t{number}", content="x" * 300)
            (await script.given(f"t{number}")).end()
            await fast.terminal(f"t{number}")
        store.fail("before", "read")
        slow.resume()
        await store.failed("read", 1)
        store.heal()
        await slow.terminal("t7")
        assert slow.broken is None


@pytest.mark.parametrize("when", ["before", "never"])
async def test_a_turn_whose_history_cannot_be_read_fails_as_one_to_be_tried_again(when: When) -> None:
    script, store = Script(), Flaky(MemoryStore())
    settings = msgspec.structs.replace(QUICK, store_timeout=0.2)
    async with gateway({"bot": script}, store, settings) as g:  # type: ignore[arg-type]
        client = Client(g)
        store.fail(when, "history")
        client.put("message", session_id="s", turn_id="t1", content="hi")
        end = await client.terminal("t1")
        assert (end.code, end.retryable) == ("store_unavailable", True)
        store.heal()
        client.put("message", session_id="s", turn_id="t2", content="hi", replaces="t1")
        (await script.given("t2")).end()
        assert (await client.terminal("t2")).status == "completed"


async def test_the_end_of_a_turn_is_not_forgotten_though_others_wrote_and_cannot_be_read() -> None:
    script, memory = Script(), MemoryStore()
    store = Flaky(memory)
    async with (
        gateway({"bot": script}, store, QUICK) as one,  # type: ignore[arg-type]
        gateway({"bot": script}, memory, QUICK) as two,  # type: ignore[arg-type]
    ):
        here, there = Client(one), Client(two)
        here.put("message", session_id="s", turn_id="t1", content="hi")
        said = await script.given("t1")
        store.fail("before", "load", "append")
        said.end()
        await store.failed("append", 1)
        there.put("message", session_id="s", turn_id="t2", content="from elsewhere", ref="2")
        assert (await there.answer("2")).status == "queued"
        store.fail("before", "load")
        await store.failed("load", 2)
        store.heal()
        assert (await here.terminal("t1")).status == "completed"
        (await script.given("t2")).end()
        assert (await there.terminal("t2")).status == "completed"
        assert here.broken is None
        assert there.broken is None


@pytest.mark.parametrize("when", ["before", "never"])
@pytest.mark.parametrize("verb", ["find", "load", "create", "read", "history"])
async def test_whoever_asks_in_an_outage_is_told_so_and_may_ask_again(verb: str, when: When) -> None:
    script, store = Script(), Flaky(MemoryStore())
    settings = msgspec.structs.replace(QUICK, store_timeout=0.2)
    async with gateway({"bot": script}, store, settings) as g:  # type: ignore[arg-type]
        first = Client(g)
        first.put("message", session_id="s", turn_id="t", content="hi")
        (await script.given("t")).end()
        end = await first.terminal("t")
        first.vanish()
        await settle()
        client = Client(g)
        target: dict[str, Any] = {"session_id": "new" if verb == "create" else "s", "create": True}
        if verb == "read":
            target["cursor"] = end.cursor.replace(".3.0", ".1.0")
        store.fail(when, verb)
        client.put("attach", sessions=[target, {"session_id": "third", "agent": "bot"}], ref="1")
        await client.answer("1")
        refused = {error.session_id: error.code for error in client.frames if isinstance(error, frames.Error)}
        assert refused[target["session_id"]] == "store_unavailable"
        assert "third" in refused
        store.heal()
        client.put("attach", sessions=[target], ref="2")
        assert isinstance(await client.answer("2"), frames.Ok)
        assert client.broken is None
