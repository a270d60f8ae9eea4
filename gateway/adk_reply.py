"""The run of an agent as ADK's clients hear it: its events when it is over, or one by one as they happen.

What is streamed is what is stored: the events are read from the log, and only pieces of text come before it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import Send

from protocol import adk, codec, frames
from protocol.cursor import parse_cursor
from protocol.errors import Refused

from .adk_log import AdkLog
from .http import json_response
from .interfaces import NoSession
from .reply import Reply
from .runtime import until_answered
from .stream import COMMENT, EVENT_STREAM

__all__ = ["Streamed", "Whole"]

Respond = Callable[[Refused], Response]
"""How a refusal looks."""


class Run(Reply):
    """The events of one turn. Subclasses say what is written of each frame, and of its end."""

    __slots__ = ("_agent", "_headers", "_respond", "_status", "_turn")

    def __init__(
        self, send: Send, session_id: str, turn_id: str, agent: str, log: AdkLog, respond: Respond
    ) -> None:
        super().__init__(send, session_id, turn_id)
        self._agent = agent
        self._turn = log.turn(turn_id)
        self._respond = respond
        self._status, self._headers = 200, [*EVENT_STREAM]

    def begin(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        return self._status, self._headers

    async def send(self, frames: list[bytes]) -> None:
        # One write for each event: readers of ADK's cut what comes at the edges of chunks.
        if self._closed:
            raise ConnectionError
        for frame in frames:
            events = await self._told(frame)
            over, self.over = self.over, False
            for event in events[:-1]:
                await self._write(event)
            self.over = over
            if events and not self._closed:
                await self._write(events[-1])

    def unfinished(self, refusal: Refused) -> bytes:
        return b"".join(self.failed(refusal))

    async def _told(self, frame: bytes) -> list[bytes]:
        if codec.head(frame)[0] == "pong":
            return self.alive()
        told = self.mine(frame)
        if told is None:
            return []
        try:
            return await self._shown(told)
        except NoSession:
            self.over = True
            return self.failed(Refused("session_not_found", f"Session not found: {self._session_id}"))

    async def _shown(self, told: frames.ServerFrame) -> list[bytes]:
        match told:
            case frames.Response(cursor=cursor):
                events = await self.events(cursor)
                self.over = True
                return self.ended(events)
            case frames.Error() as failed:
                self.over = True
                return self.failed(self.failure(failed))
            case _:
                return await self.happened(told)

    async def events(self, cursor: str) -> list[Any]:
        """The events of the run up to that place that were not asked for yet."""
        place = parse_cursor(cursor)
        assert place is not None
        return await until_answered(partial(self._turn.events, place.seq))

    def alive(self) -> list[bytes]:
        """What is written while nothing happens."""
        return []

    async def happened(self, told: frames.ServerFrame) -> list[bytes]:
        """What is written of a frame of the turn."""
        raise NotImplementedError

    def ended(self, events: list[Any]) -> list[bytes]:
        """What is written when the agent has answered, or was stopped: these are the last events."""
        raise NotImplementedError

    def failed(self, refusal: Refused) -> list[bytes]:
        """What is written when it failed."""
        raise NotImplementedError


class Whole(Run):
    """All events, as one JSON document."""

    __slots__ = ()

    async def happened(self, told: frames.ServerFrame) -> list[bytes]:  # noqa: ARG002
        return []

    def ended(self, events: list[Any]) -> list[bytes]:
        return self._all(json_response(events))

    def failed(self, refusal: Refused) -> list[bytes]:
        return self._all(self._respond(refusal))

    def _all(self, answer: Response) -> list[bytes]:
        self.over = True
        self._status, self._headers = answer.status_code, answer.raw_headers
        return [bytes(answer.body)]


class Streamed(Run):
    """Server-sent events, `data` only. With `pieces` the text comes as it grows, before the event that has
    all of it."""

    __slots__ = ("_now", "_pieces")

    def __init__(self, *args: Any, pieces: bool, now: Callable[[], float]) -> None:
        super().__init__(*args)
        self._pieces = pieces
        self._now = now

    def alive(self) -> list[bytes]:
        return [COMMENT]

    async def happened(self, told: frames.ServerFrame) -> list[bytes]:
        match told:
            case frames.Ok():
                return [COMMENT]  # it was accepted: let the client have the headers
            case frames.TextDelta(content=text) if self._pieces:
                return [self._piece(text)]
            case frames.ThoughtDelta(content=text) if self._pieces:
                return [self._piece(text, thought=True)]
            case frames.ToolCall(cursor=cursor) | frames.ToolResult(cursor=cursor):
                return self.ended(await self.events(cursor))
            case _:
                return []

    def ended(self, events: list[Any]) -> list[bytes]:
        return [_data(event) for event in events]

    def failed(self, refusal: Refused) -> list[bytes]:
        return [_data({"error": refusal.content})]

    def _piece(self, text: str, *, thought: bool = False) -> bytes:
        # One id for all pieces: the event that has all of the text takes their place.
        turn_id = self._turn_id
        return _data(
            adk.partial(f"{turn_id}.piece", turn_id, self._agent, text, self._now(), thought=thought)
        )


def _data(event: Any) -> bytes:
    return b"data: %b\n\n" % codec.encode(event)
