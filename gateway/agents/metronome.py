"""Metronome: text of a known shape at known times, for measuring and for testing.

What it emits is said in the message's `metadata`, every field optional:

    deltas       how many pieces, 0 to 1,000,000 (20)
    size         characters per piece, 1 to 1,048,576 (8); all pieces together at most 1,048,576
    interval_ms  milliseconds from one to the next, 0 to 60,000 (0: as fast as the loop goes round)
    silent_ms    milliseconds before the first, 0 to 3,600,000 (0)
    fail_at      fail when this many pieces are out, 0 to `deltas` (never)
    tool_at      call a tool when this many pieces are out, 0 to `deltas` (never)

A piece is its position, counted from 0, with leading zeros, a space, and dots up to `size`: `0000017 ....`.
Where `size` is less than 8 the leading digits go: of size 4, `017 ` is piece 17, and 1,017, and 2,017.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, NamedTuple

from gateway.interfaces import AgentError, Piece, ToolCall, ToolResult, Turn, Usage

__all__ = ["MetronomeAgent"]

_MAX_DELTAS = 1_000_000
_MAX_CHARS = 1 << 20
_DIGITS = 7  # enough for the position of any piece


class _Score(NamedTuple):
    """What to play."""

    deltas: int
    size: int
    interval: float
    silent: float
    fail_at: int | None
    tool_at: int | None


class MetronomeAgent:
    """Plays what `metadata` says. A field that cannot be played is an `AgentError` that says why.

    `clock` tells the time in seconds, by which pieces are due.
    """

    history = 0

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    async def __call__(self, turn: Turn) -> AsyncGenerator[Piece, None]:
        score = _read(turn.metadata)
        if score.silent:
            await asyncio.sleep(score.silent)
        template, wrap = _shape(score.size)
        marks = {score.fail_at, score.tool_at}
        interval, now, sleep = score.interval, self._clock, asyncio.sleep
        start = now()
        for position in range(score.deltas):
            if position:
                # Due times are absolute: a late loop makes the next pause shorter, and 0 or less is one pass.
                await sleep(start + position * interval - now())
            if position in marks:
                for piece in _interlude(score, position):
                    yield piece
            yield template % (position % wrap)
        for piece in _interlude(score, score.deltas):
            yield piece
        yield Usage(input_tokens=len(turn.content.split()), output_tokens=score.deltas)

    async def check(self) -> str:
        return "metronome: always ready"

    async def aclose(self) -> None:
        return None


def _read(metadata: Mapping[str, Any]) -> _Score:
    deltas = _number(metadata, "deltas", 20, 0, _MAX_DELTAS)
    size = _number(metadata, "size", 8, 1, _MAX_CHARS)
    if deltas * size > _MAX_CHARS:
        raise _refused("deltas × size", deltas * size, f"at most {_MAX_CHARS:,} characters")
    return _Score(
        deltas=deltas,
        size=size,
        interval=_number(metadata, "interval_ms", 0.0, 0, 60_000) / 1000,
        silent=_number(metadata, "silent_ms", 0.0, 0, 3_600_000) / 1000,
        fail_at=_number(metadata, "fail_at", None, 0, deltas),
        tool_at=_number(metadata, "tool_at", None, 0, deltas),
    )


def _number(metadata: Mapping[str, Any], name: str, default: Any, least: int, most: int) -> Any:
    """The number of that name, whole unless its default is not; `default` if it is not given."""
    value = metadata.get(name, default)
    if value is default:
        return value
    kinds, kind = ((int, float), "a number") if isinstance(default, float) else (int, "a whole number")
    if not isinstance(value, kinds) or isinstance(value, bool) or not least <= value <= most:
        raise _refused(name, value, f"{kind} from {least:,} to {most:,}")
    return value


def _refused(name: str, value: object, allowed: str) -> AgentError:
    return AgentError(
        f"The metronome cannot play {name} = {value!r:.40}: allowed is {allowed}.", retryable=False
    )


def _shape(size: int) -> tuple[str, int]:
    """How a piece of `size` characters is made of a position, and where positions begin again at 0."""
    digits = min(max(size - 1, 1), _DIGITS)
    filler = " ".ljust(size - digits, ".") if size > digits else ""
    return f"%0{digits}d{filler}", 10**digits


def _interlude(score: _Score, position: int) -> list[Piece]:
    """What happens before the piece at `position`: a tool call, a failure, or nothing."""
    if position == score.fail_at:
        raise AgentError(f"The metronome stopped after {position} pieces, as it was told to.")
    if position == score.tool_at:
        return [
            ToolCall("tick", "tick", {"position": position}),
            ToolResult("tick", {"position": position}),
        ]
    return []
