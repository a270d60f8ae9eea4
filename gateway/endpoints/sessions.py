"""The native routes of sessions: lists, conversations, and what is done to them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.actor import Delete
from gateway.http import (
    Api,
    json_body,
    json_response,
    opaque,
    optional_body,
    read_opaque,
    route,
    whole_number,
)
from gateway.interfaces import Key, Page, Place, Said, Summary
from protocol import records
from protocol.codec import encode
from protocol.errors import Refused
from protocol.view import history_message, tool_uses

__all__ = ["routes"]

Seq = Annotated[int, Meta(ge=0, lt=1 << 53)]


def routes(api: Api) -> list[Route]:
    """Of one agent, and by id."""
    of_agent, by_id = "/api/agents/{agent}", "/api/sessions/{session_id}"
    return [
        route(f"{of_agent}/session", GET=partial(active, api)),
        route(f"{of_agent}/session/reset", POST=partial(reset, api)),
        route(f"{of_agent}/stop", POST=partial(stop, api)),
        route(f"{of_agent}/sessions", GET=partial(sessions, api), POST=partial(create, api)),
        route(f"{of_agent}/sessions/by-label/{{label}}", GET=partial(by_label, api)),
        route(f"{of_agent}/sessions/{{session_id}}/switch", POST=partial(switch, api)),
        route(f"{of_agent}/sessions/{{session_id}}/stop", POST=partial(stop, api)),
        route("/api/sessions", GET=partial(sessions, api)),
        route(by_id, GET=partial(session, api), DELETE=partial(delete, api)),
        route(f"{by_id}/label", PUT=partial(label, api)),
        route(f"{by_id}/messages", GET=partial(messages, api)),
    ]


# ── Lists ───────────────────────────────────────────────────────────────────────────────────────────────────


async def sessions(api: Api, request: Request) -> Response:
    """The caller's sessions, newest first: all, or those of one agent."""
    identity, query = await api.caller(request), request.query_params
    name = request.path_params.get("agent") or query.get("agent")
    agent = None if name is None else api.agent(name)
    limit = whole_number(query, "limit", 100, 1, 1000)
    before = Place(*read_opaque(query["cursor"], float, str, str, str)) if "cursor" in query else None
    found = await api.runtime.store.sessions(agent, identity.user, limit + 1, before)
    listed = [_listed(summary) for summary in found[:limit]]
    if "agent" in request.path_params and agent is not None:
        current = await api.runtime.store.active(agent, identity.user)
        for item in listed:
            item["active"] = current is not None and item["session_id"] == current.session_id
    body: dict[str, Any] = {"sessions": listed}
    if len(found) > limit:
        last = found[limit - 1].info
        body["next_cursor"] = opaque(last.created_at, *last.key)
    return json_response(body)


async def by_label(api: Api, request: Request) -> Response:
    """The newest session of that name."""
    identity, agent = await api.caller(request), api.agent(request.path_params["agent"])
    key = await api.runtime.store.by_label(agent, identity.user, request.path_params["label"])
    if key is None:
        raise Refused("session_not_found", "No session has this label.")
    return json_response(_listed(await api.runtime.store.summary(key)))


def _listed(summary: Summary) -> dict[str, Any]:
    info = summary.info
    return {
        "session_id": info.key.session_id,
        "agent_id": info.key.agent,
        "message_count": summary.messages,
        "created_at": datetime.fromtimestamp(info.created_at, UTC).isoformat(timespec="milliseconds"),
        "label": info.label,
    }


# ── Conversations ───────────────────────────────────────────────────────────────────────────────────────────


async def active(api: Api, request: Request) -> Response:
    """The conversation in the caller's active session; an empty one, if there is none."""
    identity, agent = await api.caller(request), api.agent(request.path_params["agent"])
    key = await api.runtime.store.active(agent, identity.user)
    if key is not None:
        return json_response(await _conversation(api, key, request.query_params))
    empty = {"session_id": None, "agent_id": agent, "message_count": 0, "context_window_tokens": 0}
    return json_response({**empty, "label": None, "messages": []})


async def session(api: Api, request: Request) -> Response:
    """The conversation in a session."""
    return json_response(await _conversation(api, await _key(api, request), request.query_params))


async def messages(api: Api, request: Request) -> Response:
    """A conversation as the protocol shows it: the newest page, or the one before `before`."""
    key = await _key(api, request)
    page = await _page(api, key, request.query_params, "before")
    body: dict[str, Any] = {
        "messages": [history_message(said.record, said.tools) for said in page.messages],
        "has_more": page.has_more,
    }
    if page.has_more:
        body["before"] = opaque(page.messages[0].seq)
    return json_response(body)


async def _conversation(api: Api, key: Key, query: Mapping[str, str]) -> dict[str, Any]:
    """A page of a conversation in OpenFang's shape, oldest message first."""
    summary = await api.runtime.store.summary(key)
    page = await _page(api, key, query, "cursor")
    body = {
        **_listed(summary),
        "raw_message_count": summary.messages,
        "context_window_tokens": 0,  # nobody counts them here
        "messages": [_message(said) for said in page.messages],
    }
    if page.has_more:
        body["next_cursor"] = opaque(page.messages[0].seq)
    return body


async def _page(api: Api, key: Key, query: Mapping[str, str], cursor: str) -> Page:
    limit = whole_number(query, "limit", 100, 1, 1000)
    position = read_opaque(query[cursor], Seq)[0] if cursor in query else None
    return await api.runtime.store.history(
        key, limit, position=position, max_bytes=api.settings.max_history_bytes
    )


def _message(said: Said) -> dict[str, Any]:
    shown = history_message(said.record, said.tools)
    message: dict[str, Any] = {
        "role": "User" if shown.role == "user" else "Assistant",
        "content": shown.content,
        "turn_id": shown.turn_id,
    }
    if shown.status is not None:
        message["status"] = shown.status
    if tools := _tools(said.tools):
        message["tools"] = tools
    return message


def _tools(tools: list[records.ToolCall | records.ToolResult]) -> list[dict[str, Any]]:
    return [
        {
            "name": use.name,
            "input": use.input,
            "running": False,
            "expanded": False,
            "result": use.content if isinstance(use.content, str) else encode(use.content).decode(),
            "is_error": use.is_error,
        }
        for use in tool_uses(tools) or ()
    ]


# ── What is done to them ────────────────────────────────────────────────────────────────────────────────────


async def create(api: Api, request: Request) -> Response:
    """Make a session, also over one that was deleted, and make it the active one."""
    identity, agent = await api.caller(request), api.agent(request.path_params["agent"])
    body = await optional_body(request, api.settings.max_body_bytes)
    named = _label(body.get("label"))
    session_id = body.get("session_id")
    if not isinstance(session_id, str | None):
        raise Refused("bad_request", "session_id: expected a string.")
    key = await api.supervisor.make(identity, agent, session_id, label=named, activate=True)
    return json_response({"session_id": key.session_id, "label": named, "agent_id": agent})


async def switch(api: Api, request: Request) -> Response:
    """Make a session the active one."""
    key = await _key(api, request)
    await api.runtime.store.activate(key)
    return json_response({"status": "ok", "message": "Session switched", "session_id": key.session_id})


async def stop(api: Api, request: Request) -> Response:
    """Cancel the running turn of a session, or of the active one."""
    if "session_id" in request.path_params:
        key: Key | None = await _key(api, request)
    else:
        identity, agent = await api.caller(request), api.agent(request.path_params["agent"])
        key = await api.runtime.store.active(agent, identity.user)
    stopped = False
    if key is not None:
        await api.runtime.store.summary(key)
        stopped = (await api.cancel(key, None)).turn_id is not None
    return json_response(
        {
            "status": "ok",
            "message": "Run cancelled" if stopped else "No active run",
            "stopped": stopped,
            "session_id": None if key is None else key.session_id,
        }
    )


async def reset(api: Api, request: Request) -> Response:
    """Delete the active session, and make a new one active."""
    identity, agent = await api.caller(request), api.agent(request.path_params["agent"])
    old = await api.runtime.store.active(agent, identity.user)
    new = await api.supervisor.make(identity, agent, activate=True)
    if old is not None:
        await _delete(api, old)
    return json_response({"status": "ok", "message": "Session reset", "session_id": new.session_id})


async def delete(api: Api, request: Request) -> Response:
    """End a session: its turns as cancelled, then its log."""
    key = await _key(api, request)
    await api.runtime.store.summary(key)
    await _delete(api, key)
    return json_response({"status": "deleted", "session_id": key.session_id})


async def label(api: Api, request: Request) -> Response:
    """Name a session, or take its name away."""
    key = await _key(api, request)
    body = await json_body(request, api.settings.max_body_bytes)
    if "label" not in body:
        raise Refused("bad_request", "label: expected a string, or null to take it away.")
    named = _label(body["label"])
    await api.runtime.store.label(key, named, api.runtime.now())
    return json_response({"status": "updated", "session_id": key.session_id, "label": named})


async def _delete(api: Api, key: Key) -> None:
    async with api.supervisor.opened(key) as live:
        await live.asked(Delete())


async def _key(api: Api, request: Request) -> Key:
    """Which session the request means; whether it is there is not said. Raises `Refused`."""
    identity = await api.caller(request)
    agent = request.path_params.get("agent") or request.query_params.get("agent")
    return await api.supervisor.resolve(identity, request.path_params["session_id"], agent)


def _label(value: Any) -> str | None:
    """A session's name, as given. Raises `Refused`."""
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else ""
    if not 1 <= len(text) <= 128 or not text.isprintable() or "/" in text:
        raise Refused("bad_request", "label: expected 1–128 characters, no control characters, no /.")
    return text
