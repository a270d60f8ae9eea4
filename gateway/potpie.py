"""What the endpoints of Potpie's surface share: how a conversation is found, what is refused, and how a run
is heard."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from protocol import codec
from protocol.cursor import format_cursor
from protocol.errors import Refused
from protocol.potpie import Position
from protocol.potpie_events import Chunk, Event, Telling, whole
from protocol.potpie_shapes import Detail, NoRun, Which

from .auth import Identity
from .http import Api, json_response, read_query, retry_headers, shaped
from .interfaces import Key, NoSession, Summary
from .session import Session
from .stream import COMMENT, Stream, connected

__all__ = ["Events", "Found", "Heard", "Whole", "asked", "error_response", "hear", "no_run", "there"]

Q = TypeVar("Q", bound=Which)

# ── Finding a conversation ──────────────────────────────────────────────────────────────────────────────────


class Found(NamedTuple):
    """What a request means."""

    identity: Identity
    key: Key
    summary: Summary | None
    """None: there is no such conversation (yet, or any more)."""


async def asked(api: Api, request: Request, kind: type[Q]) -> tuple[Found, Q]:
    """What a request means, and its query. Raises `Refused`."""
    identity = await api.caller(request)
    query = read_query(request, kind)
    return await _find(api, identity, request.path_params["conversation_id"], query.agent), query


async def there(api: Api, request: Request, kind: type[Q], absent: str) -> tuple[Found, Summary, Q]:
    """`asked`, of a conversation that is there; else refused with that sentence."""
    found, query = await asked(api, request, kind)
    if found.summary is None:
        raise no_run(absent, found.key.session_id)
    return found, found.summary, query


async def _find(api: Api, identity: Identity, session_id: str, agent: str | None) -> Found:
    """The conversation of that id. It is looked up across users, first among the caller's: somebody else's is
    `forbidden`, unless the caller is nobody in particular. Raises `Refused`."""
    try:
        key = await api.supervisor.resolve(identity, session_id, agent)
    except Refused as refusal:
        if refusal.code == "session_not_found":  # its token is for other ones
            raise _denied() from None
        raise
    try:
        return Found(identity, key, await api.summary(key))
    except NoSession as gone:
        if gone.tombstone == "expired":
            raise
    if not identity.everyone:
        for other in await api.runtime.store.find(session_id, None):
            if other.user != identity.user and await _is_there(api, other):
                raise _denied()
    return Found(identity, key, None)


async def _is_there(api: Api, key: Key) -> bool:
    try:
        await api.runtime.store.summary(key)
    except NoSession:
        return False
    return True


# ── Refusing ────────────────────────────────────────────────────────────────────────────────────────────────


def _denied() -> Refused:
    return Refused("forbidden", "Access denied to conversation")


def no_run(sentence: str, conversation_id: str) -> Refused:
    """There is no such run, or nothing to read: told flatly."""
    return Refused("session_not_found", sentence, conversationId=conversation_id)


@shaped(Detail, NoRun)
def error_response(refusal: Refused) -> Response:
    """A refusal as this surface answers it."""
    conversation_id = refusal.details.get("conversationId")
    body: Detail | NoRun = Detail(refusal.content)
    if conversation_id is not None:
        body = NoRun(refusal.content, conversation_id)
    return json_response(body, refusal.status, retry_headers(refusal))


# ── Hearing a run ───────────────────────────────────────────────────────────────────────────────────────────


class Heard(Stream):
    """An answer that tells of one run."""

    __slots__ = ("telling",)

    def __init__(self, send: Send, telling: Telling) -> None:
        super().__init__(send)
        self.telling = telling

    def run_header(self) -> tuple[bytes, bytes]:
        """`X-Session-Id`: what the run is called; escaped, if that is more than ASCII."""
        run_id = self.telling.run_id
        return b"x-session-id", (run_id if run_id.isascii() else quote(run_id)).encode()


class Events(Heard):
    """Server-sent events. Nothing outside of their data holds a quote or a brace: clients look for JSON
    anywhere in the bytes."""

    __slots__ = ()

    def begin(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        status, headers = super().begin()
        return status, [*headers, self.run_header()]

    def show(self, frame: bytes) -> bytes:
        if codec.head(frame)[0] in ("attached", "pong"):
            return COMMENT
        shown = b"".join(map(_written, self.telling.tell(codec.decode_server_frame(frame))))
        self.over = self.telling.over
        return shown or (COMMENT if self.over else b"")


def _written(event: Event) -> bytes:
    about = f"id: {event.position}\nevent: {event.kind}\ndata: "
    return b"%b%b\n\n" % (about.encode(), codec.encode(event.data))


class Whole(Heard):
    """One JSON document, when the run is over."""

    __slots__ = ("_answer", "_chunks")

    def __init__(self, send: Send, telling: Telling) -> None:
        super().__init__(send, telling)
        self._answer = Response()
        self._chunks: list[Chunk] = []

    def begin(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        return self._answer.status_code, [*self._answer.raw_headers, self.run_header()]

    def unfinished(self, refusal: Refused) -> bytes:
        return self._all(error_response(refusal))

    def show(self, frame: bytes) -> bytes:
        told = [event.data for event in self.telling.tell(codec.decode_server_frame(frame))]
        self._chunks += [data for data in told if isinstance(data, Chunk)]
        if not self.telling.over:
            return b""
        if (failed := self.telling.failure) is None:
            return self._all(json_response(whole(self._chunks)))
        refusal = Refused(failed.code, failed.content, retry_after_ms=failed.retry_after_ms)
        return self._all(error_response(refusal))

    def _all(self, answer: Response) -> bytes:
        self.over = True
        self._answer = answer
        return bytes(answer.body)


_BEYOND = 10**12 - 1
"""More characters than any text or reasoning has."""


async def hear(api: Api, found: Found, run_id: str, after: Position, kind: type[Heard]) -> ASGIApp:
    """The answer to a request: that run, strictly after a position. Raises `Refused` if the conversation has
    none of that name, or none any more."""
    try:
        turn = await api.runtime.store.turn(found.key, run_id)
    except NoSession:
        turn = None
    if turn is None:
        raise _gone(run_id)
    return partial(_hear, api, found, kind, Telling(run_id, turn.seq, after))


def _gone(run_id: str) -> Refused:
    return Refused("turn_not_found", f"Session {run_id} not found or expired")


async def _hear(
    api: Api, found: Found, kind: type[Heard], telling: Telling, _: Scope, receive: Receive, send: Send
) -> None:
    """Follow the session from before the run: whatever is to be told of it is found in the log, also of a run
    that is over, and what was heard before is left out."""
    before = telling.accepted - 1
    async with connected(api.supervisor, kind(send, telling), found.identity, receive) as connection:
        async with api.supervisor.opened(found.key) as session:
            if telling.resumed:
                telling.heard_thought = _thought(session, telling.run_id)
            # At no place in a text: of the run before, if it still goes on, nothing is sent.
            cursor = format_cursor(session.log.epoch, before, _BEYOND)
            attachment = await connection.follow(found.key, "never", cursor, 0)
        if attachment.seq != before:  # trimmed away
            raise _gone(telling.run_id)


def _thought(session: Session, run_id: str) -> int:
    """Characters of reasoning that somebody who resumes has had: it is told live only."""
    text = session.log.text
    if text is None or text.turn_id != run_id:
        return _BEYOND
    return 0 if text.thought is None else text.thought.length
