"""Whatever an agent does costs its own turn and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from threading import Event
from typing import Any, NamedTuple

import pytest

from gateway import Turn
from gateway.agents.function import FunctionAgent
from gateway.interfaces import Agent
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol import frames
from tests.harness import WAIT, Client, Script, gateway, settle

LIMIT = 20_000
SHORT = Settings(
    first_output_timeout=0.5, silence_timeout=0.5, cleanup_timeout=0.2, drain_timeout=0.01,
    max_text_chars=LIMIT,
)  # fmt: skip


class Ruin(BaseException):
    """Not even an `Exception`."""


async def raises(_: Turn) -> AsyncIterator[str]:
    raise LookupError("a secret")
    yield ""


async def raises_in_the_middle(_: Turn) -> AsyncIterator[str]:
    yield "so far"
    raise LookupError("a secret")


async def returns_nothing(_: Turn) -> AsyncIterator[str]:
    return
    yield ""


async def yields_garbage(_: Turn) -> AsyncIterator[Any]:
    yield "so far"
    yield object()


async def yields_bytes(_: Turn) -> AsyncIterator[Any]:
    yield b"bytes"


async def yields_lone_surrogates(_: Turn) -> AsyncIterator[str]:
    yield "a\ud800b\udc00"
    yield "\ud83d"
    yield "\ude42 c\ud800"


async def floods(_: Turn) -> AsyncIterator[str]:
    while True:
        yield "flood "


async def hangs(_: Turn) -> AsyncIterator[str]:
    await asyncio.Event().wait()
    yield ""


async def falls_silent(_: Turn) -> AsyncIterator[str]:
    yield "so far"
    await asyncio.Event().wait()


async def cancels_itself(_: Turn) -> AsyncIterator[str]:
    yield "so far"
    raise asyncio.CancelledError


async def exits(_: Turn) -> AsyncIterator[str]:
    yield "so far"
    raise SystemExit(3)


async def raises_no_exception(_: Turn) -> AsyncIterator[str]:
    yield "so far"
    raise Ruin


async def closes_itself(_: Turn) -> AsyncIterator[str]:
    yield "so far"
    raise GeneratorExit


async def raises_in_finally(_: Turn) -> AsyncIterator[str]:
    try:
        yield "so far"
        await asyncio.Event().wait()
    finally:
        raise LookupError("a secret")


async def never_closes(_: Turn) -> AsyncIterator[str]:
    try:
        yield "so far"
        await asyncio.Event().wait()
    finally:
        await asyncio.Event().wait()


async def goes_on_when_closed(_: Turn) -> AsyncIterator[str]:
    while True:
        try:
            yield "so far" * 1_000
        except GeneratorExit:
            yield "no"


async def swallows_cancellation(_: Turn) -> AsyncIterator[str]:
    yield "so far"
    for _ in range(3):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield "not now"


async def leaves_a_state_that_is_not_json(turn: Turn) -> AsyncIterator[str]:
    yield "so far"
    turn.state["me"] = object()


class Case(NamedTuple):
    agent: Callable[[Turn], Any]
    outcome: str
    text: str


CASES = [
    Case(raises, "agent_failed", ""),
    Case(raises_in_the_middle, "agent_failed", "so far"),
    Case(returns_nothing, "completed", ""),
    Case(yields_garbage, "agent_failed", "so far"),
    Case(yields_bytes, "agent_failed", ""),
    Case(yields_lone_surrogates, "completed", "a\ufffdb\ufffd🙂 c\ufffd"),
    Case(floods, "answer_too_large", ("flood " * LIMIT)[:LIMIT]),
    Case(hangs, "agent_timeout", ""),
    Case(falls_silent, "agent_stalled", "so far"),
    Case(cancels_itself, "agent_failed", "so far"),
    Case(exits, "agent_failed", "so far"),
    Case(raises_no_exception, "agent_failed", "so far"),
    Case(closes_itself, "agent_failed", "so far"),
    Case(raises_in_finally, "agent_stalled", "so far"),
    Case(never_closes, "agent_stalled", "so far"),
    Case(goes_on_when_closed, "answer_too_large", ("so far" * LIMIT)[:LIMIT]),
    Case(swallows_cancellation, "agent_stalled", "so far"),
    Case(leaves_a_state_that_is_not_json, "agent_failed", "so far"),
]


@asynccontextmanager
async def beside(bad: Agent, settings: Settings = SHORT) -> AsyncIterator[tuple[Supervisor, Client, Script]]:
    """A gateway with that agent and one that does as it is told, and a line on which the latter talks."""
    steady = Script()
    async with gateway({"steady": steady, "bad": bad}, MemoryStore(), settings) as g:
        client = Client(g)
        client.put("message", session_id="steady", turn_id="steady", agent="steady", content="talk")
        yield g, client, steady
        assert client.broken is None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.agent.__name__)
async def test_a_bad_answer_costs_its_own_turn_and_the_session_goes_on(case: Case) -> None:
    async with beside(FunctionAgent(case.agent)) as (_, client, steady):
        said = await steady.given("steady")
        for turn_id in ("bad1", "bad2"):
            client.put("message", session_id="bad", turn_id=turn_id, agent="bad", content="?")
        for turn_id in ("bad1", "bad2"):
            end = await _while_talking(said, client.terminal(turn_id))
            assert (_outcome(end), _text(end)[: len(case.text)]) == (case.outcome, case.text)
            assert "secret" not in end.content
        said.end()
        assert (await client.terminal("steady")).content == said.text


async def _while_talking(said: Any, waiting: Any) -> Any:
    """What is waited for, while the steady agent says something every 50 ms."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(waiting)
        while not task.done():
            said.say("tok ")
            await asyncio.wait([task], timeout=0.05)
    return task.result()


def _outcome(end: frames.Response | frames.Error) -> str:
    return end.status if isinstance(end, frames.Response) else end.code


def _text(end: frames.Response | frames.Error) -> str:
    return end.content if isinstance(end, frames.Response) else end.partial or ""


async def test_an_answer_that_never_ends_is_ended_and_costs_no_other() -> None:
    async def never_ends(_: Turn) -> AsyncIterator[str]:
        while True:
            yield "."
            await asyncio.sleep(0.01)

    async with beside(FunctionAgent(never_ends), Settings(turn_timeout=0.3, drain_timeout=0.01)) as (
        _,
        client,
        steady,
    ):
        client.put("message", session_id="bad", turn_id="bad", agent="bad", content="?")
        said = await steady.given("steady")
        said.say("said in time")
        said.end()
        assert (await client.terminal("steady")).content == "said in time"
        end = await client.terminal("bad")
        assert (end.code, set(end.partial)) == ("turn_deadline", {"."})


async def test_others_talk_on_while_an_agent_floods_without_ever_waiting() -> None:
    async def talks(_: Turn) -> AsyncIterator[str]:
        while True:
            yield "tok "
            await asyncio.sleep(0)

    async with gateway(
        {"bad": FunctionAgent(floods), "steady": FunctionAgent(talks)}, MemoryStore(), SHORT
    ) as g:
        client = Client(g)
        client.put("message", session_id="steady", turn_id="steady", agent="steady", content="talk")
        client.put("message", session_id="bad", turn_id="bad", agent="bad", content="?")
        assert (await client.terminal("bad")).code == "answer_too_large"
        flood = client.of("bad", frames.TextDelta)
        among = client.frames[client.frames.index(flood[0]) : client.frames.index(flood[-1])]
        assert sum(getattr(frame, "session_id", None) == "steady" for frame in among) > 10


# ── Agents that are not async ───────────────────────────────────────────────────────────────────────────────


async def test_a_sync_agent_that_blocks_costs_its_turns_and_when_all_its_threads_hang_its_new_ones() -> None:
    release = Event()

    def blocks(turn: Turn) -> Iterator[str]:
        if turn.content == "block":
            release.wait(WAIT)
        yield "released"

    agent = FunctionAgent(blocks, threads=2, grace=0.05)
    async with beside(agent) as (_, client, steady):
        said = await steady.given("steady")
        try:
            for name in ("one", "two"):
                client.put("message", session_id=name, turn_id=name, agent="bad", content="block")
            for name in ("one", "two"):
                assert (await _while_talking(said, client.terminal(name))).code == "agent_timeout"
            assert agent.hung == 2
            client.put("message", session_id="three", turn_id="three", agent="bad", content="block")
            end = await _while_talking(said, client.terminal("three"))
            assert (end.code, end.retryable) == ("agent_unavailable", True)
        finally:
            release.set()
        async with asyncio.timeout(WAIT):
            while agent.hung:
                await settle(1)
        client.put("message", session_id="four", turn_id="four", agent="bad", content="go on")
        assert (await client.terminal("four")).content == "released"
        said.end()
        assert (await client.terminal("steady")).content == said.text


# ── Lines that die ──────────────────────────────────────────────────────────────────────────────────────────


class Mortal(Client):
    """A line that dies in the middle of a write."""

    def __init__(self, supervisor: Supervisor, dies_at: int) -> None:
        self._left = dies_at
        super().__init__(supervisor)

    async def send(self, batch: list[bytes]) -> None:
        self._left -= len(batch)
        if self._left < 0:
            raise ConnectionError
        await super().send(batch)


@pytest.mark.parametrize("dies_at", range(12))
async def test_a_line_that_dies_at_its_nth_frame_costs_nothing(dies_at: int) -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        witness, mortal = Client(g), Mortal(g, dies_at)
        await _live_through(witness, mortal, script)
        await witness.until(lambda _: mortal.line.left)
        await _check_nothing_is_left(g, witness)


@pytest.mark.parametrize("passes", range(0, 60, 2))
async def test_a_line_that_vanishes_at_any_moment_costs_nothing(passes: int) -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g, asyncio.TaskGroup() as group:
        witness, mortal = Client(g), Client(g)
        living = group.create_task(_live_through(witness, mortal, script))
        await settle(passes)
        mortal.vanish()
        await living
        await _check_nothing_is_left(g, witness)


async def _live_through(witness: Client, mortal: Client, script: Script) -> None:
    """Both follow a session; the mortal one sends whatever there is to send. A turn runs to its end."""
    witness.put("message", session_id="s", turn_id="t1", content="hi")
    said = await script.given("t1")
    mortal.put("hello", batch=True)
    mortal.put("attach", sessions=[{"session_id": "s"}, {"session_id": "other", "create": True}], ref="a")
    mortal.put("message", session_id="s", turn_id="t2", content="wait")
    mortal.put("typing", session_id="s", state="start")
    mortal.put("cancel", session_id="s", turn_id="t3", ref="c")
    for piece in ("one ", "two ", "three"):
        said.say(piece)
        await settle(10)
    mortal.put("detach", session_ids=["other"], ref="d")
    said.end()
    assert (await witness.terminal("t1")).content == "one two three"


async def _check_nothing_is_left(g: Supervisor, witness: Client) -> None:
    await settle()
    assert witness.broken is None
    assert list(g.lines.values()) == [witness.line]
    session = next(session for key, session in g.sessions.items() if key.session_id == "s")
    assert len(session.log.readers) == 1
    assert session.log.typing is None
    script = g.runtime.agents["bot"]
    assert isinstance(script, Script)
    for said in script.turns:
        said.end()
    for said in script.turns:
        assert (await witness.terminal(said.turn.turn_id)).status == "completed"
    await settle()
    assert [key.session_id for key in g.sessions] == ["s"]
