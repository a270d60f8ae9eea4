"""Token buckets let through what they say, and streaks tell the stubborn from the patient."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.bucket import ABUSE, CALM, FULL, Rate, milliseconds

rates = st.builds(Rate, st.integers(1, 10_000).map(float), st.sampled_from([1.0, 60.0]))
pauses = st.floats(0, 30) | st.sampled_from([0.0, 0.001, 1.0, 60.0])


@given(rates, st.floats(0, 1e6), st.lists(st.tuples(pauses, st.floats(0.01, 1)), max_size=60))
def test_in_no_stretch_of_time_comes_more_than_a_bucket_and_what_flows_in(
    rate: Rate, start: float, asked: list[tuple[float, float]]
) -> None:
    full_at, came = FULL, []
    times = accumulate((pause for pause, _ in asked), initial=start)
    for now, (_, share) in zip([*times][1:], asked, strict=True):
        cost = share * rate.most
        if not rate.wait(full_at, now, cost):
            full_at = rate.take(full_at, now, cost)
            came.append((now, cost))
    for first, (begin, _) in enumerate(came):
        for last in range(first, len(came)):
            total = sum(cost for _, cost in came[first : last + 1])
            allowed = rate.most + rate.most / rate.seconds * (came[last][0] - begin)
            assert total <= allowed * (1 + 1e-6) + 1e-6 * rate.most


@given(rates, st.floats(0, 1e6), st.floats(0.01, 1), st.floats(0, 1))
def test_who_waits_as_long_as_told_is_let_through(rate: Rate, now: float, taken: float, asked: float) -> None:
    full_at = rate.take(FULL, now, taken * rate.most)
    wait = rate.wait(full_at, now, asked * rate.most)
    assert not rate.wait(full_at, now + milliseconds(wait) / 1000, asked * rate.most)
    assert wait <= rate.seconds


@given(st.builds(Rate, st.integers(1, 300).map(float), st.sampled_from([1.0, 60.0])), st.floats(0, 1e7))
def test_all_of_it_may_come_at_once_and_no_more(rate: Rate, now: float) -> None:
    full_at = FULL
    for _ in range(int(rate.most)):
        assert not rate.wait(full_at, now)
        full_at = rate.take(full_at, now)
    assert rate.wait(full_at, now) == pytest.approx(rate.seconds / rate.most, rel=0.05)


def test_what_costs_more_than_a_bucket_holds_never_may() -> None:
    assert Rate(5).wait(FULL, 1e6, 6)


def test_a_wait_is_told_in_whole_milliseconds_and_never_as_less_than_a_second() -> None:
    assert milliseconds(0.001) == 1000
    assert milliseconds(1.5) == 1501
    assert milliseconds(1.5001) == 1501


@given(st.integers(1_000, 90_000), st.floats(0.1, 0.99))
def test_whoever_never_waits_as_told_abuses_after_a_minute(told: int, share: float) -> None:
    streak, now = CALM, 100.0
    while True:
        streak = streak.refused(now, told)
        if now >= 100.0 + ABUSE:
            break
        assert not streak.is_abuse(now)
        now += share * told / 1000
    assert streak.is_abuse(now)


@given(st.lists(st.tuples(st.integers(1_000, 90_000), st.floats(0, 5)), min_size=1))
def test_whoever_waits_as_told_never_abuses(refusals: list[tuple[int, float]]) -> None:
    streak, now = CALM, 0.0
    for told, more in refusals:
        streak = streak.refused(now, told)
        assert not streak.is_abuse(now)
        now = streak.until + more


def test_many_refusals_at_one_time_are_not_a_minute() -> None:
    streak = CALM
    for _ in range(10_000):
        streak = streak.refused(7.0, 1000)
    assert not streak.is_abuse(7.0)
