"""An answer's bytes, cut anywhere, into lines, events and structs: what the calling agents read with.

No I/O: feed it chunks. What it refuses, it refuses as an `AgentError` in words for people.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import msgspec

from gateway.interfaces import AgentError, Piece

__all__ = [
    "BODY_LIMIT",
    "LINE_LIMIT",
    "Events",
    "Lines",
    "PlainText",
    "Reader",
    "Whole",
    "decode",
    "mend",
    "truncated",
]

LINE_LIMIT = 1 << 20
"""Bytes of one line, or of one event."""
BODY_LIMIT = 4 << 20
"""Bytes of an answer that comes in one piece."""

T = TypeVar("T")


class Reader(Protocol):
    """Makes pieces of one answer's body, one by one: those before an error are not lost with it."""

    over: bool
    """The answer said that it is complete; what follows is not wanted."""
    delimited: bool
    """Does the answer itself say where it is complete? Otherwise a lost line means that it is not."""

    def feed(self, chunk: bytes) -> Iterator[Piece]: ...

    def end(self) -> Iterator[Piece]:
        """There is no more. Raises `upstream_truncated` if there should be."""
        ...


class Lines:
    """Cuts a body into lines at LF or CRLF.

    At nothing else: `str.splitlines` also cuts at U+2028, which JSON may hold as it is.
    """

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that this chunk completes, without their ends."""
        *ended, begun = chunk.split(b"\n")
        for part in ended:
            self._hold(part)
            line = self.rest()
            yield line.removesuffix(b"\r")
        self._hold(begun)

    def rest(self) -> bytes:
        """What came after the last line end; it is then forgotten."""
        rest = bytes(self._held)
        self._held.clear()
        return rest

    def _hold(self, part: bytes) -> None:
        self._held += part
        if len(self._held) > LINE_LIMIT:
            raise AgentError(f"The answer has a line of more than {LINE_LIMIT:,} bytes.", retryable=False)


class Events:
    """The `data` of server-sent events, read as in WHATWG HTML 9.2.6: other fields and comments are skipped,
    several data lines are one event, and what no empty line ends is none."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The events that this chunk completes."""
        for line in self._lines.feed(chunk):
            if line.startswith(b"data:"):
                self._hold(line[5:].removeprefix(b" "))
            elif not line and self._data:
                event = b"\n".join(self._data)
                self._data, self._size = [], 0
                yield event

    def _hold(self, data: bytes) -> None:
        self._data.append(data)
        self._size += len(data) + 1
        if self._size > LINE_LIMIT:
            raise AgentError(f"The answer has an event of more than {LINE_LIMIT:,} bytes.", retryable=False)


class PlainText:
    """Reads a body that is the text itself, in UTF-8. What is not UTF-8 becomes U+FFFD."""

    over = False
    delimited = False

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        yield self._decoder.decode(chunk)

    def end(self) -> Iterator[Piece]:
        yield self._decoder.decode(b"", final=True)


class Whole:
    """Reads a body that is one JSON value: nothing until it is all there, then what `take` makes of it."""

    over = False
    delimited = False

    def __init__(self, take: Callable[[bytes], Iterator[Piece]]) -> None:
        self._take = take
        self._body = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        self._body += chunk
        if len(self._body) > BODY_LIMIT:
            raise AgentError(f"The answer has more than {BODY_LIMIT:,} bytes.", retryable=False)
        yield from ()

    def end(self) -> Iterator[Piece]:
        yield from self._take(bytes(self._body))


def decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """What `data` spells, in the decoder's type. Raises `AgentError` that says why it cannot be read."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        if isinstance(exc, msgspec.ValidationError):
            raise _unreadable(exc) from exc
        return _decode_cut_characters(decoder, data)


def _decode_cut_characters(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Servers that cut between tokens, or UTF-16 units, write half a character: `"\\ud83d"`, or broken UTF-8.

    msgspec refuses both. Here the halves of a pair stay, for the log to join, and bytes become U+FFFD.
    """
    try:
        value: T = msgspec.convert(json.loads(data.decode(errors="replace")), decoder.type)
    except (ValueError, RecursionError) as exc:
        raise _unreadable(exc) from exc
    return value


def mend(text: str) -> str:
    """`text` as it can be encoded: the halves of a pair joined, and U+FFFD for those that are alone."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _unreadable(exc: Exception) -> AgentError:
    return AgentError(f"The answer cannot be read: {exc}.", retryable=False)


def truncated() -> AgentError:
    """The answer stops before it said that it is complete."""
    return AgentError("The answer broke off before it was complete.", "upstream_truncated")
