from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from gateway.agents.http import HttpAgent
from gateway.interfaces import Alive, Past, Piece, SessionRef, ToolCall, ToolResult, Turn, Usage

WAIT = 30.0
SCRIPT = Path(__file__).parents[2] / "examples" / "node_agent.mjs"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="there is no node on this machine")


@asynccontextmanager
async def node_agent() -> AsyncIterator[tuple[HttpAgent, asyncio.StreamReader]]:
    """The example, running, and what it prints."""
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(NODE, SCRIPT, "0", stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WAIT):
            agent = HttpAgent((await process.stdout.readline()).decode().strip())
        yield agent, process.stdout
        await agent.aclose()
    finally:
        process.kill()
        await process.communicate()


def turn(content: str, **fields: object) -> Turn:
    return Turn("t1", content, SessionRef("counter", "ann", "s1"), **fields)  # type: ignore[arg-type]


async def test_it_answers_a_turn_and_counts_in_its_state() -> None:
    asked = turn("to be or not", history=[Past("user", "before", "t0", 1.0)], state={"turns": 1})
    async with node_agent() as (agent, _):
        assert (await agent.check()).endswith("is there")
        async with asyncio.timeout(WAIT), aclosing(agent(asked)) as answer:
            pieces: list[Piece] = [piece async for piece in answer if not isinstance(piece, Alive)]
    assert pieces[:2] == [
        ToolCall("t1", "count_words", {"text": "to be or not"}),
        ToolResult("t1", {"words": 4}),
    ]
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    assert text == "not or be to (4 words backwards; turn 2, 1 messages before it)"
    assert pieces[-1] == Usage(4, 4)
    assert asked.state == {"turns": 2}


async def test_it_stops_when_the_turn_is_cancelled() -> None:
    async with node_agent() as (agent, printed), asyncio.timeout(WAIT):
        async with aclosing(agent(turn("word " * 10_000))) as answer:
            async for piece in answer:
                if piece == "word ":
                    break
        assert await printed.readline() == b"stopped t1\n"
