"""Whose state is whose: a session's own, its user's, everybody's, and what is never kept."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocol.scopes import applied, changes, merged, scope_of_app, scope_of_user, split

names = st.builds(str.__add__, st.sampled_from(["", "user:", "app:", "temp:"]), st.text(max_size=5))
values = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
states = st.dictionaries(names, values, max_size=8)


def test_the_prefix_of_a_key_says_whose_it_is_and_what_is_temporary_is_nobodys() -> None:
    state = {"n": 1, "user:n": 2, "app:n": 3, "temp:n": 4, "user:app:n": 5, "User:n": 6, "user": 7, "app:": 8}
    assert split(state) == ({"n": 1, "User:n": 6, "user": 7}, {"n": 2, "app:n": 5}, {"n": 3, "": 8})


def test_merging_puts_the_prefixes_back() -> None:
    assert merged({"n": 1}, {"n": 2, "app:n": 5}, {"n": 3}) == {
        "n": 1, "user:n": 2, "user:app:n": 5, "app:n": 3,
    }  # fmt: skip
    assert merged({}, {}, {}) == {}


@given(states)
def test_what_was_split_and_merged_again_is_all_but_what_was_temporary(state: dict[str, Any]) -> None:
    kept = {name: value for name, value in state.items() if not name.startswith("temp:")}
    assert merged(*split(state)) == kept


def test_a_delta_is_set_key_by_key_and_what_is_gone_is_taken_out() -> None:
    state = {"a": 1, "b": {"deep": 1}, "c": 3}
    assert applied(state, {"b": {"other": 2}, "d": 4}) == {"a": 1, "b": {"other": 2}, "c": 3, "d": 4}
    assert applied(state, {"a": None, "c": None}, ["c"]) == {"a": None, "b": {"deep": 1}}
    assert applied(state, {}, ["none"]) == state
    assert state == {"a": 1, "b": {"deep": 1}, "c": 3}, "it is left as it was"


def test_changes_are_what_differs_and_a_key_that_is_gone_becomes_none() -> None:
    assert changes({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 9, "d": None}) == {"b": 9, "c": None, "d": None}


@given(states, states)
def test_the_changes_of_a_session_applied_to_what_it_was_make_what_it_became(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    delta = changes(before, after)
    assert applied(before, delta, before.keys() - after.keys()) == after
    assert delta.keys() <= before.keys() | after.keys()
    assert changes(before, before) == {}


def test_no_two_scopes_have_one_name() -> None:
    agents, users = ("a", "b", "a.b"), ("a", "b", "b.a", "")
    scopes = [scope_of_app(agent) for agent in agents]
    scopes += [scope_of_user(agent, user) for agent in agents for user in users]
    assert len(set(scopes)) == len(scopes)
