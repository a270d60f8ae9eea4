"""Tokens: whose they are, how long they count, and why one does not."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from gateway.interfaces import Caller
from gateway.keys import FixedKeys, Key, secret_key
from gateway.tokens import LEEWAY, Tokens, mint
from protocol.errors import Refused

SECRET = "a secret of thirty-two bytes, or more"
KEY = secret_key(SECRET)
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
NOW = 1_000_000.0


def signed(key: Any = SECRET, algorithm: str = "HS256", /, **claims: Any) -> str:
    """A token of Ann's for an hour, unless `claims` say otherwise; those that are None are left out."""
    body = {"sub": "ann", "exp": NOW + 3600} | claims
    return jwt.encode({name: value for name, value in body.items() if value is not None}, key, algorithm)


def tokens(*keys: Key, now: float = NOW, **options: Any) -> Tokens:
    return Tokens([FixedKeys(keys or [KEY])], lambda: now, **options)


async def refusal(token: str, reader: Tokens | None = None) -> tuple[str, str]:
    with pytest.raises(Refused) as refused:
        await (reader or tokens()).read(token)
    return refused.value.code, refused.value.content


async def test_a_token_says_whose_it_is_and_until_when() -> None:
    assert await tokens().read(signed()) == Caller("ann", NOW + 3600)


async def test_a_token_may_be_narrowed_to_agents_and_sessions() -> None:
    caller = await tokens().read(signed(agents=["echo"], sessions=[]))
    assert (caller.agents, caller.sessions) == (frozenset({"echo"}), frozenset())
    assert not caller.service


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_every_algorithm_of_secrets_is_taken_with_a_secret(algorithm: str) -> None:
    token = signed("s" * 64, algorithm)
    assert (await tokens(secret_key("s" * 64)).read(token)).user == "ann"


async def test_a_secret_of_32_bytes_is_enough_for_all_of_them_without_a_warning() -> None:
    body = unsigned({"alg": "HS512"}, {"sub": "ann", "exp": NOW + 60})  # PyJWT would warn who signs with it
    signature = hmac.digest(b"s" * 32, body.rpartition(".")[0].encode(), "sha512")
    token = body + urlsafe_b64encode(signature).decode().rstrip("=")
    assert (await tokens(secret_key("s" * 32)).read(token)).user == "ann"


async def test_a_token_is_checked_with_each_key_that_is_good_for_its_algorithm() -> None:
    other = rsa.generate_private_key(65537, 2048)
    keys = [Key(key.public_key(), frozenset({"RS256", "PS256"})) for key in (other, RSA)]
    for algorithm in ("RS256", "PS256"):
        assert (await tokens(KEY, *keys).read(signed(RSA, algorithm))).user == "ann"


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = (urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims))
    return ".".join((*parts, ""))


async def test_what_no_key_of_its_own_algorithm_signed_does_not_count() -> None:
    public = Key(RSA.public_key(), frozenset({"RS256"}))
    claims = {"sub": "ann", "exp": NOW + 60}
    for token, reader in (
        (signed("another secret of thirty-two bytes"), tokens()),
        (signed(RSA, "RS384"), tokens(public)),  # an algorithm that the key does not allow
        (signed(EC, "ES256"), tokens(public)),
        (signed(), tokens(public)),
        (unsigned({"alg": "none"}, claims), tokens(KEY, public)),
        (unsigned({"alg": "HS256"}, claims), tokens(KEY, public)),
    ):
        code, why = await refusal(token, reader)
        assert (code, why) == (
            "unauthenticated",
            "This token does not count here: it is not signed by a key that this gateway knows.",
        )


@pytest.mark.parametrize(
    "token",
    [
        "", "geheim", "a.b.c", "ä.ö.ü", "\ud800", "." * 9,
        unsigned({}, {}), unsigned({"alg": None}, {}), unsigned({"alg": ["HS256"]}, {}),
        unsigned({"alg": "HS256", "kid": 7}, {}), unsigned({"alg": "HS256", "crit": ["new"]}, {}),
    ],
)  # fmt: skip
async def test_what_is_no_token_does_not_count_and_is_not_shown(token: str) -> None:
    code, why = await refusal(token)
    assert (code, why) == ("unauthenticated", "This token does not count here: it is no JSON Web Token.")


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None}, {"exp": "soon"}, {"exp": True}, {"exp": 10**400}, {"sub": None}, {"sub": 7},
        {"sub": ""}, {"sub": "a/b"}, {"sub": "a\nb"}, {"sub": "x" * 257}, {"agents": "echo"}, {"agents": [1]},
        {"sessions": {"s": 1}}, {"nbf": "now"}, {"aud": 7}, {"iss": []},
    ],
)  # fmt: skip
async def test_claims_that_are_missing_or_malformed_make_it_count_for_nothing(claims: dict[str, Any]) -> None:
    code, why = await refusal(signed(**claims) if "iss" not in claims else raw(claims))
    assert (code, why) == (
        "unauthenticated",
        "This token does not count here: it must have sub, a user, and exp; agents and sessions are lists, "
        "if given.",
    )


def raw(claims: dict[str, Any]) -> str:
    """PyJWT makes no token with such an issuer."""
    return jwt.PyJWS().encode(json.dumps({"sub": "ann", "exp": NOW + 60} | claims).encode(), SECRET, "HS256")


async def test_a_token_that_is_over_says_so_half_a_minute_late() -> None:
    token = signed(exp=NOW)
    assert (await tokens(now=NOW - 0.1).read(token)).expires_at == NOW
    for late in (0.0, LEEWAY - 0.1):
        assert (await tokens(now=NOW + late).read(token)).expires_at == NOW + LEEWAY
    code, _ = await refusal(token, tokens(now=NOW + LEEWAY))
    assert code == "token_expired"


async def test_a_token_that_is_over_and_not_ours_tells_nothing_of_its_time() -> None:
    assert (await refusal(signed("x" * 40, exp=NOW - 99)))[0] == "unauthenticated"


async def test_a_token_that_is_not_valid_yet_counts_half_a_minute_early() -> None:
    token = signed(nbf=NOW)
    assert (await tokens(now=NOW - LEEWAY).read(token)).user == "ann"
    assert (await refusal(token, tokens(now=NOW - LEEWAY - 0.1)))[1].endswith("it is not valid yet.")


@pytest.mark.parametrize("claimed", ["us", ["them", "us"]])
async def test_the_audience_must_be_this_one_where_one_is_set(claimed: Any) -> None:
    ours = tokens(audience="us")
    assert (await ours.read(signed(aud=claimed))).user == "ann"
    assert (await tokens().read(signed(aud=claimed))).user == "ann"
    for other in ("them", ["them"], [], None):
        assert (await refusal(signed(aud=other), ours))[1].endswith("it is for another audience.")


async def test_the_issuer_must_be_this_one_where_one_is_set() -> None:
    ours = tokens(issuer="https://id.example")
    assert (await ours.read(signed(iss="https://id.example"))).user == "ann"
    assert (await tokens().read(signed(iss="anybody"))).user == "ann"
    for other in ("https://id.example/", None):
        assert (await refusal(signed(iss=other), ours))[1].endswith("it is from another issuer.")


async def test_a_token_made_here_is_one_that_is_read_here() -> None:
    made = mint(
        KEY, "ann", NOW + 60, agents=["echo"], sessions=["s"], audience="us", issuer="https://id.example"
    )
    read = await tokens(audience="us", issuer="https://id.example").read(made)
    assert read == Caller("ann", NOW + 60, agents=frozenset({"echo"}), sessions=frozenset({"s"}))
    assert await tokens().read(mint(KEY, "ann", NOW + 60)) == Caller("ann", NOW + 60)
    assert jwt.decode(made, options={"verify_signature": False}).keys() == {
        "sub", "exp", "aud", "iss", "agents", "sessions",
    }  # fmt: skip


def test_no_token_is_made_for_what_is_no_user() -> None:
    with pytest.raises(Refused, match="user_id must be"):
        mint(KEY, "a/b", NOW)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
async def test_whatever_comes_is_refused_and_never_a_bug(token: str) -> None:
    for text in (token, f"{signed().rpartition('.')[0]}.{token}", f"eyJhbGciOiJIUzI1NiJ9.{token}"):
        assert (await refusal(text))[0] == "unauthenticated"
