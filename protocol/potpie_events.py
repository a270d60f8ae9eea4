"""What is told of a run in Potpie's words: `queued`, then chunks of the answer, then `end`.

The chunks are what its front end folds: `message` and `thinking` are appended, `tool_calls` too, `citations`
replaced. Nothing in them is null, and only chunks have a `message`: whatever else had one would be shown as
text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from msgspec import Struct, json

from . import frames, records
from .cursor import parse_cursor
from .potpie import Position

__all__ = ["Chunk", "End", "Event", "Telling", "ToolStep", "citations", "tool_steps", "whole"]

Tool: TypeAlias = frames.ToolCall | frames.ToolResult | records.ToolCall | records.ToolResult


class ToolStep(Struct, frozen=True):
    """A tool is called, or has answered: `tool_response`."""

    call_id: str
    event_type: Literal["call", "result", "error"]
    tool_name: str
    tool_response: str
    tool_call_details: dict[str, Any]
    stream_part: str = ""
    is_complete: bool = True


class Chunk(Struct, frozen=True):
    """More of an answer; or all of it."""

    message: str = ""
    citations: list[str] = []
    """All so far."""
    tool_calls: list[ToolStep] = []
    thinking: str = ""


class End(Struct, frozen=True, omit_defaults=True):
    """A run is over. `code` and `error` say why it failed."""

    status: Literal["completed", "cancelled", "error"]
    code: str | None = None
    error: str | None = None


class Event(NamedTuple):
    """One event of a stream. Who has heard it, stands at `position`."""

    position: Position
    kind: Literal["queued", "chunk", "end"]
    data: Chunk | End


class Telling:
    """What one listener is told of one run, strictly after a position.

    It is given the frames that follow the run's place in the log, and tells of those that are new. Text is
    told by its place in the answer, so that it does not matter how it was cut, then and now.
    """

    def __init__(self, run_id: str, accepted: int, after: Position) -> None:
        self.run_id = run_id
        self.accepted = accepted
        """The number of its message in the log."""
        self.resumed = after.seq > accepted
        """The listener has heard some of it already."""
        self.over = False
        """Nothing comes after what was told last."""
        self.failure: frames.Error | None = None
        """Why it failed."""
        self.heard_thought = 0
        """Characters of its reasoning that were heard before, or told since."""
        self._after = after.seq
        # Before it was accepted, somebody else's text was counted.
        self._offset = after.offset if self.resumed else 0
        self._position = Position(after.seq, self._offset)
        self._thought = 0
        self._names: dict[str, str] = {}

    def tell(self, frame: frames.ServerFrame) -> Iterator[Event]:
        """What is told of the next frame; nothing after the end."""
        match frame:
            case frames.Session(status="closed" | "expired"):
                yield self._end(self._position, End("cancelled"))
            case frames.Error(cursor=None):  # this line asks for one thing only, and it was refused
                self.failure = frame
                yield self._end(self._position, End("error", frame.code, frame.content))
            case frames.Message(turn_id=self.run_id):
                yield from self._new(Position(_place(frame).seq, 0), "queued", Chunk())
            case frames.TextDelta(turn_id=self.run_id):
                yield from self._text(frame)
            case frames.ThoughtDelta(turn_id=self.run_id):
                yield from self._think(frame.content)
            case frames.ToolCall(turn_id=self.run_id) | frames.ToolResult(turn_id=self.run_id):
                shown = _tool(frame, self._names)
                yield from self._new(_place(frame), "chunk", Chunk(tool_calls=[shown]))
            case frames.Response(turn_id=self.run_id):
                thought = (frame.thought or "")[self.heard_thought :]
                rest = Chunk(frame.content[self._offset :], citations(frame.metadata), [], thought)
                yield from self._last(frame, rest, frame.content, End(frame.status))
            case frames.Error(turn_id=self.run_id):
                self.failure = frame
                text = frame.partial or ""
                end = End("error", frame.code, frame.content)
                yield from self._last(frame, Chunk(text[self._offset :]), text, end)
            case _:
                pass

    def _new(self, position: Position, kind: Literal["queued", "chunk"], chunk: Chunk) -> Iterator[Event]:
        if position.seq > self._after:
            self._position = position
            yield Event(position, kind, chunk)

    def _text(self, frame: frames.TextDelta) -> Iterator[Event]:
        place = _place(frame)
        if place.seq < self._after or place.offset <= self._offset:
            return
        fresh = frame.content[len(frame.content) - (place.offset - self._offset) :]
        self._offset, self._position = place.offset, place
        yield Event(place, "chunk", Chunk(fresh))

    def _think(self, content: str) -> Iterator[Event]:
        """Reasoning has no place in the log: whoever comes later is sent it from its beginning."""
        fresh = content[max(0, self.heard_thought - self._thought) :]
        self._thought += len(content)
        if fresh:
            self.heard_thought = self._thought
            yield Event(self._position, "chunk", Chunk(thinking=fresh))

    def _last(
        self, frame: frames.Response | frames.Error, rest: Chunk, text: str, end: End
    ) -> Iterator[Event]:
        """What was not told of the answer yet (all of it, to one who came late), and its end."""
        ended = _place(frame).seq
        if ended <= self._after:
            self.over = True
            return
        if rest != Chunk():
            yield Event(Position(ended - 1, len(text)), "chunk", rest)
        yield self._end(Position(ended, 0), end)

    def _end(self, position: Position, end: End) -> Event:
        self.over = True
        return Event(position, "end", end)


def whole(chunks: Iterable[Chunk]) -> Chunk:
    """The answer that these chunks make."""
    all_chunks = [*chunks]
    return Chunk(
        message="".join(chunk.message for chunk in all_chunks),
        citations=all_chunks[-1].citations if all_chunks else [],
        tool_calls=[call for chunk in all_chunks for call in chunk.tool_calls],
        thinking="".join(chunk.thinking for chunk in all_chunks),
    )


def tool_steps(tools: Iterable[records.ToolCall | records.ToolResult]) -> list[ToolStep]:
    """The tools that an answer used, as they were told of."""
    names: dict[str, str] = {}
    return [_tool(tool, names) for tool in tools]


def citations(metadata: Mapping[str, Any] | None) -> list[str]:
    """What the agent named as its sources: `citations` in the metadata of its response."""
    named = (metadata or {}).get("citations")
    return [one for one in named if isinstance(one, str)] if isinstance(named, list) else []


def _tool(tool: Tool, names: dict[str, str]) -> ToolStep:
    """One tool record; `names` are those of the calls so far."""
    call_id = tool.tool_call_id
    if isinstance(tool, frames.ToolCall | records.ToolCall):
        names[call_id] = tool.name
        return ToolStep(call_id, "call", tool.name, "", {"input": tool.input}, is_complete=False)
    content = tool.content
    text = content if isinstance(content, str) else json.encode(content).decode()
    kind: Literal["result", "error"] = "error" if tool.is_error else "result"
    return ToolStep(call_id, kind, names.get(call_id, ""), text, {"result": content})


def _place(frame: frames.ServerFrame) -> Position:
    """Where its reader stands after it."""
    cursor = parse_cursor(getattr(frame, "cursor", None) or "")
    assert cursor is not None, "every frame of a log has a cursor"
    return Position(cursor.seq, cursor.offset)
