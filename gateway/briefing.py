"""What an agent is given when its turn starts: the message, what was said before, the session's state."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, NamedTuple

from protocol import records
from protocol.records import Message, Record, Response, Terminal
from protocol.scopes import merged, scope_of_app, scope_of_user
from protocol.session import State
from protocol.undo import completed, state_before

from .interfaces import Info, Key, Past, Said, SessionRef, Store, Turn
from .runtime import Runtime

__all__ = ["Briefing", "brief", "shared_state"]

_PAGE = 1_000
_PAGE_BYTES = 1 << 20
"""Records that are read at once."""


class Briefing(NamedTuple):
    """What a turn begins with."""

    turn: Turn
    kept: dict[str, Any] | None = None
    """The state that is kept, where `turn.state` is an earlier one: the turn replaces others."""


async def brief(
    runtime: Runtime,
    key: Key,
    state: State,
    info: Info | None,
    message: records.Message,
    request_id: str | None,
) -> Briefing:
    """The turn of `message`, which runs in `state`, as the agent of `key` sees it. What it does to
    `turn.state` is its own: `info` stays as it is. Raises `Unavailable`, and `NoSession` if it was deleted
    meanwhile."""
    agent, kept = runtime.agents[key.agent], info.state if info is not None else {}
    shared = await shared_state(runtime.store, key)
    given = kept
    if message.replaces is not None:
        given = state_before(kept, await _replaced(runtime.store, key, state, message), message.turn_id)
    turn = Turn(
        turn_id=message.turn_id,
        content=message.content,
        session=SessionRef(*key),
        metadata=message.metadata or {},
        parts=[part for part in message.parts or () if not _is_text(part)],
        history=await _history(runtime, key, state, agent.history) if agent.history else (),
        state=merged(deepcopy(given) if given else {}, *shared),
        request_id=request_id,
        replaces=message.replaces,
    )
    return Briefing(turn, None if message.replaces is None else merged(kept, *shared))


async def _replaced(store: Store, key: Key, state: State, message: Message) -> list[Record]:
    """The messages and responses from the turn on that `message` replaces, up to now, as far as they are
    kept. If that turn did not complete, it has changed nothing; but it may itself have been a retry, and was
    given the state as it was before what it replaced: then from there on."""
    found: list[Record] = []
    upto, turn_id = state.seq, message.replaces
    while turn_id is not None and (turn := await store.turn(key, turn_id)) is not None and turn.seq <= upto:
        begun: list[Record] = []
        seq = turn.seq - 1
        while seq < upto:
            page = await store.read(key, seq, _PAGE, _PAGE_BYTES)
            if not page:  # trimmed away
                return found
            seq = page[-1].seq
            begun += [
                one.record for one in page if one.seq <= upto and isinstance(one.record, Message | Response)
            ]
        if not begun:
            return found
        found = begun + found
        if completed(found, turn_id) or not isinstance(found[0], Message):
            break
        upto, turn_id = turn.seq - 1, found[0].replaces
    return found


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
