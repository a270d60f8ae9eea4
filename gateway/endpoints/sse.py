"""`GET /api/sessions/{id}/events` and `POST /events`: frames as server-sent events."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth import Identity
from gateway.http import OF_SESSION, Api, described, raw_body, read_query, route
from gateway.interfaces import Key
from gateway.opening import Create
from gateway.stream import EVENT_STREAM, Events, connected
from protocol import codec, frames, native
from protocol.errors import Refused

__all__ = ["routes"]

_EVENTS: dict[str, Any] = {"answer": frames.ServerFrame, "media": "text/event-stream"}
_ERRORS = ("session_closed", "too_many_sessions", "too_many_connections", "overloaded", "draining")


def routes(api: Api) -> list[Route]:
    """One session as an EventSource, and many sessions down one stream."""

    @described(query=native.Following, errors=(*OF_SESSION, *_ERRORS), **_EVENTS)
    async def one(request: Request) -> ASGIApp:
        """Follow a session as an EventSource: `id:` is the cursor, `data:` the frame."""
        # It may create a session, so it is guarded like a socket though its method is a safe one.
        api.knock.check_origin(request.headers, changes=True)
        identity, query = await api.caller(request, of_line=True), read_query(request, native.Following)
        if (query.history or 0) > api.settings.max_history:
            raise Refused("bad_request", f"history: expected 0 to {api.settings.max_history}.")
        number = request.headers.get("last-event-id")
        cursor = number or query.cursor
        create: Create = "never"
        if query.create:
            # An EventSource comes back by itself: it must not bring back what was deleted under it.
            create = "again" if number is None else "new"
        key = await api.supervisor.resolve(identity, request.path_params["session_id"], query.agent)
        if request.method == "HEAD":
            return _heads
        return partial(_follow, api, identity, key, create, cursor, query.history)

    @described(body=frames.Attach, errors=("bad_frame", "unknown_type", *_ERRORS), **_EVENTS)
    async def many(request: Request) -> ASGIApp:
        """Follow many sessions down one stream: first `connected`, then as over a WebSocket."""
        identity = await api.caller(request)
        frame = codec.decode_client_frame(
            await raw_body(request, api.settings.max_body_bytes), api.supervisor.limits
        )
        if not isinstance(frame, frames.Attach):
            raise Refused("bad_frame", "POST /events takes an attach frame.")
        return partial(_attach, api, identity, frame)

    return [route("/api/sessions/{session_id}/events", GET=one), route("/events", POST=many)]


async def _heads(scope: Scope, receive: Receive, send: Send) -> None:
    headers = {name.decode(): value.decode() for name, value in EVENT_STREAM}
    await Response(None, headers=headers)(scope, receive, send)


async def _follow(
    api: Api,
    identity: Identity,
    key: Key,
    create: Create,
    cursor: str | None,
    history: int | None,
    _: Scope,
    receive: Receive,
    send: Send,
) -> None:
    stream = Events(send, numbered=True)
    async with connected(api.supervisor, stream, identity, receive) as connection:
        await connection.follow(key, create, cursor, history)


async def _attach(
    api: Api, identity: Identity, frame: frames.Attach, _: Scope, receive: Receive, send: Send
) -> None:
    stream = Events(send, numbered=False)
    async with connected(api.supervisor, stream, identity, receive) as connection:
        connection.greet()
        connection.take(frame)
