"""Who is calling, and which user they may name."""

from __future__ import annotations

import pytest

from gateway.auth import Identity, authenticate, credentials, identify
from gateway.interfaces import Caller
from protocol.errors import Refused


@pytest.mark.parametrize(
    ("caller", "named", "identity"),
    [
        (Caller(), None, Identity("user", everyone=True)),
        (Caller(), "ann", Identity("ann")),
        (Caller("ann"), None, Identity("ann")),
        (Caller("ann"), "ann", Identity("ann")),
        (Caller("ann", 9.0), None, Identity("ann", expires_at=9.0)),
    ],
)
def test_a_caller_acts_for_its_own_user_or_one_that_it_names(
    caller: Caller, named: str | None, identity: Identity
) -> None:
    assert identify(caller, named) == identity


@pytest.mark.parametrize(("named", "code"), [("bob", "forbidden"), ("a/b", "bad_id"), ("", "bad_id")])
def test_nobody_acts_for_another_or_for_what_is_no_user(named: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        identify(Caller("ann"), named)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({}, None),
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer  abc "}, "abc"),
        ({"authorization": "Basic abc"}, None),
        ({"authorization": "Bearer"}, None),
        ({"x-api-key": "key"}, "key"),
        ({"authorization": "Bearer abc", "x-api-key": "key"}, "abc"),
    ],
)
def test_a_token_is_a_bearer_or_an_api_key(headers: dict[str, str], token: str | None) -> None:
    assert credentials(headers) == token


async def test_without_an_authenticator_everybody_is_nobody_in_particular() -> None:
    assert await authenticate(None, "anything", {}) == Caller(service=True)
