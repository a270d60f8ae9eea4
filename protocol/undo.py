"""Undoing replaced turns: a session's state as it was before them.

The `response` of a completed turn says what the turn set in the state (`state_delta`), and what had been
there (`state_undo`). A turn that replaces others is given the state without what those made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .records import Message, Record, Response
from .scopes import split

__all__ = ["completed", "state_before"]


def completed(records: Iterable[Record], turn_id: str) -> bool:
    """Does the end of that turn, completed, stand among these records? Only then it has changed the state."""
    return any(
        isinstance(record, Response) and record.turn_id == turn_id and record.status == "completed"
        for record in records
    )


def state_before(state: Mapping[str, Any], records: Iterable[Record], turn_id: str) -> dict[str, Any]:
    """A session's own state as it was before the turns that begin in `records`, a part of its log in order,
    ahead of the message of `turn_id`, which replaces them. Each key that still holds what a turn made of it
    is set back, newest first: what a client has set since stays."""
    replaced: set[str] = set()
    ended: list[Response] = []
    ahead = True
    for record in records:
        match record:
            case Message():
                ahead = ahead and record.turn_id != turn_id
                if ahead:
                    replaced.add(record.turn_id)
            case Response(status="completed") if record.turn_id in replaced:
                ended.append(record)
            case _:
                pass
    before = dict(state)
    for response in reversed(ended):
        _undo(before, response)
    return before


def _undo(state: dict[str, Any], response: Response) -> None:
    if response.state_delta is None or response.state_undo is None:
        return
    for name, made in split(response.state_delta).session.items():
        if state.get(name) != made:  # a key that was taken away is None in a delta
            continue
        if name in response.state_undo:
            state[name] = response.state_undo[name]
        else:
            state.pop(name, None)
