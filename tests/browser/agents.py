"""What the gateways of these tests run: an agent that does as it is told."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from gateway import AgentError, Turn
from gateway.interfaces import Piece, Thought, ToolCall, ToolResult

__all__ = ["Dictated", "agent", "numbers"]

LOOK = 0.01
"""Seconds between two looks whether a file is there."""


def numbers(first: int, last: int) -> str:
    """What `count` writes: so that a character that is missing, or there twice, shows."""
    return "".join(f"{number} " for number in range(first, last))


class Dictated:
    """A file whose text the agent says while it grows: tell it to `take-down`, or `ponder`, `file`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.file.touch()

    def says(self, text: str) -> None:
        """The agent goes on with this."""
        with self.file.open("a") as file:
            file.write(text)

    def ends(self) -> None:
        """It has said all of it."""
        self.says("END\n")


async def _there(file: str) -> None:
    while not Path(file).exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(LOOK)


async def _count(last: str, pause: str = "0") -> AsyncIterator[str]:
    for number in range(int(last)):
        yield f"{number} "
        await asyncio.sleep(float(pause))


async def _hold(before: str, after: str, file: str) -> AsyncIterator[str]:
    """Counts up to `before`, waits until there is that file, and counts on up to `after`."""
    yield numbers(0, int(before))
    await _there(file)
    for number in range(int(before), int(after)):
        yield f"{number} "
        await asyncio.sleep(0)


async def _say(file: str) -> AsyncIterator[str]:
    yield Path(file).read_text()  # noqa: ASYNC240


async def _pieces(file: str, size: str) -> AsyncIterator[str]:
    """What is in the file, so many characters at a time."""
    text = Path(file).read_text()  # noqa: ASYNC240
    for start in range(0, len(text), int(size)):
        yield text[start : start + int(size)]
        await asyncio.sleep(0)


async def _take_down(file: str) -> AsyncIterator[str]:
    """What is written into the file, as it grows. A line that says END is its end."""
    said = 0
    while not (text := Path(file).read_text()).endswith("END\n"):  # noqa: ASYNC240
        yield text[said:]
        said = len(text)
        await asyncio.sleep(LOOK)
    yield text[said:].removesuffix("END\n")


async def _fail_once(file: str) -> AsyncIterator[str]:
    """Fails, if that file is not there; then it is."""
    yield "Well, "
    if not Path(file).exists():  # noqa: ASYNC240
        Path(file).touch()  # noqa: ASYNC240
        raise AgentError("It broke.", retryable=True)
    yield "it works."


async def _ponder(file: str) -> AsyncIterator[Piece]:
    """Thinks what is written into the file, as it grows, and says that this is all."""
    async for piece in _take_down(file):
        yield Thought(piece)
    yield "That is all."


async def _use(tool: str, given: str, file: str, result: str) -> AsyncIterator[Piece]:
    """Uses that tool, which takes until there is that file; says a little before and after."""
    yield "Before. "
    yield ToolCall("call-1", tool, {"text": given})
    await _there(file)
    yield ToolResult("call-1", result)
    yield "After."


async def _flood(count: str, seconds: str) -> AsyncIterator[str]:
    """So many pieces in so many seconds, as evenly as the clock allows."""
    clock = asyncio.get_running_loop().time
    start, each = clock(), float(seconds) / int(count)
    for number in range(int(count)):
        yield f"{number} "
        if (ahead := number * each - (clock() - start)) > 0:
            await asyncio.sleep(ahead)


ORDERS: dict[str, Callable[..., AsyncIterator[Piece]]] = {
    "count": _count,
    "hold": _hold,
    "say": _say,
    "pieces": _pieces,
    "take-down": _take_down,
    "fail-once": _fail_once,
    "ponder": _ponder,
    "use": _use,
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
