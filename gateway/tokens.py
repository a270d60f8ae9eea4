"""User tokens: JSON Web Tokens (RFC 7519), read and made.

PyJWT checks signatures. Claims are checked here, because for PyJWT the time is always the machine's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
from jwt import PyJWS, PyJWTError
from jwt.algorithms import HMACAlgorithm
from msgspec import Struct

from protocol.errors import Refused
from protocol.ids import check_user_id

from .interfaces import Caller
from .keys import PUBLIC, Key, Keys

__all__ = ["LEEWAY", "Tokens", "mint"]

LEEWAY = 30.0
"""Seconds by which the clocks of who makes tokens and who checks them may differ."""


class _Hmac(HMACAlgorithm):
    def check_key_length(self, key: bytes) -> None:
        """PyJWT warns of HS512 with less than 64 bytes; `secret_key` demands what all of them need."""


def _signatures() -> PyJWS:
    signatures = PyJWS(algorithms=[*PUBLIC])
    signatures.register_algorithm("HS256", _Hmac(HMACAlgorithm.SHA256))
    signatures.register_algorithm("HS384", _Hmac(HMACAlgorithm.SHA384))
    signatures.register_algorithm("HS512", _Hmac(HMACAlgorithm.SHA512))
    return signatures


_SIGNATURES = _signatures()


class _Claims(Struct, omit_defaults=True):
    sub: str
    exp: float
    nbf: float = 0.0
    aud: str | list[str] | None = None
    iss: str | None = None
    agents: list[str] | None = None
    sessions: list[str] | None = None


class Tokens:
    """What tokens say, as long as they may be believed.

    `sources` are asked for keys in turn. `now` is Unix seconds. A token must be for that audience and from
    that issuer, where these are given.
    """

    def __init__(
        self,
        sources: Sequence[Keys],
        now: Callable[[], float],
        *,
        audience: str | None = None,
        issuer: str | None = None,
    ) -> None:
        self._sources = sources
        self._now = now
        self._audience = audience
        self._issuer = issuer

    async def read(self, token: str) -> Caller:
        """Whose token this is. Raises `Refused`: `token_expired`, or `unauthenticated` with what is wrong
        with it; and what the sources raise."""
        claims = _claims(await self._payload(token))
        now = self._now()
        if now >= claims.exp + LEEWAY:
            raise Refused("token_expired", "The token is over; get a new one.")
        if now < claims.nbf - LEEWAY:
            raise _bad("it is not valid yet")
        if self._audience is not None and self._audience not in _listed(claims.aud):
            raise _bad("it is for another audience")
        if self._issuer is not None and claims.iss != self._issuer:
            raise _bad("it is from another issuer")
        return Caller(
            claims.sub,
            # One that is used after its end lives on the leeway.
            claims.exp if now < claims.exp else claims.exp + LEEWAY,
            agents=_only(claims.agents),
            sessions=_only(claims.sessions),
        )

    async def _payload(self, token: str) -> bytes:
        """What one of the keys has signed. Raises `Refused`."""
        try:
            # Not ASCII: neither is it a token, nor can all of it be encoded.
            header = _SIGNATURES.get_unverified_header(token) if token.isascii() else {}
        except PyJWTError:
            header = {}
        algorithm = header.get("alg")
        if not isinstance(algorithm, str):
            raise _bad("it is no JSON Web Token")
        for source in self._sources:
            for key in await source.find(algorithm, header.get("kid")):
                try:
                    payload: bytes = _SIGNATURES.decode(token, key.material, algorithms=[algorithm])
                except PyJWTError:
                    continue
                return payload
        raise _bad("it is not signed by a key that this gateway knows")


def mint(
    key: Key,
    user: str,
    expires_at: float,
    *,
    agents: Iterable[str] = (),
    sessions: Iterable[str] = (),
    audience: str | None = None,
    issuer: str | None = None,
) -> str:
    """A token for that user, signed with a secret, that ends at `expires_at` (Unix seconds) and is narrowed
    to these agents and sessions, if any are named. Raises `Refused('bad_id')`."""
    claims = _Claims(
        check_user_id(user),
        expires_at,
        aud=audience,
        iss=issuer,
        agents=[*agents] or None,
        sessions=[*sessions] or None,
    )
    return _SIGNATURES.encode(msgspec.json.encode(claims), key.material, algorithm="HS256")


def _claims(payload: bytes) -> _Claims:
    """Raises `Refused`."""
    try:
        claims = msgspec.json.decode(payload, type=_Claims)
        check_user_id(claims.sub)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Refused):
        raise _bad("it must have sub, a user, and exp; agents and sessions are lists, if given") from None
    return claims


def _listed(audience: str | list[str] | None) -> list[str]:
    return [audience] if isinstance(audience, str) else audience or []


def _only(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _bad(why: str) -> Refused:
    return Refused("unauthenticated", f"This token does not count here: {why}.")
