"""How records look to ADK's clients."""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from protocol import records
from protocol.adk import KIND, Teller, belongs_to, event_id, id_of, note, partial, place_of
from protocol.records import Entry, Failed, Message, Record, Response, Started, ToolCall, ToolResult

ACTIONS: dict[str, Any] = {
    "stateDelta": {},
    "artifactDelta": {},
    "requestedAuthConfigs": {},
    "requestedToolConfirmations": {},
}


def told(*log: Record) -> list[Any]:
    """The events of a log, as JSON."""
    teller = Teller("bot")
    events = [teller.tell(Entry(seq, record)) for seq, record in enumerate(log, 1)]
    return [to_builtins(event) for event in events if event is not None]


def asked(turn_id: str = "t", content: str = "hi", **fields: Any) -> tuple[Message, Started]:
    """A turn that starts as soon as it is asked for."""
    return Message(turn_id, content, 1.0, **fields), Started(turn_id, "node", 2.0)


def common(seq: int, author: str, timestamp: float, **fields: Any) -> dict[str, Any]:
    """What every event has."""
    return {
        "id": f"t.{seq}",
        "invocationId": "t",
        "author": author,
        "timestamp": timestamp,
        "actions": ACTIONS,
        "nodeInfo": {"path": ""},
        **fields,
    }


def test_a_turn_is_an_invocation_of_the_users_event_and_the_agents() -> None:
    assert told(*asked(), Response("t", "Hello.", "completed", 3.0)) == [
        common(2, "user", 2.0, content={"parts": [{"text": "hi"}], "role": "user"}),
        common(3, "bot", 3.0, content={"parts": [{"text": "Hello."}], "role": "model"}),
    ]


def test_parts_metadata_and_state_are_shown_as_they_were_sent() -> None:
    parts = [{"inlineData": {"data": "aGk=", "mimeType": "image/png"}}, {"text": "what is it?"}]
    (event,) = told(*asked(parts=parts, metadata={"a": 1}, state_delta={"b": None, "temp:c": 1}))
    assert event["content"] == {"parts": parts, "role": "user"}
    assert event["customMetadata"] == {"a": 1}
    assert event["actions"] == {**ACTIONS, "stateDelta": {"b": None}}


def test_tools_are_calls_and_responses_with_objects_in_them() -> None:
    events = told(
        *asked(),
        ToolCall("t", 0, "c1", "add", {"a": 1}, 3.0),
        ToolResult("t", 0, "c1", {"sum": 2}, False, 4.0),
        ToolCall("t", 0, "c2", "now", None, 5.0),
        ToolResult("t", 0, "c2", "noon", False, 6.0),
        ToolCall("t", 0, "c3", "fail", [1], 7.0),
        ToolResult("t", 0, "c3", "no", True, 8.0),
    )
    assert [event["content"]["parts"] for event in events[1:]] == [
        [{"functionCall": {"id": "c1", "name": "add", "args": {"a": 1}}}],
        [{"functionResponse": {"id": "c1", "name": "add", "response": {"sum": 2}}}],
        [{"functionCall": {"id": "c2", "name": "now", "args": {}}}],
        [{"functionResponse": {"id": "c2", "name": "now", "response": {"result": "noon"}}}],
        [{"functionCall": {"id": "c3", "name": "fail", "args": {"input": [1]}}}],
        [{"functionResponse": {"id": "c3", "name": "fail", "response": {"error": "no"}}}],
    ]
    assert {event["author"] for event in events[1:]} == {"bot"}
    assert [event["content"]["role"] for event in events[1:3]] == ["model", "user"]


def test_an_answer_has_its_reasoning_its_usage_its_metadata_and_what_it_set() -> None:
    answer = Response(
        *("t", "Four.", "completed", 3.0, 5, 2),
        thought="two and two",
        metadata={"m": 1},
        state_delta={"user:n": 4, "temp:x": 1},
    )
    assert told(*asked(), answer)[1] == common(
        *(3, "bot", 3.0),
        content={"parts": [{"text": "two and two", "thought": True}, {"text": "Four."}], "role": "model"},
        actions={**ACTIONS, "stateDelta": {"user:n": 4}},
        usageMetadata={"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7},
        customMetadata={"m": 1},
    )


def test_an_answer_that_was_stopped_is_interrupted() -> None:
    stopped = Response("t", "", "cancelled", 3.0)
    assert told(*asked(), stopped)[1] == common(3, "bot", 3.0, interrupted=True)


def test_a_failure_has_its_code_its_reason_and_what_was_said() -> None:
    failed = Failed("t", "It went wrong.", "agent_failed", True, "So f", 3.0)
    assert told(*asked(), failed)[1] == common(
        *(3, "bot", 3.0),
        content={"parts": [{"text": "So f"}], "role": "model"},
        errorCode="agent_failed",
        errorMessage="It went wrong.",
    )


def test_the_events_of_two_invocations_are_never_mixed() -> None:
    first, second = asked("t1", "one"), asked("t2", "two")
    events = told(
        *(*first, second[0]),
        Response("t1", "1", "completed", 3.0),
        second[1],
        Response("t2", "2", "completed", 4.0),
    )
    assert [event["content"]["parts"][0]["text"] for event in events] == ["one", "1", "two", "2"]


def test_what_never_started_is_shown_when_it_is_over() -> None:
    assert told(Message("t", "hi", 1.0)) == []
    (event,) = told(Message("t", "hi", 1.0), Response("t", "", "cancelled", 2.0))
    assert (event["author"], event["content"]["parts"]) == ("user", [{"text": "hi"}])


def test_a_turn_of_which_only_the_end_is_told_is_shown() -> None:
    assert [event["id"] for event in told(Response("t", "x", "completed", 3.0))] == ["t.1"]


def test_what_was_imported_is_shown_by_its_events_only() -> None:
    sent = {"id": "e1", "author": "user", "content": {"parts": [{"text": "hi"}]}}
    message, started = asked(imported=True)
    log = (
        *(message, started, ToolCall("t", 0, "c", "add", {}, 1.0)),
        records.Event(KIND, {"turn": "t", "event": sent}, 1.0),
        records.Event("other", {"turn": "t", "event": sent}, 1.0),
        Response("t", "x", "completed", 1.0, imported=True),
    )
    assert told(*log) == [sent]
    assert told(log[-1]) == []


def test_a_change_of_the_state_is_an_event_of_the_users() -> None:
    kept = note("p-1", {"a": 1, "user:b": 2, "temp:c": 3}, 5.0)
    assert told(kept) == [
        common(1, "user", 5.0)
        | {"id": "p-1.1", "invocationId": "p-1", "actions": {**ACTIONS, "stateDelta": {"user:b": 2, "a": 1}}}
    ]


def test_a_piece_is_the_increment_only() -> None:
    piece = to_builtins(partial("t.piece", "t", "bot", "tok", 3.0))
    assert piece == common(
        *(0, "bot", 3.0), id="t.piece", partial=True, content={"parts": [{"text": "tok"}], "role": "model"}
    )
    thought = to_builtins(partial("t.piece", "t", "bot", "hm", 3.0, thought=True))
    assert thought["content"]["parts"] == [{"text": "hm", "thought": True}]


def test_the_place_of_an_event_is_found_by_its_id() -> None:
    assert place_of(event_id("a turn.7 of mine", 12)) == 12
    for strange in ("", "t", "t.", "t.x", "t.²", f"t.{'9' * 13}", "t.piece"):
        assert place_of(strange) is None


def test_an_id_is_that_of_the_event_shown() -> None:
    sent = {"id": "e1", "invocationId": "i"}
    assert id_of(Entry(3, Started("t", "node", 1.0))) == "t.3"
    assert id_of(Entry(3, records.Event(KIND, {"turn": "t", "event": sent}, 1.0))) == "e1"
    assert id_of(Entry(3, records.Event(KIND, {"event": {**sent, "id": ""}}, 1.0))) == "i.3"
    assert id_of(Entry(3, records.Event("other", None, 1.0))) is None


def test_an_imported_event_belongs_to_the_turn_it_is_of() -> None:
    assert belongs_to(Started("t", "node", 1.0)) == "t"
    assert belongs_to(records.Event(KIND, {"turn": "t", "event": {}}, 1.0)) == "t"
    assert belongs_to(note("p-1", {}, 1.0)) is None
    assert belongs_to(records.Event("other", ["turn"], 1.0)) is None
