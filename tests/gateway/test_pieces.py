"""What an agent yields, raises and leaves behind may be anything: what enters the log can be read again."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import AgentError, Note, Thought, ToolCall, ToolResult, Turn, Usage
from gateway.agents.function import FunctionAgent
from gateway.interfaces import Key
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from protocol import frames
from protocol.records import Failed, Response, decode_record
from tests.anything import Loud, anything
from tests.harness import WAIT, Client, Script, gateway, settle

KEY = Key("bot", "ann", "s")
SECRET = "the butler did it"


def _error(*values: Any) -> AgentError:
    error = AgentError("No.")
    error.content, error.code, error.retryable, error.retry_after_ms = values
    return error


PIECES = st.one_of(
    anything,
    st.builds(ToolCall, anything, anything, anything),
    st.builds(ToolResult, anything, anything, anything),
    st.builds(ToolCall, st.text(), st.text(), anything),
    st.builds(Usage, anything, anything),
    st.builds(Note, anything),
    st.builds(Note, st.dictionaries(st.text(), anything, max_size=2)),
    st.builds(Thought, st.text()),
    st.text(max_size=5),
    st.builds(_error, anything, anything, anything, anything),
)


@settings(deadline=None)
@given(st.lists(PIECES, max_size=4), anything | st.dictionaries(st.text(), anything, max_size=2))
def test_whatever_an_agent_does_its_turn_has_one_end_and_its_session_can_be_read(
    pieces: list[Any], state: Any
) -> None:
    async def agent(turn: Turn) -> AsyncIterator[Any]:
        if turn.content == "anything":
            for piece in pieces:
                if isinstance(piece, AgentError):
                    raise piece
                yield piece
            turn.state = state

    async def run() -> None:
        store = MemoryStore()
        async with gateway({"bot": FunctionAgent(agent)}, store) as g:
            client = Client(g)
            client.put("message", session_id="s", turn_id="t1", content="anything")
            client.put("message", session_id="s", turn_id="t2", content="again")
            await client.terminal("t2")
            assert client.broken is None
            assert not g.runtime.metrics.crashes
        records = [decode_record(body) for body in store._logs[KEY]._records or ()]
        ends = [record.turn_id for record in records if isinstance(record, Response | Failed)]
        assert ends == ["t1", "t2"]
        assert isinstance((await store.load(KEY)).info.state, dict)
        late = MemoryStore()  # whoever comes later decodes all of it, nested as the frames nest it
        late._logs = store._logs
        async with gateway({"bot": Script()}, late) as g:
            client = Client(g)
            client.put("attach", sessions=[{"session_id": "s"}])
            await client.until(lambda frame: isinstance(frame, frames.Attached))
            assert client.broken is None

    asyncio.run(run())


class Poser:
    """What poses as a text, like a mock."""

    __class__ = str  # type: ignore[assignment]


def _deep(depth: int) -> Any:
    value: Any = SECRET
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("piece", "told", "expected"),
    [
        (Usage(11 / 4), "a number of tokens", ("Usage", "input_tokens", "float")),  # type: ignore[arg-type]
        (Usage(12 / 4), "a number of tokens", ("Usage", "input_tokens", "float")),  # type: ignore[arg-type]
        (Usage(1, True), "a number of tokens", ("Usage", "output_tokens", "bool")),
        (Usage(1, -1), "a number of tokens", ("Usage", "output_tokens", "int")),
        (Usage(2**53), "a number of tokens", ("Usage", "input_tokens", "int")),
        (Usage("12"), "a number of tokens", ("Usage", "input_tokens", "str")),  # type: ignore[arg-type]
        (ToolCall(7, "look"), "a tool call", ("ToolCall", "tool_call_id", "int")),  # type: ignore[arg-type]
        (ToolCall("c", None), "a tool call", ("ToolCall", "name", "NoneType")),  # type: ignore[arg-type]
        (ToolCall("c", "n", object()), "a tool call", ("ToolCall", "input", "object (TypeError)")),
        (ToolCall("c", "n", _deep(101)), "a tool call", ("ToolCall", "input", "what is nested deeper")),
        (ToolCall("c", "n", _deep(9_000)), "a tool call", ("ToolCall", "input", "list (RecursionError)")),
        (ToolResult("c", 10**5_000), "a tool's result", ("ToolResult", "content", "int (ValueError)")),
        (ToolResult("c", 1, 1), "a tool's result", ("ToolResult", "is_error", "int")),  # type: ignore[arg-type]
        (Note([SECRET]), "metadata", ("Note", "metadata", "list")),  # type: ignore[arg-type]
        (Note({None: SECRET}), "metadata", ("Note", "metadata", "dict (TypeError)")),  # type: ignore[dict-item]
        (Note({SECRET: "\ud800"}), "metadata", ("Note", "metadata", "dict (UnicodeEncodeError)")),
        (SECRET.encode(), "something", ("piece", "type", "bytes")),
        ({"text": SECRET}, "something", ("piece", "type", "dict")),
    ],
)
async def test_a_wrong_piece_ends_the_turn_in_plain_words_and_the_log_names_it(
    logged: Callable[..., io.StringIO], piece: Any, told: str, expected: tuple[str, str, str]
) -> None:
    logs, script = logged(), Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        said.say("so far")
        said.say(piece)
        end = await client.terminal("t")
    assert (end.code, end.retryable, end.partial) == ("agent_failed", True, "so far")
    assert end.content == f"The agent gave {told} that cannot be used. Send the message again."
    [line] = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert (line["piece"], line["field"], line["got"]) == expected
    assert (line["turn_id"], line["session_id"], line["agent"]) == ("t", "s", "bot")
    assert SECRET not in logs.getvalue()


@pytest.mark.parametrize("state", [None, [1], "text", {"a": object()}, {"a": float}, {"a": _deep(101)}])
async def test_a_state_that_is_no_json_object_ends_the_turn(
    logged: Callable[..., io.StringIO], state: Any
) -> None:
    logs, script = logged(), Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        said.turn.state = state
        said.end()
        end = await client.terminal("t")
    assert (end.code, end.content) == (
        "agent_failed",
        "The agent gave a state that cannot be used. Send the message again.",
    )
    [line] = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert line["piece"] == "turn.state"


GENERAL = "The agent failed; the gateway's log says why. Send the message again."


@pytest.mark.parametrize(
    ("said", "told", "wrong"),
    [
        (("No.", "agent_unavailable", True, 1.5), ("No.", "agent_unavailable", True, None), "retry_after_ms"),
        (("No.", "agent_failed", None, -1), ("No.", "agent_failed", True, None), "retry_after_ms"),
        (("No.", "agent_failed", "no", 5), ("No.", "agent_failed", True, 5), "retryable"),
        (("No.", ["agent_failed"], False, 5), ("No.", "agent_failed", False, 5), "code"),
        ((Loud("No."), Loud("turn_deadline"), None, None), ("No.", "turn_deadline", True, None), None),
        ((b"No.", "agent_failed", None, None), (GENERAL, "agent_failed", True, None), "content"),
        ((Poser(), "agent_failed", None, None), (GENERAL, "agent_failed", True, None), "content"),
    ],
)
async def test_of_an_error_that_is_wrong_in_part_the_rest_counts(
    logged: Callable[..., io.StringIO], said: tuple[Any, ...], told: tuple[Any, ...], wrong: str | None
) -> None:
    logs, script = logged(), Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        (await script.given("t")).fail(_error(*said))
        end = await client.terminal("t")
    assert (end.content, end.code, end.retryable, end.retry_after_ms) == told
    lines = [json.loads(line)["fields"] for line in logs.getvalue().splitlines()]
    assert lines == ([] if wrong is None else [[wrong]])


async def test_a_text_of_a_derived_class_is_a_text_with_the_same_limits_and_is_saved_like_one() -> None:
    script, store = Script(), MemoryStore()
    small = Settings(max_text_chars=50, save_bytes=10, save_interval=3_600, drain_timeout=0.01)
    async with gateway({"bot": script}, store, small) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        said.say(Loud("x" * 40))
        async with asyncio.timeout(WAIT):
            while (await store.text(KEY))[1] != "x" * 40:
                await settle(1)
        said.say(Loud("y" * 40))
        end = await client.terminal("t")
    assert (end.code, end.partial) == ("answer_too_large", "x" * 40 + "y" * 10)


async def test_what_was_yielded_is_kept_as_it_was_then_and_as_json() -> None:
    script, store = Script(), MemoryStore()
    async with gateway({"bot": script}, store) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        changing: dict[Any, Any] = {Loud("k"): Loud("quiet"), 1: (2, float("nan"))}
        said.say(ToolCall(Loud("c"), Loud("look"), changing))
        await client.until(lambda frame: isinstance(frame, frames.ToolCall))
        said.say(Note({"a": changing}))
        changing["k"] = SECRET
        said.say(Usage(3, 4))
        said.end()
        end = await client.terminal("t")
        [call] = client.of("s", frames.ToolCall)
    assert (call.tool_call_id, call.name, call.input) == ("c", "look", {"k": "quiet", "1": [2, None]})
    assert (end.input_tokens, end.output_tokens) == (3, 4)
