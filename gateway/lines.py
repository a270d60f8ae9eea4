"""An answer's bytes, cut anywhere, into lines, events and structs: what the calling agents read with.

No I/O: feed it chunks. What it refuses, it refuses as an `AgentError` in words for people.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from gateway.interfaces import AgentError, Piece

__all__ = [
    "BODY_LIMIT",
    "BOM",
    "LINE_LIMIT",
    "Event",
    "Events",
    "Lines",
    "PlainText",
    "Reader",
    "Unreadable",
    "Whole",
    "convert",
    "decode",
    "mend",
    "truncated",
]

LINE_LIMIT = 1 << 20
"""Bytes of one line, or of one event."""
BODY_LIMIT = 4 << 20
"""Bytes of an answer that comes in one piece."""

BOM = codecs.BOM_UTF8
"""What some servers begin a text with. It is no part of it."""

T = TypeVar("T")


class Unreadable(AgentError):
    """What came is not what it should be: broken, or of another shape."""

    def __init__(self, why: object) -> None:
        super().__init__(f"The answer cannot be read: {why}.", retryable=False)


class Reader(Protocol):
    """Makes pieces of one answer's body, one by one: those before an error are not lost with it."""

    @property
    def over(self) -> bool:
        """The answer said that it is complete; what follows is not wanted."""

    @property
    def delimited(self) -> bool:
        """Does the answer itself say where it is complete? Otherwise a lost line means that it is not."""

    def feed(self, chunk: bytes) -> Iterator[Piece]: ...

    def end(self) -> Iterator[Piece]:
        """There is no more. Raises `upstream_truncated` if there should be."""
        ...


class Lines:
    """Cuts a body into lines at LF or CRLF. A byte order mark before the first one is dropped.

    At nothing else: `str.splitlines` also cuts at U+2028, which JSON may hold as it is.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._first = True

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
        if self._first:
            self._first, rest = False, rest.removeprefix(BOM)
        return rest

    def _hold(self, part: bytes) -> None:
        self._held += part
        if len(self._held) > LINE_LIMIT:
            raise AgentError(f"The answer has a line of more than {LINE_LIMIT:,} bytes.", retryable=False)


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    """Its `event` field; empty for most."""
    data: bytes
    """Its `data` fields, one line each."""


class Events:
    """Cuts a body into server-sent events, as in WHATWG HTML 9.2.6: a line ends at LF, CRLF or CR, several
    data lines are one event, comments and other fields are skipped.

    What servers write beside the standard counts, too: a field `error` is the data of an event `error`, and
    JSON without `data:` before it is data.
    """

    def __init__(self) -> None:
        self._lines = Lines()
        self._after_cr = False
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._bare = False
        """Is the event JSON without `data:`, which goes on over several lines?"""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that this chunk completes."""
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        for line in self._lines.feed(chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")):
            yield from self._read(line)

    def end(self) -> Iterator[Event]:
        """There is no more: what no empty line ended is an event, too, or the beginning of one."""
        yield from self._read(self._lines.rest())
        yield from self._read(b"")

    def _read(self, line: bytes) -> Iterator[Event]:
        if not line:
            if self._data:
                yield Event(self._name, b"\n".join(self._data))
            self._name, self._data, self._size, self._bare = "", [], 0, False
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if self._bare:
            self._hold(line)
        elif field == b"data":
            self._hold(value)
        elif field == b"event":
            self._name = value.decode(errors="replace")
        elif field == b"error":
            self._name = "error"
            self._hold(value)
        elif line.startswith((b"{", b"[")):
            yield from self._read(b"")
            self._hold(line)
            self._bare = True
            if line.endswith((b"}", b"]")):
                yield from self._read(b"")

    def _hold(self, data: bytes) -> None:
        self._data.append(data)
        self._size += len(data) + 1
        if self._size > LINE_LIMIT:
            raise AgentError(f"The answer has an event of more than {LINE_LIMIT:,} bytes.", retryable=False)


class PlainText:
    """Reads a body that is the text itself, in UTF-8. What is not UTF-8 becomes U+FFFD; a byte order mark
    before it is dropped."""

    over = False
    delimited = False

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")

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
        yield from self._take(bytes(self._body).removeprefix(BOM))


def decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """What `data` spells, in the decoder's type. Raises `Unreadable`."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        if isinstance(exc, msgspec.ValidationError):
            raise Unreadable(exc) from exc
        return _decode_cut_characters(decoder, data)


def _decode_cut_characters(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Servers that cut between tokens, or UTF-16 units, write half a character: `"\\ud83d"`, or broken UTF-8.

    msgspec refuses both. Here the halves of a pair stay, for the log to join, and bytes become U+FFFD.
    """
    try:
        value: T = msgspec.convert(json.loads(data.decode(errors="replace")), decoder.type)
    except (ValueError, RecursionError) as exc:
        raise Unreadable(exc) from exc
    return value


def convert(value: Any, kind: type[T]) -> T:
    """JSON that was decoded already, as `kind`. Raises `Unreadable`."""
    try:
        converted: T = msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        raise Unreadable(exc) from exc
    return converted


def mend(text: str) -> str:
    """`text` as it can be encoded: the halves of a pair joined, and U+FFFD for those that are alone."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def truncated() -> AgentError:
    """The answer stops before it said that it is complete."""
    return AgentError("The answer broke off before it was complete.", "upstream_truncated")
