"""Cursor: how far one reader has read one session, as text `epoch.seq.offset`.

`epoch` is the incarnation of the log, `seq` the last record the reader was sent, `offset` how many characters
(Unicode code points) of the running turn's text it has. Clients send it back and never look inside.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

__all__ = ["Cursor", "Replay", "Snapshot", "format_cursor", "parse_cursor", "resume"]

# Twelve digits: no log and no text ever gets that long, and int() of a hostile 5,000-digit string is slow.
_CURSOR = re.compile(r"([A-Za-z0-9]{1,64})\.(0|[1-9][0-9]{0,11})\.(0|[1-9][0-9]{0,11})", re.ASCII)


class Cursor(NamedTuple):
    """A position in one incarnation of a log."""

    epoch: str
    seq: int
    offset: int


def parse_cursor(text: str) -> Cursor | None:
    """The cursor that `text` spells, or None if it spells none: the reader then gets a snapshot,
    `malformed`."""
    match = _CURSOR.fullmatch(text)
    return Cursor(match[1], int(match[2]), int(match[3])) if match else None


def format_cursor(epoch: str, seq: int, offset: int) -> str:
    """The inverse of `parse_cursor`."""
    return f"{epoch}.{seq}.{offset}"


class Replay(NamedTuple):
    """Go on from here: every record after `seq`, and the running turn's text past `offset`."""

    seq: int
    offset: int


class Snapshot(NamedTuple):
    """Start afresh; `reason` says why the cursor was of no use, None if there was none."""

    reason: Literal["epoch", "trimmed", "ahead", "malformed"] | None = None


def resume(text: str | None, epoch: str, head_seq: int, started_seq: int | None) -> Replay | Snapshot:
    """What a client's cursor means for a log in that `epoch`, with that head, whose running turn (if any)
    started at `started_seq`. Whether the records after it are still kept, only the store knows.

    The offset counts only if the turn that ran at the cursor's `seq` is the one that runs now.
    """
    if text is None:
        return Snapshot()
    cursor = parse_cursor(text)
    if cursor is None:
        return Snapshot("malformed")
    if cursor.epoch != epoch:
        return Snapshot("epoch")
    if cursor.seq > head_seq:
        return Snapshot("ahead")
    running = started_seq is not None and started_seq <= cursor.seq
    return Replay(cursor.seq, cursor.offset if running else 0)
