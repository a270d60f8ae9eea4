"""The text of a running turn: not a record, but one growing text that the agent extends without waiting."""

from __future__ import annotations

from bisect import bisect_right

from protocol import codec

__all__ = ["Text", "clean"]

_HIGH = ("\ud800", "\udbff")
_LOW = ("\udc00", "\udfff")

_SHARED = 1_000
"""Characters of the longest delta that is kept for the next reader: longer ones are those of readers who lag,
each somewhere else, and kept they would make every running turn larger by one."""


def clean(piece: str, held: str = "") -> tuple[str, str]:
    """`piece` as text that can be encoded, and what of it must wait for the next piece.

    A surrogate pair that was cut in two is joined, a lone surrogate becomes U+FFFD: otherwise encoding would
    fail later, in the writer of every reader.
    """
    piece = held + piece
    held = ""
    if piece and _HIGH[0] <= piece[-1] <= _HIGH[1]:
        piece, held = piece[:-1], piece[-1]
    try:
        piece.encode()
    except UnicodeEncodeError:
        # Through UTF-16, pairs find together; what then is still alone is no character.
        piece = piece.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return piece, held


class Text:
    """What a running turn has written so far, as a list of pieces joined lazily (`+=` would copy all of
    it)."""

    __slots__ = (
        "_cached",
        "_cached_seq",
        "_cached_start",
        "_cached_stop",
        "_codec",
        "_epoch",
        "_held",
        "_pieces",
        "_session_id",
        "_starts",
        "closed",
        "length",
        "saved",
        "started_seq",
        "thought",
        "turn_id",
        "unsaved_bytes",
    )

    def __init__(self, epoch: str, session_id: str, turn_id: str, started_seq: int, text: str = "") -> None:
        self.turn_id = turn_id
        self.started_seq = started_seq
        self.length = len(text)
        """In characters."""
        self.saved = len(text)
        """How many of them the store has."""
        self.unsaved_bytes = 0
        self.closed = False
        """The turn is over: nothing is added any more."""
        self.thought: Text | None = None
        """The reasoning beside it, which has no place in it."""
        self._pieces = [text] if text else []
        self._starts = [0] if text else []
        self._held = ""
        self._epoch = epoch
        self._session_id = session_id
        self._codec: codec.Delta | None = None
        self._cached_seq = self._cached_start = self._cached_stop = -1
        self._cached = b""

    def extend(self, piece: str) -> None:
        """Add a piece. A plain call: it is on the path of every token."""
        if self.closed or not piece:
            return
        if self._held or not piece.isascii():
            piece, self._held = clean(piece, self._held)
            if not piece:
                return
            self.unsaved_bytes += len(piece.encode())
        else:
            self.unsaved_bytes += len(piece)
        self._starts.append(self.length)
        self._pieces.append(piece)
        self.length += len(piece)

    def close(self) -> None:
        """Nothing is added from here on."""
        if self._held:
            self._held = ""
            self.extend("\ufffd")
        self.closed = True

    def slice(self, start: int, stop: int) -> str:
        """Characters `start` to `stop`."""
        stop = min(stop, self.length)
        if start >= stop:
            return ""
        if (begin := start - self._starts[-1]) >= 0:  # who keeps up reads the newest piece
            piece = self._pieces[-1]
            return piece if begin == 0 and stop == self.length else piece[begin : stop - self._starts[-1]]
        first = bisect_right(self._starts, start) - 1
        last = bisect_right(self._starts, stop - 1, first) - 1
        begin = start - self._starts[first]
        if first == last:
            return self._pieces[first][begin : stop - self._starts[first]]
        pieces = self._pieces[first : last + 1]
        pieces[0] = pieces[0][begin:]
        pieces[-1] = pieces[-1][: stop - self._starts[last]]
        return "".join(pieces)

    def whole(self) -> str:
        """All of it."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
            self._starts = [0]
        return self._pieces[0] if self._pieces else ""

    def unsaved(self) -> str:
        """What the store has not got, from `saved` on; its pieces become one, which keeps their number
        small."""
        if self.saved == self.length:
            return ""
        first = bisect_right(self._starts, self.saved) - 1
        if first < len(self._pieces) - 1:
            self._pieces[first:] = ["".join(self._pieces[first:])]
            del self._starts[first + 1 :]
        return self.slice(self.saved, self.length)

    def mark_saved(self, upto: int) -> None:
        """The store has the first `upto` characters."""
        if upto > self.saved:
            self.saved = upto
            rest = "" if upto == self.length else self.slice(upto, self.length)
            self.unsaved_bytes = len(rest) if rest.isascii() else len(rest.encode())

    def delta(self, seq: int, start: int, stop: int) -> bytes:
        """Characters `start` to `stop` as a frame; encoded once for readers who stand at the same place."""
        if stop - start > _SHARED:
            return (self._codec or self._encoder()).text(seq, stop, self.slice(start, stop))
        if self._cached_start != start or self._cached_stop != stop or self._cached_seq != seq:
            self._cached_seq, self._cached_start, self._cached_stop = seq, start, stop
            self._cached = (self._codec or self._encoder()).text(seq, stop, self.slice(start, stop))
        return self._cached

    def thought_delta(self, start: int, stop: int) -> bytes:
        """Characters `start` to `stop` of the reasoning as a frame."""
        return self._encoder().thought(self.thought.slice(start, stop) if self.thought else "")

    def _encoder(self) -> codec.Delta:
        if self._codec is None:  # most texts of most nodes are never read
            self._codec = codec.Delta(self._epoch, self._session_id, self.turn_id)
        return self._codec
