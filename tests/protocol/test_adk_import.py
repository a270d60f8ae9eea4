"""Histories from ADK, as records."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

import pytest

from protocol.adk import KIND, Teller
from protocol.adk_import import imported, state_of
from protocol.adk_request import NewEvent, NewSession, camelled, fit
from protocol.errors import Refused
from protocol.history import new_turns
from protocol.records import Entry, Event, Message, Record, Response, Started, ToolCall, ToolResult
from protocol.session import fold

NOW = 1000.0


def records_of(events: list[dict[str, Any]]) -> list[Record]:
    """What is imported of these events."""
    spelled = camelled({"events": events})
    numbers = count(1)
    return imported(
        spelled["events"],
        fit(spelled, NewSession).events or [],
        "bot",
        NOW,
        lambda: f"new{next(numbers)}",
    )


def said(author: str, *parts: str | dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An event."""
    content = {"role": "user" if author == "user" else "model"}
    shown = [{"text": part} if isinstance(part, str) else part for part in parts]
    return {"author": author, "content": {**content, "parts": shown}, "timestamp": 5.0, **fields}


def talk(log: Iterable[Record]) -> list[tuple[str, str]]:
    """What everybody but ADK's clients is shown."""
    return [
        ("user" if isinstance(record, Message) else record.status, record.content)
        for record in log
        if isinstance(record, Message | Response)
    ]


def shown(log: Iterable[Record]) -> list[Any]:
    """What ADK's clients are shown."""
    teller = Teller("bot")
    events = [teller.tell(Entry(seq, record)) for seq, record in enumerate(log, 1)]
    return [event for event in events if event is not None]


def test_a_history_is_whole_turns_beside_its_events() -> None:
    log = records_of(
        [
            said("user", "one", id="u1", invocationId="i1"),
            said("bot", "1", id="a1", invocationId="i1"),
            said("user", "two", id="u2", invocationId="i2"),
            said("bot", "2", id="a2", invocationId="i2"),
        ]
    )
    assert talk(log) == [("user", "one"), ("completed", "1"), ("user", "two"), ("completed", "2")]
    assert [event["id"] for event in shown(log)] == ["u1", "a1", "u2", "a2"]
    assert [message.turn_id for message in new_turns(log)] == ["i1", "i2"]
    assert all(record.imported for record in log if isinstance(record, Message | Response))
    assert not fold([Entry(seq, record) for seq, record in enumerate(log, 1)], len(log)).busy
    assert [record.body["turn"] for record in log if isinstance(record, Event)] == ["i1", "i1", "i2", "i2"]


def test_an_event_comes_back_as_it_was_sent() -> None:
    sent = said(
        "someone else",
        {"text": "x", "thoughtSignature": "c2ln"},
        {"fileData": {"fileUri": "gs://f", "mimeType": "text/plain"}},
        id="e1",
        invocationId="i1",
        timestamp=7.25,
        branch="a.b",
        actions={"stateDelta": {}, "skipSummarization": None},
        customMetadata={"a_b": 1},
        nodeInfo={"path": "p"},
    )
    (event,) = shown(records_of([sent]))
    empty = {"stateDelta", "artifactDelta", "requestedAuthConfigs", "requestedToolConfirmations"}
    assert event == {**sent, "actions": {name: {} for name in empty}}


def test_what_every_event_has_is_filled_in() -> None:
    event, by_user, bare = shown(
        records_of(
            [
                {"content": {"role": "model", "parts": [{"text": "x"}]}, "longRunningToolIds": None},
                {"content": {"role": "user"}},
                {"id": ""},
            ]
        )
    )
    assert (event["author"], event["invocationId"], event["timestamp"]) == ("bot", "", NOW)
    assert event["nodeInfo"] == {"path": ""}
    assert "longRunningToolIds" not in event
    assert (by_user["author"], by_user["content"]) == ("user", {"role": "user", "parts": []})
    assert len({event["id"], by_user["id"], bare["id"], ""}) == 4


def test_pieces_are_left_out() -> None:
    log = records_of([said("user", "x"), said("bot", "He", partial=True), said("bot", "Hello")])
    assert talk(log) == [("user", "x"), ("completed", "Hello")]
    assert len(shown(log)) == 2


def test_what_an_agent_says_until_the_user_speaks_is_one_answer() -> None:
    think = {"text": "hm", "thought": True}
    log = records_of([said("user", "x"), said("bot", think, "one"), said("other", "two", "three")])
    assert talk(log) == [("user", "x"), ("completed", "one\n\ntwo\nthree")]
    assert [record.thought for record in log if isinstance(record, Response)] == ["hm"]


def test_tools_stand_where_they_were_used() -> None:
    call = {"functionCall": {"id": "c1", "name": "add", "args": {"a": 1}}}
    answer = {"functionResponse": {"id": "c1", "name": "add", "response": {"sum": 2}}}
    log = records_of([said("user", "x"), said("bot", "So:", call), said("bot", answer), said("bot", "two")])
    tools = [record for record in log if isinstance(record, ToolCall | ToolResult)]
    turn_id = new_turns(log)[0].turn_id
    assert tools == [
        ToolCall(turn_id, 3, "c1", "add", {"a": 1}, 5.0),
        ToolResult(turn_id, 3, "c1", {"sum": 2}, False, 5.0),
    ]
    assert talk(log)[1] == ("completed", "So:\n\ntwo")


def test_calls_without_ids_are_answered_in_their_order() -> None:
    calls = [{"functionCall": {"name": name}} for name in ("add", "now", "add")]
    answers = [{"functionResponse": {"name": name, "response": {}}} for name in ("now", "add", "add", "odd")]
    log = records_of([said("user", "x"), said("bot", *calls), said("bot", *answers)])
    called = [record.tool_call_id for record in log if isinstance(record, ToolCall)]
    answered = [record.tool_call_id for record in log if isinstance(record, ToolResult)]
    assert answered[:3] == [called[1], called[0], called[2]]
    assert answered[3] not in called


def test_a_users_answer_to_a_tool_goes_on_with_the_turn() -> None:
    answer = {"functionResponse": {"id": "c1", "name": "ask", "response": {"ok": True}}}
    call = {"functionCall": {"id": "c1", "name": "ask", "args": {}}}
    log = records_of([said("user", "x"), said("bot", call), said("user", answer), said("bot", "done")])
    assert talk(log) == [("user", "x"), ("completed", "done")]
    assert sum(isinstance(record, ToolResult) for record in log) == 1


def test_a_message_that_nobody_answered_was_stopped() -> None:
    log = records_of([said("user", "one"), said("user", "two")])
    assert talk(log) == [("user", "one"), ("cancelled", ""), ("user", "two"), ("cancelled", "")]


def test_an_agent_may_speak_first() -> None:
    log = records_of([said("bot", "Welcome."), said("user", "hi"), said("bot", "Yes?")])
    assert talk(log) == [("user", ""), ("completed", "Welcome."), ("user", "hi"), ("completed", "Yes?")]


def test_an_event_that_says_nothing_is_kept_and_is_no_message() -> None:
    log = records_of([{"author": "user", "id": "e1"}, said("user", "hi")])
    assert shown(log)[0]["id"] == "e1"
    assert talk(log) == [("user", "hi"), ("cancelled", "")]


def test_each_turn_has_an_id_of_its_own() -> None:
    log = records_of(
        [
            said("user", "1", invocationId="i"),
            said("user", "2", invocationId="i"),
            said("user", "3", invocationId="\n"),
            said("user", "4"),
        ]
    )
    ids = [message.turn_id for message in new_turns(log)]
    assert ids[0] == "i"
    assert len({*ids}) == 4


def test_no_record_is_of_the_future_nor_of_before_time() -> None:
    log = records_of([said("user", "x", timestamp=-5), said("bot", "y", timestamp=1e300)])
    assert [record.created_at for record in log] == [0.0, 0.0, 0.0, NOW, NOW]
    assert [event["timestamp"] for event in shown(log)] == [-5, 1e300]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (said("bot", "x", longRunningToolIds=["c"]), "long-running tool IDs"),
        (said("bot", {"functionCall": {"name": "adk_request_input"}}), "ADK protocol function calls"),
        (said("user", {"functionResponse": {"name": "adk_request_credential"}}), "ADK protocol"),
    ],
)
def test_what_only_adk_itself_may_say_is_refused(event: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=f"Session initialization event 1 cannot include {reason}") as refused:
        records_of([said("user", "x"), event])
    assert refused.value.code == "bad_request"


def test_what_events_did_comes_back_and_is_the_state() -> None:
    sent = [
        said("user", "x", actions={"stateDelta": {"a": 1, "b": 1}}),
        said("bot", "y", actions={"stateDelta": {"a": 2}, "escalate": True}),
    ]
    assert [event["actions"]["stateDelta"] for event in shown(records_of(sent))] == [
        {"a": 1, "b": 1},
        {"a": 2},
    ]
    assert state_of([fit(event, NewEvent) for event in sent]) == {"a": 2, "b": 1}


def test_no_events_are_no_records() -> None:
    assert records_of([]) == []


def test_every_event_is_kept_under_its_kind() -> None:
    kept = [record for record in records_of([said("user", "x")]) if isinstance(record, Event)]
    assert [record.kind for record in kept] == [KIND]
    assert isinstance(records_of([said("user", "x")])[1], Started)
