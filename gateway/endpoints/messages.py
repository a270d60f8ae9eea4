"""`POST …/message` and `POST …/message/stream`: say something to an agent, and get the answer whole or in
chunks.

Both follow the session like any client and show its frames in another shape; whoever stops listening stops
nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth import Identity
from gateway.http import (
    OF_MESSAGE,
    OF_SESSION,
    OF_TURN,
    Api,
    described,
    error_body,
    error_response,
    json_response,
    read_body,
    route,
)
from gateway.interfaces import Key
from gateway.reply import Reply, reply
from gateway.stream import COMMENT
from protocol import codec, frames, saying
from protocol.errors import Refused

__all__ = ["routes"]


def routes(api: Api) -> list[Route]:
    """To the active session of an agent, and to a named one."""
    to_active, to_named = "/api/agents/{agent}/message", "/api/agents/{agent}/sessions/{session_id}/message"
    return [
        route(to_active, POST=partial(whole, api)),
        route(f"{to_active}/stream", POST=partial(chunks, api)),
        route(to_named, POST=partial(whole, api)),
        route(f"{to_named}/stream", POST=partial(chunks, api)),
    ]


# ── How an answer is shown ──────────────────────────────────────────────────────────────────────────────────


class Whole(Reply):
    """One JSON document when the turn is over."""

    __slots__ = ("_headers", "_status")

    def begin(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        return self._status, self._headers

    def unfinished(self, refusal: Refused) -> bytes:
        return self._all(error_response(refusal))

    def show(self, frame: bytes) -> bytes:
        if codec.head(frame)[0] not in ("response", "error", "session"):
            return b""
        match self.mine(frame):
            case frames.Response() as ended:
                answer = json_response(
                    saying.Answered(
                        response=ended.content,
                        content=ended.content,
                        input_tokens=ended.input_tokens,
                        output_tokens=ended.output_tokens,
                        status=ended.status,
                        **self.names(),
                    )
                )
            case frames.Error() as failed:
                answer = error_response(self.failure(failed))
            case _:
                return b""
        return self._all(answer)

    def _all(self, answer: Response) -> bytes:
        self.over = True
        self._status, self._headers = answer.status_code, answer.raw_headers
        return bytes(answer.body)


class Chunks(Reply):
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
                used = saying.ToolStarts(call.tool_call_id, call.name, call.input, **self.names())
                return self._event("tool_use", used)
            case frames.ToolResult() as result:
                return self._result(result)
            case frames.Response() as ended:
                self.over = True
                # One who lagged was not sent all of the text before its end.
                rest = ended.content[self._shown :]
                return (self._chunk(rest) if rest else b"") + self._done(ended)
            case frames.Error() as failed:
                self.over = True
                told = {"done": True, "type": "error", **error_body(self.failure(failed))}
                return self._event("error", told | self.names())
            case _:
                return b""

    def _chunk(self, content: str) -> bytes:
        self._shown += len(content)
        return self._event("chunk", saying.Chunk(content, content, **self.names()))

    def _result(self, result: frames.ToolResult) -> bytes:
        call = self._calls.get(result.tool_call_id)
        answered = saying.ToolEnds(
            result.tool_call_id,
            "" if call is None else call.name,
            None if call is None else call.input,
            result.content,
            result.is_error,
            **self.names(),
        )
        return self._event("tool_result", answered)

    def _done(self, ended: frames.Response) -> bytes:
        usage = saying.Tokens(ended.input_tokens, ended.output_tokens)
        return self._event("done", saying.End(usage, ended.status, **self.names()))

    def _event(self, kind: str, data: Any) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), codec.encode(data))


# ── Asking ──────────────────────────────────────────────────────────────────────────────────────────────────

_ERRORS = (*OF_SESSION, *OF_MESSAGE, "bad_frame")


@described(body=saying.Say, answer=saying.Answered, errors=(*_ERRORS, *OF_TURN))
async def whole(api: Api, request: Request) -> ASGIApp:
    """Say something to an agent, and wait for its whole answer."""
    return await _message(api, request, Whole)


@described(body=saying.Say, answer=saying.Streamed, media="text/event-stream", errors=_ERRORS)
async def chunks(api: Api, request: Request) -> ASGIApp:
    """Say something to an agent, and be sent its answer in chunks."""
    return await _message(api, request, Chunks)


async def _message(api: Api, request: Request, kind: type[Reply]) -> ASGIApp:
    """Everything that can be refused before the session is asked."""
    identity = await api.caller(request)
    agent = api.agent(request.path_params["agent"], identity)
    message = _frame(api, await read_body(request, api, saying.Say), request.path_params.get("session_id"))
    if message.session_id is None:
        key = await api.supervisor.active(identity, agent)
    else:
        key = await api.supervisor.resolve(identity, message.session_id, agent)
    return partial(_reply, api, identity, key, message, kind)


def _frame(api: Api, said: saying.Say, session_id: str | None) -> frames.Send:
    """What is said as a `message` frame, by whose rules it is checked. Raises `Refused`."""
    sender = {"sender_id": said.sender_id, "sender_name": said.sender_name}
    metadata = {name: value for name, value in sender.items() if value is not UNSET}
    message = frames.Send(
        content=said.message,
        session_id=session_id,
        turn_id=said.turn_id,
        on_busy=said.on_busy,
        replaces=said.replaces,
        metadata=metadata | (said.metadata or {}) or None,
        create=said.create,
    )
    codec.check(message, api.supervisor.limits)
    return message


async def _reply(
    api: Api,
    identity: Identity,
    key: Key,
    message: frames.Send,
    kind: type[Reply],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    turn_id = message.turn_id or api.runtime.new_id()
    stream = kind(send, key.session_id, turn_id)
    message = replace(message, turn_id=turn_id)
    await reply(api, identity, key, message, stream, scope["state"]["request_id"], receive)
