"""Anything that a Python program may hand over where JSON, a text or a number is expected."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import strategies as st

__all__ = ["Loud", "anything"]


class Loud(str):
    """A text that is more than one."""

    __slots__ = ()

    def __len__(self) -> int:
        return 0

    def __str__(self) -> str:
        return "LOUD"


class Mood(enum.StrEnum):
    GOOD = "good"


class Level(enum.IntEnum):
    HIGH = 3


def _deep(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 2**53, 2**64, -(2**63) - 1, 10**400, 10**4_200]),
    st.floats(),
    st.text(st.characters(), max_size=5),
    st.sampled_from(["\ud83d", "\ude42", "a\x00b", Loud("quiet"), Mood.GOOD, Level.HIGH]),
    st.binary(max_size=5),
    st.sampled_from(
        [object(), int, len, 1j, datetime(2026, 1, 1, tzinfo=UTC), msgspec.Raw(b"{"), msgspec.UNSET]
    ),
    st.sampled_from([50, 130, 900, 2_000]).map(_deep),
)
_keys = st.one_of(
    st.text(max_size=3),
    st.integers(),
    st.none(),
    st.floats(),
    st.sampled_from([Loud("k"), "\ud800", (1, 2), Mood.GOOD]),
)
anything: st.SearchStrategy[Any] = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.dictionaries(_keys, inner, max_size=3),
        st.frozensets(st.integers() | st.text(max_size=2), max_size=2),
    ),
    max_leaves=6,
)
