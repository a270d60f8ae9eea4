"""The gateway over an SQLite file that holds many sessions. Arguments: the file, and how many sessions of
others stand beside the 10,000 of one user.

What a request costs is timed here, around the app: `GET /bench/p95?prefix=…&suffix=…` answers the 95th
percentile of the requests so far whose path begins and ends so, in milliseconds.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any
from urllib.parse import parse_qs

from gateway.app import Gateway, gateway_app
from gateway.interfaces import Info, Key
from gateway.run import settle_memory
from gateway.serve import Server, configure
from gateway.settings import Settings
from gateway.stores.sqlite import SqliteStore
from protocol.records import Message, Record, Response, Started
from tests.bench.servers.ours import BenchAgent
from tests.bench.servers.run import announce

MINE = 10_000
LONG = 500
"""Turns of the one session whose history is paged."""
AT_A_TIME = 1_000


class Timed:
    """The gateway, and how long its answers take."""

    def __init__(self, app: Gateway) -> None:
        self._app = app
        self._times: dict[str, list[float]] = defaultdict(list)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/bench/p95":
            query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
            await self._tell(query["prefix"][0], query["suffix"][0], send)
            return
        start = time.perf_counter()
        await self._app(scope, receive, send)
        if scope["type"] == "http":
            self._times[scope["path"]].append((time.perf_counter() - start) * 1000)

    async def _tell(self, prefix: str, suffix: str, send: Any) -> None:
        asked = [path for path in self._times if path.startswith(prefix) and path.endswith(suffix)]
        times = [one for path in asked for one in self._times.pop(path)]
        body = str(quantiles(times, n=20)[-1]).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def sessions(others: int) -> Iterator[tuple[Info, list[Record]]]:
    """All that the store is to hold: each with a turn that is over, the first with many."""
    for number in range(MINE + others):
        user = "user" if number < MINE else f"other-{number % 1000}"
        at = 1_700_000_000.0 + number
        turns = LONG if number == 0 else 1
        records: list[Record] = []
        for turn in range(turns):
            records += [
                Message(f"t{turn}", "How are you?", at),
                Started(f"t{turn}", "bench", at),
                Response(f"t{turn}", "Very well, thank you. " * 10, "completed", at + 1),
            ]
        yield Info(Key("tok", user, f"s-{number:06d}"), at, at), records


async def fill(place: str, others: int) -> None:
    """Make the file."""
    store = SqliteStore(place)
    async with store.open("fill", 0.0):
        waiting = []
        for number, (info, records) in enumerate(sessions(others), 1):
            waiting.append(store.create(info, f"tag-{number}", records))
            if number % AT_A_TIME == 0:
                await asyncio.gather(*waiting)
                waiting = []


def main(place: str, others: int) -> None:
    """Fill the store, and serve it."""
    if not Path(place).exists():
        asyncio.run(fill(place, others))
    app = gateway_app(Settings(), agents={"tok": BenchAgent()}, store=SqliteStore(place))
    config = configure(Timed(app), port=0)
    config.interface = "asgi3"

    def ready(url: str) -> None:
        settle_memory()
        announce(url)

    Server(config, ready=ready).run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
