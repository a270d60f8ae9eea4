"""`/api/messaging/sessions…`: sessions with a lifetime, and messages in them. For ElizaOS's clients."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth import Identity, require_service
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
    retry_headers,
    route,
    shaped,
)
from gateway.interfaces import Info, Key, NoSession, Page, Place, Summary
from gateway.reply import Reply, reply
from gateway.stream import COMMENT
from protocol import codec, eliza, frames
from protocol.errors import Refused
from protocol.lifetime import Configure, Life, Renew, asked, asked_anew

__all__ = ["PATHS", "error_response", "routes"]

PATHS = re.compile(r"/api/messaging(/.*)?", re.DOTALL)
"""Where refusals look as here."""
BASE = "/api/messaging/sessions"
Seq = Annotated[int, Meta(ge=0, lt=1 << 53)]
_BARE = "\x00"
"""Under this name is kept what a client gave as metadata that is no object."""


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


@shaped(eliza.ApiError)
def error_response(refusal: Refused) -> Response:
    """A refusal in ElizaOS's shape, with the status of the table."""
    details = dict(refusal.details.get("details", {}))
    if (expires_at := refusal.details.get("expires_at")) is not None:
        details |= {"sessionId": refusal.session_id, "expiresAt": eliza.date(expires_at)}
    said = eliza.Failure(
        code=eliza.error_code(refusal.code),
        message=refusal.content,
        timestamp=eliza.date(time.time()),
        details=details or None,
    )
    return json_response(eliza.ApiError(said), refusal.status, retry_headers(refusal))


# ── Sessions ────────────────────────────────────────────────────────────────────────────────────────────────


@described(
    body=eliza.Make,
    answer=eliza.Made,
    status=201,
    errors=("agent_not_found", "session_exists", "too_many_sessions"),
)
async def create(api: Api, request: Request) -> Response:
    """Make a session, with a lifetime of its own if it says so."""
    await api.caller(request)  # before anything of theirs is read
    body = await read_body(request, api, dict[str, Any])
    agent, user = body.get("agentId"), body.get("userId")
    if not (agent and isinstance(agent, str) and user and isinstance(user, str)):
        missing = {"missingFields": ["agentId", "userId"]}
        raise Refused("bad_request", "Missing required fields: agentId, userId", details=missing)
    identity = await api.caller(request, user)
    name = _agent(api, identity, agent)
    metadata = body.get("metadata")
    eliza.check_metadata(metadata)
    key = await api.supervisor.make(
        identity,
        name,
        str(UUID((api.runtime.new_id() + api.runtime.new_id())[:32], version=4)),
        metadata=metadata if isinstance(metadata, dict | None) else {_BARE: metadata},
        timeout=asked(body.get("timeoutConfig"), api.runtime.tiers),
    )
    made = _info(api, (await api.summary(key)).info)
    return json_response(
        eliza.Made(
            made.session_id,
            made.channel_id,
            made.agent_id,
            made.user_id,
            made.created_at,
            made.metadata,
            made.expires_at,
            made.timeout_config,
        ),
        201,
    )


def _agent(api: Api, identity: Identity, named: str) -> str:
    """The agent of that name, or of the UUID that is made of its name. Raises `Refused`."""
    for name in api.runtime.agents:
        if named.lower() == eliza.agent_uuid(name):
            named = name
    if named not in api.runtime.agents or not identity.may_use(named):
        raise Refused("agent_not_found", f"Agent with ID '{named[:64]}' not found")
    return named


@described(answer=eliza.SessionInfo, errors=OF_SESSION)
async def session(api: Api, request: Request) -> Response:
    """A session, and where it stands in its life."""
    found = await _found(api, request)
    return json_response(_info(api, found.info))


@described(answer=eliza.SessionInfo, errors=(*OF_SESSION, "renewal_refused"))
async def renew(api: Api, manual: bool, request: Request) -> Response:
    """Move the expiry of a session: by hand, or because somebody is still there."""
    found = await _found(api, request)
    await api.ask(found.key, Renew(manual=manual))
    return json_response(_info(api, (await api.summary(found.key)).info))


@described(body=dict[str, Any], answer=eliza.SessionInfo, errors=OF_SESSION)
async def timeout(api: Api, request: Request) -> Response:
    """Change how long a session lives, where the body says something."""
    found = await _found(api, request)
    terms = asked_anew(await read_body(request, api, dict[str, Any]), api.runtime.tiers)
    await api.ask(found.key, Configure(terms))
    return json_response(_info(api, (await api.summary(found.key)).info))


@described(answer=eliza.Deleted, errors=OF_SESSION)
async def delete(api: Api, request: Request) -> Response:
    """End a session: its turns as cancelled, then its log."""
    identity = await api.caller(request)
    session_id, agent = request.path_params["session_id"], request.query_params.get("agent")
    key = await api.supervisor.resolve(identity, session_id, agent)
    await api.runtime.store.summary(key)
    await api.supervisor.delete(key)
    said = f"Session {key.session_id} deleted successfully"
    return json_response(eliza.Deleted(True, said, {"success": True, "message": said}))


class Found(NamedTuple):
    """A session that is there and lives."""

    identity: Identity
    key: Key
    info: Info


async def _found(api: Api, request: Request) -> Found:
    """The session of the request's path. Raises `Refused`."""
    identity = await api.caller(request)
    session_id, agent = request.path_params["session_id"], request.query_params.get("agent")
    key = await api.supervisor.resolve(identity, session_id, agent)
    try:
        return Found(identity, key, (await api.summary(key)).info)
    except NoSession as gone:
        if gone.tombstone == "expired":
            raise _expired(session_id, gone.ended_at) from None
        raise Refused("session_not_found", f"Session with ID '{session_id}' not found") from None
    except Refused as refusal:
        if "expires_at" not in refusal.details:
            raise
        raise _expired(session_id, refusal.details["expires_at"]) from None


def _expired(session_id: str, expires_at: float) -> Refused:
    content = f"Session '{session_id}' expired at {eliza.date(expires_at)}"
    return Refused("session_expired", content, session_id=session_id, expires_at=expires_at)


def _info(api: Api, info: Info) -> eliza.SessionInfo:
    return eliza.session_info(
        *info.key, info.created_at, info.updated_at, _metadata(info), info.life, api.runtime.now()
    )


def _metadata(info: Info) -> Any:
    """A session's metadata, as its client gave it."""
    return info.metadata.get(_BARE, info.metadata)


# ── All of them ─────────────────────────────────────────────────────────────────────────────────────────────


@described(query=eliza.AllPage, answer=eliza.Listed)
async def sessions(api: Api, request: Request) -> Response:
    """Everybody's sessions, newest first. For services."""
    require_service(await api.caller(request))
    query = read_query(request, eliza.AllPage)
    limit = query.limit
    before = None if query.cursor is None else Place(*read_opaque(query.cursor, float, str, str, str))
    store, now = api.runtime.store, api.runtime.now()
    found = await store.sessions(None, None, limit + 1, before)
    census = await store.census(now)
    page = [summary.info for summary in found[:limit]]
    shown = [_info(api, info) for info in page if info.life is None or info.life.expires_at > now]
    active = census.sessions - census.expired
    return json_response(
        eliza.Listed(
            sessions=shown,
            total=active,
            stats=eliza.Stats(census.sessions, active, census.expired),
            next_cursor=_place(found[limit - 1]) if len(found) > limit else UNSET,
        )
    )


def _place(summary: Summary) -> str:
    return opaque(summary.info.created_at, *summary.info.key)


@described(answer=eliza.Health)
async def health(api: Api, started: float, request: Request) -> Response:
    """Whether all is well, and how many sessions there are. For services."""
    require_service(await api.caller(request))
    now = api.runtime.now()
    census = await api.runtime.store.census(now)
    return json_response(
        eliza.Health(
            status="degraded" if api.runtime.draining else "healthy",
            active_sessions=census.sessions - census.expired,
            timestamp=eliza.date(now),
            expiring_soon=census.expiring,
            uptime=max(0.0, now - started),
        )
    )


# ── Messages ────────────────────────────────────────────────────────────────────────────────────────────────


@described(query=eliza.MessagesPage, answer=eliza.History, errors=OF_SESSION)
async def messages(api: Api, request: Request) -> Response:
    """A page of a conversation, newest message first."""
    found = await _found(api, request)
    query = read_query(request, eliza.MessagesPage)
    page = await _page(api, found.key, query)
    channel, beside = eliza.channel_of(*found.key), _beside(found.info)
    newest_first = page.messages[::-1]
    shown = [eliza.shown(channel, *found.key[:2], said.record, said.tools, beside) for said in newest_first]
    ends = [eliza.millis(said.record.created_at) for said in newest_first]
    # Forward from a moment, or backward from the end: the place from where the next page goes on.
    edge = newest_first[:1] if query.after else newest_first[-1:]
    return json_response(
        eliza.History(
            shown,
            page.has_more,
            eliza.Cursors(before=ends[-1], after=ends[0]) if ends else UNSET,
            opaque(edge[0].seq) if page.has_more else UNSET,
        )
    )


async def _page(api: Api, key: Key, query: eliza.MessagesPage) -> Page:
    """The messages that are asked for, oldest first."""
    limit = eliza.page_size(query.limit)
    earlier, later = eliza.between(eliza.moment("before", query.before), eliza.moment("after", query.after))
    history = partial(
        api.runtime.store.history,
        key,
        position=None if query.cursor is None else read_opaque(query.cursor, Seq)[0],
        max_bytes=api.settings.max_history_bytes,
    )
    if later is None:
        return await history(limit, time=earlier)
    page = await history(limit + 1, direction="after", time=later)
    if earlier is None:
        return Page(page.messages[:limit], page.has_more or len(page.messages) > limit)
    within = [said for said in page.messages if said.record.created_at < earlier]
    return Page(within[:limit], len(within) > limit or (page.has_more and len(within) == len(page.messages)))


def _beside(info: Info) -> dict[str, Any]:
    """What all messages of a session have in their metadata."""
    metadata = _metadata(info)
    names = {"sessionId": info.key.session_id, "agentId": info.key.agent, "userId": info.key.user}
    return names | (metadata if isinstance(metadata, dict) else {})


@described(
    body=eliza.Say,
    answer=eliza.Sent,
    status=201,
    also={200: dict[str, Any]},
    errors=(*OF_SESSION, *OF_MESSAGE, *OF_TURN),
)
async def send(api: Api, request: Request) -> ASGIApp:
    """Say something: answered at once, when the agent has answered, or as the agent answers."""
    await api.caller(request)  # before anything of theirs is read
    body = await read_body(request, api, dict[str, Any])
    transport = eliza.transport(body.get("transport"), body.get("mode"))
    content, metadata = body.get("content"), body.get("metadata")
    if not isinstance(content, str):
        raise Refused("bad_request", "Invalid content: Invalid message request format", details=_NO_CONTENT)
    found = await _found(api, request)
    eliza.check_content(content)
    eliza.check_metadata(metadata)
    own = metadata if isinstance(metadata, dict) else {}
    if body.get("attachments") is not None:
        own = {**own, "attachments": body["attachments"]}
    turn_id = api.runtime.new_id()
    message = frames.Send(
        content=content,
        session_id=found.key.session_id,
        turn_id=turn_id,
        metadata=own or None,
        create=False,
    )
    said = Message(api, found, message)
    if transport != "websocket":
        return partial(_reply, Whole if transport == "http" else Chunks, said)
    await api.send(found.key, message, request.state.request_id)
    after = (await api.runtime.store.summary(found.key)).info.life
    return json_response(said.sent(said.status(after)), 201)


_NO_CONTENT = {"reason": "Invalid message request format"}


class Message:
    """A message on its way, and how it is told."""

    def __init__(self, api: Api, found: Found, message: frames.Send) -> None:
        self.api = api
        self.found = found
        self.frame = message
        channel, beside = eliza.channel_of(*found.key), _beside(found.info)
        self.shown = eliza.user_message(
            channel,
            found.key.user,
            message.turn_id or "",
            message.content,
            beside | (message.metadata or {}),
            api.runtime.now(),
        )
        self.answer_id = eliza.message_id(channel, message.turn_id or "", is_agent=True)

    def status(self, life: Life | None) -> eliza.Status:
        """What the message has done to its session's life, which is `life` by now."""
        return eliza.status_of(self.found.info.life, life, self.api.runtime.now())

    def status_now(self) -> eliza.Status:
        """The same, of a session that is followed."""
        live = self.api.supervisor.sessions.get(self.found.key)
        info = self.found.info if live is None or live.info is None else live.info
        return self.status(info.life)

    def sent(self, status: eliza.Status, answered: eliza.Answered | UnsetType = UNSET) -> eliza.Sent:
        """The message, and what came of it."""
        shown = self.shown
        return eliza.Sent(
            True,
            shown.id,
            shown.content,
            shown.author_id,
            shown.createdAt,
            shown.metadata,
            shown,
            status,
            eliza.SentData(True, shown, status, answered),
            answered,
        )


class Answer(Reply):
    """The answer to a message."""

    __slots__ = ("_said", "_tools")

    def __init__(self, send: Send, said: Message) -> None:
        super().__init__(send, said.found.key.session_id, said.frame.turn_id or "")
        self._said = said
        self._tools: list[str] = []

    def answered(self, ended: frames.Response) -> eliza.Answered:
        """What the agent said in all."""
        return eliza.Answered(ended.content, ended.thought, self._tools or None)


class Whole(Answer):
    """One JSON document when the turn is over."""

    __slots__ = ("_headers", "_status")

    def begin(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        return self._status, self._headers

    def unfinished(self) -> bytes:
        return self._all(error_response(Refused("draining", "The gateway stops; the next one answers this.")))

    def show(self, frame: bytes) -> bytes:
        match self.mine(frame):
            case frames.ToolCall(name=name):
                self._tools.append(name)
            case frames.Response() as ended:
                sent = self._said.sent(self._said.status_now(), self.answered(ended))
                return self._all(json_response(sent, 201))
            case frames.Error() as failed:
                return self._all(error_response(self.failure(failed)))
        return b""

    def _all(self, answer: Response) -> bytes:
        self.over = True
        self._status, self._headers = answer.status_code, answer.raw_headers
        return bytes(answer.body)


class Chunks(Answer):
    """Server-sent events: `user_message`, then a `chunk` for each piece of text, then `done` or `error`."""

    __slots__ = ("_index", "_shown")

    def __init__(self, send: Send, said: Message) -> None:
        super().__init__(send, said)
        self._index = 0
        self._shown = 0

    def show(self, frame: bytes) -> bytes:
        if codec.head(frame)[0] == "pong":
            return COMMENT
        match self.mine(frame):
            case frames.Ok():
                return _event("user_message", self._said.shown)
            case frames.ToolCall(name=name):
                self._tools.append(name)
            case frames.TextDelta(content=content):
                return self._chunk(content)
            case frames.Response() as ended:
                self.over = True
                # One who lagged was not sent all of the text before its end.
                rest = ended.content[self._shown :]
                return (self._chunk(rest) if rest else b"") + _event("done", self.answered(ended))
            case frames.Error() as failed:
                self.over = True
                return _event("error", {"error": failed.content, "code": eliza.error_code(failed.code)})
        return b""

    def _chunk(self, text: str) -> bytes:
        chunk = {"messageId": self._said.answer_id, "chunk": text, "index": self._index}
        self._index += 1
        self._shown += len(text)
        return _event("chunk", chunk)


def _event(kind: str, data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), codec.encode(data))


async def _reply(kind: type[Answer], said: Message, scope: Scope, receive: Receive, send: Send) -> None:
    found = said.found
    request_id = scope["state"]["request_id"]
    await reply(said.api, found.identity, found.key, said.frame, kind(send, said), request_id, receive)
