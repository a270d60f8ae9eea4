"""The text of a running turn: what goes in, in any cut, comes out whole."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.text import Text, clean

pieces = st.lists(st.text(st.sampled_from("ab é🙂\ud83d\ude42\n"), max_size=5), max_size=12)


def make(*said: str) -> Text:
    text = Text("e", "s", "t", 1)
    for piece in said:
        text.extend(piece)
    return text


def repaired(said: str) -> str:
    """What is left of text with lone surrogates."""
    return said.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@pytest.mark.parametrize(
    ("piece", "held", "expected"),
    [
        ("plain", "", ("plain", "")),
        ("half \ud83d", "", ("half ", "\ud83d")),
        ("\ude42 joined", "\ud83d", ("🙂 joined", "")),
        ("not its half", "\ud83d", ("\ufffdnot its half", "")),
        ("low \ude42 alone", "", ("low \ufffd alone", "")),
        ("", "\ud83d", ("", "\ud83d")),
    ],
)
def test_pieces_are_made_of_characters_that_can_be_encoded(
    piece: str, held: str, expected: tuple[str, str]
) -> None:
    assert clean(piece, held) == expected


@given(pieces)
def test_the_whole_is_what_was_said_however_it_was_cut(said: list[str]) -> None:
    text = make(*said)
    text.close()
    assert text.whole() == repaired("".join(said))
    assert text.length == len(text.whole())


@given(pieces, st.integers(0, 40), st.integers(0, 40))
def test_any_slice_is_that_of_the_whole(said: list[str], start: int, stop: int) -> None:
    text, same = make(*said), make(*said)
    assert text.slice(start, stop) == same.whole()[start:stop]


@given(pieces, st.lists(st.integers(0, 40)))
def test_what_is_saved_step_by_step_is_the_whole(said: list[str], steps: list[int]) -> None:
    text, saved = make(), ""
    for number, piece in enumerate(said):
        text.extend(piece)
        if number < len(steps):
            taken = text.unsaved()[: steps[number]]
            saved += taken
            text.mark_saved(len(saved))
            assert text.unsaved_bytes == len(text.unsaved().encode())
    assert saved + text.unsaved() == text.whole()


def test_nothing_is_added_once_it_is_closed() -> None:
    text = make("said \ud83d")
    text.close()
    text.extend("too late")
    assert text.whole() == "said \ufffd"


def test_readers_at_the_same_place_share_one_encoding_and_a_laggards_is_not_kept() -> None:
    text = make("x" * 5_000, "new")
    assert text.delta(1, 5_000, 5_003) is text.delta(1, 5_000, 5_003)
    frame = json.loads(text.delta(1, 5_000, 5_003))
    assert (frame["content"], frame["cursor"]) == ("new", "e.1.5003")
    assert text.delta(1, 0, 5_003) is not text.delta(1, 0, 5_003)


def test_a_flood_of_nothing_takes_no_room() -> None:
    text = make("some")
    tracemalloc.start()
    try:
        for _ in range(10_000):
            text.extend("")
        assert tracemalloc.get_traced_memory()[0] < 1_000
    finally:
        tracemalloc.stop()
