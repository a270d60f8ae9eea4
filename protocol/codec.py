"""Bytes ⇄ frames: single frames and NDJSON batches, limits, and errors that name the field.

What comes in is decoded and, where it goes out again, encoded anew: no byte below 0x20 ever leaves (a
sender's raw newline would be a frame of its own in a batch). What goes out is encoded once and shared:
records by `Shared`, whose cursor is put in per reader, and text by `Delta`, a prefix prepared once around
each new piece.
"""

from __future__ import annotations

import json as any_json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from msgspec import json

from . import frames, records
from .diagnose import diagnose
from .errors import TABLE, Refused
from .nesting import deeper_than
from .view import frame_of

__all__ = [
    "Delta",
    "Limits",
    "Shared",
    "as_sent",
    "check",
    "check_metadata",
    "decode_batch",
    "decode_client_frame",
    "decode_server_frame",
    "deeper_than",
    "encode",
    "error_frame",
    "head",
]


class Limits(NamedTuple):
    """What one client frame may hold."""

    frame_bytes: int = 256 << 10
    content_chars: int = 65_536
    metadata_bytes: int = 10 << 10
    metadata_depth: int = 16
    history: int = 200
    """The most messages that `attach.history` may ask for."""


_encoder = json.Encoder()
_client: json.Decoder[frames.ClientFrame] = json.Decoder(frames.ClientFrame)
_server: json.Decoder[frames.ServerFrame] = json.Decoder(frames.ServerFrame)

F = TypeVar("F", bound=frames.ClientFrame)

# ── In: what clients send ───────────────────────────────────────────────────────────────────────────────────


def decode_client_frame(data: str | bytes, limits: Limits, *, lenient: bool = False) -> frames.ClientFrame:
    """One client frame. `lenient` (the agent-bound socket) takes bare text and untyped objects as a
    `message`.

    Raises `Refused` with `frame_too_large`, `message_too_large`, `unknown_type`, `bad_id` or `bad_frame`:
    which field, what was expected, what came; with the frame's own `ref`, `session_id` and `turn_id` where
    they can be read.
    """
    if len(data) > limits.frame_bytes or (isinstance(data, str) and _utf8_exceeds(data, limits.frame_bytes)):
        raise Refused(
            "frame_too_large", f"A frame may have {limits.frame_bytes:,} bytes.", limit=limits.frame_bytes
        )
    try:
        # The decoder skips fields it does not know, bytes that are not UTF-8 included.
        frame = _client.decode(data if isinstance(data, str) else data.decode())
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        frame = diagnose(data, error, lenient=lenient)
    check(frame, limits)
    return frame


def _utf8_exceeds(text: str, limit: int) -> bool:
    return not text.isascii() and len(text) * 4 > limit and len(text.encode("utf-8", "replace")) > limit


def check(frame: frames.ClientFrame, limits: Limits) -> None:
    """What the structs cannot say. Raises `Refused`."""
    match frame:
        case frames.Send():
            about: dict[str, Any] = {
                "ref": frame.ref,
                "session_id": frame.session_id,
                "turn_id": frame.turn_id,
            }
            if len(frame.content) > limits.content_chars:
                raise Refused(
                    "message_too_large",
                    f"content may have {limits.content_chars:,} characters; it has {len(frame.content):,}.",
                    limit=limits.content_chars,
                    **about,
                )
            if frame.turn_id is not None and frame.session_id is None:
                raise Refused(
                    "bad_frame",
                    "turn_id needs a session_id: it protects only within a named session.",
                    **about,
                )
            if problem := check_metadata(frame.metadata, limits):
                raise Refused("bad_frame", f"metadata {problem}.", **about)
        case frames.Attach():
            for index, target in enumerate(frame.sessions):
                if target.history is not None and not 0 <= target.history <= limits.history:
                    raise Refused(
                        "bad_frame",
                        f"sessions[{index}].history: expected 0 to {limits.history}, got {target.history}.",
                        ref=frame.ref,
                        session_id=target.session_id,
                    )
        case _:
            pass


def check_metadata(metadata: dict[str, Any] | None, limits: Limits) -> str | None:
    """What is wrong with this metadata, as the end of a sentence; None if nothing is."""
    if not metadata:
        return None
    if deeper_than(metadata, limits.metadata_depth):
        return f"may be nested {limits.metadata_depth} deep"
    size = len(_encoder.encode(metadata))
    if size > limits.metadata_bytes:
        return f"may have {limits.metadata_bytes:,} bytes; it has {size:,}"
    return None


def as_sent(frame: F) -> F:
    """`frame` as a gateway will read it, so that it can be encoded at any time. Halves of surrogate pairs are
    joined, and become U+FFFD where they are alone.

    Raises `Refused` as `decode_client_frame` does, and with `bad_frame` if it holds what JSON cannot. How
    large a frame may be is for the gateway to say.
    """
    if any(isinstance(value, bytes | bytearray) for value in msgspec.structs.astuple(frame)):
        raise Refused("bad_frame", "Bytes are no text: decode them first.")  # or they were sent in base64
    try:
        try:
            data = encode(frame)
        except UnicodeEncodeError:
            text = any_json.dumps(msgspec.to_builtins(frame), ensure_ascii=False, allow_nan=False)
            data = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused("bad_frame", f"This cannot be sent as JSON: {error}.") from None
    return cast(F, decode_client_frame(data, _ANY_SIZE))


_ANY_SIZE = Limits(sys.maxsize, sys.maxsize, sys.maxsize, sys.maxsize)

# ── In: what a client reads ─────────────────────────────────────────────────────────────────────────────────


def decode_server_frame(data: str | bytes) -> frames.ServerFrame:
    """One frame from the gateway. Raises `msgspec.MsgspecError` if it is none this version knows."""
    return _server.decode(data)


def decode_batch(data: str | bytes) -> Iterator[frames.ServerFrame]:
    """The frames of one WebSocket message, which are separated by newlines."""
    for line in data.split("\n" if isinstance(data, str) else b"\n"):  # type: ignore[arg-type]
        yield _server.decode(line)


# ── Out ─────────────────────────────────────────────────────────────────────────────────────────────────────


def encode(frame: frames.ServerFrame | frames.ClientFrame | Any) -> bytes:
    """Any frame or REST body as JSON in UTF-8, without a byte below 0x20."""
    return _encoder.encode(frame)


def error_frame(error: Refused) -> frames.Error:
    """The frame that tells of a refusal."""
    return frames.Error(
        content=error.content,
        code=error.code,
        retryable=TABLE[error.code].retryable,
        session_id=error.session_id,
        turn_id=error.turn_id,
        ref=error.ref,
        retry_after_ms=error.retry_after_ms,
        expires_at=error.details.get("expires_at"),
        limit=error.details.get("limit"),
    )


def head(frame: bytes) -> tuple[str, str | None]:
    """`(type, cursor)` of an encoded server frame, read from its first bytes: what SSE needs beside the
    body."""
    end = frame.index(b'"', 9)  # {"type":"
    kind = frame[9:end].decode()
    # Anywhere else than right behind the type it may be inside the frame; but not in an error, which is flat.
    found = frame.find(b',"cursor":"', end, None if kind == "error" else end + 12)
    if found < 0:
        return kind, None
    start = found + 11
    return kind, frame[start : frame.index(b'"', start)].decode()


class Shared:
    """A record encoded once, for readers whose cursors differ in the offset."""

    __slots__ = ("_head", "_tail")

    def __init__(self, record: records.Record, session_id: str) -> None:
        frame = frame_of(record, session_id, "")
        data = b"" if frame is None else _encoder.encode(frame)
        self._head, _, self._tail = data.partition(b',"cursor":"')

    @property
    def size(self) -> int:
        """About how many bytes it has."""
        return len(self._head) + len(self._tail)

    def at(self, epoch: str, seq: int, offset: int) -> bytes | None:
        """The frame for a reader who is at `offset` after it; None if no client sees this record."""
        if not self._head:
            return None
        return b'%b,"cursor":"%b.%d.%d%b' % (self._head, epoch.encode(), seq, offset, self._tail)


class Delta:
    """Encodes the text of one turn as `text_delta` frames, spliced around a prefix prepared once."""

    __slots__ = ("_head", "_mid", "_thought")

    def __init__(self, epoch: str, session_id: str, turn_id: str) -> None:
        whose = b'"session_id":%b,"turn_id":%b,"content":' % (
            _encoder.encode(session_id),
            _encoder.encode(turn_id),
        )
        self._head = b'{"type":"text_delta","cursor":"%b.' % epoch.encode()
        self._mid = b'",' + whose
        self._thought = b'{"type":"thought_delta",' + whose

    def text(self, seq: int, offset: int, content: str) -> bytes:
        """`content` appended; the reader stands at `seq` and `offset` after it."""
        return b"%b%d.%d%b%b}" % (self._head, seq, offset, self._mid, _encoder.encode(content))

    def thought(self, content: str) -> bytes:
        """A piece of reasoning."""
        return b"%b%b}" % (self._thought, _encoder.encode(content))
