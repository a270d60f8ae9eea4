"""What the HTTP endpoints share: ids, bodies and paging."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from gateway.http import (
    error_response,
    json_body,
    opaque,
    read_opaque,
    request_id,
    whole_number,
)
from protocol.errors import Refused


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "new\nline", "é"])
def test_a_request_id_that_is_not_fit_for_logs_is_replaced(given: str) -> None:
    assert request_id({"x-request-id": given}, "made") == "made"
    assert request_id({"x-request-id": "ab-1/2:3"}, "made") == "ab-1/2:3"


def request(body: bytes, kind: str = "application/json") -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    headers = [(b"content-type", kind.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


async def test_a_body_is_a_json_object() -> None:
    assert await json_body(request(b'{"a": 1}', "application/json; charset=utf-8"), 100) == {"a": 1}


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"{}", "text/plain", "unsupported_media_type"),
        (b"{}" + b" " * 100, "application/json", "frame_too_large"),
        (b"[]", "application/json", "bad_request"),
        (b"{", "application/json", "bad_request"),
        (b'{"a": "\xff"}', "application/json", "bad_request"),
        (b"[" * 90, "application/json", "bad_request"),
    ],
)
async def test_any_other_body_is_refused(body: bytes, kind: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        await json_body(request(body, kind), 100)
    assert refused.value.code == code


def test_a_position_comes_back_as_it_was_given_out_and_nothing_else_is_one() -> None:
    assert read_opaque(opaque(1.5, "s", 7), float, str, int) == (1.5, "s", 7)
    for text in ("", "x", opaque("s"), "é", opaque(1.5, "s", 7)[:-2]):
        with pytest.raises(Refused, match="none that was given out"):
            read_opaque(text, float, str, int)


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "201", "1" * 5_000, "٣"])
def test_a_number_of_the_query_says_what_is_allowed(text: str) -> None:
    with pytest.raises(Refused, match="limit: expected 0 to 200"):
        whole_number({"limit": text}, "limit", 50, 0, 200)
    assert whole_number({}, "limit", 50, 0, 200) == 50
    assert whole_number({"limit": "200"}, "limit", 50, 0, 200) == 200


def test_a_refusal_is_its_status_its_body_and_when_to_come_back() -> None:
    response = error_response(Refused("overloaded", "Too much.", retry_after_ms=1_200, limit=3))
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert b'"code":"overloaded"' in response.body
    assert b'"limit":3' in response.body
    assert error_response(Refused("unauthenticated", "Who?")).headers["www-authenticate"] == "Bearer"
