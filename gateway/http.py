"""What the HTTP endpoints share: who may knock, request ids, bodies, what is asked of sessions, error shapes,
paging."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from protocol.codec import encode
from protocol.errors import Refused

from .api import Api
from .interfaces import NoSession, Unavailable
from .opening import expired

__all__ = [
    "Api",
    "check_origin",
    "error_body",
    "error_response",
    "flag",
    "headers_of",
    "json_body",
    "json_response",
    "opaque",
    "optional_body",
    "query_of",
    "raw_body",
    "read_opaque",
    "refusal_of",
    "request_id",
    "retry_headers",
    "route",
    "whole_number",
]

Endpoint = Callable[[Request], Awaitable[ASGIApp]]
"""What answers a request: its answer is itself an ASGI app, a `Response` mostly."""


# ── Who may knock ───────────────────────────────────────────────────────────────────────────────────────────


def check_origin(headers: Mapping[str, str], allowed_hosts: tuple[str, ...], *, changes: bool) -> None:
    """No web page may talk to a gateway on somebody's machine.

    `Host` must be loopback or allowed (a page whose name was rebound to 127.0.0.1 names itself there); what
    changes something, and every socket, needs the same origin or none. Raises `Refused('forbidden')`.
    """
    host = headers.get("host", "")
    name = host_name(host)
    if not (is_loopback(name) or name in allowed_hosts or "*" in allowed_hosts):
        raise Refused(
            "forbidden", f"This gateway does not answer to the host {name[:80]!r}; see --allow-host."
        )
    origin = headers.get("origin")
    if not changes:
        return
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        raise Refused("forbidden", f"Pages of {origin[:80]} may not talk to this gateway.")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        # A picture or a link of another page's is fetched without an Origin.
        raise Refused("forbidden", "Pages of another origin may not talk to this gateway.")


def host_name(host: str) -> str:
    """The name in a `Host` header, without its port, in lower case."""
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:[0-9]*)?", host.strip().lower())
    return match[1].strip("[]") if match else ""


def is_loopback(name: str) -> bool:
    """Does this name or address mean the machine itself?"""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


# ── Requests ────────────────────────────────────────────────────────────────────────────────────────────────


def route(path: str, **endpoints: Endpoint) -> Route:
    """One path, and what answers each method: `route("/things", GET=list_things, POST=add_thing)`."""

    async def endpoint(request: Request) -> ASGIApp:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, endpoint, methods=[*endpoints])


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


async def raw_body(request: Request, limit: int) -> bytes:
    """The request's body, JSON by its content type, at most `limit` bytes. Raises `Refused`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Refused("unsupported_media_type", "The body must be JSON, with Content-Type: application/json.")
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > limit:
                raise Refused("frame_too_large", f"A body may have {limit:,} bytes.", limit=limit)
    except ClientDisconnect:
        raise Refused("bad_request", "The body ended too early.") from None
    return bytes(data)


async def json_body(request: Request, limit: int) -> dict[str, Any]:
    """The request's body, a JSON object. Raises `Refused`."""
    data = await raw_body(request, limit)
    try:
        body = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("bad_request", f"The body is not JSON: {error}.") from None
    if not isinstance(body, dict):
        raise Refused("bad_request", "The body must be a JSON object.")
    return body


async def optional_body(request: Request, limit: int) -> dict[str, Any]:
    """`json_body`, or an empty object if there is no body at all. Raises `Refused`."""
    length = request.headers.get("content-length", "0")
    if length == "0" and "transfer-encoding" not in request.headers:
        return {}
    return await json_body(request, limit)


def flag(query: Mapping[str, str], name: str) -> bool:
    """A yes or no of the query, no if it is not there. Raises `Refused` with what is allowed."""
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise Refused("bad_request", f"{name}: expected true or false, got {text[:20]!r}.")
    return text == "true"


# ── Answers ─────────────────────────────────────────────────────────────────────────────────────────────────


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`body` (a struct, or plain values) as JSON."""
    return Response(encode(body), status, headers, "application/json")


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


def whole_number(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """A whole number of the query. Raises `Refused` with what is allowed."""
    text = query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise Refused("bad_request", f"{name}: expected {low} to {high}, got {text[:20]!r}.")
    return int(text)
