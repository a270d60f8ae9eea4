"""A published key set: asked for seldom, kept on when its server is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.interfaces import AgentError
from gateway.jwks import FRESH, PAUSE, Jwks
from gateway.keys import BadKey
from gateway.tokens import Tokens
from protocol.errors import Refused
from tests.gateway.issuer import issuer, jwk, key_set, token
from tests.harness import WAIT


class Reader:
    """Reads tokens by the keys of an issuer, at a time that the test sets."""

    def __init__(self, url: str) -> None:
        self.time = 1_000_000.0
        self.jwks = Jwks(url, lambda: self.time)
        self.tokens = Tokens([self.jwks], lambda: self.time)

    async def user(self, given: str) -> str | None:
        return (await self.tokens.read(given)).user

    async def refusal(self, given: str) -> str:
        with pytest.raises(Refused) as refused:
            await self.tokens.read(given)
        return refused.value.code


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Reader]:
    reader = Reader(url)
    try:
        async with asyncio.timeout(WAIT):
            yield reader
    finally:
        await reader.jwks.aclose()


RSA, EC = jwk("rsa", kid="r"), jwk("SECP256R1", kid="e")
BY_RSA, BY_EC = token("rsa", "RS256", "r"), token("SECP256R1", "ES256", "e")


async def test_tokens_are_read_by_keys_that_are_asked_for_once() -> None:
    async with issuer(RSA, EC) as keys, reading(keys.url) as reader:
        for given in (BY_RSA, BY_EC, BY_RSA, token("rsa", "PS512")):
            assert await reader.user(given) == "ann"
        assert keys.asked == 1


async def test_many_who_come_at_once_ask_once() -> None:
    async with issuer(RSA) as keys, reading(keys.url) as reader:
        assert await asyncio.gather(*[reader.user(BY_RSA) for _ in range(20)]) == ["ann"] * 20
        assert keys.asked == 1


async def test_keys_are_asked_for_again_when_they_are_old() -> None:
    async with issuer(RSA) as keys, reading(keys.url) as reader:
        await reader.user(BY_RSA)
        reader.time += FRESH - 1
        await reader.user(BY_RSA)
        assert keys.asked == 1
        keys.body = key_set(EC)
        reader.time += 1
        assert await reader.refusal(BY_RSA) == "unauthenticated"  # it was withdrawn
        assert keys.asked == 2


@pytest.mark.parametrize(
    ("status", "body"), [(500, b""), (200, b"<html>"), (302, b""), (200, b'{"keys": []}')]
)
async def test_keys_are_kept_while_their_server_answers_nothing_good(status: int, body: bytes) -> None:
    async with issuer(RSA) as keys, reading(keys.url) as reader:
        await reader.user(BY_RSA)
        keys.status, keys.body = status, body
        reader.time += FRESH
        assert await reader.user(BY_RSA) == "ann"
        assert keys.asked == 2


async def test_keys_are_kept_while_their_server_is_away() -> None:
    async with issuer(RSA) as keys:
        reader = Reader(keys.url)
        await reader.user(BY_RSA)
    reader.time += FRESH
    assert await reader.user(BY_RSA) == "ann"
    await reader.jwks.aclose()


async def test_only_one_waits_for_a_server_that_does_not_answer() -> None:
    async with issuer(RSA) as keys, reading(keys.url) as reader, asyncio.TaskGroup() as group:
        await reader.user(BY_RSA)
        reader.time += FRESH
        keys.held.clear()
        keys.came.clear()
        waits = group.create_task(reader.user(BY_RSA))
        await keys.came.wait()
        assert await reader.user(BY_RSA) == "ann"  # by the old keys
        assert not waits.done()
        keys.held.set()
        assert await waits == "ann"


async def test_an_unknown_key_id_asks_again_but_seldom() -> None:
    async with issuer(RSA) as keys, reading(keys.url) as reader:
        await reader.user(BY_RSA)
        keys.body = key_set(RSA, EC)
        assert await reader.refusal(BY_EC) == "unauthenticated"
        assert keys.asked == 1  # just now it was not there
        reader.time += PAUSE
        assert await reader.user(BY_EC) == "ann"
        for number in range(20):
            assert await reader.refusal(token("rsa", "RS256", f"made up {number}")) == "unauthenticated"
        assert keys.asked == 2


async def test_other_algorithms_than_those_of_public_keys_ask_nobody() -> None:
    async with issuer(RSA) as keys, reading(keys.url) as reader:
        assert await reader.jwks.find("HS256", None) == []
        assert await reader.jwks.find("none", None) == []
        assert keys.asked == 0


async def test_without_any_keys_nobody_is_told_that_their_token_is_bad() -> None:
    async with issuer() as keys, reading(keys.url) as reader:
        assert await reader.refusal(BY_RSA) == "overloaded"
        keys.body = key_set(RSA)
        assert await reader.refusal(BY_RSA) == "overloaded"
        assert keys.asked == 1
        reader.time += PAUSE
        assert await reader.user(BY_RSA) == "ann"


async def test_who_goes_while_keys_are_fetched_leaves_it_to_the_next() -> None:
    async with issuer(RSA) as keys, reading(keys.url) as reader:
        keys.held.clear()
        async with asyncio.TaskGroup() as group:
            goes = group.create_task(reader.user(BY_RSA))
            await keys.came.wait()
            goes.cancel()
        keys.held.set()
        assert await reader.user(BY_RSA) == "ann"


async def test_check_says_what_is_there() -> None:
    async with issuer(RSA, EC) as keys, reading(keys.url) as reader:
        assert await reader.jwks.check() == f"2 keys at {keys.url}"
        keys.status = 404
        with pytest.raises(AgentError, match="the status is 404"):
            await reader.jwks.check()


def test_what_is_no_url_is_refused_at_once() -> None:
    with pytest.raises(BadKey, match="this is no address"):
        Jwks("id.example", lambda: 0.0)


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "SSL_CERT_FILE is '/nowhere/ca.pem': No such file"),
        ("HTTPS_PROXY", "socks5://ann:geheim@proxy.example", "HTTPS_PROXY names a SOCKS proxy"),
    ],
)
def test_what_the_environment_lacks_for_fetching_keys_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, why: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadKey, match=why) as caught:
        Jwks("https://id.example/keys", lambda: 0.0)
    assert "geheim" not in str(caught.value)


async def test_proxies_that_are_set_for_others_keep_no_keys_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "localhost,fd07:b51a:cc66:f0::/64,[::1]")
    async with issuer(RSA, EC) as keys, reading(keys.url) as reader:
        assert await reader.jwks.check() == f"2 keys at {keys.url}"
