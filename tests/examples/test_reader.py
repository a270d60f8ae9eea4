from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.agents.echo import EchoAgent
from gateway.app import Gateway, gateway_app
from gateway.serve import Server, configure
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore

WAIT = 30.0
SCRIPT = Path(__file__).parents[2] / "examples" / "reader.sh"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")


@asynccontextmanager
async def gateway() -> AsyncIterator[tuple[Gateway, str]]:
    app = gateway_app(Settings(drain_timeout=0.01), agents={"echo": EchoAgent()}, store=MemoryStore())
    listening = asyncio.Event()
    server = Server(configure(app, port=0), drain=app.drain, ready=lambda _: listening.set())
    async with asyncio.TaskGroup() as group, asyncio.timeout(WAIT):
        group.create_task(server.serve())
        await listening.wait()
        try:
            yield app, server.url
        finally:
            server.should_exit = True


@asynccontextmanager
async def reader(url: str) -> AsyncIterator[asyncio.StreamReader]:
    """What the script prints."""
    process = await asyncio.create_subprocess_exec(SCRIPT, "s", url, stdout=PIPE, start_new_session=True)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the script and its curl
        await process.communicate()


async def until(lines: asyncio.StreamReader, kind: str) -> dict[str, Any]:
    while (frame := json.loads(await lines.readline()))["type"] != kind:
        pass
    return frame


async def test_it_prints_what_happens_and_goes_on_where_its_stream_was_cut() -> None:
    async with gateway() as (app, url), reader(url) as lines, httpx.AsyncClient(base_url=url) as http:
        assert (await until(lines, "attached"))["mode"] == "snapshot"
        message = {"type": "message", "session_id": "s", "content": "one"}
        (await http.post("/frames", json=message)).raise_for_status()
        assert (await until(lines, "response"))["content"] == "one"
        for line in [*app.supervisor.lines.values()]:
            await line.close(1012, "Cut.")
        (await http.post("/frames", json=message | {"content": "two"})).raise_for_status()
        assert (await until(lines, "attached"))["mode"] == "replay"
        assert (await until(lines, "response"))["content"] == "two"
