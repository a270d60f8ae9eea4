"""Requests that nobody should send, to every path there is: mostly almost right."""

from __future__ import annotations

import json
import re
from urllib.parse import urlencode

import msgspec
from hypothesis import strategies as st

from gateway.http import Operation, Path, operation_of
from tests.gateway.asgi import Exchange
from tests.gateway.worlds import AGENTS, World, anything, by

__all__ = ["BODY", "BYTES", "JSON", "LARGEST", "ROUTES", "WORDS", "parameters", "requests"]

LARGEST = 8 << 10
"""Bytes that a body may have."""
ROUTES = [route for route in World({}).app.routes if isinstance(route, Path)]
JSON = ("content-type", "application/json")
BODY = anything("otter", "ann", "s", "hello")


def parameters(told: Operation) -> list[str]:
    """The names of what an operation's query may hold."""
    return [] if told.query is None else [field.encode_name for field in msgspec.structs.fields(told.query)]


_OPERATIONS = [operation_of(endpoint) for route in ROUTES for endpoint in route.endpoints.values()]
_PARAMETERS = sorted({name for told in _OPERATIONS if told is not None for name in parameters(told)})

# ── Words ───────────────────────────────────────────────────────────────────────────────────────────────────

_GOOD = ("s", "ann", "x", "1", "0-0", "true", *AGENTS)
WORDS = (
    "",
    ".",
    "..",
    "a/b",
    "%2F",
    "x" * 300,
    "\0",
    "é",
    "\u202e",
    "s\n",
    "٣",
    "-1",
    "9" * 400,
    "1e999",
    "NaN",
    "null",
)
# What a server lets through: the target of a request is ASCII, a header has no control characters.
_TARGET = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=12)
_HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=8)
_WORDS = st.sampled_from(_GOOD) | st.sampled_from(WORDS)
_WORDS |= st.text(st.characters(exclude_categories=["Cs"]), max_size=8)

_HEADERS = (
    *("accept", "authorization", "content-length", "host", "last-event-id", "origin", "sec-fetch-site"),
    *("transfer-encoding", "x-api-key", "x-connection-id", "x-forwarded-for", "x-request-id", "x-user-id"),
)
_KINDS = (
    *("application/json",) * 6,
    *("application/json; charset=utf-16", "application/problem+json", "text/plain", "", ";", "\xff"),
    *("multipart/form-data", "multipart/form-data; boundary=B", "multipart/form-data; boundary=\xff"),
    "application/x-www-form-urlencoded",
)

# ── Bodies ──────────────────────────────────────────────────────────────────────────────────────────────────

_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | _WORDS
    | st.sampled_from((10**400, -(10**30), 2**63, float("nan"), float("inf")))
    | st.sampled_from(("\ud800", "\ude00\ud800", "x" * 5000)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=5,
)
_PART = b'--B\r\nContent-Disposition: form-data; name="content"'
BYTES = (
    *(b"", b" ", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"a":1}{"a":1}'),
    *(b"[" * (LARGEST - 1), b'{"a":' * 1000, b" " * (LARGEST + 1)),
    *(b'{"message": "\xff"}', b'{"message": NaN}', b'{"message":1,"message":"x"}', b'{"\xff": 1}'),
    *(_PART + b"\r\n\r\nx\r\n--B--\r\n", _PART + b'; filename="f"\r\n\r\n\xff\r\n--B--', _PART),
    b"content=x&content=%ff",
)
_BODIES = (
    st.dictionaries(st.sampled_from([*BODY]), _VALUES, max_size=2).map(
        lambda odd: json.dumps(BODY | odd).encode()
    )
    | _VALUES.map(lambda value: json.dumps(value).encode())
    | st.sampled_from(BYTES)
    | st.binary(max_size=20)
)


@st.composite
def requests(draw: st.DrawFn) -> Exchange:
    """One of them. Its caller is Ann, as long as no other header says something else."""
    route = draw(st.sampled_from(ROUTES))
    path = re.sub(r"{\w+(:\w+)?}", lambda _: draw(_WORDS), route.path)
    path += draw(st.sampled_from(("", "", "", "/", "/x")))
    pairs = st.lists(st.tuples(st.sampled_from(_PARAMETERS) | _WORDS, _WORDS), max_size=3)
    query = draw(pairs.map(urlencode) | _TARGET)
    headers = [*by("ann"), ("content-type", draw(st.sampled_from(_KINDS)))]
    more = st.tuples(st.sampled_from(_HEADERS), _HEADER | st.sampled_from(_GOOD))
    headers += draw(st.lists(more, max_size=2))
    method = draw(st.sampled_from((*route.endpoints, *route.endpoints, "POST", "BREW")))
    return Exchange(method, path, query, headers, draw(_BODIES))
