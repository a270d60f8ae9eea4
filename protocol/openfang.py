"""Tool frames in OpenFang's words, beside ours, on the socket of one agent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from . import codec, frames

__all__ = ["Tools"]

_TOOL = b'{"type":"tool_'
_REMEMBERED = 256


class Tools:
    """What one line has been sent of tools: with a result OpenFang tells the tool's name, which our frame of
    it does not hold."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[tuple[str, str, str], str] | None = None
        """The newest calls; None until there is one: most lines are idle."""

    def told(self, batch: list[bytes]) -> list[bytes]:
        """These encoded frames, with what OpenFang's clients wait for. Told twice of one batch, it says the
        same."""
        if not any(frame.startswith(_TOOL) for frame in batch):
            return batch
        return [told for frame in batch for told in self._told(frame)]

    def _told(self, data: bytes) -> Iterator[bytes]:
        if data.startswith(_TOOL):
            match codec.decode_server_frame(data):
                case frames.ToolCall() as call:
                    yield from map(codec.encode, self._called(call))
                case frames.ToolResult() as result:
                    yield codec.encode(self._answered(result))
                    return
                case _:
                    pass
        yield data

    def _called(self, call: frames.ToolCall) -> Iterator[frames.ServerFrame]:
        """What goes before our own frame: it alone moves the reader, who is sent all again without it."""
        session_id, turn_id, call_id, tool = call.session_id, call.turn_id, call.tool_call_id, call.name
        names = self._names = self._names or {}
        names[session_id, turn_id, call_id] = tool
        if len(names) > _REMEMBERED:
            del names[next(iter(names))]
        yield frames.Typing(session_id, "tool", "agent", turn_id, tool)
        yield frames.ToolStart(session_id, turn_id, call_id, tool)
        yield frames.ToolEnd(session_id, turn_id, call_id, tool, codec.encode(call.input).decode())

    def _answered(self, result: frames.ToolResult) -> frames.ToolResult:
        whose = result.session_id, result.turn_id, result.tool_call_id
        tool = (self._names or {}).get(whose, "")
        return replace(result, id=result.tool_call_id, tool=tool, result=_text(result.content))


def _text(content: Any) -> str:
    return content if isinstance(content, str) else codec.encode(content).decode()
