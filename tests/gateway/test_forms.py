"""Bodies of forms: what they hold, and what is no form."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from gateway.forms import Form, is_form, read_form
from protocol.errors import Refused

BOUNDARY = "multipart/form-data; boundary=b"


def request(kind: str, *chunks: bytes, whole: bool = True) -> Request:
    """A request with that body, as Starlette hands it to an endpoint within an app."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
    ]
    end = {"type": "http.request", "body": b"", "more_body": False}
    messages.append(end if whole else {"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    headers = [(b"content-type", kind.encode("latin-1"))]
    return Request({"type": "http", "method": "POST", "headers": headers, "app": None}, receive)


def sent(**options: Any) -> Request:
    """The request that a client makes of these."""
    made = httpx.Request("POST", "http://localhost", **options)
    return request(made.headers["content-type"], made.read())


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + content + b"\r\n"


async def refusal(body: Request, limit: int = 1_000) -> Refused:
    with pytest.raises(Refused) as info:
        await read_form(body, limit)
    return info.value


async def test_both_kinds_hold_the_same() -> None:
    for options in (
        {"data": {"a": ["1", "Grüße & 🙂"], "b": ""}},
        {"files": [("a", (None, "1")), ("a", (None, "Grüße & 🙂")), ("b", (None, ""))]},
    ):
        body = sent(**options)
        assert is_form(body)
        form = await read_form(body, 1_000)
        assert form == Form({"a": ["1", "Grüße & 🙂"], "b": [""]}, frozenset())
        assert (form.text("a"), form.text("c")) == ("Grüße & 🙂", "")


async def test_a_file_is_told_of_and_an_empty_one_is_none() -> None:
    body = request(BOUNDARY, part("f", b"x", "f.txt"), part("g", b"", ""), b"--b--\r\n")
    assert await read_form(body, 1_000) == Form({}, frozenset({"f"}))


async def test_json_is_no_form() -> None:
    assert not is_form(request("application/json", b"{}"))
    assert is_form(request("Application/X-WWW-Form-Urlencoded; charset=utf-8"))


async def test_a_body_has_its_limit_however_it_comes() -> None:
    for kind, chunks in (
        ("application/x-www-form-urlencoded", [b"a=" + b"x" * 400] * 3),
        (BOUNDARY, [part("a", b"x" * 400)] * 3),
        (BOUNDARY, [part("a", b"x" * 400, "a.png")] * 3),
    ):
        refused = await refusal(request(kind, *chunks))
        assert (refused.code, refused.details) == ("frame_too_large", {"limit": 1_000})
        await read_form(request(kind, *chunks[:2], b"--b--\r\n" if kind == BOUNDARY else b""), 1_000)


async def test_too_many_parts_are_refused() -> None:
    for many in (part("a", b"") * 65, part("f", b"x", "f") * 17):
        assert (await refusal(request(BOUNDARY, many + b"--b--\r\n"), 10_000)).code == "bad_request"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--b--"),
        (BOUNDARY, b"nonsense"),
        (BOUNDARY, b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        (f"{BOUNDARY}; charset=punycode", part("a", b"abc-!!!") + b"--b--\r\n"),
        (f"{BOUNDARY}; charset=unicode_escape", part("a", rb"\ud800") + b"--b--\r\n"),
        (f"{BOUNDARY}; charset=a\0b", part("a", b"x") + b"--b--\r\n"),
    ],
)
async def test_what_is_no_form_is_refused(kind: str, body: bytes) -> None:
    assert (await refusal(request(kind, body))).code == "bad_request"


async def test_a_body_that_ends_too_early_is_refused() -> None:
    assert "too early" in (await refusal(request(BOUNDARY, part("a", b"x"), whole=False))).content


@given(st.sampled_from([BOUNDARY, "application/x-www-form-urlencoded"]), st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(kind: str, noise: bytes) -> None:
    async def read(body: bytes) -> None:
        try:
            form = await read_form(request(kind, body), 1_000)
        except Refused:
            return
        assert all(text.encode() is not None for texts in form.texts.values() for text in texts)

    asyncio.run(read(noise))
    asyncio.run(read(part("a", noise) + b"--b--\r\n"))
