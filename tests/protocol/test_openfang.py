"""Tools in OpenFang's words, beside ours."""

from __future__ import annotations

from typing import Any

from protocol import frames
from protocol.codec import decode_server_frame, encode
from protocol.openfang import Tools

CALL = frames.ToolCall("e.3.0", "s", "t", 0, "c1", "look", {"at": 1})
RESULT = frames.ToolResult("e.4.0", "s", "t", 0, "c1", {"seen": "é"}, False)
DELTA = frames.TextDelta("e.4.2", "s", "t", "ok")


def told(tools: Tools, *batch: frames.ServerFrame) -> list[frames.ServerFrame]:
    return [decode_server_frame(frame) for frame in tools.told([encode(frame) for frame in batch])]


def test_a_call_is_told_before_our_frame_of_it_which_alone_moves_the_reader() -> None:
    assert told(Tools(), DELTA, CALL, DELTA) == [
        DELTA,
        frames.Typing("s", "tool", "agent", "t", "look"),
        frames.ToolStart("s", "t", "c1", "look"),
        frames.ToolEnd("s", "t", "c1", "look", '{"at":1}'),
        CALL,
        DELTA,
    ]


def test_a_result_says_it_again_and_names_the_tool() -> None:
    tools = Tools()
    told(tools, CALL)
    [result] = told(tools, RESULT)
    assert isinstance(result, frames.ToolResult)
    assert (result.id, result.tool, result.result) == ("c1", "look", '{"seen":"é"}')
    assert (result.tool_call_id, result.content, result.cursor) == ("c1", {"seen": "é"}, "e.4.0")


def test_text_is_told_as_text_and_nothing_as_null() -> None:
    for content, text in (("plain", "plain"), (None, "null"), (7, "7")):
        [result] = told(Tools(), frames.ToolResult("e.4.0", "s", "t", 0, "c", content, True))
        assert isinstance(result, frames.ToolResult)
        assert (result.result, result.is_error) == (text, True)


def test_what_is_told_twice_is_the_same_twice() -> None:
    tools, batch = Tools(), [encode(CALL), encode(RESULT)]
    assert tools.told(batch) == tools.told(batch)


def test_calls_of_one_id_in_two_sessions_are_two() -> None:
    tools = Tools()
    other: Any = frames.ToolCall("e.3.0", "s2", "t", 0, "c1", "hear", None)
    told(tools, CALL, other)
    [result] = told(tools, RESULT)
    assert isinstance(result, frames.ToolResult)
    assert result.tool == "look"


def test_calls_that_were_never_answered_are_forgotten_in_the_end() -> None:
    tools = Tools()
    told(tools, CALL)
    for number in range(300):
        told(tools, frames.ToolCall("e.3.0", "s", "t", 0, f"other {number}", "look", None))
    [result] = told(tools, RESULT)
    assert isinstance(result, frames.ToolResult)
    assert result.tool == ""


def test_a_batch_without_tools_is_the_very_same() -> None:
    batch = [encode(DELTA)]
    assert Tools().told(batch) is batch
