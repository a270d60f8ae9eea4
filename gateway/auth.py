"""Who is calling: what their credentials fix, and which user they may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from protocol.errors import Refused
from protocol.ids import check_user_id

from .interfaces import Authenticator, Caller, Key

__all__ = ["DEFAULT_USER", "Identity", "authenticate", "credentials", "identify", "renew", "require_service"]

DEFAULT_USER = "user"


class Identity(NamedTuple):
    """Who a request is made for."""

    user: str
    everyone: bool = False
    """It has no user of its own and named none: an id without an agent is looked up among all users'."""
    expires_at: float | None = None
    """When its token ends, Unix seconds."""
    service: bool = False
    """It may do what operators do."""
    agents: frozenset[str] | None = None
    sessions: frozenset[str] | None = None
    """What its token narrows it to; None: all that is its user's."""

    def may_use(self, agent: str) -> bool:
        """May it talk to that agent?"""
        return self.agents is None or agent in self.agents

    def may_touch(self, key: Key) -> bool:
        """May it know of that session?"""
        return (
            (self.everyone or key.user == self.user)
            and self.may_use(key.agent)
            and (self.sessions is None or key.session_id in self.sessions)
        )


async def authenticate(
    authenticator: Authenticator | None, token: str | None, headers: Mapping[str, str]
) -> Caller:
    """Who these credentials are of. Without an authenticator everybody is nobody in particular. Raises
    `Refused`."""
    return Caller(service=True) if authenticator is None else await authenticator(token, headers)


def identify(caller: Caller, named: str | None) -> Identity:
    """The user that `caller` acts for when it names `named`. Raises `Refused` with `bad_id` or
    `forbidden`."""
    if named is not None:
        check_user_id(named)
    rights = caller.expires_at, caller.service, caller.agents, caller.sessions
    if caller.user is None:
        return Identity(named or DEFAULT_USER, named is None, *rights)
    if named not in (None, caller.user):
        raise Refused("forbidden", "These credentials are another user's.")
    return Identity(caller.user, False, *rights)


def renew(present: Identity, caller: Caller) -> Identity:
    """What becomes of a line's identity that shows new credentials: it has their rights and no others, and is
    of the same user. Raises `Refused('forbidden')`."""
    return identify(caller, present.user)._replace(everyone=present.everyone and caller.user is None)


def require_service(identity: Identity) -> None:
    """Raises `Refused('forbidden')` unless a service calls, or nobody has to say who they are. One that is
    narrowed is none: what operators ask is told of everything."""
    if not identity.service or identity.agents is not None or identity.sessions is not None:
        raise Refused("forbidden", "This is for service keys only.")


def credentials(headers: Mapping[str, str]) -> str | None:
    """The token of a request: `Authorization: Bearer …` or `X-API-Key: …`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key") or None
