"""Public keys that an issuer of tokens publishes (JSON Web Key Set, RFC 7517): fetched, kept, and kept on if
the issuer does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from protocol.errors import Refused

from .interfaces import AgentError
from .keys import PUBLIC, BadKey, Key, public_keys_of_set
from .upstream import BadEnvironment, Upstream

__all__ = ["Jwks"]

logger = structlog.get_logger("gateway.jwks")

FRESH = 300.0
"""Seconds for which keys are believed without asking again: how long one that was withdrawn still counts."""
PAUSE = 10.0
"""Seconds at least between two questions: whoever makes up key ids makes nobody ask more often."""


class Jwks:
    """The key set at `url`. `now` is in seconds, of any clock. Raises `BadKey` for what is no URL."""

    def __init__(self, url: str, now: Callable[[], float]) -> None:
        try:
            self._upstream = Upstream("The key server", url)
        except BadEnvironment as error:
            raise BadKey(str(error)) from error
        except ValueError:  # which shows it, and what may be secret in it
            raise BadKey("this is no address: expected http://host… or https://host…") from None
        self._now = now
        self._keys: list[Key] = []
        self._fetched_at = float("-inf")
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def find(self, algorithm: str, kid: str | None) -> Sequence[Key]:
        """The keys that may have signed a token whose header says this. Raises `Refused('overloaded')`, if
        there never were any."""
        if algorithm not in PUBLIC:
            return []
        known = self._known(algorithm, kid)
        if known and self._asking.locked():
            return known  # somebody asks whether they still count, and may have to wait long
        if not known or self._now() >= self._fetched_at + FRESH:
            await self._ask()
        if not self._keys:
            raise Refused("overloaded", "The keys that tokens are checked with cannot be fetched; try again.")
        return self._known(algorithm, kid)

    async def check(self) -> str:
        """A sentence on what is there now, for `gateway check`. Raises `AgentError`."""
        try:
            await self._fetch()
        except BadKey as error:
            raise AgentError(f"{self._upstream.address}: {error}") from error
        return f"{len(self._keys)} keys at {self._upstream.address}"

    async def aclose(self) -> None:
        """Let go of the line to it."""
        await self._upstream.aclose()

    def _known(self, algorithm: str, kid: str | None) -> list[Key]:
        return [
            key
            for key in self._keys
            if algorithm in key.algorithms and (kid is None or key.kid in (None, kid))
        ]

    async def _ask(self) -> None:
        """Fetch the keys, unless somebody just did; what is kept stays if that fails."""
        async with self._asking:
            if self._now() < self._asked_at + PAUSE:
                return
            try:
                await self._fetch()
            except (AgentError, BadKey) as error:
                logger.warning("no keys fetched", url=self._upstream.address, why=str(error))
            # Not before: who is cancelled while it asks has asked nothing.
            self._asked_at = self._now()

    async def _fetch(self) -> None:
        status, body = await self._upstream.get()
        if status != 200:
            raise BadKey(f"the status is {status}")
        self._keys = public_keys_of_set(body)
        self._fetched_at = self._now()
