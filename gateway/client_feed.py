"""Frames on their way to one iterator of the client: however long it takes, text that waits is one delta."""

from __future__ import annotations

import asyncio
from collections import deque

from msgspec import Struct
from msgspec.structs import replace

from protocol.frames import ServerFrame, TextDelta, ThoughtDelta

__all__ = ["Feed", "Lagged"]

_PIECES = 256
"""Pieces after which the text that waits is joined: a string per token would weigh ten times the text."""


class Lagged(Exception):
    """Whoever iterates took the frames so slowly that too many waited; what waited was let go of."""


class _Waiting(Struct):
    """A frame; of text that goes on, the last one, and all its pieces."""

    frame: ServerFrame
    pieces: list[str] = []

    def take(self, frame: TextDelta | ThoughtDelta) -> bool:
        """Join `frame` to this one, if it goes on from it."""
        if type(frame) is not type(self.frame) or frame.turn_id != self.frame.turn_id:
            return False
        if len(self.pieces) == _PIECES:
            self.pieces = ["".join(self.pieces)]
        self.pieces.append(frame.content)
        self.frame = frame
        return True

    def joined(self) -> ServerFrame:
        match self.frame:
            case TextDelta() | ThoughtDelta() if len(self.pieces) > 1:
                return replace(self.frame, content="".join(self.pieces))
            case frame:
                return frame


class Feed:
    """An async iterator that is filled by plain calls, and never makes whoever fills it wait.

    If more than `limit` frames wait, it ends with `Lagged`.
    """

    __slots__ = ("__weakref__", "_closed", "_error", "_limit", "_news", "_waiting")

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._waiting: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._closed = False
        self._error: Exception | None = None

    def put(self, frame: ServerFrame) -> None:
        """Give it to the iterator, when that gets there."""
        if self._closed:
            return
        if isinstance(frame, TextDelta | ThoughtDelta):
            if not (self._waiting and self._waiting[-1].take(frame)):
                self._waiting.append(_Waiting(frame, [frame.content]))
        else:
            self._waiting.append(_Waiting(frame))
        self._news.set()
        if self._limit is not None and len(self._waiting) > self._limit:
            self._waiting.clear()
            self.close(Lagged(f"More than {self._limit:,} frames waited to be taken."))

    def close(self, error: Exception | None = None) -> None:
        """End it after what waits, by raising `error` if one is given."""
        if not self._closed:
            self._closed, self._error = True, error
            self._news.set()

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> ServerFrame:
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft().joined()
