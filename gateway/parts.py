"""A gateway made of what its settings name: agents, store, and who may come in.

Everything that can be wrong with these is found out here, before anything starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from time import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from protocol.lifetime import tiers

from .addresses import is_loopback
from .app import Gateway, gateway_app
from .interfaces import Authenticator, Store
from .load import BadSpec, load_agents, load_authenticator
from .settings import OPTIONS, Settings
from .stores.memory import MemoryStore
from .stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from .guests import Guests

__all__ = ["CannotStart", "load_app", "load_door", "load_guests", "load_store", "say_bad_spec"]

_SYNCHRONOUS = {"": False, "synchronous=normal": False, "synchronous=full": True}


class CannotStart(Exception):
    """The gateway cannot start. The sentence says why, and what to do about it."""


def load_app(settings: Settings, environ: Mapping[str, str]) -> Gateway:
    """The app that `settings` describe; how long sessions live is in the environment. Raises
    `CannotStart`."""
    door = load_door(settings)
    if door is None and not settings.guests:
        _only_loopback(settings)
    try:
        agents = load_agents(settings.agents)
    except BadSpec as error:
        raise CannotStart(say_bad_spec(error)) from error
    store, lifetimes = load_store(settings), tiers(environ, agents)
    guests = load_guests(settings, store, door) if settings.guests else None
    known = replace(settings, jwt_secret=None, api_keys=())  # nobody but the door need know the secrets
    return gateway_app(known, agents=agents, store=store, authenticator=door, guests=guests, tiers=lifetimes)


def say_bad_spec(error: BadSpec) -> str:
    """What is wrong with an agent's spec, without its options' values."""
    return f"The agent {OPTIONS['agents'].show(error.spec)} cannot be loaded: {error.why}."


def load_door(settings: Settings) -> Authenticator | None:
    """What tells who calls: the user's own authenticator, else that of the keys; None if `settings` name
    neither. Raises `CannotStart`."""
    if settings.authenticator is not None:
        try:
            return load_authenticator(settings.authenticator)
        except BadSpec as error:
            raise CannotStart(f"The authenticator {error.spec} cannot be loaded: {error.why}.") from error
    if not settings.has_keys:
        return None
    from .door import door_of  # here: what reads tokens takes 0.1 s and 10 MB
    from .keys import BadKey

    try:
        return door_of(settings, time)
    except BadKey as error:
        raise CannotStart(str(error)) from error


def load_guests(settings: Settings, store: Store, door: Authenticator | None) -> Guests:
    """What lets guests in, beside whom that door knows. Their key is kept beside the store: one in memory
    forgets its guests, too. Raises `CannotStart`."""
    from .guests import Guests, kept_secret
    from .keys import BadKey

    file = _sqlite_file(settings)
    path = None if file is None else Path(f"{file}-guest-key")
    try:
        secret = token_hex(32) if path is None else kept_secret(path)
        return Guests(secret, store, time, days=settings.guest_days, others=door)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise CannotStart(f"The key of guests' tokens cannot be kept in {path}: {reason}.") from error
    except BadKey as error:
        raise CannotStart(f"The key of guests' tokens in {path} is of no use: {error}.") from error


def _only_loopback(settings: Settings) -> None:
    """The address decides and not the peer's: behind a proxy, every peer is on this machine."""
    if settings.uds is None and not settings.allow_anonymous and not is_loopback(settings.host):
        raise CannotStart(
            f"Nothing says who may come in, and everybody who can reach {settings.host} could read and write "
            "every conversation: set GATEWAY_JWT_SECRET, GATEWAY_JWT_PUBLIC_KEY or GATEWAY_JWKS_URL for "
            "users with tokens, GATEWAY_API_KEYS for services, --guests for visitors without an account, or "
            "--authenticator; or listen on loopback. "
            "With --allow-anonymous it is open to all."
        )


def _sqlite_file(settings: Settings) -> str | None:
    """The file that the store is; None if it is none."""
    place = settings.store.partition("?")[0]
    file = place.removeprefix("sqlite:///")
    return None if file in ("", place) else file


def load_store(settings: Settings) -> Store:
    """The store that `settings` name; it is not opened yet. Raises `CannotStart`."""
    place, _, query = settings.store.partition("?")
    if place == "memory:" and not query:
        return MemoryStore(
            keep_days=settings.keep_days,
            keep_records=settings.keep_records,
            keep_shared_days=settings.keep_shared_days,
        )
    file = _sqlite_file(settings)
    if file is None or query not in _SYNCHRONOUS:
        shown = OPTIONS["store"].show(settings.store)
        raise CannotStart(
            f"The store {shown} means nothing; allowed is sqlite:///FILE (an absolute path makes it four "
            "slashes), sqlite:///FILE?synchronous=full, or memory:."
        )
    return SqliteStore(
        file,
        synchronous_full=_SYNCHRONOUS[query],
        keep_days=settings.keep_days,
        keep_records=settings.keep_records,
        keep_shared_days=settings.keep_shared_days,
    )
