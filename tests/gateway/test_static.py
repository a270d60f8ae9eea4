"""Static files: what browsers and proxies need not ask for twice, and what they get compressed."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from gateway.static import Static

TEXT = b"export const text = 'again and again';\n" * 40
FILE = Static(TEXT, "text/javascript", {"Referrer-Policy": "no-referrer"})


def asked(file: Static = FILE, query: str = "", **headers: str) -> Response:
    """What is answered to a request with these headers."""
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    return file.answer(Request(scope))


def test_it_is_asked_for_again_each_time_and_sent_only_if_it_changed() -> None:
    first = asked()
    assert (first.status_code, first.body) == (200, TEXT)
    assert first.headers["cache-control"] == "no-cache"
    second = asked(if_none_match=first.headers["etag"])
    assert (second.status_code, second.body) == (304, b"")
    assert second.headers["etag"] == first.headers["etag"]
    changed = asked(Static(TEXT + b"//", "text/javascript", {}), if_none_match=first.headers["etag"])
    assert changed.status_code == 200


@pytest.mark.parametrize("header", ["*", '"other", {tag}', "{strong}", 'W/"other",{tag}'])
def test_whichever_way_a_cache_names_what_it_has(header: str) -> None:
    tag = asked().headers["etag"]
    assert asked(if_none_match=header.format(tag=tag, strong=tag.removeprefix("W/"))).status_code == 304


@pytest.mark.parametrize("header", ["", '"other"', "other", '""', "{bare}"])
def test_what_names_something_else_gets_the_file(header: str) -> None:
    assert asked(if_none_match=header.format(bare=FILE.version)).status_code == 200


def test_at_an_address_with_its_version_it_is_kept_without_asking() -> None:
    kept = asked(query=f"v={FILE.version}")
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert asked(query="v=0123456789abcdef").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "accepted", ["gzip", "gzip, deflate, br", "br;q=1.0, GZIP;q=0.8", "*", "gzip; q=0.001"]
)
def test_who_takes_gzip_gets_it(accepted: str) -> None:
    answer = asked(accept_encoding=accepted)
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(bytes(answer.body)) == TEXT
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "accepted", ["", "identity", "br", "gzip;q=0", "gzip; q=0.000", "*;q=0", "x-gzipped"]
)
def test_who_does_not_gets_it_as_it_is(accepted: str) -> None:
    answer = asked(accept_encoding=accepted)
    assert "content-encoding" not in answer.headers
    assert answer.body == TEXT
    assert answer.headers["vary"] == "Accept-Encoding"  # a cache must not give this to who takes gzip


def test_what_would_not_be_smaller_is_not_compressed() -> None:
    answer = asked(Static(b"tiny", "text/plain", {}), accept_encoding="gzip")
    assert "content-encoding" not in answer.headers
    assert answer.body == b"tiny"


def test_its_own_headers_come_with_each_answer() -> None:
    for answer in (asked(), asked(accept_encoding="gzip"), asked(if_none_match=asked().headers["etag"])):
        assert answer.headers["referrer-policy"] == "no-referrer"
