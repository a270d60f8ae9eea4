"""A gateway for tests that want more of it than the command line offers: `python -m tests.e2e.runner
OPTIONS`.

OPTIONS is JSON: `store` (a file; without it, memory), `settings` (fields of `Settings`), `auth` (tokens are
`user:NAME`), `small_buffers` (the kernel takes little for a client that does not read), `trace` (memory),
`endless` (the store never gets to write the end of a turn).
`/debug/…` answers what a test must know and a client never sees.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
import tracemalloc
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from gateway import Turn
from gateway.agents.echo import EchoAgent
from gateway.agents.function import FunctionAgent
from gateway.agents.metronome import MetronomeAgent
from gateway.app import gateway_app
from gateway.connection import Connection
from gateway.interfaces import Caller, Head, Key
from gateway.logs import configure_logs
from gateway.serve import Server, configure
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.stores.sqlite import SqliteStore
from gateway.supervisor import Supervisor
from protocol.errors import Refused
from protocol.records import Record, Terminal

SMALL = 16 << 10
"""Bytes of a small socket buffer."""


class Held:
    """An agent that says its text in pieces, and ends when the test says so."""

    def __init__(self) -> None:
        self._released = asyncio.Event()

    async def __call__(self, turn: Turn) -> AsyncIterator[str]:
        released = self._released
        for number in range(turn.metadata["pieces"]):
            yield f"{number:07d} ".ljust(turn.metadata["size"], ".")
            await asyncio.sleep(0.01)
        await released.wait()

    def release(self) -> None:
        """Let all that are held end."""
        self._released.set()
        self._released = asyncio.Event()


class Endless(SqliteStore):
    """Waits for ever where the end of a turn is to be written: whoever is killed then leaves it running."""

    async def append(self, key: Key, head: Head, tag: str, records: Sequence[Record], **more: Any) -> Head:
        if any(isinstance(record, Terminal) for record in records):
            await asyncio.Event().wait()
        return await super().append(key, head, tag, records, **more)


async def by_name(token: str | None, _: Mapping[str, str]) -> Caller:
    """The token `user:NAME` is that user's."""
    kind, _, user = (token or "").partition(":")
    if kind != "user" or not user:
        raise Refused("unauthenticated", "A token is user:NAME.")
    return Caller(user)


def debug(held: Held, supervisor: Supervisor) -> list[Route]:
    async def memory(_: Request) -> Response:
        await supervisor.runtime.store.find("nothing", None)  # its thread keeps what it did last
        gc.collect()
        return JSONResponse(tracemalloc.get_traced_memory()[0])

    async def release(_: Request) -> Response:
        held.release()
        return JSONResponse(None)

    async def stuck(_: Request) -> Response:
        lines = supervisor.lines.values()
        return JSONResponse(sum(isinstance(line, Connection) and line.congested for line in lines))

    return [Route("/memory", memory), Route("/release", release), Route("/stuck", stuck)]


async def main(options: dict[str, Any]) -> None:
    held, made = Held(), Endless if options.get("endless") else SqliteStore
    gateway = gateway_app(
        Settings(**options.get("settings", {})),
        agents={"metronome": MetronomeAgent(), "echo": EchoAgent(), "held": FunctionAgent(held, history=0)},
        store=made(options["store"]) if "store" in options else MemoryStore(),
        authenticator=by_name if options.get("auth") else None,
    )
    routes = [Mount("/debug", routes=debug(held, gateway.supervisor)), Mount("/", gateway)]
    app = Starlette(routes=routes, lifespan=gateway.lifespan)
    listening = socket.create_server(("127.0.0.1", 0))
    if options.get("small_buffers"):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    if options.get("trace"):
        tracemalloc.start()
    ready = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = Server(configure(app), drain=gateway.drain, ready=lambda _: print(ready, flush=True))
    await server.serve([listening])


if __name__ == "__main__":
    import uvloop

    configure_logs("info", "text", sys.stderr)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(json.loads(sys.argv[1])))
