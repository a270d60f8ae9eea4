"""Keys: which are good for which algorithms, and which are good for nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from jwt.algorithms import ECAlgorithm

from gateway.keys import PUBLIC, SECRET, BadKey, FixedKeys, public_key, public_keys_of_set, secret_key
from tests.gateway.issuer import jwk, key_set, pem, private, private_pem

RSA = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


@pytest.mark.parametrize(
    ("kind", "algorithms"),
    [
        ("rsa", RSA),
        ("SECP256R1", {"ES256"}),
        ("SECP384R1", {"ES384"}),
        ("SECP521R1", {"ES512"}),
        ("ed25519", {"EdDSA"}),
        ("ed448", {"EdDSA"}),
    ],
)
def test_a_public_key_is_good_for_the_algorithms_of_its_kind(kind: str, algorithms: set[str]) -> None:
    assert public_key(pem(kind)).algorithms == algorithms
    assert algorithms < PUBLIC


def test_a_secret_is_good_for_those_of_secrets_and_no_key_for_both() -> None:
    assert secret_key("s" * 32).algorithms == {"HS256", "HS384", "HS512"} == SECRET
    assert not SECRET & PUBLIC


def test_a_public_key_may_come_on_one_line_or_in_a_certificate() -> None:
    assert public_key(pem("rsa").replace("\n", "\\n")).algorithms == RSA
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    certificate = (
        x509.CertificateBuilder(name, name, private("rsa").public_key(), 1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
        .sign(private("rsa"), hashes.SHA256())
    )
    found = public_key(certificate.public_bytes(Encoding.PEM).decode())
    assert found.material.public_numbers() == private("rsa").public_key().public_numbers()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (pem("rsa short"), "an RSA key of 1024 bits is too short; it must have at least 2048"),
        (pem("SECP256K1"), "a key of this kind signs no tokens"),
        (pem("dsa"), "a key of this kind signs no tokens"),
        (private_pem("ed25519"), "this is a private key; tokens are checked with the public one"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "this is no public key in PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "this is no public key in PEM"),
        ("geheim", "this is no public key in PEM"),
    ],
    ids=lambda text: text[:24],
)
def test_what_is_no_key_for_tokens_is_told_without_showing_it(text: str, why: str) -> None:
    with pytest.raises(BadKey) as error:
        public_key(text)
    assert str(error.value).startswith(why)
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize(
    ("secret", "why"),
    [("s" * 31, "the secret has 31 bytes; it must have at least 32"), (pem("rsa"), "this is no secret but")],
    ids=["short", "public"],
)
def test_a_secret_that_could_be_guessed_or_known_is_none(secret: str, why: str) -> None:
    with pytest.raises(BadKey, match=why):
        secret_key(secret)


async def test_fixed_keys_are_found_by_algorithm_whatever_id_a_token_names() -> None:
    keys = FixedKeys([secret_key("s" * 32), public_key(pem("rsa"))])
    assert [key.algorithms for key in await keys.find("RS256", "any")] == [RSA]
    assert [key.algorithms for key in await keys.find("HS512", None)] == [SECRET]
    assert await keys.find("ES256", None) == []
    assert await keys.find("none", None) == []


def test_of_a_key_set_public_keys_for_signatures_are_taken() -> None:
    found = public_keys_of_set(
        key_set(
            jwk("rsa", kid="a", use="sig"),
            jwk("rsa", kid="b", alg="PS256"),
            jwk("SECP256R1", kid="c"),
            jwk("ed25519", alg={}, kid=7),
            jwk("rsa", kid="for encryption", use="enc"),
            jwk("rsa", kid="for encryption too", alg="RSA-OAEP"),
            jwk("rsa short", kid="short"),
            {"kty": "oct", "k": "c2VjcmV0" * 8, "kid": "a secret, published"},
            {"kty": "oct", "k": "c2VjcmV0" * 8, "alg": "HS256"},
            {**ECAlgorithm.to_jwk(private("SECP256R1"), as_dict=True), "kid": "a private one"},
            {"kty": "RSA", "n": "", "e": ""},
            {"kty": "new"},
            {"kty": ["RSA"], "alg": ["RS256"]},
            {},
        )
    )
    assert [(key.kid, key.algorithms) for key in found] == [
        ("a", RSA),
        ("b", {"PS256"}),
        ("c", {"ES256"}),
        (None, {"EdDSA"}),
    ]


@pytest.mark.parametrize(
    "data",
    [b"<html>", b"\xff", b"[]", b"{}", b'{"keys": [1]}', b'{"keys": []}', key_set(jwk("rsa", use="enc"))],
)
def test_what_is_no_key_set_is_told(data: bytes) -> None:
    with pytest.raises(BadKey, match="key set"):
        public_keys_of_set(data)
