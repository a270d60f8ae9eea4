"""Keys that tokens are checked with: each is good for its own algorithms only.

A token's header names the algorithm, and whoever sends it wrote that header: so a key says which algorithms
it takes part in, a secret those of secrets, a public key those of its kind, and the header only chooses among
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt import PyJWK, PyJWTError
from jwt.algorithms import HMACAlgorithm
from msgspec import Struct

__all__ = [
    "PUBLIC",
    "SECRET",
    "BadKey",
    "FixedKeys",
    "Key",
    "Keys",
    "public_key",
    "public_keys_of_set",
    "secret_key",
]

SECRET = frozenset({"HS256", "HS384", "HS512"})
"""The algorithms of secrets."""
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
PUBLIC = _RSA | {*_CURVES.values(), "EdDSA"}
"""The algorithms of public keys."""

_MIN_SECRET_BYTES = 32  # RFC 7518, 3.2: a shorter one can be guessed from a single token
_MIN_RSA_BITS = 2048  # RFC 7518, 3.3


class BadKey(ValueError):
    """A key that nothing may be checked with. The sentence says why, and tells nothing of the key."""


class Key(NamedTuple):
    """What a signature is checked with, and which algorithms that is good for."""

    material: Any
    algorithms: frozenset[str]
    kid: str | None = None
    """How tokens name it, if they do."""


class Keys(Protocol):
    """Where keys come from."""

    async def find(self, algorithm: str, kid: str | None) -> Sequence[Key]:
        """Those that may have signed a token whose header says this. Raises `Refused`, if that cannot be
        known now."""
        ...


class FixedKeys:
    """Keys that were known from the start. They have no ids: whatever id a token names may mean them."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = keys

    async def find(self, algorithm: str, kid: str | None) -> Sequence[Key]:  # noqa: ARG002
        return [key for key in self._keys if algorithm in key.algorithms]


def secret_key(secret: str) -> Key:
    """The key that is a secret of those who make tokens and those who check them. Raises `BadKey`."""
    material = secret.encode()
    if len(material) < _MIN_SECRET_BYTES:
        raise BadKey(f"the secret has {len(material)} bytes; it must have at least {_MIN_SECRET_BYTES}")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(material)
    except PyJWTError:
        raise BadKey("this is no secret but a public or private key, whose half everybody may know") from None
    return Key(material, SECRET)


def public_key(pem: str) -> Key:
    """The public key in a PEM text, which may be a certificate. Raises `BadKey`."""
    if "PRIVATE KEY" in pem:
        raise BadKey("this is a private key; tokens are checked with the public one")
    data = pem.replace("\\n", "\n").encode()  # environment files hold it on one line
    try:
        if "BEGIN CERTIFICATE" in pem:
            material: Any = load_pem_x509_certificate(data).public_key()
        else:
            material = load_pem_public_key(data)
    except ValueError:
        raise BadKey("this is no public key in PEM: -----BEGIN PUBLIC KEY----- …") from None
    return Key(material, _algorithms_of(material))


def public_keys_of_set(data: bytes) -> list[Key]:
    """The public keys for signatures in a JSON Web Key Set (RFC 7517); what else it holds is left out. Raises
    `BadKey`, if nothing remains."""
    try:
        jwks = msgspec.json.decode(data, type=_KeySet).keys
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadKey('this is no key set: expected {"keys": [{"kty": …}, …]}') from None
    keys = [key for jwk in jwks if (key := _key_of(jwk)) is not None]
    if not keys:
        raise BadKey("there is no public key for signatures in this key set")
    return keys


class _KeySet(Struct):
    keys: list[dict[str, Any]]


def _key_of(jwk: dict[str, Any]) -> Key | None:
    """The key, if it is public and for signatures: a secret in a public place is none."""
    kid, algorithm = jwk.get("kid"), jwk.get("alg")
    if jwk.get("use", "sig") != "sig":
        return None
    try:
        material = PyJWK(jwk).key
        algorithms = _algorithms_of(material)
    except (PyJWTError, TypeError, ValueError):
        return None
    return Key(
        material,
        algorithms & {algorithm} if isinstance(algorithm, str) else algorithms,
        kid if isinstance(kid, str) else None,
    )


def _algorithms_of(material: Any) -> frozenset[str]:
    """What a public key is good for, by its kind. Raises `BadKey`."""
    match material:
        case RSAPublicKey(key_size=bits):
            if bits < _MIN_RSA_BITS:
                raise BadKey(f"an RSA key of {bits} bits is too short; it must have at least {_MIN_RSA_BITS}")
            return _RSA
        case EllipticCurvePublicKey() if material.curve.name in _CURVES:
            return frozenset({_CURVES[material.curve.name]})
        case Ed25519PublicKey() | Ed448PublicKey():
            return frozenset({"EdDSA"})
        case _:
            raise BadKey("a key of this kind signs no tokens; it must be RSA, P-256, P-384, P-521 or Ed25519")
