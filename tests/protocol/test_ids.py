from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import ids
from protocol.errors import Refused

GRAMMARS: list[tuple[Any, Callable[[str], str]]] = [
    (ids.SessionId, ids.check_session_id),
    (ids.AgentName, ids.check_agent_name),
    (ids.UserId, ids.check_user_id),
    (ids.TurnId, ids.check_turn_id),
]


@pytest.mark.parametrize("check", [ids.check_session_id, ids.check_agent_name])
@pytest.mark.parametrize("name", ["a", "...", ".a", "A-Z_0:9@x.y", "a" * 64])
def test_names_are_of_letters_digits_and_a_few_signs(check: Callable[[str], str], name: str) -> None:
    assert check(name) == name


@pytest.mark.parametrize("check", [ids.check_session_id, ids.check_agent_name])
@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "a\n", "ä", "a" * 129, "\ud800", "a\x00"])
def test_no_other_name_passes(check: Callable[[str], str], name: str) -> None:
    with pytest.raises(Refused) as refused:
        check(name)
    assert refused.value.code == "bad_id"


@pytest.mark.parametrize("check", [ids.check_user_id, ids.check_turn_id])
@pytest.mark.parametrize("name", ["a b", "é", "名前", "\U0001f600", "a" * 128, "."])
def test_users_and_turns_may_be_called_anything_printable(check: Callable[[str], str], name: str) -> None:
    assert check(name) == name


@pytest.mark.parametrize("check", [ids.check_user_id, ids.check_turn_id])
@pytest.mark.parametrize("name", ["", "a\n", "\n", "a\x1f", "\x7f", "\x85", "a" * 257])
def test_control_characters_are_in_no_id(check: Callable[[str], str], name: str) -> None:
    with pytest.raises(Refused, match="must be"):
        check(name)


def test_a_slash_is_in_no_user_id() -> None:
    assert ids.check_turn_id("a/b") == "a/b"
    with pytest.raises(Refused, match="no /"):
        ids.check_user_id("a/b")


@pytest.mark.parametrize(
    ("check", "longest"),
    [
        (ids.check_session_id, 128),
        (ids.check_agent_name, 64),
        (ids.check_user_id, 256),
        (ids.check_turn_id, 128),
    ],
)
def test_lengths_are_in_code_points_and_end_where_the_page_says(
    check: Callable[[str], str], longest: int
) -> None:
    check("a" * longest)
    with pytest.raises(Refused):
        check("a" * (longest + 1))


@pytest.mark.parametrize(("grammar", "check"), GRAMMARS)
@given(text=st.text(st.sampled_from("aZ09._:@-/ \n\x00\x7f\x85é\U0001f600"), max_size=6))
def test_the_check_by_hand_and_the_decoder_agree(
    grammar: Any, check: Callable[[str], str], text: str
) -> None:
    assert _passes(check, text) == _passes(lambda value: msgspec.convert(value, grammar), text)


def _passes(check: Callable[[str], object], text: str) -> bool:
    try:
        check(text)
    except (Refused, msgspec.ValidationError):
        return False
    return True
