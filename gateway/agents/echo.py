"""Echo: the message back, a few words at a time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator

from gateway.interfaces import Piece, Turn

__all__ = ["EchoAgent"]

# Up to three words with the space around them. A word of any length is cut, so that Chinese is streamed too.
_FEW_WORDS = re.compile(r"\s*(?:\S{1,24}\s*){1,3}|\s+")


class EchoAgent:
    """Says what was said, exactly. `pace_ms`: milliseconds between two pieces, 0 to 10,000."""

    history = 0

    def __init__(self, *, pace_ms: float = 0.0) -> None:
        if not 0 <= pace_ms <= 10_000:
            raise ValueError(f"pace_ms is {pace_ms}; allowed are 0 to 10,000")
        self._pause = pace_ms / 1000

    async def __call__(self, turn: Turn) -> AsyncGenerator[Piece, None]:
        for words in _FEW_WORDS.findall(turn.content):
            yield words
            await asyncio.sleep(self._pause)

    async def check(self) -> str:
        return "echo: always ready"

    async def aclose(self) -> None:
        return None
