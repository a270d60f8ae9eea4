"""One answer in flight: its limits, how it ends, and what it waits for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import ContextVar
from typing import Any

import pytest
import structlog

from gateway import AgentError, Alive, Limits, Note, Thought, ToolCall, ToolResult, Turn, Usage
from gateway.agents.function import FunctionAgent
from gateway.interfaces import NO_SCOPES, Head, Info, Key, Piece, Saved, Scopes, Segment
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol import codec, frames, records
from protocol.session import Send
from tests.harness import WAIT, Client, Script, gateway, settle

SMALL = Settings(max_tool_bytes=100, max_turn_tool_bytes=250, max_text_chars=50, drain_timeout=0.01)


async def answer(agent: Callable[[Turn], Any], settings: Settings = SMALL) -> Any:
    """How a turn of that agent ends."""
    async with gateway({"bot": FunctionAgent(agent)}, MemoryStore(), settings) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        return await client.terminal("t")


async def test_usage_adds_up_notes_merge_and_thoughts_are_kept_apart() -> None:
    async def agent(_: Turn) -> AsyncIterator[Any]:
        yield Usage(1, 2)
        yield Note({"a": 1, "b": 1})
        yield Thought("hm ")
        yield "text"
        yield Usage(3, 4)
        yield Note({"b": 2})
        yield Thought("so")

    end = await answer(agent)
    assert (end.content, end.thought, end.metadata) == ("text", "hm so", {"a": 1, "b": 2})
    assert (end.input_tokens, end.output_tokens) == (4, 6)


BIG = "x" * 90
FAILED = "The agent failed; the gateway's log says why. Send the message again."


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        pytest.param([ToolCall("c", "look", "x" * 200)], "answer_too_large", id="a tool's input"),
        pytest.param([ToolResult("c", "x" * 200)], "answer_too_large", id="a tool's content"),
        pytest.param(
            [ToolCall(f"c{n}", "l", BIG[:80]) for n in range(4)], "answer_too_large", id="all tools"
        ),
        pytest.param([Note({"a": "x" * 200})], "answer_too_large", id="a note"),
        pytest.param([Thought("x" * 60)], "answer_too_large", id="reasoning"),
        pytest.param(["x" * 60], "answer_too_large", id="text"),
        pytest.param([ToolCall("c", "look", object())], "agent_failed", id="a tool's input that is not JSON"),
        pytest.param([Note({"a": {1, 2}})], "completed", id="a set is a list"),
        pytest.param([Note({"a": "\ud800"})], "agent_failed", id="a lone surrogate in a note"),
    ],
)
async def test_what_is_too_large_or_not_json_ends_the_turn(pieces: list[Any], code: str) -> None:
    async def agent(_: Turn) -> AsyncIterator[Any]:
        for piece in pieces:
            yield piece

    end = await answer(agent)
    assert (end.status if isinstance(end, frames.Response) else end.code) == code


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (AgentError("No."), ("No.", "agent_failed", True, None)),
        (AgentError("No.", retryable=False), ("No.", "agent_failed", False, None)),
        (
            AgentError("Later.", "agent_unavailable", retry_after_ms=7),
            ("Later.", "agent_unavailable", True, 7),
        ),
        (AgentError("What?", "made_up"), ("What?", "agent_failed", True, None)),
        (AgentError("\ud800"), ("\ufffd", "agent_failed", True, None)),
        (
            LookupError("a secret"),
            (
                "The agent failed; the gateway's log says why. Send the message again.",
                "agent_failed",
                True,
                None,
            ),
        ),
    ],
)
async def test_an_agent_says_itself_why_it_failed_and_other_exceptions_do_not(
    error: Exception, told: tuple[Any, ...]
) -> None:
    async def agent(_: Turn) -> AsyncIterator[str]:
        yield "so far"
        raise error

    end = await answer(agent)
    assert (end.content.rstrip("\ufffd") or "\ufffd", end.code, end.retryable, end.retry_after_ms) == told
    assert end.partial == "so far"


async def test_state_is_kept_by_a_completed_turn_and_left_as_it_was_by_any_other() -> None:
    seen: list[dict[str, Any]] = []

    async def agent(turn: Turn) -> AsyncIterator[str]:
        seen.append(dict(turn.state))
        turn.state["turns"] = [*turn.state.get("turns", ()), turn.turn_id]
        if turn.content == "fail":
            raise AgentError("It went wrong.")
        yield "ok"

    async with gateway({"bot": FunctionAgent(agent)}, MemoryStore()) as g:
        client = Client(g)
        for turn_id, content in (("t1", "go"), ("t2", "fail"), ("t3", "go")):
            client.put("message", session_id="s", turn_id=turn_id, content=content)
            await client.terminal(turn_id)
    assert seen == [{}, {"turns": ["t1"]}, {"turns": ["t1"]}]


class Slow(MemoryStore):
    """A store that saves text when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def save_text(self, batch: Sequence[Segment]) -> list[Saved]:
        self.asked.set()
        await self.go.wait()
        return await super().save_text(batch)


async def test_a_turn_with_much_unsaved_text_waits_for_the_store() -> None:
    said = 0

    async def agent(_: Turn) -> AsyncIterator[str]:
        nonlocal said
        for _ in range(100):
            said += 1
            yield "x" * 10

    store = Slow()
    async with gateway(
        {"bot": FunctionAgent(agent)},
        store,
        Settings(save_bytes=50, max_unsaved_bytes=200, drain_timeout=0.01),
    ) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        await asyncio.wait_for(store.asked.wait(), WAIT)
        await settle()
        assert said == 21
        store.go.set()
        assert len((await client.terminal("t")).content) == 1_000


async def test_cancelling_reaches_the_agent_once_and_its_clean_up_may_wait() -> None:
    script = Script()
    cleaned = asyncio.Event()

    async def agent(_: Turn) -> AsyncIterator[str]:
        yield "begun"
        try:
            await asyncio.Event().wait()
        finally:
            await settle()
            cleaned.set()

    async with gateway({"bot": FunctionAgent(agent), "other": script}, MemoryStore()) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        await client.until(lambda frame: isinstance(frame, frames.TextDelta))
        client.put("cancel", session_id="s")
        client.put("cancel", session_id="s")
        assert (await client.terminal("t")).status == "cancelled"
        await asyncio.wait_for(cleaned.wait(), WAIT)
        await _rests(g, Key("bot", "ann", "s"))
        assert g.runtime.metrics.turns == {"cancelled": 1}


async def _rests(g: Supervisor, key: Key) -> None:
    async with asyncio.timeout(WAIT):
        while g.sessions[key].cleaning:
            await settle(1)


# ── What it is run in ───────────────────────────────────────────────────────────────────────────────────────

WHOSE: ContextVar[str] = ContextVar("WHOSE", default="nobody")


async def test_a_turn_inherits_no_context_variables_of_another_turn_or_of_who_asked() -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    goes_on = asyncio.Event()

    async def agent(turn: Turn) -> AsyncIterator[str]:
        seen.append((WHOSE.get(), structlog.contextvars.get_contextvars()))
        WHOSE.set(turn.turn_id)
        structlog.contextvars.bind_contextvars(secret=turn.content)
        await goes_on.wait()
        yield "done"

    WHOSE.set("the process")
    async with gateway({"bot": FunctionAgent(agent)}, MemoryStore()) as g:
        client = Client(g)
        WHOSE.set("somebody's request")
        with structlog.contextvars.bound_contextvars(request_id="somebody's"):
            async with g.opened(Key("bot", "ann", "s"), "new") as session:
                await session.asked(Send("t1", "one"), "r1")
                await session.asked(Send("t2", "two"), "r2")
                await session.asked(Send("t3", "three"))
            client.put("attach", sessions=[{"session_id": "s"}])
            goes_on.set()
            await client.terminal("t3")
    about = {"session_id": "s", "agent": "bot"}
    assert seen == [
        ("the process", {**about, "turn_id": "t1", "request_id": "r1"}),
        ("the process", {**about, "turn_id": "t2", "request_id": "r2"}),
        ("the process", {**about, "turn_id": "t3"}),
    ]


async def test_a_thread_has_its_own_turns_context_variables() -> None:
    seen: list[tuple[str, dict[str, Any]]] = []

    def agent(turn: Turn) -> str:
        seen.append((WHOSE.get(), structlog.contextvars.get_contextvars()))
        WHOSE.set(turn.turn_id)
        return "done"

    WHOSE.set("the process")
    async with gateway({"bot": FunctionAgent(agent)}, MemoryStore()) as g:
        client = Client(g)
        WHOSE.set("somebody's request")
        for number in (1, 2):
            async with g.opened(Key("bot", "ann", "s"), "new") as session:
                await session.asked(Send(f"t{number}", "hi"), f"r{number}")
            client.put("attach", sessions=[{"session_id": "s"}])
            async with asyncio.timeout(WAIT):
                while session.answer is not None:
                    await settle(1)
    about = {"session_id": "s", "agent": "bot"}
    assert seen == [
        ("the process", {**about, "turn_id": f"t{number}", "request_id": f"r{number}"}) for number in (1, 2)
    ]


class Overheard(Client):
    """A line that can always be written to at once, and notes in whose name that is done."""

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__(supervisor)
        self.names: set[str] = set()

    def send_nowait(self, batch: list[bytes]) -> bool:
        self.names.add(WHOSE.get())
        for data in batch:
            self._take(codec.decode_server_frame(data))
        return True


async def test_a_line_is_not_written_to_in_the_name_of_the_turn_that_has_news() -> None:
    async def agent(turn: Turn) -> AsyncIterator[str]:
        WHOSE.set(turn.turn_id)
        for _ in range(3):
            yield "word "
            await asyncio.sleep(0)

    WHOSE.set("the process")
    async with gateway({"bot": FunctionAgent(agent)}, MemoryStore()) as g:
        line = Overheard(g)
        WHOSE.set("somebody's request")
        line.put("message", session_id="s", turn_id="t", content="hi")
        async with asyncio.timeout(WAIT):
            while not line.of("s", frames.Response):
                await settle(1)
    assert line.names == {"the process"}


# ── How long it takes ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_clock_that_jumps_changes_no_duration() -> None:
    script, jumped = Script(), 0.0
    async with gateway({"bot": script}, MemoryStore(), now=lambda: 1_800_000_000.0 + jumped) as g:
        client = Client(g)
        for turn_id in "ran", "waited", "stopped":
            client.put("message", session_id="s", turn_id=turn_id, content="hi")
        said = await script.given("ran")
        jumped = 3_600.0
        said.say("a word")
        client.put("cancel", session_id="s", turn_id="stopped")
        await client.terminal("stopped")
        said.end()
        jumped = -7_200.0
        (await script.given("waited")).end()
        await client.terminal("waited")
        for end in client.of("s", frames.Response):
            assert 0 <= end.timing.queued_ms <= end.timing.total_ms < 1_000 * WAIT


async def test_of_a_turn_that_waited_through_a_restart_the_wall_clock_tells_how_long() -> None:
    store, script, now = MemoryStore(), Script(), 1_800_000_000.0
    async with gateway({"bot": script}, store, Settings(drain_timeout=0), now=lambda: now) as g:
        async with g.opened(Key("bot", "ann", "s"), "new") as session:
            await session.asked(Send("ran", "hi"))
            await session.asked(Send("waited", "hi"))
        await script.given("ran")
    now += 60.0
    async with gateway({"bot": script}, store, now=lambda: now) as g:
        client = Client(g)
        client.put("attach", sessions=[{"session_id": "s"}])
        (await script.given("waited")).end()
        timing = (await client.terminal("waited")).timing
    assert 59_000 <= timing.queued_ms <= timing.total_ms < 60_000 + 1_000 * WAIT


class Outage(MemoryStore):
    """A store that takes tools when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def append(
        self,
        key: Key,
        head: Head,
        tag: str,
        records_: Sequence[records.Record],
        *,
        text: tuple[int, str] | None = None,
        info: Info | None = None,
        scopes: Scopes = NO_SCOPES,
    ) -> Head:
        if isinstance(records_[0], records.ToolCall):
            self.asked.set()
            await self.go.wait()
        return await super().append(key, head, tag, records_, text=text, info=info, scopes=scopes)


@pytest.mark.parametrize(
    ("store", "piece"), [(Outage(), ToolCall("c", "look")), (Slow(), "x" * 300)], ids=["a tool", "much text"]
)
async def test_an_agent_that_waits_for_the_store_is_not_called_silent(
    store: Outage | Slow, piece: Piece
) -> None:
    script = Script()
    limits = Settings(
        save_bytes=50, max_unsaved_bytes=200, silence_timeout=60, turn_timeout=86_400, drain_timeout=0.01
    )
    async with gateway({"bot": script}, store, limits) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        (await script.given("t")).say(piece)
        await asyncio.wait_for(store.asked.wait(), WAIT)
        await settle()
        turn = g.sessions[Key("bot", "ann", "s")].answer
        assert turn is not None
        later = asyncio.get_running_loop().time() + 3_600
        turn.check(later)  # sees what was said
        turn.check(later + 3_600)
        assert not turn.over
        store.go.set()
        await settle()
        turn.check(later)
        assert turn.over, "the store has answered, and now it is the agent that is silent"
        assert (await client.terminal("t")).code == "agent_stalled"


OWN = Limits(first_output=300, turn=7_200)


@pytest.mark.parametrize(
    ("limits", "pieces", "step", "seconds", "code", "option"),
    [
        (None, [], 0, 60, "agent_timeout", "GATEWAY_FIRST_OUTPUT_TIMEOUT"),
        (None, ["a word"], 50, 60, "agent_stalled", "GATEWAY_SILENCE_TIMEOUT"),
        (None, [Alive()] * 11, 50, 600, "turn_deadline", "GATEWAY_TURN_TIMEOUT"),
        (OWN, [], 0, 300, "agent_timeout", "this agent's option first_output"),
        (OWN, ["a word"], 50, 60, "agent_stalled", "GATEWAY_SILENCE_TIMEOUT"),
        (OWN, [Alive()] * 35, 200, 7_200, "turn_deadline", "this agent's option turn"),
    ],
)
async def test_an_agent_is_given_up_at_its_limits_and_the_sentence_and_the_log_name_them(
    limits: Limits | None,
    pieces: list[Piece],
    step: float,
    seconds: float,
    code: str,
    option: str,
    logged: Any,
) -> None:
    logs = logged()
    silent = asyncio.Event()
    now = 0.0

    async def agent(_: Turn) -> AsyncIterator[Piece]:
        nonlocal now
        now = asyncio.get_running_loop().time()
        for piece in pieces:  # nothing here waits, so that the real wheel sees none of it
            yield piece
            now += step
            g.sessions[Key("bot", "ann", "s")].answer.check(now)
        silent.set()
        await asyncio.Event().wait()

    bot = FunctionAgent(agent)
    bot.limits = limits  # type: ignore[attr-defined]
    async with gateway({"bot": bot}, MemoryStore()) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        await asyncio.wait_for(silent.wait(), WAIT)
        turn = g.sessions[Key("bot", "ann", "s")].answer
        assert turn is not None
        assert not turn.over
        turn.check(now + seconds + 10)
        end = await client.terminal("t")
    assert end.code == code
    assert end.content.endswith(f" {seconds} s, the limit set by {option}.")
    [line] = [
        line for line in map(json.loads, logs.getvalue().splitlines()) if line["event"] == "agent given up"
    ]
    assert (line["code"], line["limit"], line["turn_id"]) == (code, option, "t")


async def test_signs_of_life_count_as_life_and_are_seen_by_nobody() -> None:
    async def agent(_: Turn) -> AsyncIterator[Piece]:
        now = asyncio.get_running_loop().time()
        for piece in [Alive(), Alive(), "a", Alive(), Alive(), "b", Usage(1, 2), Alive()]:
            yield piece
            now += 50
            g.sessions[Key("bot", "ann", "s")].answer.check(now)

    async with gateway({"bot": FunctionAgent(agent)}, MemoryStore()) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        end = await client.terminal("t")
        shown = "".join(frame.content for frame in client.of("s", frames.TextDelta))
        assert g.runtime.metrics.deltas == 3
    assert (shown, end.content, end.input_tokens, end.output_tokens) == ("ab", "ab", 1, 2)
