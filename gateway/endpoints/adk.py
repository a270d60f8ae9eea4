"""`/apps/{app}/users/{user}/sessions…`, `/run`, `/run_sse`, `/list-apps`, at `/` and under `/api`. For ADK's
clients: an app is an agent, an invocation is a turn."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from urllib.parse import urlencode

import msgspec
from anyio import to_thread
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.adk_log import AdkLog
from gateway.adk_reply import Streamed, Whole
from gateway.auth import Identity
from gateway.briefing import shared_state
from gateway.http import (
    OF_MESSAGE,
    OF_SESSION,
    OF_TURN,
    Api,
    described,
    json_response,
    opaque,
    raw_body,
    read_opaque,
    read_query,
    retry_headers,
    route,
    shaped,
)
from gateway.interfaces import Info, Key, NoSession, Place, Summary
from gateway.reply import reply
from protocol import adk, adk_request, codec, frames
from protocol.adk_import import imported, state_of
from protocol.diagnose import malformed
from protocol.errors import Refused
from protocol.ids import check_session_id
from protocol.lifetime import is_over
from protocol.records import Record
from protocol.scopes import merged, split
from protocol.session import Note

__all__ = ["PATHS", "error_response", "routes"]

_DEEPEST = 100
"""Lists and objects within each other in a body: what is kept of it is copied for every run."""
PATHS = re.compile(r"(/api)?/(apps(/.*)?|run|run_sse|list-apps|config(/.*)?)/?", re.DOTALL)
"""Where refusals look as here."""

_PAGE = 1000
"""Sessions read at once where all are asked for."""
_LONG = 64 << 10
"""Bytes of a body that is not read in the loop."""


class Detail(Struct, frozen=True):
    """A refusal."""

    detail: str


def routes(api: Api) -> list[Route]:
    """The same at `/` and under `/api`; there, sessions have the names of the Go server's documentation,
    too."""
    found: list[Route] = []
    for prefix in ("", "/api"):
        all_of = f"{prefix}/apps/{{app_name}}/users/{{user_id}}/sessions"
        one, under_api = f"{all_of}/{{session_id}}", prefix != ""
        found += [
            route(all_of, POST=partial(create, api, under_api), GET=partial(sessions, api, under_api)),
            route(
                one,
                POST=partial(create_named, api, under_api),
                GET=partial(session, api, under_api),
                PATCH=partial(patch, api, under_api),
                DELETE=partial(delete, api, under_api),
            ),
            route(f"{one}/artifacts", GET=partial(artifacts, api)),
            route(f"{prefix}/run", POST=partial(run, api)),
            route(f"{prefix}/run_sse", POST=partial(run_sse, api)),
            route(f"{prefix}/list-apps", GET=partial(apps, api)),
            route(f"{prefix}/config/telemetry", GET=partial(telemetry, api)),
        ]
    return found


@shaped(Detail)
def error_response(refusal: Refused) -> Response:
    """A refusal in ADK's shape, with the status of the table."""
    return json_response(Detail(refusal.content), refusal.status, retry_headers(refusal))


# ── What there is ───────────────────────────────────────────────────────────────────────────────────────────


class App(Struct, frozen=True, rename="camel"):
    """An agent."""

    name: str
    root_agent_name: str
    description: str
    language: str
    is_computer_use: bool


class Apps(Struct, frozen=True):
    """The agents, in detail."""

    apps: list[App]


@described(query=adk_request.AppsPage, answer=(list[str], Apps))
async def apps(api: Api, request: Request) -> Response:
    """The agents that the caller may use."""
    identity = await api.caller(request)
    names = [name for name in api.runtime.agents if identity.may_use(name)]
    if not read_query(request, adk_request.AppsPage).detailed:
        return json_response(names)
    return json_response(Apps([App(name, name, "", "python", False) for name in names]))


class Telemetry(Struct, frozen=True):
    """Whether the page may send telemetry."""

    telemetry: bool


@described(answer=Telemetry)
async def telemetry(api: Api, request: Request) -> Response:
    """Whether a page may send telemetry: no. Without an answer ADK Web asks its user, who cannot go on until
    it is given."""
    await api.caller(request)
    return json_response(Telemetry(False))


# ── Sessions ────────────────────────────────────────────────────────────────────────────────────────────────

_MAKING = ("session_exists", "too_many_sessions", "bad_request", "frame_too_large", "unsupported_media_type")


@described(body=adk_request.NewSession, optional=True, answer=adk.Session, errors=_MAKING)
async def create(api: Api, under_api: bool, request: Request) -> Response:
    """Make a session; with a state and a history, if they are given."""
    return await _create(api, under_api, request, None)


@described(body=dict[str, Any], optional=True, answer=adk.Session, errors=_MAKING)
async def create_named(api: Api, under_api: bool, request: Request) -> Response:
    """Make the session of this id; the body is its state, or an object of `state` and `events`."""
    return await _create(api, under_api, request, request.path_params["session_id"])


async def _create(api: Api, under_api: bool, request: Request, named: str | None) -> Response:
    identity, app = await _caller(api, request)
    data = await raw_body(request, api.settings.max_import_bytes, optional=True)
    read = partial(_new, api, app, data, raw=named is not None)
    # A long history takes a second to be read: not in the loop, where all sessions would wait.
    new, records = await to_thread.run_sync(read) if len(data) > _LONG else read()
    session_id = named or (new.session_id or "").strip() or api.runtime.new_id()
    check_session_id(session_id)
    try:
        key = await api.supervisor.make(identity, app, session_id, state=new.state, records=records)
    except Refused as refusal:
        if refusal.code == "session_exists":
            refusal.content = f"Session already exists: {session_id}"
        raise
    summary = await api.summary(key)
    return json_response(await _session(api, summary.info, await _log(api, key).events(), under_api))


def _new(api: Api, app: str, data: bytes, *, raw: bool) -> tuple[adk_request.NewSession, list[Record]]:
    """What a body says of a new session; if `raw`, it may be the state itself. Raises `Refused`."""
    body = _decoded(data)
    body = {} if body is None else body
    spelled = adk_request.camelled(adk_request.wrapped(body) if raw else body)
    new = adk_request.fit(spelled, adk_request.NewSession)
    raw_events, events = spelled.get("events") or [], new.events or []
    records = imported(raw_events, events, app, api.runtime.now(), api.runtime.new_id)
    state = {**state_of(events), **(new.state or {})}
    return msgspec.structs.replace(new, state=state), records


@described(query=adk_request.SessionsPage, answer=list[adk.Session], errors=("bad_request",))
async def sessions(api: Api, under_api: bool, request: Request) -> Response:
    """The user's sessions with that app, longest unchanged first; their events are not listed."""
    identity, app = await _caller(api, request)
    query = read_query(request, adk_request.SessionsPage)
    after = None if query.cursor is None else Place(*read_opaque(query.cursor, float, str, str, str))
    limit = query.limit
    found = [one async for one in _all(api, identity, app, None if limit is None else limit + 1, after)]
    page = found if limit is None else found[:limit]
    shared = await shared_state(api.runtime.store, Key(app, identity.user, ""))
    now = api.runtime.now()
    listed = [
        _shown(one.info, merged(one.info.state, *shared), [], under_api)
        for one in page
        if not is_over(one.info.life, now)
    ]
    headers = {}
    if limit is not None and len(found) > limit:
        last = page[-1].info
        cursor = opaque(last.updated_at, *last.key)
        headers["Link"] = f'<?{urlencode({"limit": limit, "cursor": cursor})}>; rel="next"'
    return json_response(listed, headers=headers)


async def _all(
    api: Api, identity: Identity, app: str, limit: int | None, after: Place | None
) -> AsyncIterator[Summary]:
    """The sessions, page by page; `limit` of them, or all."""
    while limit is None or limit > 0:
        wanted = _PAGE if limit is None else min(limit, _PAGE)
        page = await api.by_update(identity, app, wanted, after)
        for one in page:
            yield one
        if len(page) < wanted:
            return
        after = Place(page[-1].info.updated_at, *page[-1].info.key)
        limit = None if limit is None else limit - wanted


@described(query=adk_request.EventsPage, answer=adk.Session, errors=OF_SESSION)
async def session(api: Api, under_api: bool, request: Request) -> Response:
    """A session with its events; only the newest, or those before one, if that is asked for."""
    key = await _key(api, request)
    query = read_query(request, adk_request.EventsPage)
    info = await _there(api, key)
    return json_response(
        await _session(api, info, await _log(api, key).events(query.limit, query.before), under_api)
    )


@described(body=adk_request.Patch, answer=adk.Session, errors=(*OF_SESSION, "session_closed"))
async def patch(api: Api, under_api: bool, request: Request) -> Response:
    """Set something in a session's state."""
    key = await _key(api, request)
    body = adk_request.fit(await _body(api, request), adk_request.Patch)
    await _there(api, key)
    note = adk.note(f"p-{api.runtime.new_id()}", body.state_delta, api.runtime.now())
    await api.ask(key, Note(note, body.state_delta))
    shown = await _session(api, (await api.summary(key)).info, await _log(api, key).events(), under_api)
    passing = {name: value for name, value in body.state_delta.items() if name.startswith("temp:")}
    return json_response(msgspec.structs.replace(shown, state=shown.state | passing))


@described(answer=dict[str, Any] | None)
async def delete(api: Api, under_api: bool, request: Request) -> Response:
    """End a session; also one that is not there."""
    try:
        await api.supervisor.delete(await _key(api, request))
    except Refused as refusal:
        if refusal.code not in ("session_not_found", "session_closed", "session_expired"):
            raise
    return json_response({} if under_api else None)


@described(answer=list[str], errors=OF_SESSION)
async def artifacts(api: Api, request: Request) -> Response:
    """The artifacts of a session: there are none here."""
    await _there(api, await _key(api, request))
    return json_response([])


async def _caller(api: Api, request: Request) -> tuple[Identity, str]:
    """Who asks, for the user of the path, and its agent. Raises `Refused`."""
    identity = await api.caller(request, request.path_params["user_id"])
    return identity, api.agent(request.path_params["app_name"], identity)


async def _key(api: Api, request: Request) -> Key:
    identity, app = await _caller(api, request)
    return await api.supervisor.resolve(identity, request.path_params["session_id"], app)


async def _there(api: Api, key: Key) -> Info:
    """The session, which is there and lives. Raises `Refused`."""
    try:
        return (await api.summary(key)).info
    except NoSession as gone:
        if gone.tombstone == "expired":
            raise
        raise Refused("session_not_found", f"Session not found: {key.session_id}") from None


def _log(api: Api, key: Key) -> AdkLog:
    return AdkLog(api.runtime.store, key, api.settings.page_bytes)


async def _session(api: Api, info: Info, events: list[Any], under_api: bool) -> adk.Session:
    return _shown(info, await api.state(info), events, under_api)


def _shown(info: Info, state: dict[str, Any], events: list[Any], under_api: bool) -> adk.Session:
    app, user, session_id = info.key
    about = session_id, app, user, state, events, info.updated_at
    return adk.SessionUnderApi(*about, session_id, user) if under_api else adk.Session(*about)


async def _body(api: Api, request: Request) -> Any:
    """The request's body, JSON in camel case. Raises `Refused`."""
    return adk_request.camelled(_decoded(await raw_body(request, api.settings.max_body_bytes)))


def _decoded(data: bytes) -> Any:
    """A body's JSON; None if it is empty. Raises `Refused`."""
    try:
        value = msgspec.json.decode(data.decode()) if data else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Refused("bad_request", f"The body is not JSON: {malformed(error)}.") from None
    if codec.deeper_than(value, _DEEPEST):
        raise Refused("bad_request", f"The body may be nested {_DEEPEST} deep.")
    return value


# ── Runs ────────────────────────────────────────────────────────────────────────────────────────────────────

_RUNNING = (*OF_SESSION, *OF_MESSAGE, "bad_frame")


@described(body=adk_request.Run, answer=list[adk.Event], errors=(*_RUNNING, *OF_TURN))
async def run(api: Api, request: Request) -> ASGIApp:
    """Say something to an agent, and get all that it did when it is done."""
    return await _run(api, request, stream=False)


@described(body=adk_request.Run, answer=adk.Event, media="text/event-stream", errors=_RUNNING)
async def run_sse(api: Api, request: Request) -> ASGIApp:
    """Say something to an agent, and hear what it does as it does it."""
    return await _run(api, request, stream=True)


async def _run(api: Api, request: Request, *, stream: bool) -> ASGIApp:
    """Everything that can be refused before the session is asked."""
    await api.caller(request)  # who has no right to ask is not read
    spelled = await _body(api, request)
    asked = adk_request.fit(spelled, adk_request.Run)
    identity = await api.caller(request, asked.user_id)
    app = api.agent(asked.app_name, identity)
    key = await api.supervisor.resolve(identity, asked.session_id, app)
    await _there(api, key)
    message = frames.Send(
        content=adk_request.text_of(asked.new_message.parts),
        session_id=key.session_id,
        turn_id=f"e-{api.runtime.new_id()}",
        metadata=asked.custom_metadata,
        create=False,
    )
    codec.check(message, api.supervisor.limits)
    parts = spelled["newMessage"]["parts"]
    beside = {
        "parts": None if parts == [{"text": message.content}] else parts,
        "state_delta": merged(*split(asked.state_delta or {})) or None,
    }
    pieces = bool(asked.streaming) if stream else None
    return partial(_reply, api, identity, key, message, beside, pieces)


async def _reply(
    api: Api,
    identity: Identity,
    key: Key,
    message: frames.Send,
    beside: dict[str, Any],
    pieces: bool | None,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    about = send, key.session_id, message.turn_id or "", key.agent, _log(api, key), error_response
    heard = Whole(*about) if pieces is None else Streamed(*about, pieces=pieces, now=api.runtime.now)
    await reply(api, identity, key, message, heard, scope["state"]["request_id"], receive, **beside)
