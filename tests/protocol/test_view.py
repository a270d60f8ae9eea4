from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
from msgspec.structs import asdict, replace

from protocol import frames, records
from protocol.lifetime import Life, Terms, begin, renewed
from protocol.view import expiring, frame_of, history_message, notice_of_end, notices, tool_uses

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
    assert set(kept) - set(shown) <= {
        "interrupts",
        "parts",
        "created_at",
        "state_delta",
        "state_undo",
        "imported",
    }
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


# ── Lives ───────────────────────────────────────────────────────────────────────────────────────────────────

LIFE = begin(Terms(30, True, 720, 5), 0.0, 0.0)
WARNED = replace(LIFE, warned=True)
RENEWED = renewed(WARNED, 1600.0)


def notice(status: Any, count: int, expires_at: float, minutes: float | None = None) -> frames.Session:
    return frames.Session("s", status, count, expires_at, minutes)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (LIFE, LIFE, []),
        (LIFE, WARNED, [notice("expiring", 0, 1800.0, 3.333)]),
        (WARNED, WARNED, []),
        (WARNED, RENEWED, [notice("renewed", 1, 3400.0)]),
        (RENEWED, replace(RENEWED, warned=True), [notice("expiring", 1, 3400.0, 30.0)]),
        (
            WARNED,
            replace(RENEWED, warned=True, renewal_count=3),
            [*(notice("renewed", count, 3400.0) for count in (1, 2, 3)), notice("expiring", 3, 3400.0, 30.0)],
        ),
        (WARNED, LIFE, []),
        (LIFE, replace(LIFE, last_activity=60.0, expires_at=900.0), []),
        (None, WARNED, []),
        (WARNED, None, []),
        (None, None, []),
    ],
    ids=[
        "nothing new", "expiring", "told before", "renewed", "expiring again", "what came at once, in order",
        "not near its end any more", "other terms", "just read", "of another kind", "for ever",
    ],
)  # fmt: skip
def test_of_a_life_is_told_what_is_new(
    before: Life | None, after: Life | None, told: list[frames.Session]
) -> None:
    assert notices("s", before, after, 1600.0) == told


def test_a_warning_after_the_end_leaves_no_minutes() -> None:
    assert notices("s", LIFE, WARNED, 9999.0) == [notice("expiring", 0, 1800.0, 0.0)]


@pytest.mark.parametrize(
    ("life", "told"),
    [
        (None, None),
        (LIFE, None),
        (WARNED, notice("expiring", 0, 1800.0, 3.333)),
        (RENEWED, None),
        (replace(WARNED, expires_at=1600.0), None),
    ],
    ids=["for ever", "not near its end", "told before", "renewed since", "over"],
)
def test_whoever_comes_late_is_told_that_the_session_is_expiring_while_that_holds(
    life: Life | None, told: frames.Session | None
) -> None:
    assert expiring("s", life, 1600.0) == told


def test_the_end_is_told_with_the_moment_only_if_it_was_a_moment_of_time() -> None:
    assert notice_of_end("s", "expired", RENEWED) == frames.Session("s", "expired", 1, 3400.0)
    assert notice_of_end("s", "closed", RENEWED) == frames.Session("s", "closed", 1)
    assert notice_of_end("s", "closed", None) == frames.Session("s", "closed", 0)
