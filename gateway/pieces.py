"""Pieces of an answer, checked and made plain where they enter: what an agent yields may be anything.

What passes here is JSON that every reader takes, in values that nobody else holds: an agent may go on to
change what it has yielded. The rules are few:

- A text, an id, a name is a `str`. One of a class derived from it becomes a plain one.
- A number of tokens or milliseconds is a whole one, from 0 to 2**53 - 1 (what JavaScript can count). A float
  is refused also if it is whole, so that `Usage(len(text) / 4)` fails the first time and not with three texts
  in four.
- Everything else is what msgspec writes as JSON (sets and tuples are lists, NaN is null), and what that is
  when it is read again. A key is a text; a number becomes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any, NamedTuple

from msgspec import json

from protocol.errors import TABLE
from protocol.nesting import json_deeper_than
from protocol.records import UNREADABLE

from .interfaces import AgentError, Note, ToolCall, ToolResult, Usage

__all__ = [
    "FAILED",
    "Failure",
    "WrongPiece",
    "failure_of",
    "metadata_of",
    "plain",
    "state_of",
    "tool_of",
    "usage_of",
]

FAILED = "The agent failed; the gateway's log says why. Send the message again."
"""What the user is told where the agent says nothing."""

_MOST = 2**53 - 1

_CALLED = {
    "ToolCall": "a tool call",
    "ToolResult": "a tool's result",
    "Usage": "a number of tokens",
    "Note": "metadata",
    "turn.state": "a state",
}


class WrongPiece(AgentError):
    """The agent yielded what is no piece of an answer: `piece` is its kind, `field` what is wrong in it,
    `got` what came instead. These are names of types, never what the agent said: they may be logged."""

    def __init__(self, piece: str, field: str, expected: str, got: str) -> None:
        what = _CALLED.get(piece, "something")
        super().__init__(f"The agent gave {what} that cannot be used. Send the message again.")
        self.piece = piece
        self.field = field
        self.expected = expected
        self.got = got


class Failure(NamedTuple):
    """What an `AgentError` says, as far as it can be used."""

    content: str
    code: str
    retryable: bool
    retry_after_ms: int | None
    wrong: tuple[str, ...]
    """Its attributes that could not be used."""


def plain(text: str) -> str:
    """A text of a class derived from `str` as a plain one, whatever that class does to its methods."""
    return str.__str__(text)


def tool_of(piece: ToolCall | ToolResult, deepest: int) -> tuple[ToolCall | ToolResult, int]:
    """A tool's use, made plain, and its size in bytes; JSON in it may be nested `deepest` deep. Raises
    `WrongPiece`."""
    kind = "ToolCall" if isinstance(piece, ToolCall) else "ToolResult"
    call_id = _text(kind, "tool_call_id", piece.tool_call_id)
    if isinstance(piece, ToolCall):
        name = _text(kind, "name", piece.name)
        value, size = _json(kind, "input", piece.input, deepest)
        return ToolCall(call_id, name, value), size + len(call_id) + len(name)
    if type(piece.is_error) is not bool:
        raise _wrong(kind, "is_error", "True or False", piece.is_error)
    value, size = _json(kind, "content", piece.content, deepest)
    return ToolResult(call_id, value, piece.is_error), size + len(call_id)


def usage_of(piece: Usage) -> tuple[int, int]:
    """Tokens used, in and out. Raises `WrongPiece`."""
    counts = [(field, getattr(piece, field)) for field in ("input_tokens", "output_tokens")]
    for field, value in counts:
        if _count(value) is None:
            raise _wrong("Usage", field, "a whole number from 0 to 2**53 - 1", value)
    return index(counts[0][1]), index(counts[1][1])


def metadata_of(piece: Note, deepest: int) -> tuple[dict[str, Any], int]:
    """Metadata of an answer, made plain, and its size in bytes. Raises `WrongPiece`."""
    return _object("Note", "metadata", piece.metadata, deepest)


def state_of(state: object, before: bytes, deepest: int) -> dict[str, Any] | None:
    """What an agent left as `turn.state`, made plain; None if it is what it was, which is `before` as JSON.
    Raises `WrongPiece`."""
    try:
        if json.encode(state) == before:
            return None
    except UNREADABLE:
        pass  # below it is said what is wrong
    return _object("turn.state", "state", state, deepest)[0]


def failure_of(error: AgentError) -> Failure:
    """What an agent's error says. A wrong attribute is left out: the turn fails anyway, and the others may
    help its user."""
    content, code = _attribute(error, "content"), _attribute(error, "code")
    retryable, retry_after_ms = _attribute(error, "retryable"), _attribute(error, "retry_after_ms")
    wrong = []
    if not _is_text(content):
        content = FAILED
        wrong.append("content")
    if not _is_text(code):
        wrong.append("code")
    if not _is_text(code) or code not in TABLE:
        code = "agent_failed"
    if type(retryable) is not bool:
        wrong += ["retryable"] * (retryable is not None)
        retryable = TABLE[code].retryable
    if retry_after_ms is not None and (retry_after_ms := _count(retry_after_ms)) is None:
        wrong.append("retry_after_ms")
    return Failure(plain(content), plain(code), retryable, retry_after_ms, tuple(wrong))


def _attribute(error: AgentError, name: str) -> Any:
    try:
        return getattr(error, name, None)
    except Exception:
        return None


def _is_text(value: object) -> bool:
    return issubclass(type(value), str)  # not `isinstance`: what poses as a text is none


def _text(piece: str, field: str, value: object) -> str:
    if not _is_text(value):
        raise _wrong(piece, field, "a text", value)
    text: str = _json(piece, field, value, 0)[0]
    return text


def _count(value: Any) -> int | None:
    """A whole number of something; None if it is none. Those of other libraries (numpy's) are taken."""
    try:
        count = None if type(value) is bool else index(value)
    except TypeError:
        return None
    return count if count is not None and 0 <= count <= _MOST else None


def _object(piece: str, field: str, value: object, deepest: int) -> tuple[dict[str, Any], int]:
    if not isinstance(value, Mapping):
        raise _wrong(piece, field, "a dict", value)
    return _json(piece, field, dict(value), deepest)


def _json(piece: str, field: str, value: Any, deepest: int) -> tuple[Any, int]:
    """The value as JSON tells of it, and its size in bytes."""
    try:
        data = json.encode(value, enc_hook=_plain)
        made = json.decode(data)
    except UNREADABLE as error:
        raise WrongPiece(piece, field, "JSON", f"{type(value).__name__} ({type(error).__name__})") from None
    if json_deeper_than(data, deepest):
        raise WrongPiece(piece, field, f"JSON, nested at most {deepest} deep", "what is nested deeper")
    return made, len(data)


def _plain(value: Any) -> str:
    if _is_text(value):
        return plain(value)
    raise TypeError


def _wrong(piece: str, field: str, expected: str, value: object) -> WrongPiece:
    return WrongPiece(piece, field, expected, type(value).__name__)
