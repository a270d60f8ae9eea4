"""Cursor: how far one reader has read one session, as text `epoch.seq.offset`.

`epoch` is the incarnation of the log, `seq` the last record the reader was sent, `offset` how many characters
(Unicode code points) of the running turn's text it has. Clients send it back and never look inside.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Cursor", "format_cursor", "parse_cursor"]

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
