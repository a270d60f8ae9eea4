"""The gateway's own door: whom keys and tokens let in, and which settings make no door."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.door import Door, ServiceKeys, door_of
from gateway.interfaces import AgentError, Caller
from gateway.keys import BadKey, secret_key
from gateway.settings import Settings
from gateway.tokens import mint
from protocol.errors import Refused
from tests.gateway.issuer import issuer, jwk, pem, token

NOW = 1_000_000.0
SECRET = "a secret of thirty-two bytes, or more"
ANN = mint(secret_key(SECRET), "ann", NOW + 60)
KEYS = ("ops=geheim-1", "ci=geheim=2")


def door(**settings: object) -> Door:
    return door_of(Settings(**settings), lambda: NOW)  # type: ignore[arg-type]


async def refusal(made: Door, given: str | None) -> tuple[str, str]:
    with pytest.raises(Refused) as refused:
        await made(given, {})
    return refused.value.code, refused.value.content


async def test_a_service_key_is_of_a_service_that_names_its_users() -> None:
    made = door(api_keys=KEYS, jwt_secret=SECRET)
    for key in ("geheim-1", "geheim=2"):
        assert await made(key, {}) == Caller(service=True)
    assert await made(ANN, {}) == Caller("ann", NOW + 60)


@pytest.mark.parametrize("given", ["", "ops", "ops=geheim-1", "geheim-", "geheim-1 ", "geheim-11", "\ud800"])
async def test_what_is_almost_a_service_key_is_none(given: str) -> None:
    assert await refusal(door(api_keys=KEYS), given) == (
        "unauthenticated",
        "This is none of this gateway's keys.",
    )
    assert (await refusal(door(api_keys=KEYS, jwt_secret=SECRET), given))[0] == "unauthenticated"


async def test_who_shows_nothing_is_told_how_to() -> None:
    code, why = await refusal(door(jwt_secret=SECRET), None)
    assert (code, why) == (
        "unauthenticated",
        "Say who you are: Authorization: Bearer …, or X-API-Key: ….",
    )


def test_of_service_keys_hashes_are_kept_only() -> None:
    keys = ServiceKeys(KEYS)
    assert keys.names == ["ops", "ci"]
    assert "geheim" not in repr(vars(keys))


async def test_a_public_key_is_a_text_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(pem("SECP256R1"))
    for given in (pem("SECP256R1"), str(file)):
        assert (await door(jwt_public_key=given)(token("SECP256R1", "ES256"), {})).user == "ann"


async def test_all_kinds_of_keys_work_beside_each_other() -> None:
    async with issuer(jwk("rsa", kid="r")) as keys:
        made = door(api_keys=KEYS, jwt_secret=SECRET, jwt_public_key=pem("SECP256R1"), jwks_url=keys.url)
        for given in (ANN, token("SECP256R1", "ES256"), token("rsa", "RS256", "r")):
            assert (await made(given, {})).user == "ann"
        assert (await made("geheim-1", {})).service
        assert await made.check() == f"the services ops, ci; users with a token; 1 keys at {keys.url}"
        keys.status = 500
        with pytest.raises(AgentError, match="the status is 500"):
            await made.check()
        await made.aclose()


async def test_audience_and_issuer_are_those_of_the_settings() -> None:
    made = door(jwt_secret=SECRET, jwt_audience="us", jwt_issuer="id")
    right = mint(secret_key(SECRET), "ann", NOW + 60, audience="us", issuer="id")
    assert (await made(right, {})).user == "ann"
    for audience, who in (("them", "id"), ("us", "di")):
        wrong = mint(secret_key(SECRET), "ann", NOW + 60, audience=audience, issuer=who)
        assert (await refusal(made, wrong))[0] == "unauthenticated"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"jwt_secret": "geheim"}, "GATEWAY_JWT_SECRET is of no use: the secret has 6 bytes"),
        ({"jwt_secret": pem("rsa")}, "GATEWAY_JWT_SECRET is of no use: this is no secret but"),
        (
            {"jwt_public_key": "no/such/geheim.pem"},
            "GATEWAY_JWT_PUBLIC_KEY is of no use: it is neither a PEM text nor a file that can be read (No",
        ),
        ({"jwt_public_key": "\0geheim"}, "GATEWAY_JWT_PUBLIC_KEY is of no use: it is neither a PEM text"),
        ({"jwt_public_key": __file__}, "GATEWAY_JWT_PUBLIC_KEY is of no use: this is no public key in PEM"),
        ({"jwks_url": "ann:geheim@id.example"}, "GATEWAY_JWKS_URL is of no use: this is no address"),
        (
            {"api_keys": ("a=geheim", "a=b")},
            "GATEWAY_API_KEYS is of no use: there are two keys of the name a",
        ),
    ],
)
def test_keys_that_are_none_are_told_by_the_name_of_their_setting(
    settings: dict[str, object], why: str
) -> None:
    with pytest.raises(BadKey) as error:
        door(**settings)
    assert str(error.value).startswith(why)
    assert "geheim" not in str(error.value)
