"""Whatever is done to a log, in whatever order: every store answers as the one in memory does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.interfaces import Duplicate, Head, Info, Key, Place, Segment, Store, StoreError
from gateway.stores.memory import MemoryStore
from gateway.stores.sqlite import SqliteStore
from protocol.history import DAY
from protocol.lifetime import Life, Terms, begin
from protocol.records import (
    CancelRequested,
    Event,
    Failed,
    Message,
    Record,
    Response,
    Started,
    ToolCall,
)

NODE = "node"
KEYS = [Key("eliza", "ada", "s"), Key("eliza", "bob", "s"), Key("echo", "ada", "s2")]
TURNS = [f"t{n}" for n in range(6)]
Session = st.sampled_from(KEYS)
Turn = st.sampled_from(TURNS)
Small = st.integers(0, 12)
Seconds = st.sampled_from([None, 1, 5, 10, 1000])
Shared = st.none() | st.dictionaries(st.sampled_from("ab"), Small, max_size=2)


class Append(NamedTuple):
    key: Key
    head: Literal["current", "old", "wrong"]
    tag: Literal["new", "last", "before"]
    moves: list[tuple[str, int]]
    """What happens in the log, and a number to choose the turn with."""
    text: tuple[int, str] | None
    mood: str | None
    """What is to be kept beside the log; None: it stays."""
    lasts: int | None
    """Seconds that the session is to live, if anything is kept; None: for ever."""
    shared: dict[str, Any] | None


class Save(NamedTuple):
    key: Key
    turn_id: str | None
    """None: the one that runs."""
    offset: int
    text: str


class Create(NamedTuple):
    key: Key
    over_tombstone: bool
    activate: bool
    lasts: int | None = None
    shared: dict[str, Any] | None = None


class Delete(NamedTuple):
    key: Key
    head: Literal["any", "current", "old"]


class Name(NamedTuple):
    key: Key
    label: str | None


class Move(NamedTuple):
    key: Key
    to: Key
    head: Literal["current", "old"]


class Trim(NamedTuple):
    days: float


MOVES = ["message", "replacing", "start", "answer", "fail", "drop", "tool", "cancel", "event"]
Step = Append | Save | Create | Delete | Move | Name | Trim
steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        Append,
        Session,
        st.sampled_from(["current"] * 8 + ["old", "wrong"]),
        st.sampled_from(["new"] * 8 + ["last", "before"]),
        st.lists(st.tuples(st.sampled_from(MOVES), Small), max_size=6),
        st.none() | st.tuples(Small, st.text("ab\x00é😀", max_size=8)),
        st.sampled_from([None, None, "good"]),
        Seconds,
        Shared,
    ),
    st.builds(Save, Session, st.none() | Turn, Small, st.text("ab\x00é😀", max_size=8)),
    st.builds(Create, Session, st.booleans(), st.booleans(), Seconds, Shared),
    st.builds(Delete, st.sampled_from(KEYS[:1]), st.sampled_from(["any", "current", "old"])),
    st.builds(Move, Session, Session, st.sampled_from(["current", "current", "old"])),
    st.builds(Name, Session, st.none() | st.just("name")),
    st.builds(Trim, st.sampled_from([0.0, 0.5, 1.5, 3.0])),
)


class Known:
    """What a writer of one session remembers: enough to write only what `decide` could."""

    def __init__(self) -> None:
        self.heads = [Head("none", 0, "")]
        self.waiting: list[str] = []
        self.running: str | None = None
        self.used = 0

    def records(self, moves: list[tuple[str, int]], now: float) -> list[Record]:
        return [record for move, number in moves if (record := self._record(move, number, now))]

    def _record(self, move: str, number: int, now: float) -> Record | None:
        match move:
            case "message" | "replacing":
                turn_id = f"t{self.used}"
                self.used += 1
                self.waiting.append(turn_id)
                replaces = f"t{number % 6}" if move == "replacing" else None
                return Message(turn_id, "hello", now, replaces)
            case "start" if self.waiting and self.running is None:
                self.running = self.waiting.pop(number % len(self.waiting))
                return Started(self.running, NODE if number % 2 else "dead", now)
            case "drop" if self.waiting:
                return Response(self.waiting.pop(number % len(self.waiting)), "", "cancelled", now)
            case "event":
                return Event("k", number, now)
            case _ if self.running is not None:
                return self._of_running(move, self.running, number, now)
            case _:
                return None

    def _of_running(self, move: str, turn_id: str, number: int, now: float) -> Record | None:
        match move:
            case "answer":
                self.running = None
                return Response(turn_id, "x" * number, "completed", now)
            case "fail":
                self.running = None
                return Failed(turn_id, "broke", "agent_failed", True, "", now)
            case "tool":
                return ToolCall(turn_id, number, "c", "n", number, now)
            case "cancel":
                return CancelRequested(turn_id, now)
            case _:
                return None


class Pair:
    """Two stores to which the same is done."""

    def __init__(self, one: Store, other: Store) -> None:
        self.stores = one, other
        self.epochs: dict[str, str] = {}
        self.known = {key: Known() for key in KEYS}
        self.now = 1_000_000.0
        self.tags = 0

    async def both(self, verb: str, *arguments: Any, **options: Any) -> Any:
        """Do it to both, and answer what both answered."""
        one, other = [
            await attempt(store, verb, self.translated(store, arguments), options) for store in self.stores
        ]
        self.learn(one, other)
        assert self.as_first(other) == one, (verb, arguments, options)
        return one

    def translated(self, store: Store, arguments: tuple[Any, ...]) -> list[Any]:
        """The first store's epochs are not the second's."""
        if store is self.stores[0]:
            return list(arguments)
        other = {first: second for second, first in self.epochs.items()}
        return [
            replace(one, epoch=other.get(one.epoch, one.epoch)) if isinstance(one, Head) else one
            for one in arguments
        ]

    def learn(self, one: Any, other: Any) -> None:
        if isinstance(one, Head) and isinstance(other, Head):
            assert self.epochs.setdefault(other.epoch, one.epoch) == one.epoch

    def as_first(self, answer: Any) -> Any:
        if isinstance(answer, Head):
            return replace(answer, epoch=self.epochs[answer.epoch])
        if isinstance(answer, tuple) and hasattr(answer, "_fields"):
            return type(answer)(*map(self.as_first, answer))
        return [self.as_first(one) for one in answer] if isinstance(answer, list) else answer

    async def step(self, step: Step) -> None:
        self.now += 1
        match step:
            case Append():
                await self.append(step)
            case Save(key, turn_id, offset, text):
                running = turn_id or self.known[key].running or "t0"
                await self.both("save_text", [Segment(key, running, offset, text)])
            case Create(key, over_tombstone, activate, lasts, shared):
                self.tags += 1
                info = Info(key, self.now, self.now, life=self.life(lasts))
                options: dict[str, Any] = {"over_tombstone": over_tombstone, "activate": activate}
                options |= scoped(key, shared)
                head = await self.both("create", info, f"tag{self.tags}", [], **options)
                if isinstance(head, Head):
                    self.known[key] = Known()
                    self.known[key].heads.append(head)
            case Delete(key, which):
                heads = self.known[key].heads
                head = {"any": None, "current": heads[-1], "old": heads[0]}[which]
                await self.both("delete", key, self.now, "closed", head)
            case Move(key, to, which):
                heads = self.known[key].heads
                scopes = {f"{key.agent}/{key.user}": f"{to.agent}/{to.user}"}
                moved = await self.both("move", key, heads[0 if which == "old" else -1], to, self.now, scopes)
                if isinstance(moved, Head):
                    self.known[to], self.known[key] = self.known[key], Known()
                    self.known[to].heads = [moved]
            case Name(key, label):
                await self.both("label", key, label, self.now)
            case Trim(days):
                self.now += days * DAY
                await self.both("trim", self.now)
        await self.look()

    async def append(self, step: Append) -> None:
        before = self.known[step.key]
        self.tags += 1
        head = {"current": before.heads[-1], "old": before.heads[0], "wrong": Head("none", 3, "x")}[step.head]
        tag = {"new": f"tag{self.tags}", "last": before.heads[-1].tag, "before": before.heads[0].tag}[
            step.tag
        ]
        after = Known()
        after.heads = before.heads
        after.waiting, after.running, after.used = [*before.waiting], before.running, before.used
        records = after.records(step.moves, self.now)
        beside = Info(step.key, 0.0, 0.0, "not this", {"mood": step.mood}, life=self.life(step.lasts))
        options = {"text": step.text, "info": beside if step.mood else None}
        options |= scoped(step.key, step.shared)
        answer = await self.both("append", step.key, head, tag, records, **options)
        if isinstance(answer, Head) and answer != before.heads[-1]:
            after.heads.append(answer)
            self.known[step.key] = after

    def life(self, lasts: int | None) -> Life | None:
        """One that begins now, and whose end is near in its last two seconds."""
        return None if lasts is None else begin(Terms(lasts / 60, True, 999.0, 2 / 60), self.now, self.now)

    async def look(self) -> None:
        """Everything that can be asked."""
        for key in KEYS:
            await self.both("load", key)
            await self.both("text", key)
            await self.both("summary", key)
            for seq, limit, max_bytes in (0, 100, 1 << 20), (3, 4, 200):
                await self.both("read", key, seq, limit, max_bytes)
            await self.both("history", key, 100)
            await self.both("history", key, 3, position=9, max_bytes=300)
            await self.both("history", key, 3, position=2, direction="after", as_of=8)
            await self.both("history", key, 100, time=self.now - 2, direction="after")
            for turn_id in TURNS:
                await self.both("turn", key, turn_id)
            await self.both("active", key.agent, key.user)
            await self.both("by_label", key.agent, key.user, "name")
            await self.both("sessions", key.agent, key.user, 10)
            await self.both("scope", key.agent)
            await self.both("scope", f"{key.agent}/{key.user}")
            oldest = await self.both("by_update", key.agent, key.user, 1)
            if oldest:
                info = oldest[0].info
                await self.both("by_update", key.agent, key.user, 9, Place(info.updated_at, *info.key))
        first = await self.both("sessions", None, None, 2)
        if first:
            info = first[-1].info
            await self.both("sessions", None, None, 2, Place(info.created_at, *info.key))
        await self.both("census", self.now)
        for store in self.stores:
            assert len(await store.find("s", None)) <= 2
        dues = [set(await store.due(self.now, NODE)) for store in self.stores]
        assert dues[0] == dues[1]


def scoped(key: Key, shared: dict[str, Any] | None) -> dict[str, Any]:
    return {} if shared is None else {"scopes": {key.agent: shared, f"{key.agent}/{key.user}": shared}}


async def attempt(store: Store, verb: str, arguments: list[Any], options: dict[str, Any]) -> Any:
    try:
        return await getattr(store, verb)(*arguments, **options)
    except Duplicate as duplicate:
        return ["Duplicate", duplicate.turn]
    except StoreError as error:
        return [type(error).__name__, *vars(error).values()]


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, min_size=5, max_size=30), st.sampled_from([(None, None), (1.0, None), (None, 4)]))
def test_every_store_answers_as_memory_does(steps: list[Step], keep: tuple[float | None, int | None]) -> None:
    async def run(directory: str) -> None:
        kept = {"keep_days": keep[0], "keep_records": keep[1], "keep_shared_days": 1.5}
        memory, sqlite = MemoryStore(**kept), SqliteStore(Path(directory) / "test.db", **kept)  # type: ignore[arg-type]
        async with memory.open(NODE, 0), sqlite.open(NODE, 0):
            pair = Pair(memory, sqlite)
            for key in KEYS[:2]:
                await pair.step(Create(key, False, False))
            for step in steps:
                await pair.step(step)

    with TemporaryDirectory() as directory:
        asyncio.run(run(directory))
