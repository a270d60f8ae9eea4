"""Visitors without an account: whom their tokens let in, and that nobody else is taken for one."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.door import door_of
from gateway.guests import Guests, kept_secret
from gateway.interfaces import Authenticator, Caller
from gateway.keys import BadKey, secret_key
from gateway.parts import CannotStart, load_app, load_door, load_guests
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.tokens import LEEWAY, mint
from protocol.errors import Refused
from protocol.history import DAY

NOW = 1_000_000.0
SECRET = "a secret of thirty-two bytes, or more"
OTHER = "another secret of thirty-two bytes, or so"


class Clock:
    """A time that the test sets."""

    time = NOW

    def __call__(self) -> float:
        return self.time


def guests(
    clock: Clock | None = None,
    others: Authenticator | None = None,
    *,
    days: float = 30.0,
    secret: str = SECRET,
) -> Guests:
    return Guests(secret, MemoryStore(), clock or Clock(), days=days, others=others)


async def refused(door: Authenticator, token: str | None) -> Refused:
    with pytest.raises(Refused) as refusal:
        await door(token, {})
    return refusal.value


async def test_every_guest_is_a_user_of_its_own_for_so_many_days() -> None:
    door = guests(days=2)
    one, other = await door.admit(), await door.admit()
    assert one.user != other.user
    assert one.user.startswith("guest-")
    assert one.expires_at == NOW + 2 * DAY
    assert await door(one.token, {}) == Caller(one.user, NOW + 2 * DAY)
    assert await door(other.token, {}) == Caller(other.user, NOW + 2 * DAY)


async def test_a_guest_that_comes_before_the_end_stays_the_same_and_one_that_comes_later_does_not() -> None:
    clock = Clock()
    door = guests(clock, days=1)
    first = await door.admit()
    clock.time += DAY - 1
    again = await door.admit(first.token)
    assert (again.user, again.expires_at) == (first.user, NOW + 2 * DAY - 1)
    clock.time = NOW + DAY + LEEWAY
    with pytest.raises(Refused) as over:
        await door.admit(first.token)
    assert over.value.code == "token_expired"
    assert (await refused(door, first.token)).code == "token_expired"
    assert (await door(again.token, {})).user == first.user


async def test_guests_are_let_in_beside_services_and_users_with_tokens() -> None:
    clock = Clock()
    door = guests(clock, door_of(Settings(jwt_secret=OTHER, api_keys=("shop=" + "k" * 40,)), clock))
    guest = await door.admit()
    assert (await door(guest.token, {})).user == guest.user
    assert (await door(mint(secret_key(OTHER), "ann", NOW + 60), {})).user == "ann"
    assert (await door("k" * 40, {})).service
    for token in (None, "", "nonsense", mint(secret_key("x" * 32), "ann", NOW + 60)):
        assert (await refused(door, token)).code == "unauthenticated"


async def test_nobody_is_a_guest_whom_the_gateway_did_not_make_one() -> None:
    clock = Clock()

    async def anybody(token: str | None, _: Mapping[str, str]) -> Caller:
        return Caller(token)

    signed = mint(secret_key(OTHER), "guest-1", NOW + 60)
    by_token = guests(clock, door_of(Settings(jwt_secret=OTHER), clock))
    assert "'guest-'" in (await refused(by_token, signed)).content
    assert "'guest-'" in (await refused(guests(clock, anybody), "guest-1")).content
    # Nor does its key make anybody else.
    assert (await refused(guests(), mint(secret_key(SECRET), "ann", NOW + 60))).code == "unauthenticated"
    elsewhere = await guests(secret="the secret of another gateway, of 32 bytes").admit()
    assert (await refused(guests(), elsewhere.token)).code == "unauthenticated"
    with pytest.raises(Refused) as refusal:
        await guests(clock, anybody).admit("ann")
    assert refusal.value.code == "unauthenticated"


async def test_without_a_token_one_is_told_where_there_is_one() -> None:
    assert "POST /guest" in (await refused(guests(), None)).content


# ── The key ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_key_is_made_once_for_its_owners_eyes_only(tmp_path: Path) -> None:
    path = tmp_path / "key"
    os.umask(before := os.umask(0))
    with ThreadPoolExecutor(16) as pool:
        secrets = [*pool.map(lambda _: kept_secret(path), range(64))]
    os.umask(before)
    assert {*secrets} == {path.read_text()}
    assert len(secrets[0]) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [*tmp_path.iterdir()] == [path]
    assert kept_secret(tmp_path / "another") != secrets[0]


async def test_a_guest_is_known_again_after_a_restart_where_sessions_are(tmp_path: Path) -> None:
    here, memory = Settings(store=f"sqlite:///{tmp_path}/chats.db"), Settings(store="memory:")
    guest = await load_guests(here, MemoryStore(), None).admit()
    assert (await load_guests(here, MemoryStore(), None)(guest.token, {})).user == guest.user
    assert (tmp_path / "chats.db-guest-key").exists()
    forgotten = await load_guests(memory, MemoryStore(), None).admit()
    assert (
        await refused(load_guests(memory, MemoryStore(), None), forgotten.token)
    ).code == "unauthenticated"


@pytest.mark.parametrize(
    ("content", "why"), [(b"short", "5 bytes"), (b"\xff" * 40, "no text"), (None, "directory")]
)
def test_a_key_that_is_of_no_use_is_told_of_and_not_replaced(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "chats.db-guest-key"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(CannotStart, match=why) as refusal:
        load_guests(Settings(store=f"sqlite:///{tmp_path}/chats.db"), MemoryStore(), None)
    assert str(path) in str(refusal.value)


def test_with_guests_it_listens_anywhere() -> None:
    load_app(Settings(store="memory:", host="0.0.0.0", guests=True), {})


async def test_check_tells_who_is_let_in() -> None:
    settings = Settings(api_keys=("shop=" + "k" * 40,), guest_days=7)
    assert (
        await guests(others=load_door(settings), days=7).check()
        == "the services shop; guests, each for 7 days"
    )
    assert await guests(days=0.5).check() == "guests, each for 0.5 days"


def test_a_secret_that_is_too_short_is_none() -> None:
    with pytest.raises(BadKey):
        guests(secret="short")
