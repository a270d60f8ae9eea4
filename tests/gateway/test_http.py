"""What the HTTP endpoints share: ids, bodies, queries and paging."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway.agents.echo import EchoAgent
from gateway.http import (
    Api,
    described,
    error_response,
    opaque,
    operation_of,
    read_body,
    read_opaque,
    read_query,
    request_id,
)
from gateway.runtime import Runtime
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol.errors import Refused
from protocol.ids import Label, SessionId


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "new\nline", "é"])
def test_a_request_id_that_is_not_fit_for_logs_is_replaced(given: str) -> None:
    assert request_id({"x-request-id": given}, "made") == "made"
    assert request_id({"x-request-id": "ab-1/2:3"}, "made") == "ab-1/2:3"


class Body(Struct):
    a: int
    label: Label | None = None
    session_id: SessionId | None = None
    way: Literal["there", "back"] = "there"


class Empty(Struct):
    a: int = 7


class Query(Struct):
    limit: Annotated[int, Meta(ge=0, le=200)] = 50
    since: float | None = None
    all: bool = False
    way: Literal["there", "back"] = "there"
    session_id: SessionId | None = None


def an_api(**settings: Any) -> Api:
    runtime = Runtime(Settings(**settings), {"echo": EchoAgent()}, MemoryStore())
    return Api(Supervisor(runtime, "echo"), None)


def request(body: bytes = b"", kind: str = "application/json", query: str = "", **headers: str) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    sent = {"content-type": kind, "content-length": str(len(body)), **headers}
    return Request(
        {
            "type": "http",
            "method": "POST",
            "query_string": query.encode(),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()],
        },
        receive,
    )


async def test_a_body_is_read_as_what_it_is_to_be() -> None:
    body = request(b'{"a": 1, "more": []}', "application/json; charset=utf-8")
    assert await read_body(body, an_api(), Body) == Body(1)


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"{}", "text/plain", "unsupported_media_type"),
        (b'{"a":1}' + b" " * 100, "application/json", "frame_too_large"),
        (b"[]", "application/json", "bad_request"),
        (b"{", "application/json", "bad_request"),
        (b"", "application/json", "bad_request"),
        (b'{"a":1,"b": "\xff"}', "application/json", "bad_request"),
        (b'{"a":1,"label":"\\ud800"}', "application/json", "bad_request"),
        (b'{"a":1,"b":' + b"[" * 80 + b"]}", "application/json", "bad_request"),
    ],
)
async def test_any_other_body_is_refused(body: bytes, kind: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        await read_body(request(body, kind), an_api(max_body_bytes=100), Body)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        (b"{}", "bad_request", "a is missing."),
        (b'{"a":"1"}', "bad_request", "a: expected a whole number, got a string."),
        (b'{"a":1,"way":"up"}', "bad_request", "way: expected there or back."),
        (b'{"a":1,"label":"a/b"}', "bad_request", "label: expected 1–128 characters, not only spaces"),
        (b'{"a":1,"session_id":"a b"}', "bad_id", "session_id: expected 1–128 of A–Z"),
        (b"[]", "bad_request", "The body: expected an object, got an array."),
        (b"{]", "bad_request", "The body is not JSON: "),
    ],
)
async def test_what_is_wrong_with_a_body_is_told(body: bytes, code: str, sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        await read_body(request(body), an_api(), Body)
    assert refused.value.code == code
    assert refused.value.content.startswith(sentence)


async def test_a_body_may_be_left_out_where_that_is_said_and_only_there() -> None:
    assert await read_body(request(kind="text/plain"), an_api(), Empty, optional=True) == Empty()
    assert await read_body(request(b'{"a":1}'), an_api(), Empty, optional=True) == Empty(1)
    with pytest.raises(Refused):
        await read_body(request(), an_api(), Empty)
    chunked = request(b'{"a":1}', content_length="0", transfer_encoding="chunked")
    assert await read_body(chunked, an_api(), Empty, optional=True) == Empty(1)


async def test_an_endpoint_may_take_more_than_is_usual() -> None:
    body = b'{"a":1}' + b" " * 100
    assert await read_body(request(body), an_api(max_body_bytes=100), Body, limit=200) == Body(1)


def test_a_query_is_read_as_what_it_is_to_be() -> None:
    assert read_query(request(), Query) == Query()
    query = "limit=3&since=1.5&all=true&way=back&session_id=s&more=x"
    assert read_query(request(query=query), Query) == Query(3, 1.5, True, "back", "s")
    assert read_query(request(query="limit=3&limit=4"), Query) == Query(4)


@pytest.mark.parametrize(
    ("query", "code", "sentence"),
    [
        ("limit=", "bad_request", "limit: expected a whole number, got a string."),
        ("limit=201", "bad_request", "limit: expected a whole number <= 200."),
        ("limit=-1", "bad_request", "limit: expected a whole number >= 0."),
        (f"limit={'9' * 5000}", "bad_request", "limit: integer value out of range."),
        ("since=nan", "bad_request", "since: expected a number, got nan."),
        ("since=-inf", "bad_request", "since: expected a number, got -inf."),
        ("since=1e999", "bad_request", "since: "),
        ("all=perhaps", "bad_request", "all: expected true or false, got a string."),
        ("way=up", "bad_request", "way: expected there or back."),
        ("session_id=a%20b", "bad_id", "session_id: expected 1–128 of A–Z"),
    ],
)
def test_what_is_wrong_with_a_query_is_told(query: str, code: str, sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        read_query(request(query=query), Query)
    assert refused.value.code == code
    assert refused.value.content.startswith(sentence)


def test_what_is_told_of_an_endpoint_is_found_behind_its_first_arguments() -> None:
    @described(answer=Body, errors=("not_found",))
    async def one(_: int, __: Request) -> ASGIApp:
        """Say what it
        does.

        And more.
        """
        return Response()

    told = operation_of(partial(one, 1))
    assert told is not None
    assert (told.summary, told.answer, told.errors) == ("Say what it does.", Body, ("not_found",))


def test_what_is_said_of_an_endpoint_may_be_other_than_its_docstring() -> None:
    @described("Something else.")
    async def one(_: Request) -> ASGIApp:
        """What it does."""
        return Response()

    told = operation_of(one)
    assert told is not None
    assert told.summary == "Something else."


def test_a_position_comes_back_as_it_was_given_out_and_nothing_else_is_one() -> None:
    assert read_opaque(opaque(1.5, "s", 7), float, str, int) == (1.5, "s", 7)
    for text in ("", "x", opaque("s"), "é", opaque(1.5, "s", 7)[:-2]):
        with pytest.raises(Refused, match="none that was given out"):
            read_opaque(text, float, str, int)


def test_a_refusal_is_its_status_its_body_and_when_to_come_back() -> None:
    response = error_response(Refused("overloaded", "Too much.", retry_after_ms=1_200, limit=3))
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert b'"code":"overloaded"' in response.body
    assert b'"limit":3' in response.body
    assert error_response(Refused("unauthenticated", "Who?")).headers["www-authenticate"] == "Bearer"
