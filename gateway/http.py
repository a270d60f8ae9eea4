"""What the HTTP endpoints share: routes and what is told of them, requests, answers, error shapes, paging."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import isfinite
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from protocol.codec import encode
from protocol.diagnose import explain, malformed
from protocol.errors import Refused
from protocol.saying import Problem

from .api import Api
from .interfaces import NoSession, Unavailable
from .opening import expired

__all__ = [
    "OF_MESSAGE",
    "OF_SESSION",
    "OF_TURN",
    "Api",
    "Endpoint",
    "Operation",
    "Path",
    "described",
    "error_body",
    "error_response",
    "headers_of",
    "json_response",
    "opaque",
    "operation_of",
    "query_of",
    "raw_body",
    "read_body",
    "read_opaque",
    "read_query",
    "refusal_of",
    "request_id",
    "retry_headers",
    "route",
    "shaped",
]

Endpoint = Callable[[Request], Awaitable[ASGIApp]]
"""What answers a request: its answer is itself an ASGI app, a `Response` mostly."""

F = TypeVar("F", bound=Callable[..., Awaitable[ASGIApp]])
R = TypeVar("R", bound=Callable[[Refused], Response])
T = TypeVar("T")
Q = TypeVar("Q", bound=msgspec.Struct)

# ── Routes, and what is told of them ────────────────────────────────────────────────────────────────────────


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of an endpoint in the description of the API."""

    summary: str
    """One sentence."""
    path: Mapping[str, Any] = {}
    """The types of the path's parameters whose names say something else elsewhere."""
    query: type[msgspec.Struct] | None = None
    """Its fields are the query's parameters."""
    body: Any = None
    """The type of the request's body; None: it has none."""
    body_media: str = "application/json"
    optional: bool = False
    """The body may be left out."""
    answer: Any = None
    """The type of the answer's body, or of each event of a stream; a tuple of types: any of them."""
    status: int = 200
    media: str = "application/json"
    other_media: Mapping[str, Any] = {}
    """Types of the answer where it may come in several media."""
    also: Mapping[int, Any] = {}
    """Types of the answer under other statuses, that are no errors."""
    also_media: str = "application/json"
    errors: tuple[str, ...] = ()
    """Codes of its own: those that every endpoint of its kind may answer are known."""
    public: bool = False
    """It needs no credentials."""


OF_SESSION = ("session_not_found", "session_ambiguous", "session_expired", "agent_not_found")
"""The errors of whatever is asked of a session that its id names."""
OF_MESSAGE = (
    *("message_too_large", "session_closed", "session_busy", "turn_conflict", "turn_not_found"),
    *("queue_full", "too_many_sessions", "overloaded", "draining"),
)
"""The errors of a message, beside those of its session."""
OF_TURN = (
    *("agent_failed", "answer_too_large", "agent_unavailable", "upstream_truncated"),
    *("agent_timeout", "agent_stalled", "turn_deadline", "turn_interrupted"),
)
"""How turns fail."""


def described(summary: str | None = None, **told: Any) -> Callable[[F], F]:
    """Tells in the description of the API what an endpoint takes and answers: `told` are the fields of
    `Operation`. Without a `summary` it is the first paragraph of the docstring."""

    def describe(endpoint: F) -> F:
        first = (endpoint.__doc__ or "").partition("\n\n")[0]
        vars(endpoint)["operation"] = Operation(summary=summary or " ".join(first.split()), **told)
        return endpoint

    return describe


def shaped(*bodies: Any) -> Callable[[R], R]:
    """Tells in the description of the API that errors look like one of these types."""

    def describe(respond: R) -> R:
        vars(respond)["bodies"] = bodies
        return respond

    return describe


class Path(Route):
    """One path, and what answers each method."""

    def __init__(self, path: str, endpoints: Mapping[str, Endpoint]) -> None:
        self.endpoints = endpoints
        super().__init__(path, self._answer, methods=[*endpoints])

    async def _answer(self, request: Request) -> ASGIApp:
        return await self.endpoints["GET" if request.method == "HEAD" else request.method](request)


def route(path: str, **endpoints: Endpoint) -> Path:
    """`route("/things", GET=list_things, POST=add_thing)`."""
    return Path(path, endpoints)


def operation_of(endpoint: Endpoint) -> Operation | None:
    """What is told of an endpoint; its first arguments may be given."""
    while "operation" not in vars(endpoint) and isinstance(endpoint, partial):
        endpoint = endpoint.func
    operation = vars(endpoint).get("operation")
    assert isinstance(operation, Operation | None)
    return operation


# ── Requests ────────────────────────────────────────────────────────────────────────────────────────────────


def headers_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """The headers of an ASGI scope, with lower-case names; of several the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def query_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """The query of an ASGI scope; of several the last."""
    return dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))


_REQUEST_ID = re.compile(r"[A-Za-z0-9._:@+/=-]{1,128}")


def request_id(headers: Mapping[str, str], made: str) -> str:
    """The caller's `X-Request-Id`, if it is fit for logs and headers, else `made`."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else made


async def raw_body(request: Request, limit: int, *, optional: bool = False) -> bytes:
    """The request's body, JSON by its content type, at most `limit` bytes; empty, if it is `optional` and
    there is none. Raises `Refused`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = kind == "application/json" or kind.endswith("+json")
    if not is_json and not optional:
        raise _not_json()
    data = bytearray()
    try:
        async for chunk in request.stream():
            if chunk and not is_json:
                raise _not_json()
            data += chunk
            if len(data) > limit:
                raise Refused("frame_too_large", f"A body may have {limit:,} bytes.", limit=limit)
    except ClientDisconnect:
        raise Refused("bad_request", "The body ended too early.") from None
    return bytes(data)


def _not_json() -> Refused:
    return Refused("unsupported_media_type", "The body must be JSON, with Content-Type: application/json.")


async def read_body(
    request: Request, api: Api, kind: type[T], *, optional: bool = False, limit: int | None = None
) -> T:
    """The request's JSON body as a `kind`; if it is `optional` and there is none, as of an empty object. At
    most `limit` bytes, without one those of the settings. Raises `Refused` that names the field."""
    data = await raw_body(request, limit or api.settings.max_body_bytes, optional=optional)
    if optional and not data:
        data = b"{}"
    try:
        # The decoder skips fields it does not know, bytes that are not UTF-8 included: hence as text.
        return msgspec.json.decode(data.decode(), type=kind)
    except msgspec.ValidationError as error:
        raise explain(error, kind, "The body") from None
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Refused("bad_request", f"The body is not JSON: {malformed(error)}.") from None


def read_query(request: Request, kind: type[Q]) -> Q:
    """The request's query as a `kind`, of several fields of one name the last. Raises `Refused` that names
    the field."""
    try:
        query = msgspec.convert(dict(request.query_params), kind, strict=False)
    except msgspec.ValidationError as error:
        raise explain(error, kind, "The query") from None
    for name, value in msgspec.structs.asdict(query).items():
        if isinstance(value, float) and not isfinite(value):
            raise Refused("bad_request", f"{name}: expected a number, got {value}.")
    return query


# ── Answers ─────────────────────────────────────────────────────────────────────────────────────────────────


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`body` (a struct, or plain values) as JSON."""
    return Response(encode(body), status, headers, "application/json")


@shaped(Problem)
def error_response(refusal: Refused) -> Response:
    """A refusal as the native routes answer it."""
    return json_response(error_body(refusal), refusal.status, retry_headers(refusal))


def error_body(refusal: Refused) -> dict[str, Any]:
    """A refusal in the native shape."""
    body: dict[str, Any] = {
        "error": refusal.content,
        "content": refusal.content,
        "code": refusal.code,
        "retryable": refusal.retryable,
    }
    if refusal.session_id is not None:
        body["session_id"] = refusal.session_id
    if refusal.turn_id is not None:
        body["turn_id"] = refusal.turn_id
    if refusal.retry_after_ms is not None:
        body["retry_after_ms"] = refusal.retry_after_ms
    return body | refusal.details


def refusal_of(error: Refused | NoSession | Unavailable) -> Refused:
    """What a caller is told of a store that does not answer, or that knows no such session."""
    match error:
        case Refused():
            return error
        case NoSession(tombstone="expired", ended_at=ended_at):
            return expired(ended_at)
        case NoSession():
            return Refused("session_not_found", "There is no such session.")
        case Unavailable():
            return Refused("store_unavailable", "The store does not answer; try again.")


def retry_headers(refusal: Refused) -> dict[str, str]:
    """`Retry-After` in whole seconds, and what a 401 owes."""
    headers = {}
    if refusal.retry_after_ms is not None:
        headers["Retry-After"] = str(-(-refusal.retry_after_ms // 1000))
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


# ── Paging ──────────────────────────────────────────────────────────────────────────────────────────────────


def opaque(*position: str | float) -> str:
    """A position in a list as text that a client hands back and never looks into."""
    return urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def read_opaque(text: str, *kinds: Any) -> tuple[Any, ...]:
    """The inverse of `opaque`. Raises `Refused`, if this is none of ours."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        position = msgspec.json.decode(data, type=tuple[kinds])  # type: ignore[valid-type]
    except (ValueError, msgspec.MsgspecError):
        raise Refused("bad_request", "This cursor is none that was given out; start without one.") from None
    return tuple(position)
