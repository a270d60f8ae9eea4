"""How a session is found, or made: what may be asked for, and what is answered where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from protocol.errors import Refused
from protocol.ids import is_guest
from protocol.lifetime import Terms, begin, is_over
from protocol.records import Record
from protocol.scopes import scope_of_app, scope_of_user, split

from .interfaces import NOTHING, Info, Key, Loaded, NoSession, Scopes, SessionExists, TooManySessions
from .runtime import Runtime

__all__ = [
    "CREATE",
    "GONE",
    "Create",
    "Open",
    "expired",
    "load_or_create",
    "no_session",
    "placed",
    "session_exists",
]

Create = Literal["never", "new", "again"]
"""May a session be made that is not there: never; if it never was; also over a tombstone."""
CREATE: dict[bool | None, Create] = {None: "new", True: "again", False: "never"}
"""What the `create` of a message means."""
GONE = ("session_not_found", "session_closed", "session_expired")
"""The codes of refusals that say: the session is not there."""


class Open(Struct, frozen=True):
    """Be awake: make sure that the session is there, and its log taken up."""

    create: Create = "never"
    must_be_new: bool = False
    activate: bool = False
    unless_active: bool = False
    """Make none if the user has an active session with the agent."""
    label: str | None = None
    metadata: dict[str, Any] | None = None
    state: dict[str, Any] | None = None
    """What it begins with, keys of shared scopes included."""
    records: Sequence[Record] = ()
    """A history from elsewhere: whole turns that are over, and events."""
    timeout: Terms | None = None
    """What it says itself of its lifetime; None: nothing."""


async def load_or_create(runtime: Runtime, key: Key, ask: Open) -> Loaded:
    """The session as the store has it (its time may be over), made first if it is not there and `ask` allows
    it. Raises `Refused` (`session_exists` where it must be new; `session_not_found`, `session_closed`,
    `session_expired`, `agent_not_found`, `too_many_sessions` where it may not be made) and `Unavailable`."""
    store, settings = runtime.store, runtime.settings
    of_guest = settings.guests and is_guest(key.user)
    whose = "guest" if of_guest else "user"
    most = settings.max_guest_sessions if of_guest else settings.max_sessions_per_user
    while True:
        try:
            loaded = await store.load(key)
        except NoSession as gone:
            if ask.create == "never" or (gone.tombstone is not None and ask.create == "new"):
                raise no_session(gone) from None
        else:
            if ask.must_be_new and not is_over(loaded.info.life, runtime.now()):
                raise session_exists()
            return loaded
        if key.agent not in runtime.agents:
            raise Refused("agent_not_found", f"There is no agent {key.agent!r}.")
        info, scopes = _new(runtime, key, ask)
        try:
            head = await store.create(
                info,
                runtime.new_tag(),
                ask.records,
                over_tombstone=ask.create == "again",
                activate=ask.activate,
                unless_active=ask.unless_active,
                scopes=scopes,
                most=most,
            )
        except SessionExists:
            if ask.unless_active:
                raise session_exists() from None
            continue
        except TooManySessions:
            raise Refused(
                "too_many_sessions",
                f"One {whose} has {most:,} sessions at the most: delete others first.",
                limit=most,
            ) from None
        return Loaded(info, head, [], "")


def _new(runtime: Runtime, key: Key, ask: Open) -> tuple[Info, Scopes]:
    """What a new session begins with, itself and shared."""
    now, terms = runtime.now(), runtime.tiers.terms(key.agent, ask.timeout)
    life = None if terms is None else begin(terms, now, now)
    state, scopes = placed(key, ask.state or NOTHING)
    return Info(key, now, now, ask.label, state or NOTHING, ask.metadata or NOTHING, life), scopes


def placed(key: Key, delta: Mapping[str, Any]) -> tuple[dict[str, Any], Scopes]:
    """What of `delta` is the session's own, and what is shared under which names."""
    own, of_user, of_app = split(delta)
    shared = {scope_of_user(key.agent, key.user): of_user, scope_of_app(key.agent): of_app}
    return own, {name: values for name, values in shared.items() if values}


def session_exists() -> Refused:
    """Why a session that must be new was not made."""
    return Refused("session_exists", "There is a session with this id.")


def expired(expires_at: float) -> Refused:
    """Why a session that expired cannot be used."""
    return Refused("session_expired", "The session expired; create it again to go on.", expires_at=expires_at)


def no_session(gone: NoSession) -> Refused:
    """Why a session that is not there cannot be used, and what to do about it."""
    match gone.tombstone:
        case "closed":
            return Refused("session_closed", "The session was deleted; create it again to go on.")
        case "expired":
            return expired(gone.ended_at)
        case None:
            return Refused("session_not_found", "There is no such session.")
