"""Who is calling: what their credentials fix, and which user they may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from protocol.errors import Refused
from protocol.ids import check_user_id

from .interfaces import Authenticator, Caller

__all__ = ["DEFAULT_USER", "Identity", "authenticate", "credentials", "identify"]

DEFAULT_USER = "user"


class Identity(NamedTuple):
    """Who a request is made for."""

    user: str
    everyone: bool = False
    """It has no user of its own and named none: an id without an agent is looked up among all users'."""
    expires_at: float | None = None
    """When its token ends, Unix seconds."""


async def authenticate(
    authenticator: Authenticator | None, token: str | None, headers: Mapping[str, str]
) -> Caller:
    """Who these credentials are of. Without an authenticator everybody is nobody in particular. Raises
    `Refused`."""
    return Caller() if authenticator is None else await authenticator(token, headers)


def identify(caller: Caller, named: str | None) -> Identity:
    """The user that `caller` acts for when it names `named`. Raises `Refused` with `bad_id` or
    `forbidden`."""
    if named is not None:
        check_user_id(named)
    if caller.user is None:
        return Identity(named or DEFAULT_USER, named is None, caller.expires_at)
    if named not in (None, caller.user):
        raise Refused("forbidden", "These credentials are another user's.")
    return Identity(caller.user, False, caller.expires_at)


def credentials(headers: Mapping[str, str]) -> str | None:
    """The token of a request: `Authorization: Bearer …` or `X-API-Key: …`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key") or None
