"""What a turn that replaces others is given as state: as if those had never been."""

from __future__ import annotations

from typing import Any

from protocol.records import Event, Failed, Message, Record, Response, decode_record, encode_record
from protocol.undo import completed, state_before


def message(turn_id: str, replaces: str | None = None) -> Message:
    return Message(turn_id, "hi", 1.0, replaces=replaces)


def response(turn_id: str, delta: dict[str, Any] | None, undo: dict[str, Any] | None) -> Response:
    return Response(turn_id, "hello", "completed", 1.0, state_delta=delta, state_undo=undo)


def before(state: dict[str, Any], *records: Record) -> dict[str, Any]:
    was = dict(state)
    undone = state_before(state, [*records, message("new", "t1")], "new")
    assert state == was, "it is left as it was"
    return undone


def test_what_a_turn_set_changed_and_took_away_is_set_back() -> None:
    ended = response("t1", {"set": 1, "changed": 2, "gone": None}, {"changed": 1, "gone": 0})
    assert before({"set": 1, "changed": 2, "other": 9}, message("t1"), ended) == {
        "changed": 1, "gone": 0, "other": 9,
    }  # fmt: skip


def test_a_key_that_was_none_is_none_again_and_one_that_was_missing_is_missing() -> None:
    ended = response("t1", {"none": 1, "missing": 1}, {"none": None})
    assert before({"none": 1, "missing": 1}, message("t1"), ended) == {"none": None}


def test_several_turns_are_undone_newest_first() -> None:
    first, second = response("t1", {"a": 1}, {}), response("t2", {"a": 2, "b": 1}, {"a": 1})
    assert before({"a": 2, "b": 1}, message("t1"), first, message("t2"), second) == {}


def test_what_others_have_set_since_stays() -> None:
    assert before({"a": 7, "b": 1}, message("t1"), response("t1", {"a": 1, "b": 1}, {})) == {"a": 7}


def test_shared_keys_are_not_set_back() -> None:
    ended = response("t1", {"user:a": 1, "app:a": 1, "a": 1}, {})
    assert before({"a": 1, "user:a": 1}, message("t1"), ended) == {"user:a": 1}


def test_turns_that_did_not_complete_began_earlier_or_come_later_are_not_undone() -> None:
    others: list[Record] = [
        response("earlier", {"a": 1}, {}),
        message("t1"),
        Failed("t1", "no", "agent_failed", True, "", 1.0),
        Event("k", {"a": 1}, 1.0),
    ]
    assert before({"a": 1}, *others) == {"a": 1}
    later = [message("new", "t1"), message("later"), response("later", {"a": 1}, {})]
    assert state_before({"a": 1}, later, "new") == {"a": 1}


def test_a_response_of_earlier_days_that_does_not_say_what_was_there_is_left() -> None:
    assert before({"a": 1}, message("t1"), response("t1", {"a": 1}, None)) == {"a": 1}
    old = decode_record(
        b'{"type":"response","turn_id":"t1","content":"","status":"completed","created_at":1,"state_delta":{"a":1}}'
    )
    assert old == Response("t1", "", "completed", 1.0, state_delta={"a": 1})
    nothing = response("t1", {"a": 1}, {})
    assert decode_record(encode_record(nothing)) == nothing, "nothing was there is not nothing is known"


def test_a_turn_has_completed_if_its_response_says_so() -> None:
    assert completed([message("t1"), response("t1", None, None)], "t1")
    assert not completed([message("t1"), Response("t1", "", "cancelled", 1.0)], "t1")
    assert not completed([message("t1"), response("t2", None, None)], "t1")
