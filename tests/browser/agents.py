"""What the gateways of these tests run: an agent that does as it is told."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from gateway import Turn
from gateway.interfaces import Piece

__all__ = ["agent", "numbers"]

LOOK = 0.01
"""Seconds between two looks whether a file is there."""


def numbers(first: int, last: int) -> str:
    """What `count` writes: so that a character that is missing, or there twice, shows."""
    return "".join(f"{number} " for number in range(first, last))


async def _count(last: str, pause: str = "0") -> AsyncIterator[str]:
    for number in range(int(last)):
        yield f"{number} "
        await asyncio.sleep(float(pause))


async def _hold(before: str, after: str, file: str) -> AsyncIterator[str]:
    """Counts up to `before`, waits until there is that file, and counts on up to `after`."""
    yield numbers(0, int(before))
    while not Path(file).exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(LOOK)
    for number in range(int(before), int(after)):
        yield f"{number} "
        await asyncio.sleep(0)


async def _say(file: str) -> AsyncIterator[str]:
    yield Path(file).read_text()  # noqa: ASYNC240


async def _flood(count: str, seconds: str) -> AsyncIterator[str]:
    """So many pieces in so many seconds, as evenly as the clock allows."""
    clock = asyncio.get_running_loop().time
    start, each = clock(), float(seconds) / int(count)
    for number in range(int(count)):
        yield f"{number} "
        if (ahead := number * each - (clock() - start)) > 0:
            await asyncio.sleep(ahead)


ORDERS: dict[str, Callable[..., AsyncIterator[str]]] = {
    "count": _count,
    "hold": _hold,
    "say": _say,
    "flood": _flood,
}


async def agent(turn: Turn) -> AsyncIterator[Piece]:
    """`count 300 0.01`, `hold 20 40 FILE`, `say FILE`, `flood 4000 2`: the first word is one of `ORDERS`, the
    others go to it. Whatever else it is told, it repeats."""
    order, *words = shlex.split(turn.content)
    if order not in ORDERS:
        yield turn.content
        return
    async for piece in ORDERS[order](*words):
        yield piece
