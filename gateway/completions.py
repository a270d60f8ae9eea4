"""Chat completions as they come in: the chunks of OpenAI's wire format, and of those who took it over.

Servers send null for what they leave out, fields of their own, and now and then no `[DONE]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from gateway.interfaces import AgentError, Note, Piece, Thought, ToolCall, Usage
from gateway.lines import LINE_LIMIT, Events, Reader, Whole, decode, mend, truncated
from gateway.upstream import error_message

__all__ = ["readers"]

Refusal: TypeAlias = Callable[[int, str], AgentError]
"""What an error means that amounts to this HTTP status and comes with this message."""

_TOLD_REASONS = ("length", "content_filter")
_STATUS_OF_ERROR = {
    "invalid_api_key": 401,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "server_error": 500,
    "internal_server_error": 500,
    "api_error": 500,
    "service_unavailable": 503,
    "overloaded_error": 503,
}
"""What a server that has already answered 200 calls a failure for which there is a status."""


def readers(refusal: Refusal) -> Mapping[str, Callable[[], Reader]]:
    """How to read one completion, by the media type it comes in. Some servers do not stream, others say no
    type."""
    completion = _Completion(refusal)
    return {
        "text/event-stream": lambda: _Stream(completion),
        "application/json": lambda: Whole(completion.whole),
        "": lambda: _Stream(completion),
    }


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _CallPiece(Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Said(Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    """The same by another name: some servers send both."""
    tool_calls: list[_CallPiece] | None = None


class _Choice(Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _Tokens(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: _Tokens | None = None
    error: Any = None


_chunk: msgspec.json.Decoder[_Chunk] = msgspec.json.Decoder(_Chunk)


class _Call:
    """A tool call whose pieces are still coming."""

    def __init__(self, piece: _CallPiece) -> None:
        self.index = piece.index
        self.id = piece.id or ""
        self.name = ""
        self._arguments: list[str] = []
        self._size = 0

    def owns(self, piece: _CallPiece) -> bool:
        """Servers that send calls whole may number all of them 0, or none: then the id tells them apart."""
        return piece.index in (None, self.index) and piece.id in (None, "", self.id)

    def add(self, function: _Function) -> None:
        self.name = self.name or function.name or ""
        if function.arguments:
            self._arguments.append(function.arguments)
            self._size += len(function.arguments)
        if self._size > LINE_LIMIT:
            raise AgentError(
                f"The model's tool call has more than {LINE_LIMIT:,} characters.", "answer_too_large"
            )

    def input(self) -> Any:
        """The arguments as JSON, or as they are if the model wrote something else."""
        text = mend("".join(self._arguments))
        try:
            return msgspec.json.decode(text or "{}")
        except (ValueError, RecursionError):
            return text


class _Completion:
    """One completion: takes its chunks, gives the pieces, and at its end what can only be said then."""

    def __init__(self, refusal: Refusal) -> None:
        self.finish_reason = ""
        self._refusal = refusal
        self._calls: list[_Call] = []
        self._tokens: _Tokens | None = None

    def take(self, data: bytes) -> Iterator[Piece]:
        chunk = decode(_chunk, data)
        if chunk.error is not None:
            raise self._failure(chunk.error)
        # Some servers count as they go: the last count is the turn's.
        self._tokens = chunk.usage or self._tokens
        for choice in chunk.choices or ():
            if choice.index == 0:
                yield from self._say(choice.delta or choice.message or _Said())
                self.finish_reason = choice.finish_reason or self.finish_reason

    def end(self) -> Iterator[Piece]:
        for position, call in enumerate(self._calls):
            yield ToolCall(call.id or f"call_{position}", call.name, call.input())
        if self.finish_reason in _TOLD_REASONS:
            yield Note({"finish_reason": self.finish_reason})
        if self._tokens:
            yield Usage(self._tokens.prompt_tokens or 0, self._tokens.completion_tokens or 0)

    def whole(self, data: bytes) -> Iterator[Piece]:
        """The completion of a server that does not stream."""
        yield from self.take(data)
        yield from self.end()

    def _say(self, said: _Said) -> Iterator[Piece]:
        if thought := said.reasoning_content or said.reasoning:
            yield Thought(thought)
        if text := said.content or said.refusal:
            yield text
        for piece in said.tool_calls or ():
            self._call(piece).add(piece.function or _Function())

    def _call(self, piece: _CallPiece) -> _Call:
        for call in reversed(self._calls):
            if call.owns(piece):
                return call
        self._calls.append(_Call(piece))
        return self._calls[-1]

    def _failure(self, error: Any) -> AgentError:
        kinds = [error.get("code"), error.get("type")] if isinstance(error, dict) else []
        statuses = [kind if isinstance(kind, int) else _STATUS_OF_ERROR.get(str(kind), 0) for kind in kinds]
        status = next((status for status in statuses if 400 <= status < 600), 400)
        return self._refusal(status, error_message(error))


class _Stream:
    """Reads a completion that comes as server-sent events. A reason to finish makes it whole like `[DONE]`:
    a line that is lost after it owes only the count of tokens."""

    delimited = True

    def __init__(self, completion: _Completion) -> None:
        self.over = False
        self._completion = completion
        self._events = Events()

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        for data in self._events.feed(chunk):
            if data == b"[DONE]":
                self.over = True
                return
            yield from self._completion.take(data)

    def end(self) -> Iterator[Piece]:
        if not self.over and not self._completion.finish_reason:
            raise truncated()
        yield from self._completion.end()
