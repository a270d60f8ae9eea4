"""How records are shown: live as frames, later as messages of the history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from . import frames, records
from .lifetime import Life, is_over, remaining

__all__ = ["expiring", "frame_of", "history_message", "notice_of_end", "notices", "tool_uses"]


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


def notices(session_id: str, before: Life | None, after: Life | None, now: float) -> list[frames.Session]:
    """What is to be told of a life that was `before` and is `after`: its renewals, one by one, then that it
    is expiring."""
    if before is None or after is None:
        return []
    told = [
        frames.Session(session_id, "renewed", count, after.expires_at)
        for count in range(before.renewal_count + 1, after.renewal_count + 1)
    ]
    if after.warned and not (before.warned and before.renewal_count == after.renewal_count):
        told.append(_expiring(session_id, after, now))
    return told


def expiring(session_id: str, life: Life | None, now: float) -> frames.Session | None:
    """What somebody who attaches now is told, if it was announced before that the session is expiring."""
    if life is None or not life.warned or is_over(life, now):
        return None
    return _expiring(session_id, life, now)


def _expiring(session_id: str, life: Life, now: float) -> frames.Session:
    minutes = round(remaining(life, now) / 60, 3)
    return frames.Session(session_id, "expiring", life.renewal_count, life.expires_at, minutes)


def notice_of_end(session_id: str, status: Literal["closed", "expired"], life: Life | None) -> frames.Session:
    """What is told last."""
    if life is None:
        return frames.Session(session_id, status, 0)
    expires_at = life.expires_at if status == "expired" else None
    return frames.Session(session_id, status, life.renewal_count, expires_at)
