"""The answer to a message as ElizaOS's clients hear it: at once, when the agent has answered, or as it does.
And what a refusal looks like to them."""

from __future__ import annotations

import time
from typing import Any

from starlette.responses import Response
from starlette.types import Send

from protocol import codec, eliza, frames
from protocol import eliza_shapes as shapes
from protocol.errors import Refused

from .http import Api, json_response, retry_headers, shaped
from .interfaces import Info
from .reply import Reply
from .stream import COMMENT

__all__ = ["Answer", "AtOnce", "Streamed", "Whole", "channel", "error_response"]


@shaped(shapes.ApiError)
def error_response(refusal: Refused) -> Response:
    """A refusal in ElizaOS's shape, with the status of the table."""
    failure = shapes.Failure(
        code=eliza.error_code(refusal.code),
        message=refusal.content,
        timestamp=eliza.date(time.time()),
        details=refusal.details.get("details"),
    )
    return json_response(shapes.ApiError(failure), refusal.status, retry_headers(refusal))


def channel(info: Info) -> eliza.Channel:
    """What the messages of that session tell of it."""
    return eliza.channel(*info.key, info.metadata, info.life)


class Answer(Reply):
    """The answer to a message. `info` is the session as it was before."""

    __slots__ = ("_api", "_channel", "_info", "_tools")

    def __init__(self, send: Send, api: Api, info: Info, turn_id: str) -> None:
        super().__init__(send, info.key.session_id, turn_id)
        self._api = api
        self._info = info
        self._channel = channel(info)
        self._tools: list[str] = []

    def accepted(self, said: frames.Message) -> shapes.UserMessage:
        """The message, as it stands in the log."""
        return eliza.user_message(self._channel, said)

    def status(self) -> shapes.Status:
        """What became of the session's life since the message was sent."""
        live = self._api.supervisor.sessions.get(self._info.key)
        info = self._info if live is None or live.info is None else live.info
        return eliza.status_of(self._info.life, info.life, self._api.runtime.now())

    def answered(self, ended: frames.Response) -> shapes.Answered:
        """What the agent said in all."""
        return shapes.Answered(ended.content, ended.thought, self._tools or None)


class AtOnce(Answer):
    """One JSON document when the message is in the log; the answer is for whoever follows the session."""

    __slots__ = ("_headers", "_status")

    def begin(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        return self._status, self._headers

    def unfinished(self, refusal: Refused) -> bytes:
        return self._all(error_response(refusal))

    def show(self, frame: bytes) -> bytes:
        match self.mine(frame):
            case frames.Message() as said:
                return self._all(json_response(eliza.sent(self.accepted(said), self.status()), 201))
            case frames.Error() as failed:
                return self._all(error_response(self.failure(failed)))
        return b""

    def _all(self, answer: Response) -> bytes:
        self.over = True
        self._status, self._headers = answer.status_code, answer.raw_headers
        return bytes(answer.body)


class Whole(AtOnce):
    """The same, with the answer, when the turn is over."""

    __slots__ = ("_message",)

    def show(self, frame: bytes) -> bytes:
        match self.mine(frame):
            case frames.Message() as said:
                self._message = self.accepted(said)
            case frames.ToolCall(name=name):
                self._tools.append(name)
            case frames.Response() as ended:
                told = eliza.sent(self._message, self.status(), self.answered(ended))
                return self._all(json_response(told, 201))
            case frames.Error() as failed:
                return self._all(error_response(self.failure(failed)))
        return b""


class Streamed(Answer):
    """Server-sent events: `user_message`, then a `chunk` for each piece of text, then `done` or `error`."""

    __slots__ = ("_index", "_shown")

    def __init__(self, send: Send, api: Api, info: Info, turn_id: str) -> None:
        super().__init__(send, api, info, turn_id)
        self._index = 0
        self._shown = 0

    def show(self, frame: bytes) -> bytes:
        if codec.head(frame)[0] == "pong":
            return COMMENT
        match self.mine(frame):
            case frames.Message() as said:
                return _event("user_message", self.accepted(said))
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
                return _event("error", shapes.StreamError(failed.content, eliza.error_code(failed.code)))
        return b""

    def _chunk(self, text: str) -> bytes:
        answer_id = eliza.message_id(self._channel.id, self._turn_id, is_agent=True)
        chunk = shapes.Chunk(answer_id, text, self._index)
        self._index += 1
        self._shown += len(text)
        return _event("chunk", chunk)


def _event(kind: str, data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), codec.encode(data))
