"""How a session is found, or made: what may be asked for, and what is answered where there is none."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from protocol.errors import Refused

from .interfaces import NOTHING, Info, Key, Loaded, NoSession, SessionExists
from .runtime import Runtime

__all__ = ["CREATE", "Create", "Open", "load_or_create", "no_session", "session_exists"]

Create = Literal["never", "new", "again"]
"""May a session be made that is not there: never; if it never was; also over a tombstone."""
CREATE: dict[bool | None, Create] = {None: "new", True: "again", False: "never"}
"""What the `create` of a message means."""


class Open(Struct, frozen=True):
    """Be awake: make sure that the session is there, and its log taken up."""

    create: Create = "never"
    activate: bool = False
    label: str | None = None
    must_be_new: bool = False


async def load_or_create(runtime: Runtime, key: Key, ask: Open) -> Loaded:
    """The session as the store has it, made first if it is not there and `ask` allows it. Raises `Refused`
    (`session_exists` where it must be new; `session_not_found`, `session_closed`, `session_expired`,
    `agent_not_found` where it may not be made) and `Unavailable`."""
    store = runtime.store
    while True:
        try:
            loaded = await store.load(key)
        except NoSession as gone:
            if ask.create == "never" or (gone.tombstone is not None and ask.create == "new"):
                raise no_session(gone) from None
        else:
            if ask.must_be_new:
                raise session_exists()
            return loaded
        if key.agent not in runtime.agents:
            raise Refused("agent_not_found", f"There is no agent {key.agent!r}.")
        now = runtime.now()
        info = Info(key, now, now, ask.label, NOTHING, NOTHING)
        try:
            head = await store.create(
                info, runtime.new_tag(), over_tombstone=ask.create == "again", activate=ask.activate
            )
        except SessionExists:
            continue
        return Loaded(info, head, [], "")


def session_exists() -> Refused:
    """Why a session that must be new was not made."""
    return Refused("session_exists", "There is a session with this id.")


def no_session(gone: NoSession) -> Refused:
    """Why a session that is not there cannot be used, and what to do about it."""
    match gone.tombstone:
        case "closed":
            return Refused("session_closed", "The session was deleted; create it again to go on.")
        case "expired":
            return Refused(
                "session_expired", "The session expired; create it again to go on.", expires_at=gone.ended_at
            )
        case None:
            return Refused("session_not_found", "There is no such session.")
