"""Whatever is sent to whatever path: it is answered, and a refusal looks as the surface of that path has it.

More requests: `REQUESTS=5000 make test ARGS="-o faulthandler_timeout=0 tests/gateway/test_error_shapes.py"`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeAlias
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http import Operation, operation_of
from gateway.interfaces import Caller, Unavailable
from gateway.stores.memory import MemoryStore
from protocol.errors import TABLE
from tests.gateway.asgi import Exchange, played
from tests.gateway.garbage import BODY, BYTES, JSON, LARGEST, ROUTES, WORDS, parameters, requests
from tests.gateway.worlds import World, anything, by, filled

CALLERS = {"ann": Caller("ann"), "service": Caller(service=True)}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")

# ── What an error looks like ────────────────────────────────────────────────────────────────────────────────


def native(body: dict[str, Any], status: int) -> None:
    assert body["error"] == body["content"]
    check_code(body, status)


def frame(body: dict[str, Any], status: int) -> None:
    assert body["type"] == "error"
    check_code(body, status)


def check_code(body: dict[str, Any], status: int) -> None:
    code = TABLE[body["code"]]
    assert body["content"]
    assert (status, body["retryable"]) == (code.status, code.retryable)
    assert ("retry_after_ms" in body) is (code.retry_after_ms is not None)


def adk(body: dict[str, Any], _: int) -> None:
    assert body.keys() == {"detail"}
    assert isinstance(body["detail"], str | list)


def eliza(body: dict[str, Any], status: int) -> None:
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() - {"details"} == {"code", "message", "timestamp"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", error["timestamp"])
    assert status in (
        ELIZAS[error["code"]] if error["code"] in ELIZAS else [TABLE[error["code"].lower()].status]
    )


ELIZAS = {"VALIDATION_ERROR": (400, 413), "SESSION_RENEWAL_FAILED": (422,)}
"""Its own codes, and the statuses of those of the table that they stand for."""


def potpie(body: dict[str, Any], _: int) -> None:
    assert body.keys() in ({"detail"}, {"error", "conversationId"})
    assert all(isinstance(text, str) for text in body.values())


Shape: TypeAlias = Callable[[dict[str, Any], int], None]
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


def check(exchange: Exchange, expected: Collection[int]) -> None:
    """Raises if this is no answer, or a refusal that is wrong for its path. `expected` are statuses from 500
    on that it may have."""
    assert exchange.over
    assert 200 <= exchange.status < 500 or exchange.status in expected
    if exchange.status < 400:
        return
    header = exchange.header
    assert header["content-type"] == "application/json"
    assert ("www-authenticate" in header) is (exchange.status == 401)
    assert ("retry-after" in header) is (exchange.status in (429, 503))
    assert ("allow" in header) is (exchange.status == 405)
    shape_of(exchange.path)(json.loads(exchange.body), exchange.status)


def answer(*asked: Exchange, world: World | None = None, expected: Collection[int] = ()) -> None:
    """Have these answered one after the other, and check every answer."""
    world = world or World(CALLERS, max_body_bytes=LARGEST)

    async def story() -> None:
        async with world.running():
            for step, exchange in enumerate(asked):
                await world.do(step, exchange)

    played(story())
    for exchange in asked:
        try:
            check(exchange, expected)
        except Exception as error:
            error.add_note(f"{exchange!r}: {exchange.status} {exchange.headers} {exchange.body!r}")
            raise


# ── Known to be wrong ───────────────────────────────────────────────────────────────────────────────────────

VALUES = {"agent": "otter", "app_name": "otter", "user_id": "ann", "session_id": "s", "conversation_id": "s"}
UNKNOWN = (
    *("/nowhere", "/api", "/api/nowhere", "/api//v1", "//", "/frames/x", "/api/sessions/s/cancel/x"),
    *("/api/v1", "/api/v2/nowhere", "/api/messaging", "/api/messaging/sessions/s/nowhere"),
    *("/apps", "/apps/otter/users", "/api/apps/otter/nowhere", "/config/nowhere"),
)


def operations() -> Iterator[tuple[str, str, Operation]]:
    """The method and the path of every operation that is not for everybody."""
    for route in ROUTES:
        for method, endpoint in route.endpoints.items():
            told = operation_of(endpoint)
            if told is not None and not told.public:
                yield method, filled(route.path, VALUES), told


@pytest.mark.parametrize("token", [None, "wrong", "ann"])
def test_every_path_and_method_is_refused_in_the_words_of_its_surface(token: str | None) -> None:
    paths = dict.fromkeys((*(filled(route.path, VALUES) for route in ROUTES), *UNKNOWN))
    headers = by(token) if token else ()
    answer(
        *(
            Exchange(method, path + slash, "stream=false", headers)
            for path in paths
            for slash in ("", "/")
            for method in METHODS
        )
    )


def test_who_is_unknown_is_told_that_before_anything_else() -> None:
    asked = [Exchange(method, path) for method, path, _ in operations()]
    answer(*asked)
    assert {(one.method, one.path, one.status) for one in asked if one.status != 401} == set()


def test_an_upgrade_is_refused_like_a_request() -> None:
    wrong = [Exchange("WS", path, headers=by("wrong")) for path in ("/ws", "/api/agents/otter/ws")]
    lost = [Exchange("WS", path, headers=by("ann")) for path in ("/nowhere", "/api/agents/none/ws")]
    answer(*wrong, *lost)
    assert [one.status for one in (*wrong, *lost)] == [401, 401, 404, 404]


def test_no_body_is_a_bug() -> None:
    headers = *by("ann"), JSON
    answer(
        *(
            Exchange(method, path, "stream=false", headers, body)
            for method, path, _ in operations()
            if method != "GET"
            for body in BYTES
        )
    )


def test_no_query_is_a_bug() -> None:
    answer(
        *(
            Exchange(method, path, urlencode({"stream": "false", name: word}), (*by("ann"), JSON), b"{}")
            for method, path, told in operations()
            for name in ("user_id", *parameters(told))
            for word in WORDS
        )
    )


class Gone(MemoryStore):
    """A store that does not answer."""

    async def _gone(self, *_: Any, **__: Any) -> Any:
        raise Unavailable

    create = load = append = read = text = history = turn = find = sessions = by_update = scope = _gone
    census = summary = active = activate = label = by_label = delete = _gone


def test_a_store_that_is_gone_is_told_in_the_words_of_the_surface() -> None:
    body = json.dumps(BODY).encode()
    asked = [Exchange(method, path, "", (*by("service"), JSON), body) for method, path, _ in operations()]
    answer(*asked, world=World(CALLERS, store=Gone()), expected=(503,))
    assert {shape_of(one.path) for one in asked if one.status == 503} == {*SHAPES.values()}


def test_an_agent_that_fails_is_told_in_the_words_of_the_surface() -> None:
    body = json.dumps(anything("otter", "ann", "s", "fail")).encode()
    make = Exchange("POST", "/api/agents/otter/sessions", "", (*by("ann"), JSON), b'{"session_id":"s"}')
    asked = [
        Exchange(method, path, "stream=false", (*by("ann"), JSON), body)
        for method, path, _ in operations()
        if method == "POST" and path.endswith(("/message", "/messages", "/run"))
    ]
    answer(make, *asked, expected=(502,))
    assert {shape_of(one.path) for one in asked if one.status == 502} == {native, adk, eliza, potpie}


# ── Anything at all ─────────────────────────────────────────────────────────────────────────────────────────


@settings(
    max_examples=int(os.environ.get("REQUESTS", "150")),
    derandomize="REQUESTS" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(requests(), min_size=1, max_size=12))
def test_nothing_that_is_sent_is_a_bug_and_every_refusal_has_its_shape(asked: list[Exchange]) -> None:
    answer(*asked)
