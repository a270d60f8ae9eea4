from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.agents.function import FunctionAgent
from gateway.app import Gateway, gateway_app
from gateway.interfaces import AgentError, Turn
from gateway.serve import Server, configure
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore

WAIT = 30.0
SCRIPT = Path(__file__).parents[2] / "examples" / "terminal_client.py"


@asynccontextmanager
async def gateway(agent: FunctionAgent) -> AsyncIterator[tuple[Gateway, str]]:
    app = gateway_app(Settings(drain_timeout=0.01), agents={"agent": agent}, store=MemoryStore())
    listening = asyncio.Event()
    server = Server(configure(app, port=0), drain=app.drain, ready=lambda _: listening.set())
    async with asyncio.TaskGroup() as group, asyncio.timeout(WAIT):
        group.create_task(server.serve())
        await listening.wait()
        try:
            yield app, f"{server.url.replace('http', 'ws')}/ws"
        finally:
            server.should_exit = True


@asynccontextmanager
async def terminal(url: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, SCRIPT, url, "s", stdin=PIPE, stdout=PIPE, cwd=SCRIPT.parents[1]
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_answers_go_on_where_the_line_was_cut() -> None:
    go = asyncio.Event()
    asked: list[str] = []

    async def agent(turn: Turn) -> AsyncIterator[str]:
        asked.append(turn.content)
        yield "Hel"
        await go.wait()
        yield f"lo {turn.content}"

    async with gateway(FunctionAgent(agent)) as (app, url), terminal(url) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"Ann\nBob\n")
        assert await process.stdout.readexactly(3) == b"Hel"
        for line in [*app.supervisor.lines.values()]:
            await line.close(1012, "Cut.")
        go.set()
        assert await process.stdout.readline() == b"lo Ann\n"
        assert await process.stdout.readline() == b"Hello Bob\n"
        process.stdin.close()
        assert await process.wait() == 0
    assert asked == ["Ann", "Bob"]


async def test_a_turn_that_fails_says_why() -> None:
    async def agent(_: Turn) -> AsyncIterator[str]:
        yield "Well"
        raise AgentError("I am out of words.")

    async with gateway(FunctionAgent(agent)) as (_, url), terminal(url) as process:
        said, _ = await process.communicate(b"hi\n")
    assert said.decode() == "Well — failed: I am out of words.\n"
