"""Visitors without an account: each gets a token of the gateway's own, and is a user like any other.

The gateway signs these tokens with a key that it makes itself and keeps beside its store. No other token may
name a guest: their users' names begin with `guest-`, and only tokens of this key may have such a `sub`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

from protocol.errors import Refused
from protocol.history import DAY
from protocol.ids import GUEST, is_guest

from .interfaces import Authenticator, Caller, Store, Unavailable
from .keys import FixedKeys, secret_key
from .tokens import LEEWAY, Tokens, mint

__all__ = ["Admitted", "Guests", "kept_secret"]


class Admitted(NamedTuple):
    """A guest, and what shows who it is."""

    token: str
    user: str
    expires_at: float
    """Unix seconds."""


class Guests:
    """Gives tokens to guests, and lets in who shows one, as `interfaces.Authenticator` says. Whoever shows
    something else is for `others` to know; without these, guests are all there are.

    `secret` signs the tokens, `store` knows which guests have become users, `now` is Unix seconds, `days` is
    how long a token holds. Raises `BadKey`.
    """

    def __init__(
        self,
        secret: str,
        store: Store,
        now: Callable[[], float],
        *,
        days: float,
        others: Authenticator | None = None,
    ) -> None:
        self._key = secret_key(secret)
        self._tokens = Tokens([FixedKeys([self._key])], now)
        self._store = store
        self._now = now
        self._days = days
        self._others = others

    async def __call__(self, token: str | None, headers: Mapping[str, str]) -> Caller:
        if token is not None and (guest := await self._read(token)) is not None:
            await self._check(guest)
            return guest
        if self._others is None:
            why = "Say who you are" if token is None else "This token is none of this gateway's"
            raise Refused("unauthenticated", f"{why}: POST /guest gives every visitor a token.")
        caller = await self._others(token, headers)
        if caller.user is not None and is_guest(caller.user):
            raise Refused("unauthenticated", f"Only guests have names that begin with {GUEST!r}.")
        return caller

    async def admit(self, token: str | None = None) -> Admitted:
        """A token for somebody new, or for the guest whose token is shown. Raises `Refused`:
        `unauthenticated` for what is no guest's token, `token_expired` for one that is over."""
        if token is None:
            user = GUEST + token_hex(12)
        elif (guest := await self._read(token)) is not None:
            user = await self._check(guest)
        else:
            raise Refused("unauthenticated", "This is no guest's token; without any, you get a new one.")
        expires_at = round(self._now() + self._days * DAY)
        return Admitted(mint(self._key, user, expires_at), user, expires_at)

    async def adoptable(self, token: str) -> tuple[str, float]:
        """The guest whose token this is, also if it has become a user, and until when (Unix seconds) some
        token of its may hold. Raises `Refused('bad_request')`."""
        try:
            guest = await self._read(token)
        except Refused:
            guest = None
        if guest is None or guest.user is None or guest.expires_at is None:
            raise Refused("bad_request", "token: expected a guest's that is not over.")
        return guest.user, max(guest.expires_at, self._now() + self._days * DAY) + LEEWAY

    async def check(self) -> str:
        """A sentence on who is let in, for `gateway check`. Raises what the others' check raises."""
        guests = f"guests, each for {self._days:g} days"
        check = getattr(self._others, "check", None)
        return guests if check is None else f"{await check()}; {guests}"

    async def aclose(self) -> None:
        """Let go of what the others hold."""
        if (aclose := getattr(self._others, "aclose", None)) is not None:
            await aclose()

    async def _check(self, guest: Caller) -> str:
        """Its user id. Raises `Refused`, if it has become a user, or nobody can tell now."""
        assert guest.user is not None
        try:
            adopter = await self._store.adopter(guest.user)
        except Unavailable:
            raise Refused(
                "overloaded", "Whether this guest may come in cannot be told now; try again."
            ) from None
        if adopter is not None:
            raise Refused("unauthenticated", "This guest has become a user: come with that user's token.")
        return guest.user

    async def _read(self, token: str) -> Caller | None:
        """The guest whose token this is; None if it is none. Raises `Refused('token_expired')`."""
        try:
            caller = await self._tokens.read(token)
        except Refused as refusal:
            if refusal.code == "token_expired":
                raise
            return None
        return caller if caller.user is not None and is_guest(caller.user) else None


def kept_secret(path: Path) -> str:
    """The secret in that file, for its owner's eyes only. It is made if it is not there, whole or not at all,
    and the same for all who make it at once. Raises `OSError`, `UnicodeDecodeError`."""
    if not path.exists():
        part = path.with_name(f"{path.name}.{token_hex(4)}")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            with suppress(FileExistsError):  # a link, since renaming would replace what another has made
                os.link(part, path)
        finally:
            part.unlink()
    return path.read_text()
