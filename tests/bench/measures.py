"""What is measured: each function does one thing to one server, and answers its figures by name.

Every figure is a number of the unit its name ends in; `busy` is the load client's, in percent of its core.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from statistics import median, quantiles
from typing import Any, TypeAlias

from msgspec import Struct

from tests.bench.subjects import Run, request
from tests.bench.wire import Latencies, Stream, Tally, Wire

Figures: TypeAlias = dict[str, float]


def names(count: int, prefix: str = "s") -> list[str]:
    """Ids of sessions."""
    return [f"{prefix}-{number:05d}" for number in range(count)]


async def take_turns(run: Run, wire: Wire, sessions: Sequence[str], deltas: int) -> Tally:
    """One turn in each session, all at once, until all are over."""
    tally = wire.listener = Tally()
    wire.send(*(run.dialect.turn(session, {"deltas": deltas}) for session in sessions))
    await wire.until(lambda: tally.turns == len(sessions))
    return tally


async def flood(run: Run, sessions: int, deltas: int) -> Figures:
    """Turns on one socket as fast as the agents yield."""
    wire = await run.attached(names(sessions))
    await take_turns(run, wire, names(sessions), 20)
    with run.server.window() as window:
        tally = await take_turns(run, wire, names(sessions), deltas)
    return {"deltas_per_cpu_s": tally.deltas / window.cpu, "busy": window.busy}


async def long_turn(run: Run) -> Figures:
    """One turn of 1 Mi characters, and turns of 4 Ki characters one after the other: CPU per delta."""
    wire = await run.attached(["long", "short"])
    await take_turns(run, wire, ["short"], 1024)
    with run.server.window() as short:
        tallies = [await take_turns(run, wire, ["short"], 1024) for _ in range(100)]
    with run.server.window() as long:
        tally = await take_turns(run, wire, ["long"], 262_144)
    return {
        "long_us": long.cpu / tally.deltas * 1e6,
        "short_us": short.cpu / sum(tally.deltas for tally in tallies) * 1e6,
        "busy": long.busy,
    }


def paced(number: int, rate: float, seconds: float) -> dict[str, Any]:
    """A turn of `rate` deltas per second, which begins anywhere in an interval, the same in every round."""
    phase = random.Random(number).random()
    return {"deltas": int(rate * seconds), "interval_ms": 1000 / rate, "phase": phase}


async def listen(run: Run, wire: Wire, seconds: float) -> Figures:
    """What paced deltas cost and how late they are, after a second in which all begins to run."""
    await asyncio.sleep(1.5)
    latencies = wire.listener = Latencies()
    with run.server.window() as window:
        await asyncio.sleep(seconds)
        late = latencies.late
        wire.listener = Latencies()
    percentiles = quantiles(late, n=100)
    return {
        "us_per_delta": window.cpu / len(late) * 1e6,
        "p50_ms": percentiles[49] / 1e6,
        "p99_ms": percentiles[98] / 1e6,
        "deltas_per_s": len(late) / window.seconds,
        "busy": window.busy,
    }


async def pace(run: Run, sessions: int = 1000, rate: float = 27, seconds: float = 3) -> Figures:
    """1,000 sessions on one socket at the pace of a language model."""
    ids = names(sessions)
    wire = await run.attached(ids)
    turns = [run.dialect.turn(s, paced(i, rate, seconds + 3)) for i, s in enumerate(ids)]
    wire.send(*turns)
    return await listen(run, wire, seconds)


async def beside_a_flood(run: Run, floods: int) -> Figures:
    """99 sessions at 20 deltas/s, and `floods` more that write as fast as they can: how late are the 99?"""
    ids, flooding = names(99), names(floods, "flood")
    wire = await run.attached(ids + flooding)
    wire.send(*(run.dialect.turn(s, paced(i, 20, 6)) for i, s in enumerate(ids)))
    for session in flooding:
        wire.send(*[run.dialect.turn(session, {"deltas": 200_000})] * 10)
    return await listen(run, wire, 3)


async def first_delta(run: Run, turns: int = 300) -> Figures:
    """From `message` to the first delta, one turn at a time on a server that was idle for 5 ms."""
    wire = await run.attached(["one"])
    await take_turns(run, wire, ["one"], 1)
    taken: list[float] = []
    with run.server.window() as window:
        for _ in range(turns):
            tally = wire.listener = Tally()
            start = time.perf_counter()
            wire.send(run.dialect.turn("one", {"deltas": 1}))
            await wire.until(lambda tally=tally: tally.deltas == 1)  # type: ignore[misc]
            taken.append(time.perf_counter() - start)
            await wire.until(lambda tally=tally: tally.turns == 1)  # type: ignore[misc]
            await asyncio.sleep(0.005)
    return {"p50_ms": median(taken) * 1e3, "p99_ms": quantiles(taken, n=100)[98] * 1e3, "busy": window.busy}


async def short_turn(run: Run, turns: int = 2000) -> Figures:
    """Message, one delta, response, one turn after the other in one session: the server's CPU per turn."""
    wire = await run.attached(["one"])
    await take_turns(run, wire, ["one"], 1)
    with run.server.window() as window:
        for _ in range(turns):
            await take_turns(run, wire, ["one"], 1)
    return {"us_per_turn": window.cpu / turns * 1e6, "busy": window.busy}


async def idle_connections(run: Run, count: int = 5000) -> Figures:
    """Memory of connections that do nothing."""
    await run.connect_many(10)
    before = run.server.memory()
    with run.server.window() as window:
        await run.connect_many(count)
    grown = run.server.memory() - before
    return {"kib_per_connection": grown / count / 1024, "busy": window.busy}


async def attach_many(run: Run, connections: int, each: int) -> tuple[list[Wire], list[list[str]], int]:
    """Connections that follow `each` new sessions; the server's memory before they did."""
    wires = await run.connect_many(connections)
    await run.dialect.attach(wires[0], ["warm"])
    before = run.server.memory()
    sessions = [names(each, f"c{number:03d}") for number in range(connections)]
    for wire, mine in zip(wires, sessions, strict=True):
        await run.dialect.attach(wire, mine)
    return wires, sessions, before


async def idle_sessions(run: Run, connections: int = 100, each: int = 200) -> Figures:
    """Memory of attached sessions that do nothing, and what they make of a full garbage collection."""
    with run.server.window() as window:
        _, _, before = await attach_many(run, connections, each)
    grown = run.server.memory() - before
    collections = [float(await run.http("GET", "/bench/gc")) for _ in range(5)]
    return {
        "kib_per_session": grown / (connections * each) / 1024,
        "gc_ms": median(collections),
        "busy": window.busy,
    }


async def waiting_turns(run: Run, connections: int = 50, each: int = 100) -> Figures:
    """Memory of attached sessions whose turn waits for an agent that has not said anything yet."""
    with run.server.window() as window:
        wires, sessions, before = await attach_many(run, connections, each)
        for wire, mine in zip(wires, sessions, strict=True):
            tally = wire.listener = Frames(b'"status":"started"')
            wire.send(*(run.dialect.turn(session, {"silent": True}) for session in mine))
            await wire.until(lambda tally=tally: tally.count == each)  # type: ignore[misc]
    grown = run.server.memory() - before
    return {"kib_per_session": grown / (connections * each) / 1024, "busy": window.busy}


class Frames:
    """Counts what every frame of one kind contains."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self.count = 0

    def __call__(self, message: bytearray) -> None:
        self.count += message.count(self._mark)


async def reconnect(run: Run, clients: int, each: int = 20) -> Figures:
    """All clients come back at once, each to sessions of which it has missed a turn, until all have it."""
    old = await run.connect_many(clients)
    sessions = [names(each, f"c{number:04d}") for number in range(clients)]
    cursors: list[dict[str, str]] = []
    for wire, mine in zip(old, sessions, strict=True):
        await run.dialect.attach(wire, mine)
        cursors.append(cursors_of(wire))
        await take_turns(run, wire, mine, 1)
        wire.close()

    async def come_back(asked: dict[str, str]) -> None:
        wire = await run.connect()
        caught_up = wire.listener = Frames(b'"response"')
        attach = [{"session_id": session, "cursor": cursor} for session, cursor in asked.items()]
        wire.send(json.dumps({"type": "attach", "ref": "back", "sessions": attach}).encode())
        await wire.until(lambda: caught_up.count == each)

    with run.server.window() as window:
        await asyncio.gather(*map(come_back, cursors))
    total = clients * each
    return {
        "seconds": window.seconds,
        "us_per_session": window.seconds / total * 1e6,
        "cpu_us_per_session": window.cpu / total * 1e6,
        "busy": window.busy,
    }


def cursors_of(wire: Wire) -> dict[str, str]:
    """The cursor of each session, out of the `attached` frames that this line has just collected."""
    frames = [json.loads(line) for line in wire.listener.data.split(b"\n") if line]  # type: ignore[attr-defined]
    return {frame["session_id"]: frame["cursor"] for frame in frames if frame["type"] == "attached"}


async def sse_baseline(run: Run, sessions: int, deltas: int) -> Figures:
    """Streams that begin their turn when they are opened."""
    tally = Tally()
    with run.server.window() as window:
        paths = [f"/sessions/{session}/events?deltas={deltas}" for session in names(sessions)]
        await open_streams(run, [request("GET", path) for path in paths], tally)
        await watch(lambda: tally.turns == sessions)
    return {"deltas_per_cpu_s": tally.deltas / window.cpu, "busy": window.busy}


async def sse(run: Run, sessions: int, deltas: int) -> Figures:
    """A stream for each session, as a page with an EventSource has it; the messages go to `POST /frames`."""
    paths = [f"/api/sessions/{session}/events?create=true" for session in names(sessions)]
    return await sse_turns(run, [request("GET", path) for path in paths], sessions, deltas)


async def sse_in_one(run: Run, sessions: int, deltas: int) -> Figures:
    """One stream that follows all sessions: `POST /events`."""
    attach = {"type": "attach", "sessions": [{"session_id": s, "create": True} for s in names(sessions)]}
    return await sse_turns(run, [request("POST", "/events", json.dumps(attach).encode())], sessions, deltas)


async def sse_turns(run: Run, streams: list[bytes], sessions: int, deltas: int) -> Figures:
    attached, tally = Frames(b'"type":"attached"'), Tally()
    lines = await open_streams(run, streams, attached)
    await watch(lambda: attached.count == sessions)
    for line in lines:
        line.listener = tally
    with run.server.window() as window:
        for session in names(sessions):
            await run.http("POST", "/frames", run.dialect.turn(session, {"deltas": deltas}))
        await watch(lambda: tally.turns == sessions)
    return {"deltas_per_cpu_s": tally.deltas / window.cpu, "busy": window.busy}


async def open_streams(
    run: Run, requests: list[bytes], listener: Callable[[bytearray], None]
) -> list[Stream]:
    loop = asyncio.get_running_loop()
    streams: list[Stream] = []
    for text in requests:
        make = partial(Stream, text, listener)
        _, stream = await loop.create_connection(make, run.server.host, run.server.port)
        streams.append(stream)
    return streams


async def watch(condition: Callable[[], bool]) -> None:
    """Wait for what many lines do together."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a future per line would cost the load more
            await asyncio.sleep(0.001)


READS = {
    "list": "/api/agents/tok/sessions?limit=100",
    "get": "/api/sessions/{session}?limit=20",
    "history": "/api/sessions/s-000000/messages?limit=50",
    "active": "/api/v1/conversations/{session}/active-session",
    "task": "/api/v1/conversations/{session}/task-status",
}


async def rest_reads(run: Run, requests: int) -> Figures:
    """REST reads of one user with 10,000 sessions, one after the other: what each takes at the server,
    p95."""
    dice, figures = random.Random(1), {}
    for name, path in READS.items():
        with run.server.window() as window:
            for _ in range(requests):
                await run.http("GET", path.format(session=f"s-{dice.randrange(10_000):06d}"))
        prefix = path.partition("?")[0].partition("{")[0]
        suffix = path.partition("?")[0].rpartition("}")[2]
        answer = await run.http("GET", f"/bench/p95?prefix={prefix}&suffix={suffix}")
        figures[f"{name}_ms"] = float(answer)
    return figures | {"busy": window.busy}


class Measure(Struct, frozen=True):
    """A measure, and the subjects it is taken of, each with its arguments (slow ones are asked for less)."""

    take: Callable[..., Awaitable[Figures]]
    of: dict[str, dict[str, Any]]
    by_default: bool = True


MEASURES: dict[str, Measure] = {
    "flood of 50": Measure(
        flood,
        {
            "ours": {"sessions": 50, "deltas": 4000},
            "ours, no batch": {"sessions": 50, "deltas": 4000},
            "bare": {"sessions": 50, "deltas": 4000},
            "socketio": {"sessions": 50, "deltas": 1000},
        },
    ),
    "flood of 1": Measure(flood, {name: {"sessions": 1, "deltas": 150_000} for name in ("ours", "bare")}),
    "long turn": Measure(long_turn, {"ours": {}}),
    "pace": Measure(pace, {"ours": {}, "bare": {}}),
    "first delta": Measure(first_delta, {"ours": {}, "ours, sqlite": {}, "bare": {}}),
    "short turn": Measure(short_turn, {"ours": {}, "ours, sqlite": {}, "bare": {}}),
    "idle connections": Measure(idle_connections, {"ours": {}, "uvicorn": {}}),
    "idle sessions": Measure(idle_sessions, {"ours, sqlite": {}, "ours": {}}),
    "waiting turns": Measure(waiting_turns, {"ours, sqlite": {}, "ours": {}}),
    "sse": Measure(sse, {"ours": {"sessions": 50, "deltas": 1500}}),
    "sse baseline": Measure(sse_baseline, {"sse-starlette": {"sessions": 50, "deltas": 500}}),
    "99 alone": Measure(beside_a_flood, {"ours": {"floods": 0}}),
    "99 beside a flood": Measure(beside_a_flood, {"ours": {"floods": 1}}),
    "reconnect 250": Measure(reconnect, {"ours": {"clients": 250}}),
    "reconnect 1000": Measure(reconnect, {"ours": {"clients": 1000}}),
    "rest reads": Measure(
        rest_reads,
        {"ours, 10,000 sessions": {"requests": 300}, "ours, 110,000 sessions": {"requests": 300}},
    ),
    "flood of 50, sqlite": Measure(
        flood, {"ours, sqlite": {"sessions": 50, "deltas": 4000}}, by_default=False
    ),
    "pace, sqlite": Measure(pace, {"ours, sqlite": {}}, by_default=False),
    "reconnect 500": Measure(reconnect, {"ours": {"clients": 500}}, by_default=False),
    "reconnect 1000, sqlite": Measure(reconnect, {"ours, sqlite": {"clients": 1000}}, by_default=False),
    "sse in one": Measure(sse_in_one, {"ours": {"sessions": 50, "deltas": 1500}}),
}
"""By the name that the rows of `targets.py` use. `BENCH=all` takes those that are not `by_default` too."""
