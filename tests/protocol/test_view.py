from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
from msgspec.structs import asdict

from protocol import frames, records
from protocol.view import frame_of, history_message, tool_uses

HIDDEN = (records.Started, records.CancelRequested, records.Event)
SHOWN = [struct for struct in get_args(records.Record) if struct not in HIDDEN]

CALL = records.ToolCall("t", 3, "c-1", "search", {"q": 1}, 1.0)
RESULT = records.ToolResult("t", 5, "c-1", [1, 2], False, 2.0)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("struct", SHOWN)
def test_a_frame_shows_all_of_its_record_that_clients_may_see(
    struct: type[Any], full: bool, sample: Callable[..., Any]
) -> None:
    record = sample(struct, full=full)
    frame = frame_of(record, "s-1", "e1.17.0")
    assert frame is not None
    fields = asdict(frame)
    assert frame.__struct_config__.tag == struct.__struct_config__.tag
    assert (fields.pop("session_id"), fields.pop("cursor")) == ("s-1", "e1.17.0")
    kept = asdict(record)
    shown = {name: value for name, value in kept.items() if name in fields}
    assert shown == {name: value for name, value in fields.items() if name in kept}
    assert set(kept) - set(shown) <= {"interrupts", "parts", "created_at", "state_delta", "imported"}
    assert {name for name, value in fields.items() if name not in kept and value is not None} == set()


@pytest.mark.parametrize("struct", HIDDEN)
def test_what_only_gateways_need_to_know_is_not_shown(struct: type[Any], sample: Callable[..., Any]) -> None:
    assert frame_of(sample(struct), "s-1", "e1.17.0") is None


def test_a_users_message_in_the_history() -> None:
    message = records.Message("t", "hi", 1.0, replaces="t-0", metadata={"a": 1})
    assert history_message(message) == frames.HistoryMessage("user", "t", "hi", 1.0, metadata={"a": 1})


@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_an_answer_in_the_history(status: Any) -> None:
    response = records.Response("t", "hello", status, 2.0, metadata={"b": 2})
    assert history_message(response, [CALL, RESULT]) == frames.HistoryMessage(
        "agent", "t", "hello", 2.0, status=status, tools=tool_uses([CALL, RESULT]), metadata={"b": 2}
    )


def test_a_failure_in_the_history_is_what_was_written_before_it_and_its_code() -> None:
    failed = records.Failed("t", "It broke.", "agent_failed", True, "hel", 2.0)
    assert history_message(failed, [CALL]) == frames.HistoryMessage(
        "agent", "t", "hel", 2.0, status="failed", code="agent_failed", tools=tool_uses([CALL])
    )


def test_a_tool_call_is_paired_with_its_result() -> None:
    assert tool_uses([CALL, RESULT]) == [frames.ToolUse("c-1", "search", {"q": 1}, [1, 2], False, 3)]


def test_a_call_without_result_is_shown_with_none() -> None:
    assert tool_uses([CALL]) == [frames.ToolUse("c-1", "search", {"q": 1}, None, False, 3)]


def test_calls_that_overlap_keep_their_own_results_and_their_order() -> None:
    second = records.ToolCall("t", 4, "c-2", "read", None, 1.5)
    failed = records.ToolResult("t", 4, "c-2", "no such file", True, 1.6)
    uses = tool_uses([CALL, second, failed, RESULT])
    assert uses is not None
    assert [(use.tool_call_id, use.content, use.is_error) for use in uses] == [
        ("c-1", [1, 2], False),
        ("c-2", "no such file", True),
    ]


def test_a_result_without_call_is_not_shown() -> None:
    assert tool_uses([RESULT]) is None
    assert tool_uses([]) is None
