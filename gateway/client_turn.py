"""One turn as a client waits for it: to be iterated, or awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any, Protocol

from protocol import frames, transcript
from protocol.errors import TABLE
from protocol.records import Timing

from .client_feed import Feed

__all__ = ["UNASKED", "Post", "Turn", "TurnFailed", "end_of", "refusal"]

UNASKED = "-"
"""The `ref` of frames whose answer nobody waits for."""


class TurnFailed(Exception):
    """The turn ended as an `error`, or its message was refused: `frame` says which and why."""

    def __init__(self, frame: frames.Error) -> None:
        super().__init__(f"{frame.code}: {frame.content}")
        self.frame = frame


class Post(Protocol):
    """The client, as a turn sees it."""

    def put(self, frame: frames.ClientFrame) -> None:
        """Send this, if there is a line."""
        ...


class Turn:
    """One message and its answer.

    Iterate it for the turn's frames: the last one is its `response` or `error`, and the `text_delta`s before
    it are, however often the line broke, its text; more than it only if an interrupted turn lost some that
    was shown. Await it for the `response`; raises `TurnFailed`. Both raise `LineClosed` if there will be no
    line any more.
    """

    def __init__(self, post: Post, message: frames.Send, session_id: str, turn_id: str) -> None:
        self._post = post
        self._feed = Feed()
        self._over = asyncio.Event()
        self._failure: Exception | None = None
        self._view: transcript.Turn | None = None
        self._reached = 0
        """Characters given to the iterator, or waiting there."""
        self.message = message
        self.session_id = session_id
        self.turn_id = turn_id
        self.end: frames.Response | frames.Error | None = None
        """Its last frame, as soon as it is over."""
        self.attempts = 0
        """How often its message was sent."""
        self.acknowledged = False
        """The gateway has it: it will run, whatever happens to the line."""
        self.asked = False
        """It was acknowledged before its session was last asked for."""
        self.expected = False
        """… and a snapshot was the answer, which must tell of it."""
        self.cancelling = False

    @property
    def text(self) -> str:
        """The answer so far; the whole of it when the turn is over."""
        return self._view.text if self._view is not None else ""

    @property
    def over(self) -> bool:
        """Has it ended, or failed?"""
        return self._over.is_set()

    def cancel(self) -> None:
        """Stop it, also if it still waits. It then ends as `cancelled`, with the text so far."""
        self.cancelling = True
        if not self.over:
            self._post.put(self.cancel_frame)

    @property
    def cancel_frame(self) -> frames.Cancel:
        """What asks the gateway to stop it."""
        return frames.Cancel(self.session_id, self.message.agent, self.turn_id, ref=UNASKED)

    def __await__(self) -> Generator[Any, None, frames.Response]:
        return self._ended().__await__()

    async def _ended(self) -> frames.Response:
        await self._over.wait()
        if self._failure is not None:
            raise self._failure
        if isinstance(self.end, frames.Response):
            return self.end
        assert self.end is not None
        raise TurnFailed(self.end)

    def __aiter__(self) -> AsyncIterator[frames.ServerFrame]:
        return self._feed

    # ── What its session tells it ───────────────────────────────────────────────────────────────────────────

    def look(self, view: transcript.Turn) -> None:
        """This is what the session shows of it."""
        self.acknowledged = True
        self._view = view

    def take(self, frame: frames.ServerFrame) -> None:
        """The next frame of this turn; the view has it already."""
        match frame:
            case frames.TextDelta():
                self.show(frame.cursor)
            case frames.Response() | frames.Error():
                self.finish(frame)
            case _:
                self._feed.put(frame)

    def show(self, cursor: str) -> None:
        """Give the iterator what the view has beyond what it was given: of a view built anew, the text begins
        anew."""
        assert self._view is not None
        if rest := self._view.text[self._reached :]:
            self._feed.put(frames.TextDelta(cursor, self.session_id, self.turn_id, rest))
            self._reached += len(rest)

    def finish(self, frame: frames.Response | frames.Error) -> None:
        """It is over."""
        if self.over:
            return
        if self._view is not None:
            self.show(frame.cursor or "")
        self.end = frame
        self._feed.put(frame)
        self._feed.close()
        self._over.set()

    def fail(self, error: Exception) -> None:
        """Nothing more will be known of it."""
        if not self.over:
            self._failure = error
            self._feed.close(error)
            self._over.set()


def end_of(view: transcript.Turn, session_id: str) -> frames.Response | frames.Error:
    """The end of a turn that nobody here listened to, as far as the history tells."""
    if view.status == "failed":
        code = view.code or "agent_failed"
        return frames.Error(
            content=view.reason or "The turn failed while the line was down.",
            code=code,
            retryable=code in TABLE and TABLE[code].retryable,
            session_id=session_id,
            turn_id=view.turn_id,
            partial=view.text,
        )
    return frames.Response(
        cursor="",
        session_id=session_id,
        turn_id=view.turn_id,
        content=view.text,
        status="cancelled" if view.status == "cancelled" else "completed",
        input_tokens=0,
        output_tokens=0,
        timing=Timing(),
        created_at=view.created_at or 0.0,
        thought=view.thought or None,
    )


def refusal(turn: Turn, code: str, content: str, limit: int | None = None) -> frames.Error:
    """The end of a turn of which the client itself knows that no answer will come."""
    return frames.Error(
        content=content,
        code=code,
        retryable=False,
        session_id=turn.session_id,
        turn_id=turn.turn_id,
        partial=turn.text or None,
        limit=limit,
    )
