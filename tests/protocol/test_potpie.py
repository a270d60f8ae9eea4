"""Which turn is the run, how it stands, when it will be over, and what a new one is called."""

from __future__ import annotations

import re
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import records
from protocol.ids import check_turn_id
from protocol.potpie import (
    POSITION,
    START,
    Position,
    Run,
    ended_run,
    estimate,
    free_number,
    open_run,
    parse_position,
    run_id,
)
from protocol.records import Entry


def message(turn_id: str, at: float) -> records.Message:
    return records.Message(turn_id, "x", at)


def entries(*log: records.Record) -> list[Entry]:
    return [Entry(seq, record) for seq, record in enumerate(log, 1)]


BUSY = entries(
    message("a", 1.0),
    records.Started("a", "node", 2.0),
    message("b", 3.0),
    message("c", 4.0),
    records.ToolCall("a", 0, "call", "look", None, 5.0),
)
RUNNING = Run("a", "running", accepted_at=1.0, active_at=5.0, began_at=2.0)


def test_the_turn_that_runs_is_the_run_however_many_wait() -> None:
    assert open_run(BUSY) == RUNNING
    assert (RUNNING.active, RUNNING.told_as, RUNNING.cursor) == (True, "active", START)


def test_where_none_runs_it_is_the_first_that_waits() -> None:
    waiting = open_run(entries(message("b", 3.0), message("c", 4.0)))
    assert waiting == Run("b", "waiting", accepted_at=3.0, active_at=3.0)
    assert waiting.told_as == "active"
    assert open_run([]) is None
    assert open_run(entries(records.Event("adk", {}, 1.0))) is None


def test_a_run_can_be_named() -> None:
    assert open_run(BUSY, "a") == RUNNING
    assert open_run(BUSY, "c") == Run("c", "waiting", 4.0, 4.0)
    assert open_run(BUSY, "over") is None


@pytest.mark.parametrize(
    ("terminal", "told_as"),
    [
        (records.Response("a", "x", "completed", 9.0), "completed"),
        (records.Response("a", "x", "cancelled", 9.0), "idle"),
        (records.Failed("a", "It failed.", "agent_failed", True, "x", 9.0), "idle"),
    ],
)
def test_a_run_that_is_over_is_rebuilt_from_its_end(terminal: records.Terminal, told_as: str) -> None:
    run = ended_run(7, terminal, accepted_at=1.0)
    assert (run.active, run.told_as, str(run.cursor)) == (False, told_as, "7-0")
    assert (run.accepted_at, run.active_at) == (1.0, 9.0)


def test_the_estimate_is_the_median_of_what_was_measured() -> None:
    assert estimate(RUNNING, [1.0, 30.0, 500.0], 600.0, now=10.0) == 32.0


def test_an_estimate_that_has_passed_is_now_and_one_of_nothing_is_the_deadline() -> None:
    assert estimate(RUNNING, [1.0], 600.0, now=10.0) == 10.0
    assert estimate(RUNNING, [], 600.0, now=10.0) == 602.0
    assert estimate(Run("b", "waiting", 3.0, 3.0), [4.0], 600.0, now=10.0) == 14.0


def test_the_estimate_of_what_is_over_is_when_it_was() -> None:
    over = ended_run(7, records.Response("a", "x", "completed", 9.0), accepted_at=1.0)
    assert estimate(over, [1.0], 600.0, now=100.0) == 9.0


@given(st.integers(0, 10**20 - 1), st.integers(0, 10**20 - 1))
def test_a_position_comes_back_as_it_was_written(seq: int, offset: int) -> None:
    position = Position(seq, offset)
    assert re.search(POSITION, str(position))
    assert parse_position(str(position)) == position


def test_without_a_position_it_is_the_start() -> None:
    assert parse_position(None) == Position(0, 0) == parse_position("0-0")


@pytest.mark.parametrize(
    "text", ["", "-", "1", "1-", "-1", "1-2-3", " 1-2", "1-2\n", "a-b", "$", "1" * 21 + "-0", "١-٢"]
)
def test_what_is_no_position_does_not_look_like_one(text: str) -> None:
    assert not re.search(POSITION, text)


@given(st.integers(0, 5_000))
def test_a_free_number_is_found_in_few_questions(taken: int) -> None:
    def search() -> Generator[int, bool, None]:
        found.append((yield from free_number()))

    found: list[int] = []
    asked = 0
    numbers = search()
    number = next(numbers)
    while not found:
        asked += 1
        number = next_of(numbers, number < taken)
    assert found == [taken]
    assert asked <= 2 * (taken + 2).bit_length()


def next_of(numbers: Generator[int, bool, None], answer: bool) -> int:
    try:
        return numbers.send(answer)
    except StopIteration:
        return -1


def test_runs_are_called_after_the_user_and_the_message_before() -> None:
    assert run_id("ann", None, 0) == "conversation:ann:new"
    assert run_id("ann", "m1", 2) == "conversation:ann:m1-2"


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_names_that_would_be_too_long_stay_different(one: int, other: int) -> None:
    names = [run_id("a" * 256, "b" * 500, number) for number in (one, other)]
    assert all(check_turn_id(name) for name in names)
    assert (names[0] == names[1]) == (one == other)
