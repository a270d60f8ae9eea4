"""One bug costs one session, or one line: whatever raises, everybody else goes on, and so do the works behind
them."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gateway.auth import Identity
from gateway.interfaces import Due, Head, Info, Key, Loaded, Saved, Segment
from gateway.runtime import Tasks
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol import frames
from protocol.records import Message, Record, Started
from protocol.session import Cancel, Send
from tests.harness import WAIT, Client, Script, gateway, settle

BAD = Key("bot", "ann", "bad")
GOOD = Key("bot", "ann", "good")
SECRET = "the butler did it"
QUICK = Settings(due_interval=0.05, save_interval=0.01, drain_timeout=0.01, heartbeat=0.01)

Logged = Callable[..., io.StringIO]


def bug() -> RuntimeError:
    return RuntimeError(SECRET)


class Broken(MemoryStore):
    """A store with a bug in one of its verbs, for the session BAD only; `raises` makes what it raises."""

    def __init__(self, verb: str = "", raises: Callable[[], BaseException] = bug) -> None:
        super().__init__()
        self.verb = verb
        self.raises = raises
        self.raised = asyncio.Event()

    def _in(self, verb: str, keys: Sequence[Key] = (BAD,)) -> None:
        if verb == self.verb and BAD in keys:
            self.raised.set()
            raise self.raises()

    async def load(self, key: Key) -> Loaded:
        self._in("load", [key])
        return await super().load(key)

    async def append(self, key: Key, head: Head, tag: str, records: Sequence[Record], **more: Any) -> Head:
        self._in("append", [key])
        return await super().append(key, head, tag, records, **more)

    async def save_text(self, batch: Sequence[Segment]) -> list[Saved]:
        self._in("save_text", [segment.key for segment in batch])
        return await super().save_text(batch)

    async def due(self, now: float, node: str) -> list[Due]:
        self._in("due")
        return await super().due(now, node)

    async def trim(self, now: float) -> int:
        self._in("trim")
        return await super().trim(now)

    def watch(self, key: Key, changed: Callable[[Head | None], None]) -> None:
        self._in("watch", [key])
        super().watch(key, changed)

    def unwatch(self, key: Key, changed: Callable[[Head | None], None]) -> None:
        super().unwatch(key, changed)
        self._in("unwatch", [key])


async def talks(g: Supervisor, script: Script, session_id: str, turn_id: str) -> None:
    """Somebody comes, says something in that session, and is answered."""
    client = Client(g)
    client.put("message", session_id=session_id, turn_id=turn_id, content="hi", create=True)
    said = await script.given(turn_id)
    said.say("hello")
    said.end()
    assert (await client.terminal(turn_id)).content == "hello"
    client.vanish()
    await settle()


@pytest.mark.parametrize(
    ("verb", "raises"),
    [
        ("load", bug),
        ("load", asyncio.CancelledError),
        ("append", bug),
        ("append", asyncio.CancelledError),
        ("watch", bug),
        ("unwatch", bug),
    ],
)
async def test_a_bug_in_a_verb_costs_the_session_it_was_called_for(
    verb: str, raises: Callable[[], BaseException]
) -> None:
    script, store = Script(), Broken()
    async with gateway({"bot": script}, store, QUICK) as g:
        good = Client(g)
        good.put("message", session_id="good", turn_id="g1", content="hi")
        said = await script.given("g1")
        await talks(g, script, "bad", "b1")
        store.verb, store.raises = verb, raises
        bad = Client(g)
        for number in range(3):
            bad.put("message", session_id="bad", turn_id=f"x{number}", content="hi", ref=f"x{number}")
        for number in range(3):
            answer = await bad.answer(f"x{number}")
            if verb != "unwatch":
                assert (answer.code, answer.retryable) == ("internal", True)
        if verb == "unwatch":
            bad.put("cancel", session_id="bad", turn_id="x2")
            bad.put("cancel", session_id="bad", turn_id="x1")
            bad.put("cancel", session_id="bad", turn_id="x0")
            await bad.terminal("x0")
            bad.vanish()
        await asyncio.wait_for(store.raised.wait(), WAIT)
        said.say("hello")
        said.end()
        assert (await good.terminal("g1")).content == "hello"
        store.verb = ""
        await talks(g, script, "bad", "b2")
        await talks(g, script, "good", "g2")


async def test_a_session_that_cannot_be_settled_keeps_nobody_from_going_on_and_is_tried_again() -> None:
    script, store = Script(), Broken()
    async with gateway({"bot": script}, store, QUICK) as g:
        bad = Client(g)
        bad.put("message", session_id="bad", turn_id="b1", content="hi")
        await script.given("b1")
        store.verb = "append"
        for number in range(3):
            bad.put("message", session_id="bad", turn_id=f"x{number}", content="hi", ref=f"x{number}")
            assert (await bad.answer(f"x{number}")).code == "internal"
        await talks(g, script, "good", "g1")
        store.verb = ""
        assert (await bad.terminal("b1")).code == "turn_interrupted"
        await talks(g, script, "bad", "b2")


@pytest.mark.parametrize("raises", [bug, asyncio.CancelledError])
@pytest.mark.parametrize("verb", ["due", "trim", "save_text"])
async def test_what_is_done_again_and_again_goes_on_after_a_bug(
    verb: str, raises: Callable[[], BaseException]
) -> None:
    script, store = Script(), Broken()
    settings = Settings(due_interval=0.05, save_interval=0.01, trim_interval=0.05, drain_timeout=0.01)
    async with gateway({"bot": script}, store, settings) as g:
        client = Client(g)
        client.put("message", session_id="bad", turn_id="t", content="hi")
        said = await script.given("t")
        store.verb, store.raises = verb, raises
        said.say("so far")
        for _ in range(2):
            await asyncio.wait_for(store.raised.wait(), WAIT)
            store.raised.clear()
            if verb == "save_text":
                break
        store.verb = ""
        left = [Message("o", "hi", 1.0), Started("o", "dead", 1.0)]
        await store.create(Info(GOOD, 1.0, 1.0), "tag", left)
        client.put("attach", sessions=[{"session_id": "good"}])
        client.put("message", session_id="good", turn_id="next", content="hi")
        next_ = await script.given("next")  # the orphan before it was settled
        next_.say("saved")
        async with asyncio.timeout(WAIT):
            while await store.text(GOOD) != ("next", "saved"):
                await settle(1)


async def test_a_text_that_cannot_be_saved_ends_its_turn_and_all_others_are_saved() -> None:
    script, store = Script(), Broken("save_text")
    async with gateway({"bot": script}, store, QUICK) as g:
        client = Client(g)
        for session_id in ("good", "bad"):
            client.put("message", session_id=session_id, turn_id=session_id, content="hi")
        for session_id in ("bad", "good"):
            (await script.given(session_id)).say("so far")
            await asyncio.wait_for(store.raised.wait(), WAIT)
        end = await client.terminal("bad")
        assert (end.code, end.retryable, end.partial) == ("internal", True, "so far")
        async with asyncio.timeout(WAIT):
            while await store.text(GOOD) != ("good", "so far"):
                await settle(1)
        (await script.given("good")).end()
        assert (await client.terminal("good")).content == "so far"


async def test_who_cannot_be_answered_keeps_nobody_from_being_answered() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore(), QUICK) as g, g.opened(GOOD, "again") as session:

        def answer(_: object) -> None:
            raise bug()

        session.ask(Cancel("unknown"), answer)
        for number in range(3):
            session.ask(Send(f"t{number}", "hi"), answer)
        assert (await session.asked(Send("t2", "hi"))).duplicate
        await script.given("t0")


class Line:
    """A line of which everything that the supervisor wants of it is a bug."""

    identity = Identity("ann")
    lagging = 0

    def __init__(self) -> None:
        self.ticked = asyncio.Event()
        self.left: list[str] = []

    def tick(self, now: float) -> None:  # noqa: ARG002
        self.ticked.set()
        raise bug()

    def goaway(self, reason: str, reconnect_after_ms: int) -> None:  # noqa: ARG002
        self.left.append("goaway")
        raise bug()

    def revoke(self, reason: str) -> None:  # noqa: ARG002
        raise bug()

    async def close(self, code: int, reason: str) -> None:  # noqa: ARG002
        self.left.append("close")
        raise bug()


async def test_a_broken_line_keeps_no_other_from_its_signs_of_life_and_its_goodbye() -> None:
    broken = Line()
    async with gateway({"bot": Script()}, MemoryStore(), QUICK) as g:
        g.lines["broken"] = broken
        client = Client(g)
        await asyncio.wait_for(broken.ticked.wait(), WAIT)
        await client.until(lambda frame: isinstance(frame, frames.Pong))
    assert any(isinstance(frame, frames.Goaway) for frame in client.frames)
    assert client.close_code == 1001
    assert broken.left[0] == "goaway"
    assert "close" in broken.left


async def test_a_task_that_raises_is_logged_without_its_text_and_costs_nobody(logged: Logged) -> None:
    logs = logged()
    events: list[str] = []

    async def at_once() -> None:
        raise bug()

    async def later() -> None:
        await asyncio.sleep(0)
        raise bug()

    async def other() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("cancelled")
            await asyncio.sleep(0)
            events.append("cleaned up")
            raise

    async with Tasks() as tasks:
        tasks.start_soon(other)
        for function in (at_once, later):
            tasks.start_soon(function)
            tasks.start_now(function())
        await settle()
        assert not events
        tasks.start_now(other())
    assert events == ["cancelled", "cancelled", "cleaned up", "cleaned up"]
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["task failed"] * 4
    assert all(line["error"].startswith("RuntimeError at ") for line in lines)
    assert SECRET not in logs.getvalue()


async def test_what_is_begun_while_a_group_ends_is_cancelled_at_its_first_wait() -> None:
    tasks, events = Tasks(), list[str]()

    async def last_words(name: str) -> None:
        events.append(f"{name} begins")
        try:
            await asyncio.Event().wait()
        finally:
            events.append(f"{name} ends")

    async def first() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tasks.start_now(last_words("second"))

    async with tasks:
        tasks.start_now(first())
    assert events == ["second begins", "second ends"]
