from __future__ import annotations

from http import HTTPStatus

import pytest

from protocol.errors import TABLE, Refused, Violated, code_of_status, retry_after


@pytest.mark.parametrize("code", TABLE)
def test_every_code_has_a_status_that_says_error(code: str) -> None:
    assert HTTPStatus(TABLE[code].status) >= 400


@pytest.mark.parametrize("code", TABLE)
def test_what_may_be_tried_again_has_a_status_that_says_so(code: str) -> None:
    assert not TABLE[code].retryable or TABLE[code].status in {409, 429, 500, 502, 503, 504}


@pytest.mark.parametrize("code", TABLE)
def test_only_what_may_be_tried_again_names_a_time_to_wait(code: str) -> None:
    assert TABLE[code].retry_after_ms is None or TABLE[code].retryable


def test_a_refusal_knows_what_the_table_says_of_it() -> None:
    refused = Refused("queue_full", "Too many wait.", session_id="s", ref="r", limit=16)
    assert (refused.status, refused.retryable, refused.retry_after_ms) == (
        429,
        True,
        retry_after("queue_full"),
    )
    assert (refused.session_id, refused.turn_id, refused.ref) == ("s", None, "r")
    assert refused.details == {"limit": 16}
    assert str(refused) == "Too many wait."


def test_a_time_to_wait_that_is_given_counts_more_than_the_tables() -> None:
    assert Refused("queue_full", "", retry_after_ms=5).retry_after_ms == 5
    assert Refused("queue_full", "", retry_after_ms=0).retry_after_ms == 0


def test_a_violation_closes_with_the_tables_code_unless_told_otherwise() -> None:
    assert Violated("unauthenticated", "").close == 4401
    assert Violated("bad_request", "").close == 4400
    assert Violated("bad_frame", "", close=1007).close == 1007


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "not_found"),
        (405, "method_not_allowed"),
        (413, "frame_too_large"),
        (415, "unsupported_media_type"),
    ],
)
def test_the_frameworks_refusals_find_their_code(status: int, code: str) -> None:
    assert code_of_status(status) == code
    assert TABLE[code].status == status


def test_a_status_without_a_code_of_its_own_is_a_bad_request_or_a_bug() -> None:
    assert code_of_status(418) == "bad_request"
    assert code_of_status(501) == "internal"
