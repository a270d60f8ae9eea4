"""What an append changes beside the log: the session's state, what it shares, and its life."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from msgspec.structs import replace

from protocol import records
from protocol.lifetime import Life, renewed
from protocol.records import Record
from protocol.scopes import applied

from .interfaces import NO_SCOPES, NOTHING, Info, Scopes
from .opening import placed

__all__ = ["beside"]


def beside(
    info: Info,
    appended: Sequence[Record],
    now: float,
    *,
    delta: dict[str, Any] | None = None,
    gone: Collection[str] = (),
    life: Life | None = None,
) -> tuple[Info | None, Scopes]:
    """The session's info after these records (None: as it was), and what they set for others.

    `delta` is set beside what the records themselves set, `gone` are keys that the running turn took out of
    its state: they go with the response that says what it set. `life` is the life that was decided on;
    otherwise a message is a sign of life.
    """
    taken: Collection[str] = ()
    for record in appended:
        if isinstance(record, records.Message | records.Response) and record.state_delta:
            delta = {**(delta or {}), **record.state_delta}
            # Only then: the turn may yet be cancelled, and has changed nothing in that case.
            taken = gone if isinstance(record, records.Response) else taken
        if isinstance(record, records.Message) and life is None and info.life is not None:
            life = renewed(info.life, now)
    scopes = NO_SCOPES
    changed = info
    if delta:
        own, scopes = placed(info.key, delta)
        changed = replace(changed, state=applied(info.state, own, taken) or NOTHING)
    if life is not None:
        changed = replace(changed, life=life)
    return (None if changed is info else changed), scopes
