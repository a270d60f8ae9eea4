"""A client that stops reading is a cursor that lags: it costs next to nothing, and delays nobody."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from protocol import frames
from tests.e2e.line import Line, ends, opened
from tests.e2e.process import Process, serving

SESSIONS = [f"s{number:03d}" for number in range(200)]
ANSWER = {"pieces": 100, "size": 200}
LENGTH = ANSWER["pieces"] * ANSWER["size"]
MIB = 1 << 20
PATIENCE = 30.0
"""Seconds for what takes the server seconds of work, slowed down by tracing its memory."""


class Round:
    """One answer in every session, and what it costs to hold them all."""

    def __init__(self, server: Process, fast: Line, http: httpx.AsyncClient) -> None:
        self._server = server
        self._fast = fast
        self._http = http

    async def debug(self, what: str) -> Any:
        return (await self._http.get(f"{self._server.url}/debug/{what}")).json()

    async def start(self, name: str) -> None:
        for session in SESSIONS:
            await self._fast.put(
                "message", session_id=session, agent="held", turn_id=f"{name}-{session}", content="go",
                metadata=ANSWER,
            )  # fmt: skip

    async def all_said(self, name: str) -> None:
        """The fast client has the whole text of every answer."""
        for session in SESSIONS:
            await self._fast.until(
                lambda _, session=session: self._shown(session, name) == LENGTH,
                PATIENCE,  # type: ignore[misc]
            )

    def _shown(self, session: str, name: str) -> int:
        transcript = self._fast.transcripts.get(session)
        turn = None if transcript is None else transcript.turn(f"{name}-{session}")
        return 0 if turn is None else turn.shown

    async def end(self, name: str) -> None:
        """Let every answer end, and see that the fast client is told."""
        await self.debug("release")
        for session in SESSIONS:
            await self._fast.terminal(f"{name}-{session}")


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
    options = {"store": str(tmp_path / "store.db"), "small_buffers": True, "trace": True}
    arguments = ["-m", "tests.e2e.runner", json.dumps(options)]
    async with (
        serving(arguments, tmp_path / "log") as server,
        httpx.AsyncClient() as http,
        opened(f"{server.ws}/ws") as fast,
    ):
        await fast.put("hello", batch=True)
        round_ = Round(server, fast, http)
        await round_.start("warm")
        await round_.all_said("warm")
        await round_.end("warm")

        before = await round_.debug("memory")
        await round_.start("alone")
        await round_.all_said("alone")
        alone = await round_.debug("memory") - before
        assert alone > len(SESSIONS) * LENGTH, "the answers must be held, or nothing is measured"
        await round_.end("alone")

        before = await round_.debug("memory")
        async with slow_line(server) as slow:
            await slow.put("hello", batch=True)
            targets = [{"session_id": session, "history": 0} for session in SESSIONS]
            await slow.put("attach", sessions=targets, ref="a")
            await slow.answer("a")
            await round_.start("slow")
            await round_.all_said("slow")
            assert await round_.debug("stuck") == 1
            with_slow = await round_.debug("memory") - before
            print("WITH", with_slow, alone, with_slow - alone)
            assert with_slow - alone < MIB

            for number in range(20_000):
                await slow.socket.send(json.dumps({"type": "ping", "ref": str(number)}))
            assert await round_.debug("memory") - before - alone < MIB

            await round_.end("slow")
            assert await round_.debug("stuck") == 1
            await _read_on(slow, fast)
    assert "Traceback" not in server.log


async def _read_on(slow: Line, fast: Line) -> None:
    """It reads again: every answer's end comes, and what is shown then is what the other one sees."""
    for session in SESSIONS:
        await slow.until(lambda frame, session=session: _ends(frame, f"slow-{session}"), PATIENCE)  # type: ignore[misc]
    for session in SESSIONS:
        seen, known = slow.transcripts[session].turn(f"slow-{session}"), fast.transcripts[session].turns[-1]
        assert seen is not None
        assert (seen.turn_id, seen.status, seen.text) == (known.turn_id, "completed", known.text)
        assert len(seen.text) == LENGTH


def _ends(frame: frames.ServerFrame, turn_id: str) -> bool:
    return ends(frame) and getattr(frame, "turn_id", None) == turn_id
