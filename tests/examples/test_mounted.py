"""The example, under plain uvicorn, as its first lines say."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE

import httpx
from websockets.asyncio.client import connect

from protocol import codec, frames

WAIT = 30.0


async def test_the_apps_own_page_and_the_gateway_are_served_from_one_port() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", "examples.mounted:app", "--port", "0", stderr=PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(4 * WAIT):
            url = None
            while url is None:
                url = re.search(r"127\.0\.0\.1:\d+", (await process.stderr.readline()).decode())
        async with asyncio.timeout(WAIT), httpx.AsyncClient(base_url=f"http://{url[0]}") as http:
            socket = (await http.get("/")).json()["chat"]
            assert (await http.get("/chat/healthz")).json() == {"status": "ok"}
            async with connect(f"ws://{url[0]}{socket}") as line:
                await line.send('{"type":"message","session_id":"s","content":"hear me"}')
                while not isinstance(frame := codec.decode_server_frame(await line.recv()), frames.Response):
                    pass
                assert frame.content == "raeh em (2 words so far)"
    finally:
        process.kill()
        await process.communicate()
