"""Agents that were stopped and still clean up, or were never called: no turn begins beside another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import hypothesis
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway import Turn
from gateway.interfaces import Key, Store
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.stores.sqlite import SqliteStore
from gateway.supervisor import Supervisor
from protocol import frames
from protocol.errors import Refused
from tests.gateway.asgi import played
from tests.gateway.test_session import Gated
from tests.harness import WAIT, Client, gateway, settle

KEY = Key("bot", "ann", "s")
QUICK = Settings(due_interval=0.05, drain_timeout=0.01)


class Tidy:
    """An agent that says one word and waits. One that is stopped cleans up until the test sets `clean`."""

    history = 0

    def __init__(self) -> None:
        self.clean = asyncio.Event()
        self.begun: list[str] = []
        self.at_work: set[str] = set()
        """Turns whose agents were called and are not gone."""
        self.beside: list[tuple[str, str]] = []
        """Turns that began while another one was at work, and which."""
        self._moved = asyncio.Event()

    async def __call__(self, turn: Turn) -> AsyncGenerator[str, None]:
        self.beside += [(turn.turn_id, other) for other in self.at_work]
        self.begun.append(turn.turn_id)
        self.at_work.add(turn.turn_id)
        self._moved.set()
        try:
            yield "word"
            if turn.content != "end":
                await asyncio.Event().wait()
        finally:
            if turn.content != "end":
                await self.clean.wait()
            self.at_work.remove(turn.turn_id)
            self._moved.set()

    async def began(self, turn_id: str) -> None:
        async with asyncio.timeout(WAIT):
            while turn_id not in self.begun:
                self._moved.clear()
                await self._moved.wait()

    async def check(self) -> str:
        return "It is tidy."

    async def aclose(self) -> None:
        pass


async def attached(g: Supervisor, create: bool = True) -> Client:
    client = Client(g)
    client.put("attach", sessions=[{"session_id": "s", "create": create}], ref="attach")
    assert isinstance(await client.answer("attach"), frames.Ok)
    return client


@pytest.mark.parametrize("stop", ["cancel", "interrupt"])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_message_stopped_in_the_very_write_that_brought_it_is_no_turn_beside_the_next(
    kind: str, stop: str, tmp_path: Path
) -> None:
    agent = Tidy()
    store: Store = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "test.db")
    async with gateway({"bot": agent}, store, QUICK) as g:
        client = await attached(g)
        client.put("message", session_id="s", turn_id="t1", content="hi")
        if stop == "cancel":
            client.put("cancel", session_id="s", turn_id="t1", ref="c")
            assert isinstance(await client.answer("c"), frames.Ok)
        client.put("message", session_id="s", turn_id="t2", content="end", on_busy="interrupt")
        end = await client.terminal("t1")
        assert isinstance(end, frames.Response)
        assert end.status == "cancelled"
        agent.clean.set()
        assert (await client.terminal("t2")).status == "completed"
        assert not agent.beside
        if kind == "memory" or stop == "cancel":
            assert agent.begun == ["t2"], "it was called though it was over"
        assert client.broken is None


async def test_after_two_interrupts_in_a_row_the_third_turn_waits_for_the_first_ones_clean_up() -> None:
    agent = Tidy()
    async with gateway({"bot": agent}, MemoryStore(), QUICK) as g:
        client = await attached(g)
        client.put("message", session_id="s", turn_id="t1", content="hi")
        await agent.began("t1")
        for turn_id in ("t2", "t3"):
            client.put(
                "message", session_id="s", turn_id=turn_id, content="end", on_busy="interrupt", ref=turn_id
            )
            await client.answer(turn_id)
            await settle()
        assert (await client.terminal("t2")).status == "cancelled"
        agent.clean.set()
        assert (await client.terminal("t3")).status == "completed"
        assert (agent.begun, agent.beside) == (["t1", "t3"], [])


async def test_a_session_that_nobody_follows_remembers_who_cleans_up() -> None:
    agent = Tidy()
    async with gateway({"bot": agent}, MemoryStore(), QUICK) as g:
        client = await attached(g)
        client.put("message", session_id="s", turn_id="t1", content="hi")
        await agent.began("t1")
        client.put("message", session_id="s", turn_id="t2", content="end", on_busy="interrupt")
        await settle()
        client.put("cancel", session_id="s", turn_id="t2")
        await client.terminal("t2")
        client.vanish()
        await settle()
        again = await attached(g, create=False)
        again.put("message", session_id="s", turn_id="t3", content="end", ref="3")
        assert (await again.answer("3")).status == "started"
        await settle()
        agent.clean.set()
        assert (await again.terminal("t3")).status == "completed"
        assert not agent.beside
        again.vanish()
        await settle()
        assert not g.sessions


async def test_a_session_deleted_and_made_again_waits_for_the_old_ones_clean_up() -> None:
    agent = Tidy()
    async with gateway({"bot": agent}, MemoryStore(), QUICK) as g:
        client = await attached(g)
        client.put("message", session_id="s", turn_id="t1", content="hi")
        await agent.began("t1")
        client.put("message", session_id="s", turn_id="t2", content="end", on_busy="interrupt")
        await settle()
        await g.delete(KEY)
        await settle()
        again = await attached(g)
        again.put("message", session_id="s", turn_id="t3", content="end")
        await settle()
        agent.clean.set()
        assert (await again.terminal("t3")).status == "completed"
        assert not agent.beside


async def test_a_session_that_crashed_waits_for_the_clean_up_of_what_ran() -> None:
    agent, store = Tidy(), Gated()
    async with gateway({"bot": agent}, store, QUICK) as g:
        client = await attached(g)
        client.put("message", session_id="s", turn_id="t1", content="hi")
        await agent.began("t1")
        store.bug = ZeroDivisionError("a bug")
        client.put("message", session_id="s", turn_id="t2", content="end", ref="2")
        assert (await client.answer("2")).code == "internal"
        store.bug = None
        assert (await client.terminal("t1")).code == "turn_interrupted"
        client.put("message", session_id="s", turn_id="t3", content="end")
        await settle()
        agent.clean.set()
        assert (await client.terminal("t3")).status == "completed"
        assert not agent.beside


async def test_who_never_cleans_up_is_waited_for_once_and_then_kept_in_mind_no_longer() -> None:
    agent = Tidy()
    settings = Settings(cleanup_timeout=0.05, drain_timeout=0.01)
    async with gateway({"bot": agent}, MemoryStore(), settings) as g:
        client = await attached(g)
        client.put("message", session_id="s", turn_id="t1", content="hi")
        await agent.began("t1")
        for turn_id in ("t2", "t3"):
            client.put(
                "message", session_id="s", turn_id=turn_id, content="end", on_busy="interrupt", ref=turn_id
            )
            await client.answer(turn_id)
        assert (await client.terminal("t3")).status == "completed"
        client.put("message", session_id="s", turn_id="t4", content="end")
        assert (await client.terminal("t4")).status == "completed"
        assert g.runtime.metrics.abandoned == 1
        client.vanish()
        await settle()
        assert not g.sessions
        agent.clean.set()


# ── In every interleaving ───────────────────────────────────────────────────────────────────────────────────


class Slow:
    """An agent that says two words, a second apart, and needs two seconds to clean up if it is stopped."""

    history = 0

    def __init__(self) -> None:
        self.at_work: list[str] = []
        self.beside: list[list[str]] = []

    async def __call__(self, turn: Turn) -> AsyncGenerator[str, None]:
        self.at_work.append(turn.turn_id)
        if len(self.at_work) > 1:
            self.beside.append([*self.at_work])
        try:
            yield "two "
            await asyncio.sleep(1.0)
            yield "words"
        except asyncio.CancelledError:
            await asyncio.sleep(2.0)
            raise
        finally:
            self.at_work.remove(turn.turn_id)

    async def check(self) -> str:
        return "It is slow."

    async def aclose(self) -> None:
        pass


Deed = Literal["enqueue", "interrupt", "cancel", "leave", "delete", "crash"]

deeds = st.lists(
    st.tuples(
        st.sampled_from(["enqueue", "interrupt", "interrupt", "cancel", "leave", "delete", "crash"]),
        st.sampled_from([0.0, 0.0, 0.1, 1.5]),
    ),
    max_size=12,
)


async def beside(story: list[tuple[Deed, float]]) -> list[list[str]]:
    """Which turns were at work at the same time."""
    agent, store = Slow(), Gated()
    async with gateway({"bot": agent}, store, Settings(due_interval=1.0, drain_timeout=0.01)) as g:
        client = Client(g)
        for number, (deed, seconds) in enumerate(story):
            match deed:
                case "enqueue" | "interrupt":
                    client.put("message", session_id="s", content="hi", on_busy=deed, create=True)
                case "cancel":
                    client.put("cancel", session_id="s")
                case "leave":
                    client.vanish()
                    client = Client(g)
                case "delete":
                    client.put("detach", session_ids=["s"], ref=f"d{number}")
                    with suppress(Refused):
                        await g.delete(KEY)
                case "crash":
                    store.bug = ZeroDivisionError()
                    client.put("message", session_id="s", content="hi")
                    await settle()
                    store.bug = None
            await asyncio.sleep(seconds)
        await asyncio.sleep(60.0)
        assert not agent.at_work
    return agent.beside


@hypothesis.settings(deadline=None)
@given(deeds)
def test_whatever_is_done_to_a_session_no_turn_begins_before_all_others_have_cleaned_up(
    story: list[tuple[Deed, float]],
) -> None:
    with structlog.testing.capture_logs():  # of the crashes; rendering them takes longer than all the rest
        assert not played(beside(story))
