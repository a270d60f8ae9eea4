"""Records: what a session's log may hold. Each is one durable fact, numbered by `seq` from 1.

Times are Unix seconds (float, UTC). `at` is a place in the turn's text, in characters (code points).
Stores keep a record as the JSON of its struct (`encode_record`), and index it by its type and `turn_id`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Literal, NamedTuple, TypeAlias

from msgspec import MsgspecError, Struct, json

from .nesting import json_deeper_than

__all__ = [
    "DEEPEST",
    "UNREADABLE",
    "CancelRequested",
    "Entry",
    "Event",
    "Failed",
    "Message",
    "Record",
    "Response",
    "Started",
    "Terminal",
    "Timing",
    "ToolCall",
    "ToolResult",
    "content_hash",
    "decode_record",
    "encode_record",
    "stand_in",
]

DEEPEST = 128
"""How deep a record may be nested, itself included. Deeper ones could be read at some places of the stack,
and at others not."""


class Message(Struct, tag_field="type", tag="message", frozen=True, omit_defaults=True):
    """A user message was accepted: its turn exists from here on."""

    turn_id: str
    content: str
    created_at: float
    replaces: str | None = None
    """The turn, visible when this was decided, that it and all after it give way to."""
    interrupts: bool = False
    """It came by `on_busy: interrupt`: the next such message takes its place while it waits."""
    metadata: dict[str, Any] | None = None
    parts: list[Any] | None = None
    """What a surface sent beside the text (ADK parts): kept and given back as sent."""
    state_delta: dict[str, Any] | None = None
    """What it set in the session's state."""
    imported: bool = False
    """It came with a history from elsewhere; what was given is kept in events beside it."""


class Started(Struct, tag_field="type", tag="started", frozen=True, omit_defaults=True):
    """The turn runs, on that node."""

    turn_id: str
    node: str
    created_at: float
    behind: tuple[str, ...] = ()
    """The turns that wait then, in the order in which they will run: a snapshot is taken from here."""


class CancelRequested(Struct, tag_field="type", tag="cancel_requested", frozen=True, omit_defaults=True):
    """Somebody wants the running turn stopped; the node that runs it writes the last word."""

    turn_id: str
    created_at: float


class ToolCall(Struct, tag_field="type", tag="tool_call", frozen=True, omit_defaults=True):
    """The agent calls a tool, `at` characters into its text."""

    turn_id: str
    at: int
    tool_call_id: str
    name: str
    input: Any
    created_at: float


class ToolResult(Struct, tag_field="type", tag="tool_result", frozen=True, omit_defaults=True):
    """The tool answered."""

    turn_id: str
    at: int
    tool_call_id: str
    content: Any
    is_error: bool
    created_at: float


class Event(Struct, tag_field="type", tag="event", frozen=True, omit_defaults=True):
    """Something said or set outside a turn: opaque here, shown by the surface that knows `kind`."""

    kind: str
    body: Any
    created_at: float


class Timing(Struct, frozen=True):
    """How long a turn took, in whole milliseconds. `first_delta_ms` counts from the start, None without
    output."""

    queued_ms: int = 0
    first_delta_ms: int | None = None
    total_ms: int = 0


class Response(Struct, tag_field="type", tag="response", frozen=True, omit_defaults=True):
    """The turn is over and answered (`completed`) or was stopped (`cancelled`). `content` is its whole
    text."""

    turn_id: str
    content: str
    status: Literal["completed", "cancelled"]
    created_at: float
    input_tokens: int = 0
    output_tokens: int = 0
    timing: Timing = Timing()
    thought: str | None = None
    metadata: dict[str, Any] | None = None
    state_delta: dict[str, Any] | None = None
    """What the turn changed in the session's state; None for what it took away."""
    state_undo: dict[str, Any] | None = None
    """Of the session's own keys in `state_delta`: what the turn was given there. One that is missing here was
    missing there."""
    imported: bool = False
    """It came with a history from elsewhere."""


class Failed(Struct, tag_field="type", tag="error", frozen=True, omit_defaults=True):
    """The turn is over and failed; `partial` is the text so far, `content` a sentence for people."""

    turn_id: str
    content: str
    code: str
    retryable: bool
    partial: str
    created_at: float
    retry_after_ms: int | None = None


Record: TypeAlias = Message | Started | CancelRequested | ToolCall | ToolResult | Event | Response | Failed
Terminal: TypeAlias = Response | Failed


class Entry(NamedTuple):
    """A record and its place in the log."""

    seq: int
    record: Record


_encoder = json.Encoder()
_decoder: json.Decoder[Record] = json.Decoder(Record)


UNREADABLE = (MsgspecError, ValueError, TypeError, RecursionError)
"""What `decode_record` raises for what is no record, and `encode_record` for what would be none."""


def encode_record(record: Record) -> bytes:
    """A record as JSON bytes, and only if `decode_record` takes them: else its session could not be read any
    more. Raises one of `UNREADABLE` if it holds what is not JSON, or not of its field's type."""
    data = _encoder.encode(record)
    _decoder.decode(data)
    if json_deeper_than(data, DEEPEST):
        raise ValueError(f"a record may be nested {DEEPEST} deep")
    return data


def decode_record(data: bytes | str) -> Record:
    """The inverse of `encode_record`. Raises one of `UNREADABLE` if a store was tampered with."""
    return _decoder.decode(data)


def stand_in(kind: Literal["message", "started", "ended"] | None, turn_id: str, created_at: float) -> Record:
    """What is read in the place of a record that cannot be read, so that those around it can be: `kind` is
    what the store's index says that it was for the turn `turn_id`, None if it says nothing. The numbers stay
    as they were, and no turn loses its beginning or its end."""
    match kind:
        case "message":
            return Message(turn_id, "This message was damaged in the store and cannot be read.", created_at)
        case "started":
            return Started(turn_id, "", created_at)
        case "ended":
            content = "This answer was damaged in the store and cannot be read."
            return Failed(turn_id, content, "internal", True, "", created_at)
        case None:
            return Event("unreadable", None, created_at)


def content_hash(content: str, parts: list[Any] | None = None) -> str:
    """What tells one `turn_id`'s content from another's: 128 bits of BLAKE2b over the text, and over
    `parts`."""
    digest = blake2b(content.encode(), digest_size=16)
    if parts:
        digest.update(json.encode(parts, order="sorted"))
    return digest.hexdigest()
