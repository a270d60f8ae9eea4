"""How records are shown: live as frames, later as messages of the history."""

from __future__ import annotations

from collections.abc import Sequence

from . import frames, records

__all__ = ["frame_of", "history_message", "tool_uses"]


def frame_of(record: records.Record, session_id: str, cursor: str) -> frames.ServerFrame | None:
    """The frame that shows this record; None for records that no client sees."""
    match record:
        case records.Message():
            return frames.Message(
                cursor=cursor,
                session_id=session_id,
                turn_id=record.turn_id,
                content=record.content,
                created_at=record.created_at,
                replaces=record.replaces,
                metadata=record.metadata,
            )
        case records.ToolCall():
            return frames.ToolCall(
                cursor=cursor,
                session_id=session_id,
                turn_id=record.turn_id,
                at=record.at,
                tool_call_id=record.tool_call_id,
                name=record.name,
                input=record.input,
            )
        case records.ToolResult():
            return frames.ToolResult(
                cursor=cursor,
                session_id=session_id,
                turn_id=record.turn_id,
                at=record.at,
                tool_call_id=record.tool_call_id,
                content=record.content,
                is_error=record.is_error,
            )
        case records.Response():
            return frames.Response(
                cursor=cursor,
                session_id=session_id,
                turn_id=record.turn_id,
                content=record.content,
                status=record.status,
                input_tokens=record.input_tokens,
                output_tokens=record.output_tokens,
                timing=record.timing,
                created_at=record.created_at,
                thought=record.thought,
                metadata=record.metadata,
            )
        case records.Failed():
            return frames.Error(
                cursor=cursor,
                session_id=session_id,
                turn_id=record.turn_id,
                content=record.content,
                code=record.code,
                retryable=record.retryable,
                retry_after_ms=record.retry_after_ms,
                partial=record.partial,
            )
        case records.Started() | records.CancelRequested() | records.Event():
            return None


def history_message(
    record: records.Message | records.Terminal, tools: Sequence[records.ToolCall | records.ToolResult] = ()
) -> frames.HistoryMessage:
    """One message of the history: a user's, or the end of a turn with the tools it used."""
    match record:
        case records.Message():
            return frames.HistoryMessage(
                role="user",
                turn_id=record.turn_id,
                content=record.content,
                created_at=record.created_at,
                metadata=record.metadata,
            )
        case records.Response():
            return frames.HistoryMessage(
                role="agent",
                turn_id=record.turn_id,
                content=record.content,
                created_at=record.created_at,
                status=record.status,
                tools=tool_uses(tools),
                metadata=record.metadata,
            )
        case records.Failed():
            return frames.HistoryMessage(
                role="agent",
                turn_id=record.turn_id,
                content=record.partial,
                created_at=record.created_at,
                status="failed",
                code=record.code,
                tools=tool_uses(tools),
            )


def tool_uses(tools: Sequence[records.ToolCall | records.ToolResult]) -> list[frames.ToolUse] | None:
    """Calls paired with their results by `tool_call_id`, in the order of the calls; None if there are
    none."""
    results = {tool.tool_call_id: tool for tool in tools if isinstance(tool, records.ToolResult)}
    uses = []
    for tool in tools:
        if isinstance(tool, records.ToolCall):
            result = results.get(tool.tool_call_id)
            uses.append(
                frames.ToolUse(
                    tool_call_id=tool.tool_call_id,
                    name=tool.name,
                    input=tool.input,
                    content=result.content if result else None,
                    is_error=result.is_error if result else False,
                    at=tool.at,
                )
            )
    return uses or None
