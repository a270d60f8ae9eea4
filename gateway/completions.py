"""Chat completions as they come in: the chunks of OpenAI's wire format, and of those who took it over.

Servers send null for what they leave out, fields of their own, now and then no `[DONE]`, text in a list,
counts as text, and failures at status 200. What the answer is made of must be readable; what else is odd is
left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from gateway.interfaces import AgentError, Note, Piece, Thought, ToolCall, Usage
from gateway.lines import (
    BOM,
    LINE_LIMIT,
    Event,
    Events,
    Reader,
    Unreadable,
    Whole,
    convert,
    decode,
    mend,
    truncated,
)
from gateway.refusals import is_error, status
from gateway.upstream import Upstream

__all__ = ["reader_of"]

_SSE = "text/event-stream"
_JSON = "application/json"
_JSON_LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")

_CUT = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "recitation": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
    "spii": "content_filter",
}
"""Reasons to finish that the client is told: what there is of the answer is right, but it is cut."""
_BROKEN = {
    "error",
    "failed",
    "abort",
    "aborted",
    "cancelled",
    "timeout",
    "network_error",
    "insufficient_system_resource",
    "malformed_function_call",
}
"""Reasons to finish that mean that the server failed."""
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b"error:", b":")
"""What a stream of events begins with."""
_MOST_TOKENS = 1 << 53


def reader_of(server: Upstream, media_type: str) -> Reader:
    """What reads one completion that comes as `media_type`. Some servers do not stream, and some call a
    stream by another name, or by none."""
    completion = _Completion(server)
    if media_type in (_SSE, *_JSON_LINES, ""):
        return _Stream(completion)
    return _Mislabelled(completion, server, media_type)


_Empty: TypeAlias = list[Any]
"""What servers in PHP make of an object with nothing in it."""


class _Function(Struct):
    name: Any = None
    arguments: Any = None


class _CallPiece(Struct):
    index: Any = None
    id: Any = None
    function: _Function | _Empty | None = None


class _Said(Struct):
    content: str | list[Any] | dict[str, Any] | None = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    """The same by another name: some servers send both."""
    thinking: Any = None
    tool_calls: list[_CallPiece | None] | None = None


class _Choice(Struct):
    index: Any = 0
    delta: _Said | _Empty | None = None
    message: _Said | _Empty | None = None
    finish_reason: Any = None
    error: Any = None


class _Chunk(Struct):
    choices: list[_Choice | None] | None = None
    usage: Any = None


_document: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


_MOST_CALLS = 1_000
"""Tool calls of one answer: they are held until it is complete."""


class _Call:
    """A tool call whose pieces are still coming."""

    def __init__(self, piece: _CallPiece) -> None:
        self.index = piece.index
        self.id = _word(piece.id)
        self.name = ""
        self._arguments: list[str] = []

    def owns(self, piece: _CallPiece) -> bool:
        """Servers that send calls whole may number all of them 0, or none: then the id tells them apart."""
        return piece.index in (None, self.index) and _word(piece.id) in ("", self.id)

    def add(self, function: _Function | _Empty | None) -> int:
        """Take a piece of it; how many characters that is."""
        if not isinstance(function, _Function):
            return 0
        self.name = self.name or _word(function.name)
        arguments = function.arguments
        if not isinstance(arguments, str | None):  # they should be JSON in a text, and are JSON itself
            arguments = json.dumps(arguments, ensure_ascii=False)
        if not arguments:
            return 0
        self._arguments.append(arguments)
        return len(arguments)

    def input(self) -> Any:
        """The arguments as JSON, or as they are if the model wrote something else."""
        text = mend("".join(self._arguments))
        try:
            return msgspec.json.decode(text or "{}")
        except (ValueError, RecursionError):
            return text


class _Completion:
    """One completion: takes its chunks, gives the pieces, and at its end what can only be said then."""

    def __init__(self, server: Upstream) -> None:
        self.finish_reason = ""
        self._server = server
        self._said = False
        self._by_deltas: set[type] = set()
        """What kinds of parts deltas have brought: a whole message after them repeats those."""
        self._calls: list[_Call] = []
        self._calls_size = 0
        self._tokens: dict[str, int] = {}

    def take(self, data: bytes) -> Iterator[Piece]:
        """What a chunk says. Raises the `AgentError` that it reports."""
        document = decode(_document, data)
        for one in document if isinstance(document, list) else [document]:
            chunk = convert(one, _Chunk)
            for choice in filter(None, chunk.choices or ()):
                if choice.index in (None, 0, "0"):
                    yield from self._choose(choice)
            if is_error(one):
                raise self.failure(one)
            self._count(chunk.usage)

    def end(self) -> Iterator[Piece]:
        """What can be said now that it is complete. Raises `AgentError` if it is no answer."""
        reason = self.finish_reason.lower().rpartition(": ")[2]  # Gemini's: content_filter: SAFETY
        if reason in _BROKEN:
            raise AgentError(f"The model's server broke the answer off ({reason}).", "upstream_truncated")
        if not (self._said or reason):
            raise self._server.empty()
        for position, call in enumerate(self._calls):
            yield ToolCall(call.id or f"call_{position}", call.name, call.input())
        if reason in _CUT:
            yield Note({"finish_reason": _CUT[reason]})
        if self._tokens:
            yield Usage(self._tokens.get("prompt_tokens", 0), self._tokens.get("completion_tokens", 0))

    def whole(self, data: bytes) -> Iterator[Piece]:
        """The completion of a server that does not stream."""
        if data.strip():
            yield from self.take(data)
        yield from self.end()

    def failure(self, error: Any) -> AgentError:
        """What a failure means that is told at status 200."""
        return self._server.refusal(status(error), error)

    def _choose(self, choice: _Choice) -> Iterator[Piece]:
        for part in _parts(choice.delta):
            self._by_deltas.add(type(part))
            yield from self._say(part)
        for part in _parts(choice.message):
            if type(part) not in self._by_deltas:
                yield from self._say(part)
        if choice.error:
            raise self.failure(choice.error)
        self.finish_reason = _word(choice.finish_reason) or self.finish_reason

    def _say(self, part: Thought | str | _CallPiece) -> Iterator[Piece]:
        self._said = True
        if isinstance(part, _CallPiece):
            self._calls_size += self._call(part).add(part.function)
            if self._calls_size > LINE_LIMIT or len(self._calls) > _MOST_CALLS:
                raise AgentError(
                    f"The model's tool calls are more than {_MOST_CALLS:,}, or have more than "
                    f"{LINE_LIMIT:,} characters.",
                    "answer_too_large",
                )
        else:
            yield part

    def _call(self, piece: _CallPiece) -> _Call:
        for call in reversed(self._calls):
            if call.owns(piece):
                return call
        self._calls.append(_Call(piece))
        return self._calls[-1]

    def _count(self, usage: Any) -> None:
        """Some servers count as they go: the last count is the turn's."""
        if isinstance(usage, dict):
            for name in ("prompt_tokens", "completion_tokens"):
                if (count := _whole_number(usage.get(name))) is not None:
                    self._tokens[name] = count


def _parts(said: _Said | _Empty | None) -> Iterator[Thought | str | _CallPiece]:
    """What a delta or a message holds, in order, without what is empty."""
    if not isinstance(said, _Said):
        return
    if thought := _text(said.reasoning_content) or _text(said.reasoning) or _text(said.thinking):
        yield Thought(thought)
    parts: list[Any] = said.content if isinstance(said.content, list) else [said.content]
    for part in parts:
        fields = part if isinstance(part, dict) else {"text": part}
        match fields.get("type"):
            case None | "text" | "output_text":
                if text := _text(fields.get("text")):
                    yield text
            case "refusal":
                if text := _text(fields.get("refusal")):
                    yield text
            case "thinking" | "reasoning" as kind:
                if thought := _text(fields.get(kind)) or _text(fields.get("text")):
                    yield Thought(thought)
            case _:  # references, pictures, sounds
                pass
    if not said.content and (text := _text(said.refusal)):
        yield text
    yield from filter(None, said.tool_calls or ())


def _text(value: Any) -> str:
    """A text, whole or in pieces, each itself or the `text` of an object; empty if there is none."""
    pieces = value if isinstance(value, list) else [value]
    texts = (piece.get("text") if isinstance(piece, dict) else piece for piece in pieces)
    return "".join(text for text in texts if isinstance(text, str))


def _word(value: Any) -> str:
    """A name, which some servers make a number."""
    return mend(value) if isinstance(value, str) else str(value) if type(value) is int else ""


def _whole_number(value: Any) -> int | None:
    """A count of tokens, also one written as a fraction or as text; None if it cannot be one."""
    try:
        number = None if isinstance(value, bool) else round(float(value))
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number is not None and 0 <= number <= _MOST_TOKENS else None


class _Stream:
    """Reads a completion that comes as server-sent events. A reason to finish makes it whole like `[DONE]`:
    a line that is lost after it owes only the count of tokens."""

    delimited = True

    def __init__(self, completion: _Completion) -> None:
        self.over = False
        self._completion = completion
        self._events = Events()

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        for event in self._events.feed(chunk):
            try:
                yield from self._take(event)
            except Unreadable:  # it costs no answer that is complete
                if not self._completion.finish_reason:
                    raise
            if self.over:
                return

    def end(self) -> Iterator[Piece]:
        if not self.over:
            try:
                for event in self._events.end():
                    yield from self._take(event)
            except Unreadable:  # the event was cut; whether that matters, the next lines see
                pass
        if not self.over and not self._completion.finish_reason:
            raise truncated()
        yield from self._completion.end()

    def _take(self, event: Event) -> Iterator[Piece]:
        data = event.data.strip()
        if data == b"[DONE]":
            self.over = True
        elif event.name == "error":
            raise self._completion.failure(_report(data))
        elif data and (event.name in ("", "message") or data.startswith(b"{")):  # others say they are there
            yield from self._completion.take(data)


class _Mislabelled:
    """Reads a completion by how it begins: the media type does not say that it is a stream, but a stream is
    what was asked for."""

    def __init__(self, completion: _Completion, server: Upstream, media_type: str) -> None:
        self._completion = completion
        self._server = server
        self._media_type = media_type
        self._head = b""
        self._reader: Reader | None = None

    @property
    def over(self) -> bool:
        return self._reader is not None and self._reader.over

    @property
    def delimited(self) -> bool:
        return self._reader is not None and self._reader.delimited

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        if self._reader is None:
            self._head = (self._head + chunk).removeprefix(BOM).lstrip()
            if len(self._head) < max(map(len, _FIELDS)):
                return
            chunk, self._reader = self._head, self._choose()
        yield from self._reader.feed(chunk)

    def end(self) -> Iterator[Piece]:
        if self._reader is None:
            self._reader = self._choose()
            yield from self._reader.feed(self._head)
        yield from self._reader.end()

    def _choose(self) -> Reader:
        if self._head.startswith(_FIELDS):
            return _Stream(self._completion)
        if self._media_type == _JSON or self._head.startswith((b"{", b"[")):
            return Whole(self._completion.whole)
        raise self._server.mistyped(self._media_type, _SSE, _JSON)


def _report(data: bytes) -> Any:
    """The data of an event `error`: JSON, or just a sentence."""
    try:
        return decode(_document, data)
    except Unreadable:
        return data.decode(errors="replace")
