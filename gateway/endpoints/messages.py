"""`POST …/message` and `POST …/message/stream`: say something to an agent, and get the answer whole or in
chunks.

Both follow the session like any client and show its frames in another shape; whoever stops listening stops
nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from msgspec.structs import replace
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth import Identity
from gateway.http import Api, error_body, error_response, json_body, json_response, route
from gateway.interfaces import Key
from gateway.opening import CREATE
from gateway.stream import COMMENT, Stream, connected, ends
from protocol import codec, frames
from protocol.errors import Refused
from protocol.records import Terminal
from protocol.view import frame_of

__all__ = ["routes"]


def routes(api: Api) -> list[Route]:
    """To the active session of an agent, and to a named one."""

    async def whole(request: Request) -> ASGIApp:
        return await _message(api, request, Whole)

    async def chunks(request: Request) -> ASGIApp:
        return await _message(api, request, Chunks)

    return [
        route("/api/agents/{agent}/message", POST=whole),
        route("/api/agents/{agent}/message/stream", POST=chunks),
        route("/api/agents/{agent}/sessions/{session_id}/message", POST=whole),
        route("/api/agents/{agent}/sessions/{session_id}/message/stream", POST=chunks),
    ]


# ── How an answer is shown ──────────────────────────────────────────────────────────────────────────────────


class Answer(Stream):
    """The answer to one turn; frames of other turns are not shown."""

    __slots__ = ("_session_id", "_turn_id")

    def __init__(self, send: Send, session_id: str, turn_id: str) -> None:
        super().__init__(send)
        self._session_id = session_id
        self._turn_id = turn_id

    def mine(self, frame: bytes) -> frames.ServerFrame | None:
        """The frame, if it says something of this turn; the end of its session counts as an error."""
        kind, _ = codec.head(frame)
        if kind == "session" and ends(frame):
            return codec.error_frame(Refused("session_closed", "The session was deleted."))
        told = codec.decode_server_frame(frame)
        if isinstance(told, frames.Error) and told.cursor is None:
            return told  # this line asks for one thing only, and it was refused
        return told if getattr(told, "turn_id", None) == self._turn_id else None

    def names(self) -> dict[str, Any]:
        """Whose answer it is."""
        return {"session_id": self._session_id, "turn_id": self._turn_id}

    def failure(self, error: frames.Error) -> Refused:
        """What a failed turn is told as."""
        partial = {} if error.partial is None else {"partial": error.partial}
        return Refused(
            error.code,
            error.content,
            retry_after_ms=error.retry_after_ms,
            **self.names(),
            retryable=error.retryable,  # the agent may have overruled the table
            **partial,
        )


class Whole(Answer):
    """One JSON document when the turn is over."""

    __slots__ = ("_headers", "_status")

    def begin(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        return self._status, self._headers

    def show(self, frame: bytes) -> bytes:
        if codec.head(frame)[0] not in ("response", "error", "session"):
            return b""
        match self.mine(frame):
            case frames.Response() as ended:
                answer = json_response(
                    {
                        "response": ended.content,
                        "content": ended.content,
                        "input_tokens": ended.input_tokens,
                        "output_tokens": ended.output_tokens,
                        "iterations": 1,
                        "status": ended.status,
                        **self.names(),
                    }
                )
            case frames.Error() as failed:
                answer = error_response(self.failure(failed))
            case _:
                return b""
        self.over = True
        self._status, self._headers = answer.status_code, answer.raw_headers
        return bytes(answer.body)


class Chunks(Answer):
    """Server-sent events in OpenFang's words: `chunk`, `tool_use`, `tool_result`; one `done` or `error` ends
    them."""

    __slots__ = ("_calls", "_shown")

    def __init__(self, send: Send, session_id: str, turn_id: str) -> None:
        super().__init__(send, session_id, turn_id)
        self._shown = 0
        self._calls: dict[str, frames.ToolCall] = {}

    def show(self, frame: bytes) -> bytes:
        if codec.head(frame)[0] == "pong":
            return COMMENT
        match self.mine(frame):
            case frames.Ok():
                return COMMENT  # it was accepted: let the client have the headers
            case frames.TextDelta(content=content):
                return self._chunk(content)
            case frames.ToolCall() as call:
                self._calls[call.tool_call_id] = call
                return self._event("tool_use", id=call.tool_call_id, tool=call.name, input=call.input)
            case frames.ToolResult() as result:
                return self._result(result)
            case frames.Response() as ended:
                self.over = True
                # One who lagged was not sent all of the text before its end.
                rest = ended.content[self._shown :]
                return (self._chunk(rest) if rest else b"") + self._done(ended)
            case frames.Error() as failed:
                self.over = True
                return self._event("error", done=True, type="error", **error_body(self.failure(failed)))
            case _:
                return b""

    def _chunk(self, content: str) -> bytes:
        self._shown += len(content)
        return self._event("chunk", content=content, done=False, type="text_delta", delta=content)

    def _result(self, result: frames.ToolResult) -> bytes:
        call = self._calls.get(result.tool_call_id)
        return self._event(
            "tool_result",
            id=result.tool_call_id,
            tool="" if call is None else call.name,
            input=None if call is None else call.input,
            result=result.content,
            is_error=result.is_error,
        )

    def _done(self, ended: frames.Response) -> bytes:
        usage = {"input_tokens": ended.input_tokens, "output_tokens": ended.output_tokens}
        return self._event("done", done=True, type="done", usage=usage, status=ended.status)

    def _event(self, kind: str, **fields: Any) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), codec.encode(fields | self.names()))


# ── Asking ──────────────────────────────────────────────────────────────────────────────────────────────────


async def _message(api: Api, request: Request, kind: type[Answer]) -> ASGIApp:
    """Everything that can be refused before the session is asked."""
    identity = await api.caller(request)
    agent = api.agent(request.path_params["agent"])
    body = await json_body(request, api.settings.max_body_bytes)
    message = _frame(api, body, request.path_params.get("session_id"))
    if message.session_id is None:
        key = await api.supervisor.active(identity, agent)
    else:
        key = await api.supervisor.resolve(identity, message.session_id, agent)
    message = replace(message, turn_id=message.turn_id or api.runtime.new_id())
    return partial(_answer, api, identity, key, message, kind)


def _frame(api: Api, body: dict[str, Any], session_id: str | None) -> frames.Send:
    """The body as a `message` frame, by whose rules it is checked. Raises `Refused`."""
    if not isinstance(body.get("message"), str):
        raise Refused("bad_request", "message: expected a string, the text of the message.")
    if body.get("attachments"):
        raise Refused("bad_request", "attachments: this gateway takes none.")
    fields: dict[str, Any] = {
        name: body[name] for name in ("turn_id", "on_busy", "replaces", "create") if name in body
    }
    sender = {name: body[name] for name in ("sender_id", "sender_name") if name in body}
    metadata = body.get("metadata")
    if sender and isinstance(metadata, dict | None):
        metadata = sender | (metadata or {})
    fields |= {"type": "message", "content": body["message"], "session_id": session_id, "metadata": metadata}
    frame = codec.decode_client_frame(codec.encode(fields), api.supervisor.limits)
    assert isinstance(frame, frames.Send)
    return frame


async def _answer(
    api: Api,
    identity: Identity,
    key: Key,
    message: frames.Send,
    kind: type[Answer],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Follow the session, then leave the message with it: so nothing of the answer is missed."""
    turn_id = message.turn_id or ""
    stream = kind(send, key.session_id, turn_id)
    async with connected(api.supervisor, stream, identity, receive) as connection:
        await connection.follow(key, CREATE[message.create], None, 0)
        ok = await api.send(key, message, scope["state"]["request_id"])
        connection.put(ok)
        if ok.status in ("completed", "cancelled", "failed"):  # it was sent before
            connection.put(await _end_of(api, key, turn_id))


async def _end_of(api: Api, key: Key, turn_id: str) -> frames.ServerFrame:
    """How a turn ended that is over. Raises `Refused` if that is not kept any more."""
    store, page_bytes = api.runtime.store, api.settings.page_bytes
    turn = await store.turn(key, turn_id)
    seq = 0 if turn is None else turn.seq
    while entries := await store.read(key, seq, 100, page_bytes):
        for entry in entries:
            if isinstance(entry.record, Terminal) and entry.record.turn_id == turn_id:
                return _shown(entry.record, key.session_id)
        seq = entries[-1].seq
    raise Refused(
        "turn_not_found", "The turn is over, and its records are not kept any more.", turn_id=turn_id
    )


def _shown(record: Terminal, session_id: str) -> frames.ServerFrame:
    frame = frame_of(record, session_id, "")
    assert frame is not None
    return frame
