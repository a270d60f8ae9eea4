"""A guest becomes a user: from then on its sessions are that user's."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from protocol.errors import Refused

from .actor import Move
from .interfaces import Key
from .supervisor import Supervisor

__all__ = ["Moved", "adopt"]

_PAGE = 1000
"""Sessions moved at a time."""
_GONE = ("session_not_found", "session_closed", "session_expired")


class Moved(NamedTuple):
    """A session that is another user's now."""

    key: Key
    guest_session_id: str
    """Its id before. It has another one where that user had a session of that id."""


async def adopt(supervisor: Supervisor, guest: str, user: str, until: float) -> list[Moved]:
    """Give `user` all sessions of `guest`, and answer which were moved now. Turns are waited for; what cannot
    be moved in time stays with the guest until this is asked again, and what was moved stays moved.

    The guest's tokens are over with this, which is remembered until then (Unix seconds). Raises `Refused`:
    `forbidden`, if the guest has become another user; `session_busy`.
    """
    store = supervisor.runtime.store
    if await store.adopt(guest, user, until) != user:
        raise Refused("forbidden", "The conversations of this guest were given to another user already.")
    for line in [*supervisor.lines.values()]:
        if line.identity.user == guest and not line.identity.service:
            line.revoke("This guest has become a user.")
    deadline = asyncio.get_running_loop().time() + supervisor.runtime.settings.adopt_timeout
    moved: list[Moved] = []
    while summaries := await store.sessions(None, guest, _PAGE):
        moves = (_move(supervisor, summary.info.key, user, deadline) for summary in summaries)
        outcomes = await asyncio.gather(*moves)
        moved += [outcome for outcome in outcomes if isinstance(outcome, Moved)]
        for outcome in outcomes:
            if isinstance(outcome, Refused):
                raise outcome
    return moved


async def _move(supervisor: Supervisor, key: Key, user: str, deadline: float) -> Moved | Refused | None:
    """Move one session, as soon as its turns are over; None if it has ended meanwhile."""
    to = key._replace(user=user)
    async with supervisor.held(key) as session:
        while True:
            try:
                await session.asked(Move(to))
            except Refused as refusal:
                if refusal.code in _GONE:
                    return None
                if refusal.code == "session_exists":
                    to = to._replace(session_id=supervisor.runtime.new_id())
                    continue
                left = deadline - asyncio.get_running_loop().time()
                idle = refusal.code == "session_busy" and await supervisor.until(
                    lambda: not session.busy, left
                )
                if not idle:
                    return refusal
            else:
                return Moved(to, key.session_id)
