from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import frames
from protocol.cursor import format_cursor
from protocol.records import Timing
from protocol.transcript import OutOfOrder, Transcript, Turn

Frame: TypeAlias = frames.ServerFrame

# ── What a gateway says ─────────────────────────────────────────────────────────────────────────────────────


def at(seq: int, offset: int = 0, epoch: str = "e1") -> str:
    return format_cursor(epoch, seq, offset)


def attached(
    cursor: str = "e1.0.0",
    mode: Literal["replay", "snapshot"] = "snapshot",
    *,
    running: str | None = None,
    queued: Sequence[str] = (),
    messages: Sequence[frames.HistoryMessage] | None = None,
    has_more: bool | None = None,
    expires_at: float | None = None,
) -> frames.Attached:
    return frames.Attached(
        cursor,
        "s",
        "eliza",
        mode,
        "running" if running else "idle",
        list(queued),
        turn_id=running,
        messages=None if messages is None else list(messages),
        has_more=has_more,
        expires_at=expires_at,
    )


def message(cursor: str, turn: str = "t", replaces: str | None = None) -> frames.Message:
    return frames.Message(cursor, "s", turn, f"{turn}?", 1.0, replaces)


def text(cursor: str, content: str, turn: str = "t") -> frames.TextDelta:
    return frames.TextDelta(cursor, "s", turn, content)


def thought(content: str, turn: str = "t") -> frames.ThoughtDelta:
    return frames.ThoughtDelta("s", turn, content)


def call(cursor: str, place: int, turn: str = "t", use: str = "c") -> frames.ToolCall:
    return frames.ToolCall(cursor, "s", turn, place, use, "search", {"q": 1})


def result(cursor: str, place: int, turn: str = "t", use: str = "c") -> frames.ToolResult:
    return frames.ToolResult(cursor, "s", turn, place, use, ["found"], False)


def response(
    cursor: str, content: str, turn: str = "t", status: Literal["completed", "cancelled"] = "completed"
) -> frames.Response:
    return frames.Response(cursor, "s", turn, content, status, 1, 2, Timing(), 2.0)


def failed(cursor: str, partial: str, turn: str = "t", code: str = "agent_failed") -> frames.Error:
    return frames.Error(
        content="It broke.",
        code=code,
        retryable=True,
        cursor=cursor,
        session_id="s",
        turn_id=turn,
        partial=partial or None,
    )


def typing(
    state: Literal["start", "stop"], author: Literal["agent", "user"] = "agent", turn: str | None = "t"
) -> frames.Typing:
    return frames.Typing("s", state, author, turn if author == "agent" else None)


def said(turn: str) -> frames.HistoryMessage:
    return frames.HistoryMessage("user", turn, f"{turn}?", 1.0)


def answered(turn: str, content: str, **more: Any) -> frames.HistoryMessage:
    return frames.HistoryMessage("agent", turn, content, 2.0, **{"status": "completed", **more})


def transcript(*sent: Frame) -> Transcript:
    shown = Transcript("s")
    for frame in sent:
        shown.apply(frame)
    return shown


def seen(shown: Transcript) -> list[tuple[str, str | None, str, str]]:
    return [(turn.turn_id, turn.content, turn.text, turn.status) for turn in shown.turns]


def only(shown: Transcript) -> Turn:
    (turn,) = shown.turns
    return turn


RUNNING = (attached(), message(at(1)))
ANSWERED = (*RUNNING, response(at(3), "hello"))


def test_before_the_first_frame_there_is_nothing_to_see() -> None:
    shown = Transcript("s")
    assert (shown.turns, shown.queue, shown.running, shown.cursor, shown.ended) == ([], [], None, None, None)
    assert not any((shown.attached, shown.agent_typing, shown.user_typing, shown.has_more))
    assert (shown.agent, shown.expires_at, shown.turn("t")) == (None, None, None)


# ── One turn ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_turn_is_its_message_its_growing_text_and_its_end() -> None:
    shown = transcript(*RUNNING)
    assert seen(shown) == [("t", "t?", "", "waiting")]
    assert (shown.queue, shown.running, shown.agent) == (["t"], None, "eliza")
    shown.apply(typing("start"))
    assert seen(shown) == [("t", "t?", "", "running")]
    assert (shown.queue, shown.running, shown.agent_typing) == ([], "t", True)
    shown.apply(text(at(2, 2), "he"))
    shown.apply(text(at(2, 5), "llo"))
    assert seen(shown) == [("t", "t?", "hello", "running")]
    assert shown.cursor == "e1.2.5"
    shown.apply(typing("stop"))
    assert shown.agent_typing is False
    shown.apply(response(at(3), "hello"))
    assert seen(shown) == [("t", "t?", "hello", "completed")]
    assert (shown.queue, shown.running, shown.cursor) == ([], None, "e1.3.0")


def test_text_alone_shows_that_a_turn_runs() -> None:
    shown = transcript(*RUNNING, text(at(2, 2), "he"))
    assert (shown.running, only(shown).status) == ("t", "running")


def test_text_is_counted_in_characters_not_in_bytes_or_halves() -> None:
    shown = transcript(*RUNNING, text(at(2, 3), "é😀é"), text(at(2, 4), "😀"))
    assert (only(shown).text, only(shown).shown) == ("é😀é😀", 4)


def test_thoughts_are_shown_as_they_come_and_whole_at_the_end() -> None:
    shown = transcript(*RUNNING, thought("well"), thought(" …"))
    assert (only(shown).thought, only(shown).status) == ("well …", "running")
    whole = frames.Response(at(3), "s", "t", "", "completed", 0, 0, Timing(), 2.0, thought="oh well …")
    shown.apply(whole)
    assert only(shown).thought == "oh well …"


def test_tools_stand_at_their_place_in_the_text() -> None:
    shown = transcript(*RUNNING, text(at(2, 2), "he"), call(at(3, 2), 2))
    assert only(shown).tools == [frames.ToolUse("c", "search", {"q": 1}, None, False, 2)]
    shown.apply(text(at(3, 4), "ll"))
    shown.apply(result(at(4, 4), 4))
    shown.apply(response(at(5), "hello"))
    assert only(shown).tools == [frames.ToolUse("c", "search", {"q": 1}, ["found"], False, 2)]


def test_results_find_their_calls() -> None:
    shown = transcript(
        *RUNNING, call(at(2), 0, use="c1"), call(at(3), 0, use="c2"), result(at(4), 0, use="c2")
    )
    assert [(use.tool_call_id, use.content) for use in only(shown).tools] == [("c1", None), ("c2", ["found"])]


def test_the_frames_of_one_transcript_do_not_show_in_another() -> None:
    first, second = transcript(*RUNNING), transcript(*RUNNING)
    first.apply(call(at(2), 0))
    assert only(second).tools == []


def test_a_cancelled_turn_keeps_what_it_wrote() -> None:
    shown = transcript(*RUNNING, text(at(2, 2), "he"), response(at(4), "hell", status="cancelled"))
    assert seen(shown) == [("t", "t?", "hell", "cancelled")]


def test_a_failed_turn_keeps_what_it_wrote_and_why() -> None:
    turn = only(transcript(*RUNNING, text(at(2, 2), "he"), failed(at(3), "hell")))
    assert (turn.text, turn.status, turn.code, turn.reason) == ("hell", "failed", "agent_failed", "It broke.")


def test_what_was_saved_of_an_interrupted_turn_replaces_what_was_shown() -> None:
    turn = only(transcript(*RUNNING, text(at(2, 5), "hello"), failed(at(3), "he", code="turn_interrupted")))
    assert (turn.text, turn.status) == ("he", "failed")


def test_nothing_may_have_been_saved_of_an_interrupted_turn() -> None:
    turn = only(transcript(*RUNNING, text(at(2, 5), "hello"), failed(at(3), "", code="turn_interrupted")))
    assert turn.text == ""


def test_what_was_saved_of_a_turn_cancelled_before_its_process_died_replaces_what_was_shown() -> None:
    shown = transcript(*RUNNING, text(at(2, 5), "hello"), response(at(4), "he", status="cancelled"))
    assert seen(shown) == [("t", "t?", "he", "cancelled")]


def test_a_reader_who_lagged_gets_the_records_without_the_rest_of_the_text() -> None:
    shown = transcript(*RUNNING, text(at(2, 2), "he"), call(at(3, 2), 4), response(at(4), "hello"))
    assert seen(shown) == [("t", "t?", "hello", "completed")]
    assert only(shown).tools[0].at == 4


# ── Several turns ───────────────────────────────────────────────────────────────────────────────────────────


def test_answers_stand_with_their_questions_in_the_order_of_the_questions() -> None:
    shown = transcript(
        attached(),
        message(at(1), "a"),
        text(at(2, 1), "A", "a"),
        message(at(3, 1), "b"),
        text(at(3, 2), "A", "a"),
        message(at(4, 2), "c"),
    )
    assert (shown.running, shown.queue) == ("a", ["b", "c"])
    shown.apply(response(at(5), "AA", "a"))
    shown.apply(text(at(6, 1), "C", "c"))
    assert (shown.running, shown.queue) == ("c", ["b"])
    assert seen(shown) == [
        ("a", "a?", "AA", "completed"),
        ("b", "b?", "", "waiting"),
        ("c", "c?", "C", "running"),
    ]


def test_a_waiting_turn_may_end_while_another_speaks() -> None:
    shown = transcript(
        attached(),
        message(at(1), "a"),
        text(at(2, 1), "A", "a"),
        message(at(3, 1), "b"),
        response(at(4, 1), "", "b", "cancelled"),
        text(at(4, 2), "A", "a"),
        response(at(5), "AA", "a"),
    )
    assert seen(shown) == [("a", "a?", "AA", "completed"), ("b", "b?", "", "cancelled")]
    assert shown.queue == []


def test_the_agent_goes_on_typing_when_a_waiting_turn_ends() -> None:
    shown = transcript(
        attached(),
        message(at(1), "a"),
        typing("start", turn="a"),
        message(at(3), "b"),
        failed(at(4), "", "b"),
    )
    assert (shown.agent_typing, shown.running) == (True, "a")


def test_a_reader_who_lagged_sees_typing_end_with_the_turn() -> None:
    shown = transcript(*RUNNING, typing("start"), response(at(3), "hello"))
    assert shown.agent_typing is False
    shown.apply(message(at(4), "u"))
    shown.apply(typing("start", turn="u"))
    assert shown.agent_typing is True


def test_a_replaced_turn_and_all_after_it_leave_the_view() -> None:
    sent: list[Frame] = [attached()]
    for seq, turn in enumerate("abc"):
        sent += [message(at(3 * seq + 1), turn), response(at(3 * seq + 3), turn.upper(), turn)]
    shown = transcript(*sent, message(at(10), "d", replaces="b"))
    assert [turn.turn_id for turn in shown.turns] == ["a", "d"]


def test_a_turn_replaced_from_before_the_oldest_shown_takes_all_of_them_with_it() -> None:
    shown = transcript(
        attached(at(9), messages=[said("b"), answered("b", "B")], has_more=True),
        message(at(10), "c", replaces="a"),
    )
    assert seen(shown) == [("c", "c?", "", "waiting")]


def test_a_turn_that_left_the_view_while_waiting_still_runs_unseen() -> None:
    shown = transcript(*ANSWERED, message(at(4), "u"), message(at(5), "v", replaces="t"))
    for frame in (typing("start", turn="u"), text(at(6, 1), "U", "u"), call(at(7, 1), 1, "u")):
        shown.apply(frame)
        assert seen(shown) == [("v", "v?", "", "waiting")]
    assert shown.running == "u"
    shown.apply(response(at(8), "UU", "u"))
    shown.apply(text(at(9, 1), "V", "v"))
    assert seen(shown) == [("v", "v?", "V", "running")]
    hidden = shown.turn("u")
    assert hidden is not None
    assert (hidden.text, hidden.status) == ("UU", "completed")


def test_a_retry_may_be_retried() -> None:
    shown = transcript(*ANSWERED, message(at(4), "u", "t"), failed(at(6), "", "u"), message(at(7), "v", "u"))
    assert [turn.turn_id for turn in shown.turns] == ["v"]


# ── Attaching ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_snapshot_shows_its_messages() -> None:
    use = frames.ToolUse("c", "search", None, 1, False, 0)
    shown = transcript(
        attached(
            at(20),
            running="d",
            queued=["e"],
            messages=[
                said("b"),
                answered("b", "B", tools=[use]),
                said("c"),
                answered("c", "C", status="failed", code="agent_failed"),
                said("d"),
                said("e"),
            ],
            has_more=True,
            expires_at=9.0,
        )
    )
    assert seen(shown) == [
        ("b", "b?", "B", "completed"),
        ("c", "c?", "C", "failed"),
        ("d", "d?", "", "running"),
        ("e", "e?", "", "waiting"),
    ]
    assert (shown.turns[0].tools, shown.turns[1].code) == ([use], "agent_failed")
    assert (shown.running, shown.queue, shown.has_more, shown.expires_at) == ("d", ["e"], True, 9.0)
    shown.apply(text(at(20, 1), "D", "d"))
    assert shown.turns[2].text == "D"


def test_a_snapshot_forgets_what_was_before_it() -> None:
    shown = transcript(*ANSWERED, message(at(4), "u"), text(at(5, 1), "U", "u"))
    shown.apply(attached("e2.2.0", messages=[said("x")], running="x"))
    assert seen(shown) == [("x", "x?", "", "running")]
    assert shown.turn("t") is None
    shown.apply(text("e2.2.1", "X", "x"))


def test_turns_of_which_only_the_snapshots_head_tells_may_speak_and_end() -> None:
    shown = transcript(attached(at(5), running="a", queued=["b"]))
    assert seen(shown) == [("a", None, "", "running"), ("b", None, "", "waiting")]
    shown.apply(message(at(6), "c"))
    shown.apply(text(at(6, 1), "A", "a"))
    shown.apply(response(at(7), "AA", "a"))
    shown.apply(response(at(8), "", "b", "cancelled"))
    assert seen(shown) == [
        ("a", None, "AA", "completed"),
        ("b", None, "", "cancelled"),
        ("c", "c?", "", "waiting"),
    ]


def test_a_waiting_turn_told_of_before_its_message_takes_its_place_when_that_comes() -> None:
    shown = transcript(attached(at(5), running="a", queued=["b", "c"], messages=[said("a")]))
    shown.apply(message(at(6), "b"))
    shown.apply(message(at(7), "c"))
    assert [(turn.turn_id, turn.content) for turn in shown.turns] == [("a", "a?"), ("b", "b?"), ("c", "c?")]
    assert shown.queue == ["b", "c"]


def test_an_answer_whose_question_is_before_the_page_stands_first() -> None:
    shown = transcript(attached(at(9), messages=[said("b"), answered("a", "A"), answered("b", "B")]))
    assert seen(shown) == [("a", None, "A", "completed"), ("b", "b?", "B", "completed")]


def test_a_replay_goes_on_where_the_line_broke() -> None:
    shown = transcript(*RUNNING, typing("start"), text(at(2, 2), "he"))
    shown.detach()
    assert (shown.attached, shown.agent_typing) == (False, False)
    shown.apply(attached(shown.cursor or "", "replay", running="t"))
    shown.apply(text(at(2, 4), "ll"))
    shown.apply(typing("start"))
    shown.apply(response(at(3), "hello"))
    assert seen(shown) == [("t", "t?", "hello", "completed")]


def test_attaching_again_forgets_who_was_typing() -> None:
    shown = transcript(
        *RUNNING, typing("start"), typing("start", "user"), attached(at(1), "replay", running="t")
    )
    assert (shown.agent_typing, shown.user_typing) == (False, False)


def test_a_turn_that_started_while_the_line_was_gone_is_known_to_run() -> None:
    shown = transcript(*ANSWERED)
    shown.detach()
    shown.apply(attached(at(3), "replay", running="u", queued=["v"]))
    shown.apply(message(at(4), "u"))
    shown.apply(message(at(6), "v"))
    assert [(turn.turn_id, turn.status) for turn in shown.turns[1:]] == [("u", "running"), ("v", "waiting")]
    assert (shown.running, shown.queue) == ("u", ["v"])


def test_a_replay_after_the_turns_end_may_drop_the_offset() -> None:
    shown = transcript(*RUNNING, text(at(2, 2), "he"))
    shown.detach()
    shown.apply(attached(at(2), "replay", running="u"))
    shown.apply(call(at(3), 4))
    shown.apply(response(at(4), "hello"))
    shown.apply(message(at(5), "u"))
    shown.apply(text(at(6, 1), "U", "u"))
    assert seen(shown) == [("t", "t?", "hello", "completed"), ("u", "u?", "U", "running")]


def test_a_replay_into_an_empty_transcript_counts_from_its_cursor() -> None:
    shown = transcript(attached(at(7, 512), "replay", running="t", queued=["u"]))
    shown.apply(text(at(7, 514), "lo"))
    turn = shown.turns[0]
    assert (turn.text, turn.skipped, turn.shown) == ("lo", 512, 514)
    shown.apply(call(at(8, 514), 514))
    shown.apply(response(at(9), "x" * 512 + "lo!"))
    assert (turn.text, turn.skipped) == ("x" * 512 + "lo!", 0)


def test_a_replay_into_an_empty_transcript_may_go_on_with_turns_never_told_of() -> None:
    shown = transcript(attached(at(7, 512), "replay"))
    shown.apply(response(at(8, 512), "", "w", "cancelled"))
    shown.apply(response(at(9), "x" * 600, "t"))
    shown.apply(message(at(10), "u", replaces="t"))
    assert [turn.turn_id for turn in shown.turns] == ["w", "u"]


def test_turns_never_told_of_are_not_shown_once_all_before_the_oldest_was_replaced() -> None:
    shown = transcript(
        attached(at(7), "replay"), message(at(8), "u", replaces="a"), response(at(9), "T", "t")
    )
    assert [turn.turn_id for turn in shown.turns] == ["u"]


@pytest.mark.parametrize(
    "frame",
    [
        frames.Connected("c", 1, "u", 20_000, 1, 1, 1, "memory"),
        frames.Ok("r", "s", "t", "started"),
        frames.Pong(),
        frames.Token(1.0),
        frames.Goaway("restart", 1_000),
        frames.CommandResult("stop", "Stopped.", "s"),
        frames.Typing("s", "tool", "agent", "t", "look"),
        frames.ToolStart("s", "t", "c", "look"),
        frames.ToolEnd("s", "t", "c", "look", "{}"),
        frames.Error(
            content="Too many wait.", code="queue_full", retryable=True, session_id="s", turn_id="t", ref="r"
        ),
    ],
)
def test_answers_and_frames_of_the_connection_change_nothing_whenever_they_come(frame: Frame) -> None:
    blank = transcript(frame)
    assert (blank.attached, blank.turns) == (False, [])
    shown = transcript(*ANSWERED)
    before = deepcopy(vars(shown))
    shown.apply(frame)
    assert vars(shown) == before


# ── Typing, and the session's life ──────────────────────────────────────────────────────────────────────────


def test_the_users_typing_on_another_line_is_shown() -> None:
    shown = transcript(attached(), typing("start", "user"))
    assert (shown.user_typing, shown.agent_typing) == (True, False)
    shown.apply(typing("stop", "user"))
    assert shown.user_typing is False


@pytest.mark.parametrize("status", ["expiring", "renewed"])
def test_a_notice_of_expiry_moves_it(status: Any) -> None:
    shown = transcript(attached(expires_at=1.0), frames.Session("s", status, 0, expires_at=5.0))
    assert (shown.expires_at, shown.ended, shown.attached) == (5.0, None, True)


@pytest.mark.parametrize("status", ["closed", "expired"])
def test_the_end_of_the_session_ends_every_turn(status: Any) -> None:
    shown = transcript(*RUNNING, text(at(2, 2), "he"), message(at(3, 2), "u"), frames.Session("s", status, 0))
    assert seen(shown) == [("t", "t?", "he", "cancelled"), ("u", "u?", "", "cancelled")]
    assert (shown.ended, shown.attached, shown.running, shown.queue) == (status, False, None, [])


def test_a_session_made_again_starts_afresh() -> None:
    shown = transcript(*ANSWERED, frames.Session("s", "closed", 0), attached("e2.0.0"))
    assert (shown.ended, shown.attached, shown.turns, shown.cursor) == (None, True, [], "e2.0.0")


# ── What no gateway may do ──────────────────────────────────────────────────────────────────────────────────

HALFWAY = (*RUNNING, text(at(2, 2), "he"))
TWO = (attached(), message(at(1), "a"), text(at(2, 1), "A", "a"), message(at(3, 1), "b"))

FORBIDDEN: dict[str, tuple[Sequence[Frame], Frame, str]] = {
    "a frame of another session": (HALFWAY, frames.Typing("x", "start", "user"), "session x"),
    "an answer of another session": (HALFWAY, frames.Ok("r", "x"), "session x"),
    "a message before attached": ((), message(at(1)), "before attached"),
    "typing before attached": ((), typing("start", "user"), "before attached"),
    "text after the session ended": (
        (*HALFWAY, frames.Session("s", "closed", 0)),
        text(at(2, 3), "l"),
        "since the session had closed",
    ),
    "text of a turn never shown": ((attached(),), text(at(2, 1), "x"), "whose message was not shown"),
    "a thought of a turn never shown": ((attached(),), thought("x"), "whose message was not shown"),
    "a tool of a turn never shown": ((attached(),), call(at(2), 0), "whose message was not shown"),
    "the end of a turn never shown": ((attached(),), response(at(2), ""), "whose message was not shown"),
    "the end of no turn": (
        HALFWAY,
        frames.Error(content="x", code="internal", retryable=True, cursor=at(3), session_id="s"),
        "whose message was not shown",
    ),
    "two ends": (ANSWERED, response(at(4), "hello"), "after it was over"),
    "an end after a failure": (
        (*RUNNING, failed(at(3), "")),
        response(at(4), ""),
        "after it was over (failed)",
    ),
    "a failure after an end": (ANSWERED, failed(at(4), "hello"), "after it was over (completed)"),
    "text after the end": (ANSWERED, text(at(3, 1), "x"), "after it was over"),
    "a thought after the end": (ANSWERED, thought("x"), "after it was over"),
    "a tool after the end": (ANSWERED, call(at(4), 5), "after it was over"),
    "typing after the end": (ANSWERED, typing("stop"), "after it was over"),
    "an end that a snapshot had": (
        (attached(at(5), messages=[said("t"), answered("t", "T")]),),
        response(at(6), "T"),
        "after it was over",
    ),
    "two messages of one turn": (RUNNING, message(at(2)), "told of before"),
    "a message after its end": (ANSWERED, message(at(4)), "told of before"),
    "a message after its text": (
        (attached(at(5), running="t"), text(at(5, 1), "T")),
        message(at(6, 1)),
        "told of before",
    ),
    "text twice": (HALFWAY, text(at(2, 2), "he"), "offset 2 instead of 4"),
    "text with a hole before it": (HALFWAY, text(at(2, 5), "l"), "offset 5 instead of 3"),
    "text counted in bytes": (RUNNING, text(at(2, 2), "é"), "offset 2 instead of 1"),
    "text counted in utf-16": (RUNNING, text(at(2, 2), "😀"), "offset 2 instead of 1"),
    "text of two turns at once": (TWO, text(at(3, 2), "B", "b"), "before a was over"),
    "a tool of another turn": (TWO, call(at(4, 1), 1, "b"), "before a was over"),
    "typing of another turn": (TWO, typing("start", turn="b"), "before a was over"),
    "a tool record after text beyond it": (HALFWAY, call(at(3, 2), 1), "at 1 came when turn t was at 2"),
    "a tool record before the last one": (
        (*HALFWAY, call(at(3, 2), 2)),
        result(at(4, 2), 1),
        "at 1 came when turn t was at 2",
    ),
    "a tool record before the cursor": (
        (attached(at(7, 512), "replay", running="t"),),
        call(at(8, 512), 511),
        "at 511 came when turn t was at 512",
    ),
    "text after a tool record that was ahead of it": (
        (*HALFWAY, call(at(3, 2), 4)),
        text(at(3, 4), "ll"),
        "after the tool record at 4",
    ),
    "an end with other text": (HALFWAY, response(at(3), "ho"), "other text"),
    "an end with less text": (HALFWAY, response(at(3), "h"), "other text"),
    "a cancelled end with other text": (HALFWAY, response(at(3), "x", status="cancelled"), "other text"),
    "a failure with less text": (HALFWAY, failed(at(3), "h"), "other text"),
    "an interruption with other text": (HALFWAY, failed(at(3), "x", code="turn_interrupted"), "other text"),
    "an end with other text than was skipped to": (
        (attached(at(7, 3), "replay", running="t"), text(at(7, 5), "lo")),
        response(at(8), "lo"),
        "other text",
    ),
    "an end before its tool": ((*HALFWAY, call(at(3, 2), 4)), response(at(4), "hel"), "before its tool at 4"),
    "typing twice": ((*RUNNING, typing("start")), typing("start"), "typing already"),
    "the user typing twice": (
        (*RUNNING, typing("start", "user")),
        typing("start", "user"),
        "the user was typing already",
    ),
    "another epoch": (HALFWAY, text(at(2, 3, "e2"), "l"), "at e2.2.3 came to a reader at e1.2.2"),
    "a message of another epoch": (HALFWAY, message(at(3, 2, "e2"), "u"), "at e2.3.2"),
    "the log going backwards": (HALFWAY, message(at(1, 2), "u"), "at e1.1.2"),
    "text going backwards": ((*HALFWAY, message(at(3, 2), "u")), text(at(2, 3), "l"), "at e1.2.3"),
    "a record twice": ((*HALFWAY, call(at(3, 2), 2)), call(at(3, 2), 2), "at e1.3.2"),
    "two records of one seq": ((*HALFWAY, message(at(3, 2), "u")), message(at(3, 2), "v"), "at e1.3.2"),
    "a record elsewhere in the text": (HALFWAY, message(at(3, 1), "u"), "offset 1 instead of 2"),
    "a tool elsewhere in the text": (HALFWAY, call(at(3, 4), 4), "offset 4 instead of 2"),
    "an end that leaves the offset": (HALFWAY, response(at(3, 2), "hello"), "offset 2 instead of 0"),
    "text that goes on from an offset that was lost": (
        (*HALFWAY, message(at(3, 0), "u")),
        text(at(3, 3), "l"),
        "offset 3 instead of 1",
    ),
    "text that begins again": (
        (*HALFWAY, message(at(3, 0), "u")),
        text(at(3, 1), "h"),
        "2 characters were shown",
    ),
    "no cursor": (RUNNING, text("17", "he"), "'17' came as a cursor"),
    "a replay from elsewhere in the log": (HALFWAY, attached(at(1, 2), "replay"), "reader at e1.2.2"),
    "a replay from elsewhere in the text": (HALFWAY, attached(at(2, 1), "replay"), "reader at e1.2.2"),
    "a replay of another epoch": (HALFWAY, attached(at(2, 2, "e2"), "replay"), "reader at e1.2.2"),
    "a snapshot in the middle of a text": ((), attached(at(2, 2)), "begins at offset 0"),
    "replacing a turn that was replaced": (
        (*ANSWERED, message(at(4), "u", "t"), response(at(6), "", "u")),
        message(at(7), "v", "t"),
        "had been replaced before",
    ),
}


@pytest.mark.parametrize(("before", "frame", "words"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_the_protocol_rules_out_is_told_with_what_came(
    before: Sequence[Frame], frame: Frame, words: str
) -> None:
    shown = transcript(*before)
    with pytest.raises(OutOfOrder) as broken:
        shown.apply(frame)
    assert words in str(broken.value)


@pytest.mark.parametrize(
    "frame", [text(at(2, 3), "l"), typing("stop"), thought("x"), response(at(3), "hello")]
)
def test_on_a_new_line_nothing_comes_before_attached(frame: Frame) -> None:
    shown = transcript(*HALFWAY)
    shown.detach()
    with pytest.raises(OutOfOrder, match="before attached"):
        shown.apply(frame)


# ── Any conversation, cut and resumed anywhere ──────────────────────────────────────────────────────────────


class Told:
    """A gateway that tells one reader of its turns in order, in any cut and over any number of lines."""

    def __init__(self, cut: Callable[[int], int], breaks: Callable[[], bool]) -> None:
        self.sent: list[Frame] = [attached()]
        self.shown = transcript(*self.sent)
        self._cut = cut
        self._breaks = breaks
        self._seq = 0
        self._offset = 0

    def turn(self, turn: str, content: str, places: Sequence[int]) -> None:
        self._record(message, turn)
        self._seq += 1  # started
        for place in sorted(place % (len(content) + 1) for place in places):
            self._text(turn, content[:place])
            self._record(call, place, turn)
        self._text(turn, content)
        self._offset = 0
        self._record(response, content, turn)

    def _text(self, turn: str, content: str) -> None:
        while self._offset < len(content):
            piece = content[self._offset : self._offset + self._cut(len(content) - self._offset)]
            self._offset += len(piece)
            self._tell(text(at(self._seq, self._offset), piece, turn))

    def _record(self, frame: Callable[..., Frame], *fields: Any) -> None:
        self._seq += 1
        self._tell(frame(at(self._seq, self._offset), *fields))

    def _tell(self, frame: Frame) -> None:
        if self._breaks():
            self.shown.detach()
            self._apply(attached(self.shown.cursor or "", "replay", running=self.shown.running))
        self._apply(frame)

    def _apply(self, frame: Frame) -> None:
        self.sent.append(frame)
        self.shown.apply(frame)


CONTENT = st.text(st.sampled_from("ab é😀"), max_size=12)
TURNS = st.lists(st.tuples(CONTENT, st.lists(st.integers(0, 12), max_size=2)), min_size=1, max_size=4)


def told(turns: Sequence[tuple[str, Sequence[int]]], data: st.DataObject, *, breaks: bool = True) -> Told:
    gateway = Told(
        lambda rest: data.draw(st.integers(1, rest)), lambda: breaks and data.draw(st.integers(0, 3)) == 0
    )
    for number, (content, places) in enumerate(turns):
        gateway.turn(f"t{number}", content, places)
    return gateway


@given(turns=TURNS, data=st.data())
def test_however_it_was_cut_and_resumed_a_conversation_looks_the_same(
    turns: Sequence[tuple[str, Sequence[int]]], data: st.DataObject
) -> None:
    shown = told(turns, data).shown
    assert seen(shown) == [
        (f"t{number}", f"t{number}?", content, "completed") for number, (content, _) in enumerate(turns)
    ]
    assert [len(turn.tools) for turn in shown.turns] == [len(places) for _, places in turns]
    assert (shown.running, shown.queue) == (None, [])


@given(turns=TURNS, data=st.data())
def test_a_frame_told_twice_is_noticed(
    turns: Sequence[tuple[str, Sequence[int]]], data: st.DataObject
) -> None:
    sent = told(turns, data, breaks=False).sent
    twice = data.draw(st.integers(1, len(sent) - 1))
    with pytest.raises(OutOfOrder):
        transcript(*sent[: twice + 1], *sent[twice:])


@given(turns=TURNS, data=st.data())
def test_two_frames_in_the_wrong_order_are_noticed(
    turns: Sequence[tuple[str, Sequence[int]]], data: st.DataObject
) -> None:
    sent = told(turns, data, breaks=False).sent
    first = data.draw(st.integers(0, len(sent) - 2))
    with pytest.raises(OutOfOrder):
        transcript(*sent[:first], sent[first + 1], sent[first], *sent[first + 2 :])


@given(turns=TURNS, data=st.data())
def test_text_that_is_lost_is_noticed_as_soon_as_more_comes(
    turns: Sequence[tuple[str, Sequence[int]]], data: st.DataObject
) -> None:
    sent = told(turns, data, breaks=False).sent
    followed = [
        index
        for index, (frame, after) in enumerate(pairwise(sent))
        if isinstance(frame, frames.TextDelta) and isinstance(after, frames.TextDelta)
    ]
    if followed:
        lost = data.draw(st.sampled_from(followed))
        with pytest.raises(OutOfOrder):
            transcript(*sent[:lost], *sent[lost + 1 :])
