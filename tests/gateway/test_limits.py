"""How much a caller may: what it has open, how often it asks, and what becomes of one who goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.agents.echo import EchoAgent
from gateway.auth import Identity
from gateway.limits import Buckets, Meter, Open, Usage
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol import frames
from protocol.bucket import FULL, Rate
from protocol.errors import Refused
from tests.harness import WAIT, Client, gateway, settle

ANN, BOB = Identity("ann"), Identity("bob")


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.time = 1_000.0

    def __call__(self) -> float:
        return self.time


def usage(clock: Clock | None = None, *, known_users: bool = True, **settings: Any) -> Usage:
    return Usage(Settings(**settings), known_users=known_users, clock=clock or Clock())


def refusal(call: Callable[..., object], *args: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        call(*args)
    assert refused.value.status == 429
    assert refused.value.retry_after_ms
    return refused.value


# ── What is counted ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_user_has_so_many_lines_and_no_more() -> None:
    u = usage(max_connections_per_user=2)
    u.opened(ANN)
    u.opened(ANN)
    assert refusal(u.opened, ANN).code == refusal(u.check, ANN).code == "too_many_connections"
    u.opened(BOB)
    u.closed(ANN)
    u.check(ANN)
    u.opened(ANN)


def test_a_line_that_becomes_anothers_counts_as_that_ones() -> None:
    u = usage(max_connections_per_user=1)
    u.opened(ANN)
    u.moved(ANN, ANN._replace(expires_at=9.0))
    u.opened(BOB)
    refusal(u.moved, ANN, BOB)
    refusal(u.check, ANN)
    u.closed(BOB)
    u.moved(ANN, BOB)
    u.check(ANN)
    refusal(u.check, BOB)


def test_a_service_for_everyone_and_users_nobody_knows_do_not_count() -> None:
    u = usage(max_connections_per_user=1, max_messages_per_minute=1)
    service = Identity("user", everyone=True)
    unknown = usage(known_users=False, max_connections_per_user=1, max_messages_per_minute=1)
    for _ in range(3):
        u.opened(service)
        unknown.opened(ANN)
        unknown.message("ann")
    for _ in range(3):
        u.closed(service)
        unknown.closed(ANN)


def test_a_guest_has_limits_of_its_own_where_guests_are_let_in() -> None:
    guest = Identity("guest-1")
    limits = {"max_guest_connections": 1, "max_guest_messages_per_minute": 1}
    for guests, code in ((True, "too_many_connections"), (False, None)):
        u = usage(guests=guests, **limits)
        u.opened(guest)
        u.message("guest-1")
        u.opened(ANN)
        u.opened(ANN)
        if code is None:
            u.opened(guest)
            u.message("guest-1")
        else:
            assert refusal(u.opened, guest).code == refusal(u.check, guest).code == code
            assert "one guest" in refusal(u.message, "guest-1").content
        u.closed(guest)
        u.opened(guest)


def test_an_address_has_so_much_open_and_no_more() -> None:
    u = usage(max_connections_per_address=2)
    for caller in ("a", "a", "b", None, None, None):
        u.came(caller)
    assert refusal(u.came, "a").code == "too_many_connections"
    u.went("a")
    u.went(None)
    u.came("a")


def test_an_address_asks_so_often_and_not_more_often() -> None:
    clock = Clock()
    u = usage(clock, max_requests_per_second=2)
    for caller in ("a", "a", "b"):
        u.came(caller)
        u.went(caller)
    refused = refusal(u.came, "a")
    assert (refused.code, refused.retry_after_ms, refused.details["limit"]) == ("rate_limited", 1000, 2)
    clock.time += 1
    u.came("a")


def test_who_is_refused_for_asking_too_often_has_nothing_open() -> None:
    clock = Clock()
    u = usage(clock, max_requests_per_second=1, max_connections_per_address=1)
    u.came("a")
    u.went("a")
    for _ in range(5):
        assert refusal(u.came, "a").code == "rate_limited"
    clock.time += 1
    u.came("a")


def test_a_user_says_so_much_a_minute() -> None:
    clock = Clock()
    u = usage(clock, max_messages_per_minute=3)
    for _ in range(3):
        u.message("ann")
    refused = refusal(u.message, "ann")
    assert (refused.code, refused.retry_after_ms) == ("rate_limited", 20_001)
    assert refused.content == "Too many messages of one user: 3 a minute are allowed."
    u.message("bob")
    clock.time += 20.001
    u.message("ann")
    refusal(u.message, "ann")


def test_nothing_is_kept_of_who_is_gone() -> None:
    opened = Open("user", 5)
    for name in "abc":
        opened.add(name)
        opened.add(name)
        opened.remove(name)
    assert len(opened) == 3
    for name in "abc":
        opened.remove(name)
    assert len(opened) == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 3)), max_size=200))
def test_a_bucket_is_kept_only_until_it_is_full(takes: list[tuple[int, float]]) -> None:
    rate, now, last = Rate(5.0, 60.0), 0.0, dict[str, float]()
    buckets = Buckets(rate)
    for number, pause in takes:
        now += pause
        try:
            buckets.take(str(number), now, "things")
        except Refused:
            continue
        last[str(number)] = now
        assert len(buckets) <= sum(now - at < rate.seconds for at in last.values())


def test_one_who_goes_on_does_not_keep_the_others() -> None:
    buckets = Buckets(Rate(3.0, 60.0))
    for number in range(100):
        buckets.take("busy", number * 30.0, "messages")
        buckets.take(str(number), number * 30.0, "messages")
    assert len(buckets) <= 3


def test_a_hundred_thousand_users_who_said_one_thing_leave_nothing() -> None:
    buckets = Buckets(Rate(3_000.0, 60.0))
    for number in range(100_000):
        buckets.take(str(number), number * 0.01, "messages")
    assert len(buckets) <= 3


# ── One connection ──────────────────────────────────────────────────────────────────────────────────────────


@given(
    st.integers(1, 50),
    st.integers(64, 500),
    st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 200)), max_size=80),
)
def test_a_meter_counts_as_two_buckets_do(most: int, size: int, came: list[tuple[float, int]]) -> None:
    clock = Clock()
    meter = Meter(usage(clock, max_frames_per_second=most, max_bytes_per_second=size, max_frame_bytes=64))
    frames_full_at = bytes_full_at = FULL
    frame_rate, byte_rate = Rate(most), Rate(size)
    for pause, length in came:
        clock.time += pause
        wait = frame_rate.wait(frames_full_at, clock.time) or byte_rate.wait(
            bytes_full_at, clock.time, length
        )
        assert (meter.take(length) is not None) == bool(wait)
        if not wait:
            frames_full_at = frame_rate.take(frames_full_at, clock.time)
            bytes_full_at = byte_rate.take(bytes_full_at, clock.time, length)


def test_twenty_busy_chats_on_one_page_are_not_hindered() -> None:
    clock = Clock()
    u = usage(clock)
    meter = Meter(u)
    assert meter.take(1_000 * 200) is None, "it attaches 1,000 sessions in one frame"
    for _ in range(600):
        clock.time += 1
        for _ in range(20):
            u.message("ann")
            for _ in range(10):  # and its user types
                assert meter.take(300) is None


def limited(clock: Clock, **settings: Any) -> Any:
    settings.setdefault("drain_timeout", 0.01)
    return gateway(
        {"echo": EchoAgent()},
        MemoryStore(),
        Settings(**settings),
        usage=Usage(Settings(**settings), known_users=True, clock=clock),
    )


async def ping(client: Client, ref: str) -> Any:
    client.put("ping", ref=ref)
    return await client.answer(ref)


async def test_too_many_frames_are_refused_one_by_one_and_the_line_lives() -> None:
    clock = Clock()
    async with limited(clock, max_frames_per_second=3) as g:
        client = Client(g)
        for ref in "abc":
            assert await ping(client, ref) == frames.Pong(ref)
        refused = await ping(client, "d")
        assert (refused.code, refused.retryable, refused.retry_after_ms) == ("rate_limited", True, 1000)
        client.put("message", session_id="s", content="hi", ref="e")
        assert (await client.answer("e")).session_id == "s"
        assert (await client.answer("e")).code == "rate_limited"
        clock.time += 1
        assert await ping(client, "f") == frames.Pong("f")
        assert client.close_code is None


async def test_too_many_bytes_are_refused_too() -> None:
    clock = Clock()
    async with limited(clock, max_bytes_per_second=250, max_frame_bytes=250) as g:
        client = Client(g)
        assert await ping(client, "a" * 120) == frames.Pong("a" * 120)
        assert (await ping(client, "b" * 120)).code == "rate_limited"
        clock.time += 1
        assert await ping(client, "c" * 120) == frames.Pong("c" * 120)


async def test_what_is_no_frame_counts_as_well() -> None:
    async with limited(Clock(), max_frames_per_second=2) as g:
        client = Client(g)
        for _ in range(3):
            client.line.receive("nonsense")
        await settle()
        assert [frame.code for frame in client.frames] == ["bad_frame", "bad_frame", "rate_limited"]


async def flood(client: Client, clock: Clock, pause: float, seconds: float) -> None:
    """Two frames, one of them too many, every `pause` seconds."""
    until = clock.time + seconds
    while clock.time < until and client.close_code is None:
        client.put("ping")
        client.put("ping")
        await settle(5)
        clock.time += pause


async def test_who_goes_on_for_a_minute_is_closed() -> None:
    clock = Clock()
    async with limited(clock, max_frames_per_second=1) as g:
        client = Client(g)
        await flood(client, clock, 0.5, 59.5)
        assert client.close_code is None
        await flood(client, clock, 0.5, 2)
        await settle()
        assert client.close_code == 4429
        assert g.lines == {}
        assert client.frames[-1].code == "rate_limited"


async def test_of_who_is_about_to_be_closed_nothing_more_is_taken() -> None:
    clock = Clock()
    async with limited(clock, max_frames_per_second=1) as g:
        client = Client(g)
        await flood(client, clock, 0.5, 60)
        client.put("ping")
        client.put("ping")
        refused = g.runtime.metrics.refusals.copy()
        client.line.receive("nonsense")
        assert g.runtime.metrics.refusals == refused
        assert client.close_code is None
        await settle()
        assert client.close_code == 4429


async def test_who_waits_as_told_may_go_on_for_ever() -> None:
    clock = Clock()
    async with limited(clock, max_frames_per_second=1) as g:
        client = Client(g)
        await flood(client, clock, 1.001, 300)
        assert client.close_code is None


async def test_whatever_there_is_too_much_of_to_go_on_for_a_minute_is_abuse() -> None:
    clock = Clock()
    async with limited(clock, max_sessions=1) as g:
        client = Client(g)
        client.put("attach", sessions=[{"session_id": "s", "create": True}], ref="a")
        await client.answer("a")
        for _ in range(62):
            client.put("attach", sessions=[{"session_id": "t", "create": True}])
            await settle()
            clock.time += 0.99
        assert client.close_code == 4429


async def test_the_messages_of_a_user_count_together_whatever_line_and_session_they_are_for() -> None:
    clock = Clock()
    async with limited(clock, max_messages_per_minute=2) as g:
        one, two, other = Client(g), Client(g), Client(g, "bob")
        for client, session_id in ((one, "s"), (two, "t")):
            client.put("message", session_id=session_id, content="hi", ref="m")
            assert (await client.answer("m")).status == "started"
        one.put("message", session_id="s", content="hi", turn_id="again", ref="n")
        refused = await one.answer("n")
        assert (refused.code, refused.session_id, refused.retry_after_ms) == ("rate_limited", "s", 30_001)
        other.put("message", session_id="s", content="hi", ref="m")
        assert (await other.answer("m")).status == "started"
        clock.time += 30.1
        one.put("message", session_id="s", content="hi", turn_id="again", ref="o")
        assert (await one.answer("o")).duplicate is False


async def test_lines_count_until_they_are_gone() -> None:
    async with limited(Clock(), max_connections_per_user=2) as g:
        first, _ = Client(g), Client(g)
        assert refusal(Client, g).code == "too_many_connections"
        assert len(g.lines) == 2
        first.vanish()
        first.vanish()
        Client(g)
        refusal(Client, g)
        Client(g, "bob")


async def test_a_line_that_says_hello_counts_as_who_it_says_it_is() -> None:
    async def named(g: Supervisor, ref: str) -> Any:
        client = Client(g, identity=Identity("user", everyone=True))
        client.put("hello", user_id="ann", ref=ref)
        return await client.answer(ref)

    async with limited(Clock(), max_connections_per_user=1) as g:
        assert (await named(g, "a")).user_id == "ann"
        assert (await named(g, "b")).code == "too_many_connections"
        assert refusal(Client, g).code == "too_many_connections"


async def test_a_line_that_went_while_its_token_was_checked_does_not_count() -> None:
    checking, checked = asyncio.Event(), asyncio.Event()

    async def greeting(_: frames.Hello, present: Identity) -> Identity:
        checking.set()
        await checked.wait()
        return present

    async with limited(Clock(), max_connections_per_user=1) as g, asyncio.timeout(WAIT):
        client = Client(g, identity=Identity("user", everyone=True), greeting=greeting)
        client.put("hello", token="new", user_id="ann")
        await checking.wait()
        client.vanish()
        checked.set()
        await settle()
        Client(g, "ann")


async def test_a_line_renews_its_token_though_its_user_may_open_no_other() -> None:
    async def greeting(_: frames.Hello, present: Identity) -> Identity:
        return present._replace(expires_at=9e9)

    async with limited(Clock(), max_connections_per_user=1) as g:
        client = Client(g, greeting=greeting)
        client.put("hello", token="new", ref="h")
        assert (await client.answer("h")).token_expires_at == 9e9
