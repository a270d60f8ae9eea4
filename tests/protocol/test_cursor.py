from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.cursor import Cursor, Replay, Snapshot, format_cursor, parse_cursor, resume

NUMBERS = st.integers(0, 10**12 - 1)


@given(st.from_regex(r"[A-Za-z0-9]{1,64}", fullmatch=True), NUMBERS, NUMBERS)
def test_what_is_formatted_is_parsed_back(epoch: str, seq: int, offset: int) -> None:
    assert parse_cursor(format_cursor(epoch, seq, offset)) == Cursor(epoch, seq, offset)


@given(st.text(max_size=40))
def test_any_text_is_a_cursor_in_its_one_spelling_or_none(text: str) -> None:
    cursor = parse_cursor(text)
    assert cursor is None or format_cursor(*cursor) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        "e",
        "e.1",
        "e.1.2.3",
        "e.-1.0",
        "e.+1.0",
        "e.01.0",
        "e.1.00",
        "e. 1.0",
        "e.1.0 ",
        "e.1.0\n",
        "e.1_0.0",
        "e.1.0x",
        ".1.0",
        "e-1.1.0",
        "é.1.0",
        "e.١.0",
        f"{'e' * 65}.1.0",
        f"e.{'9' * 13}.0",
        f"e.{'9' * 5000}.0",
    ],
)
def test_anything_else_is_malformed(text: str) -> None:
    assert parse_cursor(text) is None


def test_without_a_cursor_one_starts_afresh() -> None:
    assert resume(None, "e1", 17, None) == Snapshot()


@pytest.mark.parametrize(
    ("text", "reason"), [("e0.17.0", "epoch"), ("e1.18.0", "ahead"), ("17", "malformed"), ("", "malformed")]
)
def test_a_cursor_of_no_use_is_told_why(text: str, reason: str) -> None:
    assert resume(text, "e1", 17, 5) == Snapshot(reason)


@pytest.mark.parametrize("seq", [0, 5, 17])
def test_one_goes_on_from_the_seq(seq: int) -> None:
    assert resume(f"e1.{seq}.0", "e1", 17, None) == Replay(seq, 0)


@pytest.mark.parametrize(("started", "offset"), [(5, 512), (10, 512), (11, 0), (None, 0)])
def test_the_offset_counts_only_while_the_turn_runs_that_ran_there(started: int | None, offset: int) -> None:
    assert resume("e1.10.512", "e1", 17, started) == Replay(10, offset)
