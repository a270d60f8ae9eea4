"""What an append changes beside the log: state, what is shared, and the session's life."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.beside import beside
from gateway.interfaces import Info, Key
from protocol.lifetime import Terms, begin, renewed
from protocol.records import Event, Failed, Message, Record, Response, Started

NOW = 1000.0
KEY = Key("bot", "ann", "s")
LIFE = begin(Terms(30, True, 720, 5), NOW, NOW)
INFO = Info(KEY, NOW, NOW, state={"a": 1, "b": 2})


def message(turn_id: str = "t", **fields: Any) -> Message:
    return Message(turn_id, "hi", NOW, **fields)


def answer(**fields: Any) -> Response:
    return Response("t", "hello", "completed", NOW, **fields)


@pytest.mark.parametrize(
    "records", [[], [message()], [Started("t", "n", NOW)], [answer()], [Event("k", {"a": 9}, NOW)]]
)
def test_what_sets_nothing_changes_nothing(records: list[Record]) -> None:
    assert beside(INFO, records, NOW) == (None, {})


@pytest.mark.parametrize("sets", [message, answer])
def test_what_a_record_sets_goes_to_the_session_to_its_user_and_to_all(sets: Any) -> None:
    delta = {"a": 9, "user:a": 2, "app:a": 3, "temp:a": 4}
    info, scopes = beside(INFO, [sets(state_delta=delta)], NOW)
    assert info == replace(INFO, state={"a": 9, "b": 2})
    assert scopes == {"bot/ann": {"a": 2}, "bot": {"a": 3}}


def test_of_one_key_the_last_word_counts() -> None:
    records = [message(state_delta={"a": "one", "c": 1}), message("u", state_delta={"a": "two"})]
    info, scopes = beside(INFO, records, NOW, delta={"a": "none", "user:c": 1})
    assert info is not None
    assert info.state == {"a": "two", "b": 2, "c": 1}
    assert scopes == {"bot/ann": {"c": 1}}


def test_what_is_only_shared_or_temporary_leaves_the_session_as_it_was() -> None:
    info, scopes = beside(INFO, [], NOW, delta={"app:n": 1, "temp:n": 1})
    assert info in (None, INFO)
    assert scopes == {"bot": {"n": 1}}


def test_what_a_turn_took_out_is_gone_with_the_response_that_says_so() -> None:
    info, _ = beside(INFO, [answer(state_delta={"a": None, "c": 3})], NOW, gone={"a"})
    assert info is not None
    assert info.state == {"b": 2, "c": 3}


@pytest.mark.parametrize(
    "record", [message(state_delta={"c": 3}), Failed("t", "no", "agent_failed", True, "", NOW)]
)
def test_what_a_running_turn_took_out_stays_until_that_response(record: Record) -> None:
    info, _ = beside(INFO, [record], NOW, delta={"a": 5}, gone={"a"})
    assert info is not None
    assert info.state["a"] == 5


def test_a_message_is_a_sign_of_life_and_nothing_else_is() -> None:
    info = replace(INFO, life=LIFE)
    for record in Started("t", "n", NOW), answer(), Event("k", 1, NOW):
        assert beside(info, [record], NOW + 60) == (None, {})
    moved, _ = beside(info, [message(), Started("t", "n", NOW)], NOW + 60)
    assert moved == replace(info, life=renewed(LIFE, NOW + 60))
    both, _ = beside(info, [message(state_delta={"a": 9})], NOW + 60)
    assert both == replace(info, life=renewed(LIFE, NOW + 60), state={"a": 9, "b": 2})


def test_a_message_gives_no_life_to_what_lives_for_ever() -> None:
    assert beside(INFO, [message()], NOW) == (None, {})


def test_the_life_that_was_decided_on_is_the_one_that_is_kept() -> None:
    decided = replace(LIFE, warned=True)
    assert beside(replace(INFO, life=LIFE), [], NOW, life=decided) == (replace(INFO, life=decided), {})
