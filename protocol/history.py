"""History: the rules by which a store indexes a log, reads pages of it and lets its oldest records go.

Every store applies the same rules, each to its own rows; what differs is only where the rows are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias, TypeVar

from msgspec.structs import replace

from .records import Message, Record, Response, Terminal

__all__ = ["DAY", "Status", "cut", "new_turns", "outcome", "spaced", "unsaved", "within"]

Item = TypeVar("Item")

Status: TypeAlias = Literal["waiting", "running", "completed", "cancelled", "failed"]
"""Where a turn stands, as the index of turns keeps it."""

MILLISECOND = 0.001001
"""Seconds; a little more, since times in seconds are no whole milliseconds."""
DAY = 86_400.0
"""Seconds for which a tombstone and an ended turn's `turn_id` are kept at the least."""


def outcome(terminal: Terminal) -> Status:
    """How a turn that ends so stands from then on."""
    return terminal.status if isinstance(terminal, Response) else "failed"


def new_turns(records: Iterable[Record]) -> list[Message]:
    """The messages among `records`: each begins a turn. Raises `ValueError` if two have one `turn_id`."""
    messages = [record for record in records if isinstance(record, Message)]
    if len({message.turn_id for message in messages}) < len(messages):
        raise ValueError("two messages of one append have the same turn_id")
    return messages


def spaced(records: Sequence[Record], last: float) -> tuple[Record, ...]:
    """The records, none of them before the one before it, nor before `last`; those that a history shows are a
    millisecond later at the least: who pages by milliseconds then loses none. Times are Unix seconds."""
    apart: list[Record] = []
    said = last
    for record in records:
        shown = isinstance(record, Message | Terminal)
        earliest = max(last, said + MILLISECOND) if shown else last
        if record.created_at < earliest:
            record = replace(record, created_at=earliest)
        last, said = record.created_at, record.created_at if shown else said
        apart.append(record)
    return tuple(apart)


def unsaved(saved: int, offset: int, text: str) -> str:
    """The part of `text`, which begins at `offset`, that lies beyond the `saved` first characters.

    Empty if it would leave a gap: what is kept of a turn's text is always a prefix of it.
    """
    return text[saved - offset :] if offset <= saved else ""


def within(sized: Iterable[tuple[int, Item]], limit: int, max_bytes: int) -> tuple[list[Item], bool]:
    """The first items of `(bytes, item)`: at most `limit`, and at most `max_bytes` of them but at least one.

    Says also whether there are more, and takes from the iterable no more than one item to know.
    """
    page: list[Item] = []
    for size, item in sized:
        max_bytes -= size
        if len(page) >= limit or (page and max_bytes < 0):
            return page, True
        page.append(item)
    return page, False


def cut(target: int, turns: Iterable[tuple[int, int | None]]) -> int:
    """The last record that may go, if all up to `target` are old enough: no turn is cut in two.

    `turns` are the `(first seq, last seq or None if not over)` of those that begin up to `target`, newest
    first.
    """
    for first, last in turns:
        if last is None or last > target:
            target = first - 1
    return target
