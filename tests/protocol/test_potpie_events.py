"""A run as its listeners are told of it, from any position on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocol import frames, records
from protocol.codec import encode
from protocol.potpie import START, Position
from protocol.potpie_events import Chunk, End, Event, Telling, ToolStep, citations, tool_steps, whole
from protocol.records import Timing

SEQ = 3
"""Of the run's message."""


def cursor(seq: int, offset: int = 0) -> str:
    return f"e.{seq}.{offset}"


def message(turn_id: str = "t") -> frames.Message:
    return frames.Message(cursor(SEQ, 99), "s", turn_id, "?", 1.0)


def delta(stop: int, content: str, seq: int = SEQ + 1, turn_id: str = "t") -> frames.TextDelta:
    return frames.TextDelta(cursor(seq, stop), "s", turn_id, content)


def call(seq: int, offset: int) -> frames.ToolCall:
    return frames.ToolCall(cursor(seq, offset), "s", "t", offset, "c", "look", {"at": 1})


def result(seq: int, offset: int, content: Any = "seen", *, is_error: bool = False) -> frames.ToolResult:
    return frames.ToolResult(cursor(seq, offset), "s", "t", offset, "c", content, is_error)


def response(seq: int, content: str, status: Any = "completed", **more: Any) -> frames.Response:
    return frames.Response(cursor(seq), "s", "t", content, status, 0, 0, Timing(), 2.0, **more)


def told(frames_: Sequence[frames.ServerFrame], after: Position = START, thought: int = 0) -> list[Event]:
    telling = Telling("t", SEQ, after)
    telling.heard_thought = thought
    events: list[Event] = []
    for frame in frames_:
        if telling.over:
            break
        events += telling.tell(frame)
    return events


def text(events: list[Event]) -> str:
    return whole([event.data for event in events if isinstance(event.data, Chunk)]).message


def test_a_run_is_queued_chunks_and_an_end() -> None:
    run = [message(), delta(2, "So"), call(5, 2), result(6, 2), delta(5, " it", 6), response(7, "So it")]
    assert [(str(event.position), event.kind) for event in told(run)] == [
        ("3-0", "queued"),
        ("4-2", "chunk"),
        ("5-2", "chunk"),
        ("6-2", "chunk"),
        ("6-5", "chunk"),
        ("7-0", "end"),
    ]
    assert told(run)[-1].data == End("completed")


def test_what_other_turns_say_is_not_told() -> None:
    other = frames.Response(cursor(9), "s", "other", "x", "completed", 0, 0, Timing(), 2.0)
    assert told([message("other"), delta(2, "So", turn_id="other"), frames.Pong(), other]) == []


def test_tools_are_told_of_as_calls_and_as_what_they_answered() -> None:
    events = told([call(5, 0), result(6, 0, {"n": 1}), result(7, 0, "No.", is_error=True)])
    assert [event.data for event in events] == [
        Chunk(tool_calls=[ToolStep("c", "call", "look", "", {"input": {"at": 1}}, is_complete=False)]),
        Chunk(tool_calls=[ToolStep("c", "result", "look", '{"n":1}', {"result": {"n": 1}})]),
        Chunk(tool_calls=[ToolStep("c", "error", "look", "No.", {"result": "No."})]),
    ]


def test_who_lagged_gets_the_rest_before_the_end() -> None:
    events = told([delta(2, "So"), response(7, "So it is")])
    assert [(str(event.position), event.data) for event in events[1:]] == [
        ("6-8", Chunk(" it is")),
        ("7-0", End("completed")),
    ]


def test_sources_come_with_the_last_chunk() -> None:
    events = told([delta(2, "So"), response(7, "So", metadata={"citations": ["f.py", 7, "g.py"]})])
    assert events[1].data == Chunk(citations=["f.py", "g.py"])
    assert citations(None) == citations({"citations": "f.py"}) == []


def test_reasoning_is_told_as_it_comes_and_the_rest_of_it_at_the_end() -> None:
    run = [frames.ThoughtDelta("s", "t", "Hm"), delta(2, "So"), response(7, "So", thought="Hmm")]
    chunks = [event.data for event in told(run) if isinstance(event.data, Chunk)]
    assert [chunk.thinking for chunk in chunks] == ["Hm", "", "m"]
    assert whole(chunks) == Chunk("So", thinking="Hmm")


def test_who_resumes_is_not_told_again_what_was_thought_before() -> None:
    run = [
        frames.ThoughtDelta("s", "t", "Hm"),
        frames.ThoughtDelta("s", "t", "m."),
        response(7, "", thought="Hmm."),
    ]
    events = told(run, Position(4, 0), thought=3)
    assert [event.data for event in events] == [Chunk(thinking="."), End("completed")]


def test_a_run_that_failed_ends_with_why_and_what_it_had_said() -> None:
    failed = frames.Error(
        cursor=cursor(7), content="No.", code="agent_failed", retryable=True, turn_id="t", partial="So f"
    )
    events = told([delta(2, "So"), failed])
    assert [event.data for event in events[1:]] == [Chunk(" f"), End("error", "agent_failed", "No.")]


def test_a_line_that_is_refused_and_a_session_that_ends_end_the_run() -> None:
    refused = frames.Error(content="Away.", code="store_unavailable", retryable=True)
    assert told([refused, delta(2, "So")])[0].data == End("error", "store_unavailable", "Away.")
    assert told([frames.Session("s", "closed", 0), delta(2, "So")])[0].data == End("cancelled")
    assert told([frames.Session("s", "expiring", 0)]) == []


def test_only_chunks_have_a_message_and_nothing_is_null() -> None:
    ends = [End("completed"), End("error", "code", "why"), End("cancelled")]
    assert all(b"message" not in encode(end) for end in ends)
    assert encode(Chunk()) == b'{"message":"","citations":[],"tool_calls":[],"thinking":""}'


def test_what_is_ahead_of_the_log_waits_and_then_there_is_nothing() -> None:
    run = [message(), delta(2, "So"), call(5, 2), delta(5, " it", 5), response(7, "So it")]
    assert told(run, Position(99, 0)) == []
    assert told(run, Position(7, 0)) == []


def test_an_offset_from_before_the_run_is_somebody_elses() -> None:
    run = [message(), delta(2, "So"), response(7, "So")]
    assert text(told(run, Position(SEQ, 1))) == text(told(run, Position(2, 50))) == "So"


def test_history_tells_of_tools_in_the_same_words() -> None:
    used = [
        records.ToolCall("t", 0, "c", "look", {"at": 1}, 1.0),
        records.ToolResult("t", 0, "c", "seen", False, 2.0),
    ]
    told_live = told([call(5, 0), result(6, 0)])
    chunks = [event.data for event in told_live if isinstance(event.data, Chunk)]
    assert tool_steps(used) == whole(chunks).tool_calls


ANSWER = "Grüße, 🙂 the answer"
TOOLS = (4, 4, 11)
"""Where in it tools were used: records 5, 6 and 7."""


@st.composite
def cut(draw: st.DrawFn, *, over: bool = False) -> tuple[list[frames.ServerFrame], bool]:
    """That run as one reader is sent it: its text cut anywhere, up to each tool before that. From some point
    on he may have come too late (`over`: from the first): then it is sent without the rest of the text."""
    places = sorted({0, *TOOLS, len(ANSWER), *draw(st.lists(st.integers(0, len(ANSWER))))})
    late = 0 if over else draw(st.integers(0, 2 * len(places)))
    sent: list[frames.ServerFrame] = [message()]
    seq, offset = SEQ + 1, 0
    for number, (start, stop) in enumerate(pairwise(places)):
        for _ in range(TOOLS.count(start)):
            seq += 1
            sent.append(call(seq, offset))
        if number < late:
            sent.append(delta(stop, ANSWER[start:stop], seq))
            offset = stop
    return [*sent, response(seq + 1, ANSWER)], late < len(places) - 1


@given(st.data())
def test_who_resumes_anywhere_hears_exactly_what_was_not_heard(data: st.DataObject) -> None:
    first, late = data.draw(cut())
    then, _ = data.draw(cut(over=late))
    heard = told(first)
    assert all(one.position < other.position for one, other in pairwise(heard))
    stop = data.draw(st.integers(0, len(heard)))
    after = heard[stop - 1].position if stop else START
    rest = told(then, after)
    assert all(event.position > after for event in rest)
    both = heard[:stop] + rest
    assert text(heard) == text(both) == ANSWER
    assert both[-1].data == End("completed")
    kinds = ["tool" if getattr(event.data, "tool_calls", ()) else event.kind for event in both]
    assert (kinds.count("queued"), kinds.count("tool"), kinds.count("end")) == (1, len(TOOLS), 1)
