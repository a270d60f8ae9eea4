"""Whatever is sent to whatever path: it is answered, and a refusal looks as the path's surface has it.

More requests: `REQUESTS=5000 make test ARGS="-o faulthandler_timeout=0 tests/gateway/test_error_shapes.py"`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http import operation_of
from gateway.interfaces import Caller, Unavailable
from gateway.stores.memory import MemoryStore
from protocol.errors import TABLE
from tests.gateway.asgi import Exchange, played
from tests.gateway.worlds import AGENTS, World, anything, by

CALLERS = {"ann": Caller("ann"), "service": Caller(service=True)}
ROUTES = list(World({}).app.routes)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")

# ── What an error looks like ────────────────────────────────────────────────────────────────────────────────


def native(body: dict[str, Any], status: int) -> None:
    assert body["error"] == body["content"]
    coded(body, status)


def frame(body: dict[str, Any], status: int) -> None:
    assert body["type"] == "error"
    coded(body, status)


def coded(body: dict[str, Any], status: int) -> None:
    code = TABLE[body["code"]]
    assert isinstance(body["content"], str)
    assert (status, body["retryable"]) == (code.status, code.retryable)
    assert ("retry_after_ms" in body) is (code.retry_after_ms is not None)


def adk(body: dict[str, Any], _: int) -> None:
    assert body.keys() == {"detail"}
    assert isinstance(body["detail"], str | list)


def eliza(body: dict[str, Any], status: int) -> None:
    assert body.keys() == {"error"}
    error = body["error"]
    assert {"code", "message", "timestamp"} <= error.keys() <= {"code", "message", "timestamp", "details"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", error["timestamp"])
    code = error["code"].lower()
    assert status == (TABLE[code].status if code in TABLE else ELIZAS_CODES[error["code"]])


ELIZAS_CODES = {"VALIDATION_ERROR": 400, "SESSION_RENEWAL_FAILED": 422}


def potpie(body: dict[str, Any], _: int) -> None:
    keys = {"detail"} if "detail" in body else {"error", "conversationId"}
    assert body.keys() == keys
    assert all(isinstance(text, str) for text in body.values())


Shape = Callable[[dict[str, Any], int], None]
SHAPES: dict[str, Shape] = {
    r"/frames/?|/api/sessions/[^/]+/cancel/?": frame,
    r"/api/v[12](/.*)?": potpie,
    r"/api/messaging(/.*)?": eliza,
    r"(/api)?/(apps(/.*)?|run|run_sse|list-apps|config(/.*)?)/?": adk,
    r".*": native,
}


def shape_of(path: str) -> Shape:
    """What errors look like under that path."""
    return next(shape for paths, shape in SHAPES.items() if re.fullmatch(paths, path, re.DOTALL))


def check(exchange: Exchange, *, codes: tuple[int, ...] = ()) -> None:
    """Raises if this is no answer, or a refusal in other words than those of its path. `codes` are statuses from
    500 on that it may have."""
    assert exchange.over
    assert 200 <= exchange.status < 500 or exchange.status in codes, exchange.body
    if exchange.status < 400:
        return
    assert exchange.header["content-type"] == "application/json"
    assert (exchange.status == 401) is ("www-authenticate" in exchange.header)
    if exchange.status in (429, 503):
        assert int(exchange.header["retry-after"]) >= 1
    assert "allow" in exchange.header or exchange.status != 405
    shape_of(exchange.path)(json.loads(exchange.body), exchange.status)


def answered(*exchanges: Exchange, world: World | None = None, **options: Any) -> None:
    """Have these answered one after the other, and check every answer."""
    world = world or World(CALLERS, max_body_bytes=LARGEST)

    async def story() -> None:
        async with world.running():
            for step, exchange in enumerate(exchanges):
                await world.do(step, exchange)

    played(story())
    for exchange in exchanges:
        try:
            check(exchange, **options)
        except Exception as error:
            error.add_note(f"{exchange.method} {exchange.path}: {exchange.status} {exchange.body!r}")
            raise


# ── Known to be wrong ───────────────────────────────────────────────────────────────────────────────────────


def paths(**values: str) -> Iterator[str]:
    """Every path there is."""
    for route in ROUTES:
        yield re.sub(r"{(\w+)(:\w+)?}", lambda found: values.get(found[1], "x"), route.path)  # type: ignore[attr-defined]


UNKNOWN = ("/nowhere", "/api", "/api/", "/api/nowhere", "/api/v1", "/api/v2/", "/api/v1/nowhere/", "/api/messaging",
           "/api/messaging/sessions/s/nowhere", "/apps", "/api/apps/", "/apps/a/users", "/frames/x", "//", "/api//v1")  # fmt: skip


@pytest.mark.parametrize("token", [None, "wrong", "ann"])
def test_every_path_and_method_is_refused_in_the_words_of_its_surface(token: str | None) -> None:
    headers = by(token) if token else ()
    answered(
        *(
            Exchange(method, path + slash, headers=headers)
            for path in (*paths(agent="otter", session_id="s"), *UNKNOWN)
            for slash in ("", "/")
            for method in METHODS
        )
    )


def test_who_is_not_known_is_told_so_wherever_somebody_must_be_known() -> None:
    asked = [
        Exchange(method, path)
        for route, path in zip(ROUTES, paths(agent="otter", session_id="s", app_name="otter"), strict=True)
        for method, endpoint in getattr(route, "endpoints", {}).items()
        if (told := operation_of(endpoint)) is not None and not told.public
    ]
    answered(*asked)
    assert {(one.path, one.status) for one in asked if one.status != 401} == set()


class Dead(MemoryStore):
    """A store of which nothing can be learnt."""

    async def _gone(self, *_: Any, **__: Any) -> Any:
        raise Unavailable

    create = load = append = read = text = history = turn = find = sessions = by_update = scope = _gone
    census = summary = active = activate = label = by_label = delete = _gone


def test_a_store_that_is_gone_is_told_in_the_words_of_the_surface() -> None:
    asked = [
        Exchange(method, path, headers=(*by("service"), JSON), body=json.dumps(BODY).encode())
        for route, path in zip(ROUTES, paths(agent="otter", session_id="s", app_name="otter"), strict=True)
        for method in getattr(route, "endpoints", ())
        if "{" in route.path  # type: ignore[attr-defined]
    ]
    answered(*asked, world=World(CALLERS, store=Dead()), codes=(503,))
    assert sum(one.status == 503 for one in asked) > len(asked) / 2


def test_an_agent_that_fails_is_told_in_the_words_of_the_surface() -> None:
    body = json.dumps(anything("otter", "ann", "s", "fail")).encode()
    asked = [
        Exchange("POST", path, "stream=false", (*by("ann"), JSON), body)
        for path in paths(agent="otter", session_id="s", conversation_id="s", app_name="otter", user_id="ann")
        if path.rstrip("/").endswith(("/message", "/messages", "/run"))
    ]
    answered(*asked, codes=(502,))
    failed = {shape_of(one.path) for one in asked if one.status == 502}
    assert failed == {native, adk, eliza, potpie}


# ── Anything at all ─────────────────────────────────────────────────────────────────────────────────────────

LARGEST = 8 << 10
JSON = ("content-type", "application/json")
BODY = anything("otter", "ann", "s", "hello")
OPERATIONS = [operation_of(one) for route in ROUTES for one in getattr(route, "endpoints", {}).values()]
QUERY = sorted(
    {
        field.encode_name
        for told in OPERATIONS
        if told and told.query
        for field in msgspec.structs.fields(told.query)
    }
    | {"user_id", "token"}
)
GOOD = ("s", "ann", "x", "1", "0-0", "true", *AGENTS)
TEXT = st.text(max_size=8) | st.sampled_from(
    (
        "",
        ".",
        "..",
        "a/b",
        "%2F",
        "x" * 300,
        "\0",
        "é",
        "\u202e",
        "-1",
        "9" * 400,
        "1e999",
        "NaN",
        "null",
        "٣",
        "s\n",
    )
)
WORD = st.sampled_from(GOOD) | TEXT.filter(
    lambda text: not any(0xD800 <= ord(char) < 0xE000 for char in text)
)

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | WORD
    | st.sampled_from(
        (10**400, -(10**30), float("nan"), float("inf"), "\ud800", "\ude00\ud800", "x" * 5000, 2**63)
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=5,
)
RAW = (b"", b" ", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"message": "\xff"}', b'{"a":1}{"a":1}',
       b"[" * (LARGEST - 1), b'{"a":' * 1000, b" " * (LARGEST + 1), b'{"message": NaN}', b'{"limit": 1e999}',
       b'{"message":"\\ud800","content":"\\ud800"}', b'{"message":1,"message":"x"}',
       b'--B\r\nContent-Disposition: form-data; name="content"\r\n\r\nx\r\n--B--\r\n', b"content=x&content=%ff",
       b'--B\r\nContent-Disposition: form-data; name="content"; filename="f"\r\n\r\n\xff\r\n--B--')  # fmt: skip
KINDS = ("application/json", "application/json", "application/json", "application/json; charset=utf-16",
         "text/plain", "", "application/problem+json", "multipart/form-data", "multipart/form-data; boundary=B",
         "multipart/form-data; boundary=\xff", "application/x-www-form-urlencoded", ";", "\xff")  # fmt: skip
HEADERS = ("accept", "origin", "sec-fetch-site", "x-user-id", "x-connection-id", "x-request-id", "last-event-id",
           "content-length", "transfer-encoding", "host", "authorization", "x-api-key", "x-forwarded-for")  # fmt: skip

# What a server lets through: the target of a request is ASCII, a header's value has no control characters.
ASCII = st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#")
LATIN = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=8)


@st.composite
def requests(draw: st.DrawFn) -> tuple[Any, ...]:
    """The arguments of an `Exchange`."""
    route = draw(st.sampled_from(ROUTES))
    filled = re.sub(r"{(\w+)(:\w+)?}", lambda _: draw(WORD), route.path) + draw(
        st.sampled_from(("", "", "/", "/x"))
    )  # type: ignore[attr-defined]
    method = draw(st.sampled_from((*getattr(route, "endpoints", {"GET": None}), "POST", "BREW")))
    pairs = draw(st.lists(st.tuples(st.sampled_from(QUERY) | WORD, WORD), max_size=3))
    query = draw(st.just(urlencode(pairs)) | st.text(ASCII, max_size=12))
    kind = draw(st.sampled_from(KINDS))
    headers = [*by("ann"), ("content-type", kind)]
    headers += draw(st.lists(st.tuples(st.sampled_from(HEADERS), LATIN | st.sampled_from(GOOD)), max_size=2))
    replaced = draw(st.dictionaries(st.sampled_from([*BODY]), JUNK, max_size=2))
    body = draw(
        st.just(json.dumps({**BODY, **replaced}).encode())
        | st.builds(lambda value: json.dumps(value).encode(), JUNK)
        | st.sampled_from(RAW)
        | st.binary(max_size=20)
    )
    return method, filled, query, headers, body


@settings(
    max_examples=int(os.environ.get("REQUESTS", "100")),
    derandomize="REQUESTS" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(requests(), min_size=1, max_size=12))
def test_nothing_that_is_sent_is_a_bug_and_every_refusal_has_its_surfaces_shape(
    asked: list[tuple[Any, ...]],
) -> None:
    answered(*(Exchange(*one) for one in asked))
