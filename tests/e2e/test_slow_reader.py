"""A client that stops reading is a cursor that lags: it costs next to nothing, and delays nobody."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from protocol.transcript import Turn
from tests.e2e.line import Line, opened
from tests.e2e.process import Process, gateway_runner, serving

SESSIONS = [f"s{number:03d}" for number in range(200)]
ANSWER = {"pieces": 25, "size": 800}
LENGTH = ANSWER["pieces"] * ANSWER["size"]
MIB = 1 << 20
PATIENCE = 30.0
"""Seconds for what takes the server seconds of work, slowed down by tracing its memory."""


class Choir:
    """Two hundred sessions that answer at once, a client that hears them, and what they cost."""

    def __init__(self, server: Process, line: Line, http: httpx.AsyncClient) -> None:
        self._server = server
        self._line = line
        self._http = http

    async def debug(self, what: str) -> Any:
        return (await self._http.get(f"{self._server.url}/debug/{what}")).json()

    async def sing(self, name: str) -> int:
        """Answer in every session, until the client has heard all but the end; what memory that takes, in
        bytes."""
        before = await self.debug("memory")
        for session in SESSIONS:
            turn_id = f"{name}-{session}"
            await self._line.put(
                "message", session_id=session, agent="held", turn_id=turn_id, content="go", metadata=ANSWER
            )
        await self._line.read(lambda: self._all(name, lambda turn: turn.shown == LENGTH), PATIENCE)
        return int(await self.debug("memory")) - before

    async def end(self, name: str) -> None:
        """Let every answer end, and hear it."""
        await self.debug("release")
        await self._line.read(lambda: self._all(name, lambda turn: turn.over), PATIENCE)

    def _all(self, name: str, condition: Callable[[Turn], bool]) -> bool:
        return all_turns(self._line, name, condition)


def all_turns(line: Line, name: str, condition: Callable[[Turn], bool]) -> bool:
    """Is this true of that answer of every session, as `line` sees it?"""
    for session in SESSIONS:
        transcript = line.transcripts.get(session)
        turn = None if transcript is None else transcript.turn(f"{name}-{session}")
        if turn is None or not condition(turn):
            return False
    return True


@asynccontextmanager
async def slow_line(server: Process) -> AsyncIterator[Line]:
    """A client whose socket takes little while it does not read."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.setblocking(False)
    url = urlsplit(server.url)
    await asyncio.get_running_loop().sock_connect(line, (url.hostname, url.port))
    async with opened(f"{server.ws}/ws", sock=line, max_queue=1) as slow:
        yield slow


async def test_a_client_that_stops_reading_costs_little_delays_nobody_and_is_told_the_truth(
    tmp_path: Path,
) -> None:
    arguments = gateway_runner(store=str(tmp_path / "store.db"), small_buffers=True, trace=True)
    with serving(arguments, tmp_path / "log") as server:
        async with httpx.AsyncClient() as http, opened(f"{server.ws}/ws") as fast:
            await _sing(server, fast, http)
        assert "Traceback" not in server.log


async def _sing(server: Process, fast: Line, http: httpx.AsyncClient) -> None:
    await fast.put("hello", batch=True)
    choir = Choir(server, fast, http)
    await choir.sing("first")  # makes the sessions
    await choir.end("first")
    alone = await choir.sing("alone")
    assert alone > len(SESSIONS) * LENGTH, "the answers must be held, or nothing is measured"
    await choir.end("alone")

    before = await choir.debug("memory")
    async with slow_line(server) as slow:
        targets = [{"session_id": session, "history": 0} for session in SESSIONS]
        await slow.put("hello", batch=True)
        await slow.put("attach", sessions=targets, ref="a")
        await slow.answer("a")
        await choir.sing("beside")
        assert await choir.debug("stuck") == 1
        assert await choir.debug("memory") - before - alone < MIB
        for number in range(20_000):
            await slow.socket.send(json.dumps({"type": "ping", "ref": str(number)}))
        assert await choir.debug("memory") - before - alone < MIB
        await choir.end("beside")
        assert await choir.debug("stuck") == 1

        await slow.read(lambda: all_turns(slow, "beside", lambda turn: turn.over), PATIENCE)
        for session in SESSIONS:
            assert slow.transcripts[session].turns[-1].text == fast.transcripts[session].turns[-1].text
        await slow.answer("19999")
