"""`/api/messaging/sessions…`: sessions with a lifetime, and messages in them. For ElizaOS's clients."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from msgspec import UNSET, Meta, convert
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth import Identity, require_service
from gateway.eliza_reply import Answer, AtOnce, Streamed, Whole, channel, error_response
from gateway.http import (
    OF_MESSAGE,
    OF_SESSION,
    OF_TURN,
    Api,
    described,
    json_response,
    opaque,
    read_body,
    read_opaque,
    read_query,
    refusal_of,
    route,
)
from gateway.interfaces import Info, Key, NoSession, Page, Place, Summary
from gateway.reply import reply
from protocol import codec, eliza, frames
from protocol import eliza_shapes as shapes
from protocol.errors import Refused
from protocol.lifetime import Configure, Renew, Terms, Tiers, asked, asked_anew, is_over

__all__ = ["PATHS", "error_response", "routes"]

PATHS = re.compile(r"/api/messaging(/.*)?", re.DOTALL)
"""Where refusals look as here."""
BASE = "/api/messaging/sessions"
Seq = Annotated[int, Meta(ge=0, lt=1 << 53)]


def routes(api: Api) -> list[Route]:
    """The ten endpoints; `health` is no session's id."""
    one = f"{BASE}/{{session_id}}"
    return [
        route(BASE, POST=partial(create, api), GET=partial(sessions, api)),
        route(f"{BASE}/health", GET=partial(health, api, api.runtime.now())),
        route(one, GET=partial(session, api), DELETE=partial(delete, api)),
        route(f"{one}/messages", POST=partial(send, api), GET=partial(messages, api)),
        route(f"{one}/renew", POST=partial(renew, api, True)),
        route(f"{one}/heartbeat", POST=partial(renew, api, False)),
        route(f"{one}/timeout", PATCH=partial(timeout, api)),
    ]


# ── Finding a session ───────────────────────────────────────────────────────────────────────────────────────


class Found(NamedTuple):
    """A session that is there and lives."""

    identity: Identity
    key: Key
    info: Info


async def _found(api: Api, request: Request) -> Found:
    """The session of the request's path. Raises `Refused`."""
    identity = await api.caller(request)
    agent = read_query(request, shapes.Which).agent
    session_id = request.path_params["session_id"]
    with _words(session_id):
        key = await api.supervisor.resolve(identity, session_id, agent)
        return Found(identity, key, (await api.summary(key)).info)


@contextmanager
def _words(session_id: str) -> Iterator[None]:
    """What is refused within is told in ElizaOS's words, of that session."""
    try:
        yield
    except (Refused, NoSession) as error:
        raise eliza.reworded(refusal_of(error), session_id) from None


def _info(api: Api, info: Info) -> shapes.SessionInfo:
    return eliza.session_info(
        *info.key, info.created_at, info.updated_at, info.metadata, info.life, api.runtime.now()
    )


# ── One session ─────────────────────────────────────────────────────────────────────────────────────────────


@described(
    body=shapes.Make,
    answer=shapes.Made,
    status=201,
    errors=("agent_not_found", "session_exists", "too_many_sessions"),
)
async def create(api: Api, request: Request) -> Response:
    """Make a session, with a lifetime of its own if it says so."""
    await api.caller(request)  # who has no right to ask is not read
    body = await read_body(request, api, dict[str, Any])
    agent, user = eliza.whose(body)
    identity = await api.caller(request, user)
    name = eliza.agent_named(agent, [*filter(identity.may_use, api.runtime.agents)])
    eliza.check_metadata(body.get("metadata"))
    metadata = eliza.kept(body.get("metadata"))
    if problem := codec.check_metadata(metadata, _limits(api)):
        raise eliza.invalid("metadata", f"Metadata {problem}")
    made = await api.supervisor.make(
        identity,
        name,
        _new_uuid(api),
        metadata=metadata,
        timeout=_terms(asked, body.get("timeoutConfig"), api.runtime.tiers),
    )
    info = _info(api, (await api.summary(made)).info)
    return json_response(convert(info, shapes.Made, from_attributes=True), 201)


def _new_uuid(api: Api) -> str:
    digits = api.runtime.new_id() + api.runtime.new_id()
    return str(UUID(digits[:32], version=4))


def _limits(api: Api) -> codec.Limits:
    """What every message must keep to, except that how long its metadata may be is ElizaOS's own rule."""
    return api.supervisor.limits._replace(metadata_bytes=api.settings.max_body_bytes)


def _terms(read: Callable[[Any, Tiers], Terms], body: Any, tiers: Tiers) -> Terms:
    """What a `timeoutConfig` says. Raises `Refused`."""
    try:
        return read(body, tiers)
    except Refused as refusal:
        raise eliza.invalid("timeout configuration", refusal.content.rstrip(".")) from None


@described(query=shapes.Which, answer=shapes.SessionInfo, errors=OF_SESSION)
async def session(api: Api, request: Request) -> Response:
    """A session, and where it stands in its life."""
    found = await _found(api, request)
    return json_response(_info(api, found.info))


@described(query=shapes.Which, answer=shapes.SessionInfo, errors=(*OF_SESSION, "renewal_refused"))
async def renew(api: Api, manual: bool, request: Request) -> Response:
    """Move the expiry of a session: by hand, or because somebody is still there."""
    found = await _found(api, request)
    try:
        return await _asked(api, found.key, Renew(manual=manual))
    except Refused as refusal:
        if refusal.code == "renewal_refused" and (life := found.info.life) is not None:
            raise eliza.cannot_renew(found.key.session_id, life, api.runtime.now()) from None
        raise


@described(query=shapes.Which, body=dict[str, Any], answer=shapes.SessionInfo, errors=OF_SESSION)
async def timeout(api: Api, request: Request) -> Response:
    """Change how long a session lives, where the body says something."""
    found = await _found(api, request)
    body = await read_body(request, api, dict[str, Any])
    return await _asked(api, found.key, Configure(_terms(asked_anew, body, api.runtime.tiers)))


async def _asked(api: Api, key: Key, command: Renew | Configure) -> Response:
    """The session, after that was asked of it."""
    with _words(key.session_id):
        await api.ask(key, command)
        return json_response(_info(api, (await api.summary(key)).info))


@described(query=shapes.Which, answer=shapes.Deleted, errors=OF_SESSION)
async def delete(api: Api, request: Request) -> Response:
    """End a session: its turns as cancelled, then its log; also one whose time is over."""
    identity = await api.caller(request)
    agent = read_query(request, shapes.Which).agent
    session_id = request.path_params["session_id"]
    with _words(session_id):
        await api.supervisor.delete(await api.supervisor.resolve(identity, session_id, agent))
    done = shapes.Done(True, f"Session {session_id} deleted successfully")
    return json_response(shapes.Deleted(done.success, done.message, done))


# ── All of them ─────────────────────────────────────────────────────────────────────────────────────────────


@described(query=shapes.AllPage, answer=shapes.Listed)
async def sessions(api: Api, request: Request) -> Response:
    """Everybody's sessions, newest first. For services."""
    require_service(await api.caller(request))
    query = read_query(request, shapes.AllPage)
    before = None if query.cursor is None else Place(*read_opaque(query.cursor, float, str, str, str))
    now = api.runtime.now()
    found = await api.runtime.store.sessions(None, None, query.limit + 1, before)
    census = await api.runtime.store.census(now)
    page = found[: query.limit]
    active = census.sessions - census.expired
    return json_response(
        shapes.Listed(
            sessions=[_info(api, one.info) for one in page if not is_over(one.info.life, now)],
            total=active,
            stats=shapes.Stats(census.sessions, active, census.expired),
            next_cursor=_place(page[-1]) if len(found) > len(page) else UNSET,
        )
    )


def _place(summary: Summary) -> str:
    return opaque(summary.info.created_at, *summary.info.key)


@described(answer=shapes.Health)
async def health(api: Api, started: float, request: Request) -> Response:
    """Whether all is well, and how many sessions there are. For services."""
    require_service(await api.caller(request))
    now = api.runtime.now()
    census = await api.runtime.store.census(now)
    return json_response(
        shapes.Health(
            status="degraded" if api.runtime.draining else "healthy",
            active_sessions=census.sessions - census.expired,
            timestamp=eliza.date(now),
            expiring_soon=census.expiring,
            uptime=max(0.0, now - started),
        )
    )


# ── Messages ────────────────────────────────────────────────────────────────────────────────────────────────


@described(query=shapes.MessagesPage, answer=shapes.History, errors=OF_SESSION)
async def messages(api: Api, request: Request) -> Response:
    """A page of a conversation, newest message first."""
    found = await _found(api, request)
    query = read_query(request, shapes.MessagesPage)
    with _words(found.key.session_id):
        page = await _page(api, found.key, query)
    where, newest_first = channel(found.info), page.messages[::-1]
    if not newest_first:
        return json_response(shapes.History([], page.has_more))
    ends = [eliza.millis(said.record.created_at) for said in (newest_first[-1], newest_first[0])]
    # From where to go on. Forward, more may come even if there is none yet.
    edge = newest_first[0] if query.forward else newest_first[-1]
    return json_response(
        shapes.History(
            messages=[eliza.shown(where, said.record, said.tools) for said in newest_first],
            has_more=page.has_more,
            cursors=shapes.Cursors(*ends),
            cursor=opaque(edge.seq) if page.has_more or query.forward else UNSET,
        )
    )


async def _page(api: Api, key: Key, query: shapes.MessagesPage) -> Page:
    """The messages that are asked for, oldest first: after a moment the oldest ones, else the newest."""
    limit = eliza.page_size(query.limit)
    earlier, later = eliza.between(eliza.moment("before", query.before), eliza.moment("after", query.after))
    history = partial(
        api.runtime.store.history,
        key,
        position=None if query.cursor is None else read_opaque(query.cursor, Seq)[0],
        max_bytes=api.settings.max_history_bytes,
    )
    if query.forward:
        return await history(limit, direction="after", time=later)
    page = await history(limit + 1, time=earlier)
    within = [said for said in page.messages if later is None or said.record.created_at > later]
    more = len(within) > limit or (page.has_more and len(within) == len(page.messages))
    return Page(within[-limit:], more)


_ANSWERS: dict[str, type[Answer]] = {"http": Whole, "sse": Streamed, "websocket": AtOnce}


@described(
    query=shapes.Which,
    body=shapes.Say,
    answer=shapes.Sent,
    status=201,
    also={200: (shapes.UserMessage, shapes.Chunk, shapes.Answered, shapes.StreamError)},
    also_media="text/event-stream",
    errors=(*OF_SESSION, *OF_MESSAGE, *OF_TURN),
)
async def send(api: Api, request: Request) -> ASGIApp:
    """Say something: answered at once, when the agent has answered, or as the agent answers."""
    await api.caller(request)  # who has no right to ask is not read
    body = await read_body(request, api, dict[str, Any])
    kind = _ANSWERS[eliza.transport(body.get("transport"), body.get("mode"))]
    content = eliza.content_of(body)
    found = await _found(api, request)
    eliza.check_content(content)
    eliza.check_metadata(metadata := body.get("metadata"))
    own = metadata if isinstance(metadata, dict) else {}
    if body.get("attachments") is not None:
        own = {**own, "attachments": body["attachments"]}
    message = frames.Send(
        content=content,
        session_id=found.key.session_id,
        turn_id=api.runtime.new_id(),
        metadata=own or None,
        create=False,
    )
    codec.check(message, _limits(api))
    return partial(_reply, api, found, message, kind)


async def _reply(
    api: Api,
    found: Found,
    message: frames.Send,
    kind: type[Answer],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    stream = kind(send, api, found.info, message.turn_id or "")
    with _words(found.key.session_id):
        await reply(api, found.identity, found.key, message, stream, scope["state"]["request_id"], receive)
