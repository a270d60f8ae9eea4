"""What servers say went wrong, in the shapes that they say it in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.refusals import code, is_error, sentence, status


def nested(depth: int) -> Any:
    error: Any = "too deep"
    for _ in range(depth):
        error = {"error": [error]}
    return error


@pytest.mark.parametrize(
    ("error", "says", "amounts_to", "kind"),
    [
        ({"error": {"message": "No.", "type": "invalid_request_error", "code": None}}, "No.", 400, None),
        ({"error": {"message": "No.", "code": "context_length_exceeded"}}, "No.", 400, None),
        ([{"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}}], "No.", 400, "400"),
        ({"error": {"code": 8, "message": "No.", "status": "RESOURCE_EXHAUSTED"}}, "No.", 429, "8"),
        ({"object": "error", "message": "No.", "type": "BadRequestError", "code": 400}, "No.", 400, "400"),
        ({"object": "error", "message": "Busy.", "type": "ServiceUnavailableError"}, "Busy.", 503, None),
        ({"detail": "No."}, "No.", 400, None),
        ({"detail": [{"loc": ["body"], "msg": "no"}, {"msg": "never"}]}, "no; never", 400, None),
        ({"detail": {"error": "No."}}, "No.", 400, None),
        ({"error": "The model is overloaded."}, "The model is overloaded.", 503, None),
        ({"status": 404, "error": "Not Found", "message": "No model."}, "No model.", 404, "404"),
        ({"error": {"message": "slow down", "code": "429"}}, "slow down", 429, "429"),
        ({"error": {"message": "slow down", "type": "RateLimitError"}}, "slow down", 429, "RateLimitError"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}, "Busy", 503, None),
        ({"errors": [{"message": "a"}, {"message": "b"}, {}, {"message": "d"}]}, "a; b", 400, None),
        ({"error": {"code": "invalid_api_key", "message": "No."}}, "No.", 401, "invalid_api_key"),
        ({"error": {"code": 200, "message": 7}}, "", 400, "200"),
        ("just a text", "just a text", 400, None),
        (nested(3), "", 400, None),
        ({"error": nested(500)}, "", 400, None),
        (None, "", 400, None),
        ([], "", 400, None),
    ],
)
def test_the_sentence_the_status_and_the_kind_of_an_error(
    error: Any, says: str, amounts_to: int, kind: str | None
) -> None:
    assert (sentence(error), status(error)) == (says, amounts_to)
    if kind is not None:
        assert code(error) == kind


def test_a_kind_is_a_word_never_a_text_that_somebody_wrote() -> None:
    assert code({"error": {"code": "what the user wrote", "type": "invalid_request"}}) == "invalid_request"
    assert code({"code": "x" * 65}) is None
    assert code({"code": "line\nbreak"}) is None


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"error": {"message": "No."}}, True),
        ({"error": {"message": "No."}, "choices": [{}]}, True),
        ({"object": "error", "message": "No."}, True),
        ({"type": "error"}, True),
        ({"detail": "No."}, True),
        ({"message": "No.", "choices": []}, True),
        ({"error": None, "choices": [{}]}, False),
        ({"error": {}, "choices": [{}]}, False),
        ({"choices": [], "usage": {"prompt_tokens": 1}}, False),
        ({"choices": [], "prompt_filter_results": [{"detail": "x"}]}, False),
        ({"choices": [{}], "detail": "x"}, False),
        ({"type": "ping"}, False),
        ({}, False),
    ],
)
def test_a_report_of_a_failure_is_told_from_a_part_of_an_answer(
    document: dict[str, Any], error: bool
) -> None:
    assert is_error(document) == error


FIELDS = st.sampled_from(["error", "errors", "message", "msg", "detail", "code", "status", "type", "other"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=20,
)


@given(ANYTHING)
def test_whatever_json_comes_it_is_read_without_failing(error: Any) -> None:
    assert isinstance(sentence(error), str)
    assert 400 <= status(error) < 600
    assert code(error) is None or len(code(error) or "") <= 64
    if isinstance(error, dict):
        assert isinstance(is_error(error), bool)
