"""How sessions and their messages look on the native routes."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import to_builtins

from protocol.native import date, shown
from protocol.records import Failed, Message, Response, ToolCall, ToolResult

ANSWER = Response("t", "hello", "completed", 2.0)


def test_a_date_is_iso_8601_in_utc_to_the_millisecond() -> None:
    assert date(1767225600.1234) == "2026-01-01T00:00:00.123+00:00"


def test_what_a_user_said_has_no_status() -> None:
    assert to_builtins(shown(Message("t", "hi", 1.0), ())) == {
        "role": "User",
        "content": "hi",
        "turn_id": "t",
    }


@pytest.mark.parametrize(
    ("record", "content", "status"),
    [
        (ANSWER, "hello", "completed"),
        (Response("t", "hel", "cancelled", 2.0), "hel", "cancelled"),
        (Failed("t", "It broke.", "agent_failed", True, "he", 2.0), "he", "failed"),
    ],
)
def test_an_answer_says_how_it_ended(record: Any, content: str, status: str) -> None:
    told = {"role": "Assistant", "content": content, "turn_id": "t", "status": status}
    assert to_builtins(shown(record, ())) == told


@pytest.mark.parametrize(("content", "text"), [("sunny", "sunny"), ({"c": 21}, '{"c":21}'), (None, "null")])
def test_what_a_tool_answered_is_text(content: Any, text: str) -> None:
    tools = [
        ToolCall("t", 0, "c1", "weather", {"in": "Bern"}, 1.0),
        ToolResult("t", 0, "c1", content, False, 1.5),
    ]
    [tool] = to_builtins(shown(ANSWER, tools))["tools"]
    assert (tool["name"], tool["input"], tool["result"]) == ("weather", {"in": "Bern"}, text)
    assert (tool["running"], tool["expanded"], tool["is_error"]) == (False, False, False)
