"""The native routes of sessions: lists, conversations, and what is done to them."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from msgspec import UNSET, Meta
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.actor import Delete
from gateway.auth import Identity
from gateway.http import (
    OF_SESSION,
    Api,
    described,
    json_response,
    opaque,
    read_body,
    read_opaque,
    read_query,
    route,
)
from gateway.interfaces import Key, Place, Summary
from gateway.interfaces import Page as Found
from protocol import native
from protocol.errors import Refused
from protocol.view import history_message

__all__ = ["routes"]

Seq = Annotated[int, Meta(ge=0, lt=1 << 53)]


def routes(api: Api) -> list[Route]:
    """Of one agent, and by id."""
    of_agent, by_id = "/api/agents/{agent}", "/api/sessions/{session_id}"
    return [
        route(f"{of_agent}/session", GET=partial(active, api)),
        route(f"{of_agent}/session/reset", POST=partial(reset, api)),
        route(f"{of_agent}/stop", POST=partial(stop_active, api)),
        route(f"{of_agent}/sessions", GET=partial(sessions_of_agent, api), POST=partial(create, api)),
        route(f"{of_agent}/sessions/by-label/{{label}}", GET=partial(by_label, api)),
        route(f"{of_agent}/sessions/{{session_id}}/switch", POST=partial(switch, api)),
        route(f"{of_agent}/sessions/{{session_id}}/stop", POST=partial(stop, api)),
        route("/api/sessions", GET=partial(sessions, api)),
        route(by_id, GET=partial(session, api), DELETE=partial(delete, api)),
        route(f"{by_id}/label", PUT=partial(label, api)),
        route(f"{by_id}/messages", GET=partial(messages, api)),
    ]


# ── Lists ───────────────────────────────────────────────────────────────────────────────────────────────────


@described(query=native.SessionsPage, answer=native.Sessions, errors=("agent_not_found",))
async def sessions(api: Api, request: Request) -> Response:
    """The caller's sessions, newest first."""
    identity, query = await api.caller(request), read_query(request, native.SessionsPage)
    agent = None if query.agent is None else api.agent(query.agent, identity)
    return json_response(await _sessions(api, identity, agent, query))


@described(query=native.Page, answer=native.Sessions)
async def sessions_of_agent(api: Api, request: Request) -> Response:
    """The caller's sessions with one agent, newest first, and which of them is active."""
    identity, agent = await _caller_and_agent(api, request)
    page = await _sessions(api, identity, agent, read_query(request, native.Page))
    current = await api.active(identity, agent)
    active_id = None if current is None else current.session_id
    listed = [replace(one, active=one.session_id == active_id) for one in page.sessions]
    return json_response(replace(page, sessions=listed))


@described(answer=native.Listed, errors=("session_not_found",))
async def by_label(api: Api, request: Request) -> Response:
    """The newest session of that name."""
    identity, agent = await _caller_and_agent(api, request)
    key = await api.by_label(identity, agent, request.path_params["label"])
    if key is None:
        raise Refused("session_not_found", "No session has this label.")
    return json_response(_listed(await api.runtime.store.summary(key)))


async def _sessions(api: Api, identity: Identity, agent: str | None, query: native.Page) -> native.Sessions:
    before = None if query.cursor is None else Place(*read_opaque(query.cursor, float, str, str, str))
    found = await api.sessions(identity, agent, query.limit + 1, before)
    page = native.Sessions([_listed(summary) for summary in found[: query.limit]])
    if len(found) <= query.limit:
        return page
    last = found[query.limit - 1].info
    return replace(page, next_cursor=opaque(last.created_at, *last.key))


def _listed(summary: Summary) -> native.Listed:
    info = summary.info
    return native.Listed(
        info.key.session_id, info.key.agent, summary.messages, native.date(info.created_at), info.label
    )


# ── Conversations ───────────────────────────────────────────────────────────────────────────────────────────


@described(query=native.Page, answer=native.Conversation)
async def active(api: Api, request: Request) -> Response:
    """The conversation in the caller's active session; an empty one, if there is none."""
    identity, agent = await _caller_and_agent(api, request)
    query = read_query(request, native.Page)
    key = await api.active(identity, agent)
    if key is None:
        return json_response(native.Conversation(None, agent, 0, None, []))
    return json_response(await _conversation(api, key, query))


@described(query=native.ConversationPage, answer=native.Conversation, errors=OF_SESSION)
async def session(api: Api, request: Request) -> Response:
    """The conversation in a session."""
    key, query = await _key(api, request), read_query(request, native.ConversationPage)
    return json_response(await _conversation(api, key, query))


@described(query=native.PageBefore, answer=native.Messages, errors=OF_SESSION)
async def messages(api: Api, request: Request) -> Response:
    """A conversation as the protocol shows it: the newest page, or the one before `before`."""
    key, query = await _key(api, request), read_query(request, native.PageBefore)
    page = await _page(api, key, query.limit, query.before)
    return json_response(
        native.Messages(
            [history_message(said.record, said.tools) for said in page.messages],
            page.has_more,
            opaque(page.messages[0].seq) if page.has_more else UNSET,
        )
    )


async def _conversation(api: Api, key: Key, query: native.Page) -> native.Conversation:
    """A page of a conversation in OpenFang's shape, oldest message first."""
    summary = await api.runtime.store.summary(key)
    page = await _page(api, key, query.limit, query.cursor)
    listed = _listed(summary)
    return native.Conversation(
        listed.session_id,
        listed.agent_id,
        listed.message_count,
        listed.label,
        [native.shown(said.record, said.tools) for said in page.messages],
        listed.created_at,
        raw_message_count=listed.message_count,
        next_cursor=opaque(page.messages[0].seq) if page.has_more else UNSET,
    )


async def _page(api: Api, key: Key, limit: int, cursor: str | None) -> Found:
    position = None if cursor is None else read_opaque(cursor, Seq)[0]
    return await api.runtime.store.history(
        key, limit, position=position, max_bytes=api.settings.max_history_bytes
    )


# ── What is done to them ────────────────────────────────────────────────────────────────────────────────────


@described(body=native.NewSession, optional=True, answer=native.Made, errors=("session_exists",))
async def create(api: Api, request: Request) -> Response:
    """Make a session, also over one that was deleted, and make it the active one."""
    identity, agent = await _caller_and_agent(api, request)
    body = await read_body(request, api, native.NewSession, optional=True)
    named = None if body.label is None else body.label.strip()
    key = await api.supervisor.make(identity, agent, body.session_id, label=named, activate=True)
    return json_response(native.Made(key.session_id, named, agent))


@described(answer=native.Done, errors=OF_SESSION)
async def switch(api: Api, request: Request) -> Response:
    """Make a session the active one."""
    key = await _key(api, request)
    await api.runtime.store.activate(key)
    return json_response(native.Done("Session switched", key.session_id))


@described(answer=native.Stopped, errors=OF_SESSION)
async def stop(api: Api, request: Request) -> Response:
    """Cancel the running turn of a session."""
    return json_response(await _stopped(api, await _key(api, request)))


@described(answer=native.Stopped)
async def stop_active(api: Api, request: Request) -> Response:
    """Cancel the running turn of the active session."""
    return json_response(await _stopped(api, await api.active(*await _caller_and_agent(api, request))))


async def _stopped(api: Api, key: Key | None) -> native.Stopped:
    if key is None:
        return native.Stopped("No active run", stopped=False, session_id=None)
    await api.runtime.store.summary(key)
    stopped = (await api.cancel(key, None)).turn_id is not None
    return native.Stopped("Run cancelled" if stopped else "No active run", stopped, key.session_id)


@described(answer=native.Done)
async def reset(api: Api, request: Request) -> Response:
    """Delete the active session, and make a new one active."""
    identity, agent = await _caller_and_agent(api, request)
    old = await api.active(identity, agent)
    if old is not None:
        try:
            await api.supervisor.delete(old)
        except Refused as refusal:
            if refusal.code not in ("session_not_found", "session_closed", "session_expired"):
                raise
    # Only now: the user may have had as many sessions as one may have.
    new = await api.supervisor.active(identity, agent)
    return json_response(native.Done("Session reset", new.session_id))


@described(query=native.Which, answer=native.Deleted, errors=OF_SESSION)
async def delete(api: Api, request: Request) -> Response:
    """End a session: its turns as cancelled, then its log."""
    key = await _key(api, request)
    await api.runtime.store.summary(key)
    await _delete(api, key)
    return json_response(native.Deleted(key.session_id))


@described(query=native.Which, body=native.NewLabel, answer=native.Labelled, errors=OF_SESSION)
async def label(api: Api, request: Request) -> Response:
    """Name a session, or take its name away."""
    key = await _key(api, request)
    body = await read_body(request, api, native.NewLabel)
    named = None if body.label is None else body.label.strip()
    await api.runtime.store.label(key, named, api.runtime.now())
    return json_response(native.Labelled(key.session_id, named))


async def _delete(api: Api, key: Key) -> None:
    async with api.supervisor.opened(key) as live:
        await live.asked(Delete())


async def _caller_and_agent(api: Api, request: Request) -> tuple[Identity, str]:
    """Who calls, and the agent that the path names. Raises `Refused`."""
    identity = await api.caller(request)
    return identity, api.agent(request.path_params["agent"], identity)


async def _key(api: Api, request: Request) -> Key:
    """Which session the request means; whether it is there is not said. Raises `Refused`."""
    identity = await api.caller(request)
    agent = request.path_params.get("agent") or read_query(request, native.Which).agent
    return await api.supervisor.resolve(identity, request.path_params["session_id"], agent)
