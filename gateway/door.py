"""The gateway's own authenticator: service keys, and user tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from protocol.errors import Refused

from .interfaces import Caller
from .jwks import Jwks
from .keys import BadKey, FixedKeys, Key, Keys, public_key, secret_key
from .settings import OPTIONS, Settings
from .tokens import Tokens

__all__ = ["Door", "ServiceKeys", "door_of"]


class ServiceKeys:
    """Keys of services, which act for any user. Only their hashes are kept."""

    def __init__(self, named: Sequence[str]) -> None:
        """`named` holds `name=key` each. Raises `BadKey`, which tells the names only."""
        self._hashes: dict[str, bytes] = {}
        for text in named:
            name, _, key = text.partition("=")
            if name in self._hashes:
                raise BadKey(f"there are two keys of the name {name}")
            self._hashes[name] = sha256(key.encode()).digest()

    @property
    def names(self) -> list[str]:
        """Whose keys there are."""
        return [*self._hashes]

    def know(self, key: str) -> bool:
        """Is it one of them? Takes as long for any key: all are compared, and every byte of them."""
        given = sha256(key.encode(errors="replace")).digest()
        return sum(compare_digest(given, known) for known in self._hashes.values()) > 0


class Door:
    """Lets in who shows a service key or a token, as `interfaces.Authenticator` says."""

    def __init__(self, services: ServiceKeys, tokens: Tokens | None, jwks: Jwks | None = None) -> None:
        self._services = services
        self._tokens = tokens
        self._jwks = jwks

    async def __call__(self, token: str | None, _: Mapping[str, str]) -> Caller:
        if token is None:
            raise Refused("unauthenticated", "Say who you are: Authorization: Bearer …, or X-API-Key: ….")
        if self._services.know(token):
            return Caller(service=True)
        if self._tokens is None:
            raise Refused("unauthenticated", "This is none of this gateway's keys.")
        return await self._tokens.read(token)

    async def check(self) -> str:
        """A sentence on who is let in, for `gateway check`. Raises `AgentError`, if keys cannot be
        fetched."""
        who = [f"the services {', '.join(self._services.names)}"] if self._services.names else []
        if self._tokens is not None:
            who.append("users with a token")
        if self._jwks is not None:
            who.append(await self._jwks.check())
        return "; ".join(who)

    async def aclose(self) -> None:
        """Let go of the line to the key server."""
        if self._jwks is not None:
            await self._jwks.aclose()


def door_of(settings: Settings, now: Callable[[], float]) -> Door:
    """The door that `settings` describe, which must have keys. `now` is Unix seconds. Raises `BadKey`, which
    names the setting."""
    with _of("api_keys"):
        services = ServiceKeys(settings.api_keys)
    fixed: list[Key] = []
    if settings.jwt_secret is not None:
        with _of("jwt_secret"):
            fixed.append(secret_key(settings.jwt_secret))
    if settings.jwt_public_key is not None:
        with _of("jwt_public_key"):
            fixed.append(public_key(_pem(settings.jwt_public_key)))
    jwks: Jwks | None = None
    if settings.jwks_url is not None:
        with _of("jwks_url"):
            jwks = Jwks(settings.jwks_url, now)
    sources: list[Keys] = [FixedKeys(fixed)] if fixed else []
    if jwks is not None:
        sources.append(jwks)
    tokens = Tokens(sources, now, audience=settings.jwt_audience, issuer=settings.jwt_issuer)
    return Door(services, tokens if sources else None, jwks)


@contextmanager
def _of(setting: str) -> Iterator[None]:
    """What is wrong with a key is told with the name of its setting."""
    try:
        yield
    except BadKey as error:
        raise BadKey(f"{OPTIONS[setting].variable} is of no use: {error}.") from None


def _pem(given: str) -> str:
    """A PEM text, or what the file of that name holds. Raises `BadKey`."""
    if "-----BEGIN" in given:
        return given
    try:
        return Path(given).read_text()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise BadKey(f"it is neither a PEM text nor a file that can be read ({reason})") from None
