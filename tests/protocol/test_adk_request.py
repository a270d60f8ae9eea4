"""What ADK's clients send."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.adk_request import NewSession, Part, Run, camelled, fit, text_of, wrapped
from protocol.errors import Refused


def test_names_may_be_in_snake_case() -> None:
    run = {
        "app_name": "bot",
        "user_id": "u",
        "session_id": "s",
        "new_message": {
            "role": "user",
            "parts": [{"text": "x"}, {"inline_data": {"mime_type": "image/png", "data": "aGk="}}],
        },
        "state_delta": {"my_key": {"an_other": 1}},
        "custom_metadata": {"trace_id": "t"},
    }
    spelled = camelled(run)
    assert spelled == {
        "appName": "bot",
        "userId": "u",
        "sessionId": "s",
        "newMessage": {
            "role": "user",
            "parts": [{"text": "x"}, {"inlineData": {"mimeType": "image/png", "data": "aGk="}}],
        },
        "stateDelta": {"my_key": {"an_other": 1}},
        "customMetadata": {"trace_id": "t"},
    }
    assert camelled(spelled) == spelled
    assert fit(spelled, Run).new_message.parts[0].text == "x"


def test_names_that_are_not_adks_stay() -> None:
    call = {"function_call": {"name": "add_two", "args": {"first_number": 1}}}
    answer = {"function_response": {"will_continue": True, "response": {"the_sum": 2}}}
    event = {
        "invocation_id": "i",
        "content": {"parts": [call, answer]},
        "actions": {"state_delta": {"a_b": 1}},
        "usage_metadata": {"prompt_token_count": 1},
        "custom_metadata": {"c_d": 1},
    }
    assert camelled({"events": [event], "state": {"__session_metadata__": {"e_f": 1}}}) == {
        "events": [
            {
                "invocationId": "i",
                "content": {
                    "parts": [
                        {"functionCall": {"name": "add_two", "args": {"first_number": 1}}},
                        {"functionResponse": {"willContinue": True, "response": {"the_sum": 2}}},
                    ]
                },
                "actions": {"stateDelta": {"a_b": 1}},
                "usageMetadata": {"promptTokenCount": 1},
                "customMetadata": {"c_d": 1},
            }
        ],
        "state": {"__session_metadata__": {"e_f": 1}},
    }


@pytest.mark.parametrize("value", [None, 5, "a_b", [1], {"events": "a_b"}, {"newMessage": [None]}])
def test_what_has_no_names_is_spelled_as_it_was(value: Any) -> None:
    assert camelled(value) == value


@pytest.mark.parametrize(
    "body",
    [{}, {"state": {"a": 1}}, {"state": None, "events": []}, {"events": [{"author": "user"}]}],
)
def test_an_object_of_state_and_events_is_a_wrapper(body: dict[str, Any]) -> None:
    assert wrapped(body) is body


@pytest.mark.parametrize(
    "body", [{"a": 1}, {"state": {"a": 1}, "b": 2}, {"state": "on"}, {"events": {}}, {"events": None}]
)
def test_any_other_object_is_the_state(body: dict[str, Any]) -> None:
    assert wrapped(body) == {"state": body}


@pytest.mark.parametrize("body", [None, [], "x"])
def test_what_is_no_object_is_no_state(body: Any) -> None:
    assert wrapped(body) is body


def test_texts_are_paragraphs_and_reasoning_is_apart() -> None:
    parts = [Part("one"), Part("hm", thought=True), Part(), Part(""), Part("two")]
    assert text_of(parts) == "one\ntwo"
    assert text_of(parts, thought=True) == "hm"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"sessionId": 5}, "sessionId"),
        ({"state": []}, "state"),
        ({"events": {}}, "events"),
        ({"events": [{"timestamp": "2026-01-01T00:00:00Z"}]}, "timestamp"),
        ({"events": [{"content": {"parts": [{"text": 5}]}}]}, "text"),
        ({"events": [{"content": {"parts": [{"functionCall": {"args": []}}]}}]}, "args"),
        ({"events": [{"nodeInfo": 5}]}, "nodeInfo"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(body: Any, field: str) -> None:
    with pytest.raises(Refused, match=field) as refused:
        fit(body, NewSession)
    assert refused.value.code == "bad_request"
