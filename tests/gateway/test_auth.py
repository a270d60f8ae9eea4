"""Who is calling, and which user they may name."""

from __future__ import annotations

import pytest

from gateway.auth import Identity, authenticate, credentials, identify, renew, require_service
from gateway.interfaces import Caller, Key
from protocol.errors import Refused


@pytest.mark.parametrize(
    ("caller", "named", "identity"),
    [
        (Caller(), None, Identity("user", everyone=True)),
        (Caller(), "ann", Identity("ann")),
        (Caller("ann"), None, Identity("ann")),
        (Caller("ann"), "ann", Identity("ann")),
        (Caller("ann", 9.0), None, Identity("ann", expires_at=9.0)),
        (Caller(service=True), "bob", Identity("bob", service=True)),
        (
            Caller("ann", agents=frozenset("a"), sessions=frozenset("s")),
            None,
            Identity("ann", agents=frozenset("a"), sessions=frozenset("s")),
        ),
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


ANNS = Key("a", "ann", "s")


@pytest.mark.parametrize(
    ("identity", "key", "may"),
    [
        (Identity("ann"), ANNS, True),
        (Identity("bob"), ANNS, False),
        (Identity("bob", service=True), ANNS, False),
        (Identity("user", everyone=True), ANNS, True),
        (Identity("ann", agents=frozenset("a")), ANNS, True),
        (Identity("ann", agents=frozenset("b")), ANNS, False),
        (Identity("ann", agents=frozenset()), ANNS, False),
        (Identity("ann", sessions=frozenset("s")), ANNS, True),
        (Identity("ann", sessions=frozenset("t")), ANNS, False),
        (Identity("user", everyone=True, sessions=frozenset("t")), ANNS, False),
    ],
)
def test_a_session_may_be_touched_by_its_user_with_the_rights_to_it(
    identity: Identity, key: Key, may: bool
) -> None:
    assert identity.may_touch(key) is may


def test_what_is_for_operators_is_for_services_only() -> None:
    require_service(Identity("user", service=True))
    with pytest.raises(Refused) as refused:
        require_service(Identity("ann"))
    assert refused.value.code == "forbidden"


@pytest.mark.parametrize(
    ("present", "caller", "renewed"),
    [
        (Identity("ann", expires_at=1.0), Caller("ann", 2.0), Identity("ann", expires_at=2.0)),
        (Identity("ann"), Caller("ann", agents=frozenset("a")), Identity("ann", agents=frozenset("a"))),
        (Identity("ann", sessions=frozenset("s")), Caller("ann"), Identity("ann")),
        (Identity("ann"), Caller(service=True), Identity("ann", service=True)),
        (Identity("ann", service=True), Caller("ann"), Identity("ann")),
        (
            Identity("user", everyone=True, service=True),
            Caller(service=True),
            Identity("user", everyone=True, service=True),
        ),
        (Identity("user", everyone=True, service=True), Caller("user"), Identity("user")),
    ],
)
def test_new_credentials_bring_their_own_rights_for_the_same_user(
    present: Identity, caller: Caller, renewed: Identity
) -> None:
    assert renew(present, caller) == renewed


def test_new_credentials_of_another_user_are_refused() -> None:
    with pytest.raises(Refused) as refused:
        renew(Identity("ann"), Caller("bob"))
    assert refused.value.code == "forbidden"
