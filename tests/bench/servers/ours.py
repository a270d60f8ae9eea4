"""The gateway, with the bench's agent. Argument: `memory`, or the path of an SQLite file.

`GET /bench/gc` runs a full collection and answers how long it took, in milliseconds.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from gateway.app import Gateway, gateway_app
from gateway.interfaces import Store, Turn
from gateway.run import settle_memory
from gateway.serve import Server, configure
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.stores.sqlite import SqliteStore
from tests.bench.servers.agents import answer
from tests.bench.servers.run import announce


class BenchAgent:
    """Does what the message's metadata says."""

    history = 0

    def __call__(self, turn: Turn) -> AsyncGenerator[str, None]:
        return answer(turn.metadata)

    async def check(self) -> str:
        return "always"

    async def aclose(self) -> None:
        pass


def collection_ms() -> float:
    """How long a full garbage collection takes now."""
    start = time.perf_counter()
    gc.collect()
    return (time.perf_counter() - start) * 1000


async def timed_collection(send: Any) -> None:
    """Answer a request with how long a collection takes."""
    body = str(collection_ms()).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class WithCollection:
    """The gateway, and the route that times a collection. Sockets do not pay for a frame of it."""

    def __init__(self, app: Gateway) -> None:
        self._app = app

    def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Coroutine[Any, Any, None]:
        if scope["type"] == "http" and scope["path"] == "/bench/gc":
            return timed_collection(send)
        return self._app(scope, receive, send)


def main(place: str) -> None:
    """Build the gateway over the store at `place`, and serve it."""
    store: Store = MemoryStore() if place == "memory" else SqliteStore(place)
    app = gateway_app(Settings(), agents={"tok": BenchAgent()}, store=store)
    config = configure(WithCollection(app), port=0)
    config.interface = "asgi3"

    def ready(url: str) -> None:
        settle_memory()
        announce(url)

    Server(config, ready=ready).run()


if __name__ == "__main__":
    main(sys.argv[1])
