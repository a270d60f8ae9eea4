"""An agent of your own is a function that yields text.

    gateway serve --agent me=examples.own_agent:agent
    gateway chat --agent me

What is in `turn.state` is kept with the conversation, also when the gateway is killed and started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from gateway import Turn


async def agent(turn: Turn) -> AsyncIterator[str]:
    """Counts the words of a conversation, and takes its time to say so."""
    words = turn.content.split()
    turn.state["words"] = turn.state.get("words", 0) + len(words)
    for word in words:
        yield f"{word[::-1]} "
        await asyncio.sleep(0.1)
    yield f"({turn.state['words']} words so far)"


def blocking(turn: Turn) -> Iterator[str]:
    """Not async: it runs in a thread, and may wait for whatever it likes."""
    yield "You said: "
    yield turn.content
