from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import aclosing
from pathlib import Path

from gateway.agents.openai import OpenAIAgent
from gateway.interfaces import Alive, Past, SessionRef, Turn, Usage

WAIT = 30.0
SCRIPT = Path(__file__).parents[2] / "examples" / "openai_upstream.py"


async def test_the_parrot_is_asked_as_any_openai_server_is() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, SCRIPT, str(port), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    agent = OpenAIAgent("parrot", f"http://127.0.0.1:{port}/v1", key_env="", system="You are a parrot.")
    history = [Past("user", "hello", "t0", 1.0), Past("agent", "hello", "t0", 2.0, "completed")]
    try:
        async with asyncio.timeout(WAIT):
            while b"Uvicorn running" not in await process.stderr.readline():
                pass
            assert (await agent.check()).endswith("offers parrot")
            asked = Turn("t1", "pretty Polly", SessionRef("parrot", "ann", "s1"), history=history)
            async with aclosing(agent(asked)) as answer:
                pieces = [piece async for piece in answer if not isinstance(piece, Alive)]
                assert pieces == ["pretty ", "Polly ", Usage(8, 2)]
    finally:
        await agent.aclose()
        process.kill()
        await process.communicate()
