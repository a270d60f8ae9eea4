"""What an agent is given when its turn starts: the message, what was said before, the session's state."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from protocol import records
from protocol.records import Terminal
from protocol.scopes import merged, scope_of_app, scope_of_user
from protocol.session import State

from .interfaces import Info, Key, Past, Said, SessionRef, Store, Turn
from .runtime import Runtime

__all__ = ["brief", "shared_state"]


async def brief(
    runtime: Runtime,
    key: Key,
    state: State,
    info: Info | None,
    message: records.Message,
    request_id: str | None,
) -> Turn:
    """The turn of `message`, which runs in `state`, as the agent of `key` sees it. What it does to
    `turn.state` is its own: `info` stays as it is. Raises `Unavailable`, and `NoSession` if it was deleted
    meanwhile."""
    agent, kept = runtime.agents[key.agent], info.state if info is not None else {}
    shared = await shared_state(runtime.store, key)
    return Turn(
        turn_id=message.turn_id,
        content=message.content,
        session=SessionRef(*key),
        metadata=message.metadata or {},
        parts=[part for part in message.parts or () if not _is_text(part)],
        history=await _history(runtime, key, state, agent.history) if agent.history else (),
        state=merged(deepcopy(kept) if kept else {}, *shared),
        request_id=request_id,
    )


def _is_text(part: Any) -> bool:
    """Is it a part of the text, which the agent has as `content`?"""
    return isinstance(part, dict) and "text" in part


async def shared_state(store: Store, key: Key) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the session's user shares, and what everybody does. Raises `Unavailable`."""
    return await store.scope(scope_of_user(key.agent, key.user)), await store.scope(scope_of_app(key.agent))


async def _history(runtime: Runtime, key: Key, state: State, limit: int) -> list[Past]:
    """The conversation before the running turn: without its own message, and without those that wait. Each
    answer follows its question, also where questions had queued up: the log has them as they came, models
    want pairs."""
    ahead = {message.turn_id for message in state.waiting}
    if state.running is not None:
        ahead.add(state.running.turn_id)
    page = await runtime.store.history(
        key,
        limit + len(ahead),
        as_of=state.seq,
        max_bytes=runtime.settings.max_agent_history_bytes,
    )
    past = [
        _past(said)
        for said in page.messages
        if isinstance(said.record, Terminal) or said.record.turn_id not in ahead
    ]
    asked = {one.turn_id: place for place, one in reversed([*enumerate(past)])}
    return sorted(past, key=lambda one: asked[one.turn_id])[-limit:]


def _past(said: Said) -> Past:
    record = said.record
    match record:
        case records.Message():
            return Past("user", record.content, record.turn_id, record.created_at, metadata=record.metadata)
        case records.Response():
            return Past(
                "agent",
                record.content,
                record.turn_id,
                record.created_at,
                record.status,
                said.tools,
                record.metadata,
            )
        case records.Failed():
            return Past("agent", record.partial, record.turn_id, record.created_at, "failed", said.tools)
