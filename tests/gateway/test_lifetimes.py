"""Sessions that live for a while: whatever clients, agents, gateways and the clock do, in any order, they are
warned, renewed and ended as a simple model says, and whoever follows is told so, once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.auth import Identity
from gateway.interfaces import Key, NoSession
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol import frames
from protocol.errors import Refused
from protocol.lifetime import DEFAULTS, Configure, Renew, Terms, Tiers
from protocol.records import Message
from tests.harness import Client, Said, Script, gateway, settle

QUIET = Settings(
    save_interval=1000.0, due_interval=1000.0, trim_interval=1000.0, drain_timeout=0.01, max_waiting=100
)
"""Nothing happens by itself: the test says when to look for what is due."""
BORN = 1_000_000.0
ANN = Identity("ann")
DAY = 24 * 60
AGENTS = {"s1": "mortal", "s2": "mortal", "s3": "free"}
"""Whose session it is."""
TIMES = Terms(20.0, True, 100.0, 4.0)
"""What the one agent says; the other says nothing."""
TIERS = Tiers(agents={"mortal": TIMES})

Notice = tuple[str, int, float | None, float | None]
"""Status, renewals, when it expires, and how many minutes are left."""

# ── The model: minutes since `BORN` ─────────────────────────────────────────────────────────────────────────


@dataclass
class Alive:
    """A session that is there."""

    began: float
    timeout: float | None
    """None: for ever."""
    auto: bool = True
    longest: float = 720.0
    threshold: float = 5.0
    active: float = 0.0
    since: float = 0.0
    renewals: int = 0
    warned: bool = False
    ends: float | None = None
    turns: list[str] = field(default_factory=list)
    """Those that are not over: the first one runs."""
    said: list[str] = field(default_factory=list)

    def over(self, now: float) -> bool:
        return self.ends is not None and now >= self.ends

    def near(self, now: float) -> bool:
        return self.ends is not None and self.ends - self.threshold <= now < self.ends

    def reckon(self) -> None:
        if self.timeout is not None:
            self.ends = min(
                (self.active if self.auto else self.since) + self.timeout, self.began + self.longest
            )

    def touch(self, now: float, *, by_hand: bool = False) -> bool:
        """Somebody is there. Does that renew it?"""
        if self.timeout is None:
            return False
        self.active = now
        if not (self.auto or by_hand) or self.ends == self.began + self.longest:
            return False
        self.since = self.since if self.auto else now
        self.renewals += 1
        self.warned = False
        self.reckon()
        return True

    def change(self, terms: Terms, now: float) -> None:
        if terms == Terms():
            return
        if self.timeout is None:
            self.timeout, self.active, self.since = 30.0, now, self.began
        self.timeout = terms.timeout_minutes or self.timeout
        self.auto = self.auto if terms.auto_renew is None else terms.auto_renew
        if terms.max_duration_minutes is not None:
            self.longest = max(terms.max_duration_minutes, self.timeout)
        self.threshold = terms.warning_threshold_minutes or self.threshold
        self.reckon()
        self.warned = self.warned and self.near(now)


@dataclass
class Dead:
    """A session of which a tombstone is left."""

    status: str
    ended: float
    since: float
    """When the tombstone was put up."""
    renewals: int = 0


def born(name: str, now: float, terms: Terms | None) -> Alive:
    alive = Alive(began=now, timeout=None)
    if AGENTS[name] == "mortal" or terms is not None:
        alive.change(TIMES if AGENTS[name] == "mortal" else DEFAULTS, now)
        alive.change(terms or Terms(), now)
    return alive


# ── The machine ─────────────────────────────────────────────────────────────────────────────────────────────

names = st.sampled_from([*AGENTS])
lines = st.integers(0, 3)
partly = st.builds(
    Terms,
    st.sampled_from([None, None, 5.0, 7.5, 30.0, 60.0]),
    st.sampled_from([None, True, False]),
    st.sampled_from([None, None, 0.0, 40.0, 90.0]),
    st.sampled_from([None, None, 1.0, 5.0, 9999.0]),
)


class Lifetimes(RuleBasedStateMachine):
    """Two gateways on one store."""

    nodes: ClassVar[int] = 2

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = MemoryStore(generation="g")
        self.script = Script()
        self.now = 0.0
        self.known: dict[str, Alive | Dead | None] = dict.fromkeys(AGENTS)
        self.follows: list[set[str]] = [set() for _ in range(4)]
        self.told: list[dict[str, list[Notice]]] = [{name: [] for name in AGENTS} for _ in range(4)]
        self.counter = 0
        self.stops: list[asyncio.Event] = []
        self.lives: list[asyncio.Task[None]] = []
        self.gateways: list[Supervisor] = []
        for node in range(self.nodes):
            self.start(node)
        self.clients: list[Client] = []
        for line in range(4):
            self.comes(line)

    # ── Doing ────────────────────────────────────────────────────────────────────────────────────────────

    def clock(self) -> float:
        return BORN + 60 * self.now

    def do(self, step: Coroutine[Any, Any, Any]) -> Any:
        async def whole() -> Any:
            result = await step
            await settle()
            return result

        return self.loop.run_until_complete(asyncio.wait_for(whole(), 20))

    def start(self, node: int) -> None:
        """Task groups live and die in one task: each gateway has one of its own, from start to end."""
        stop = asyncio.Event()

        async def live() -> None:
            agents = {"mortal": self.script, "free": self.script}
            async with gateway(agents, self.store, QUIET, now=self.clock, tiers=TIERS) as supervisor:
                self.gateways[node : node + 1] = [supervisor]
                await stop.wait()

        self.stops[node : node + 1] = [stop]
        self.lives[node : node + 1] = [self.loop.create_task(live())]
        self.do(settle())

    def ask(self, line: int, type: str, **fields: Any) -> Any:  # noqa: A002
        """What a line is answered."""
        self.counter += 1
        ref = f"r{self.counter}"
        client = self.clients[line]

        async def step() -> Any:
            client.put(type, ref=ref, **fields)
            return await client.answer(ref)

        return self.do(step())

    def attempt(self, step: Coroutine[Any, Any, Any]) -> str:
        """The code of the refusal, or `ok`."""
        try:
            self.do(step)
        except Refused as refusal:
            return refusal.code
        return "ok"

    def key(self, name: str) -> Key:
        return Key(AGENTS[name], "ann", name)

    def running(self, name: str) -> Said | None:
        alive = self.known[name]
        if not isinstance(alive, Alive) or not alive.turns:
            return None
        return next(said for said in self.script.turns if said.turn.turn_id == alive.turns[0])

    # ── What the model makes of it ───────────────────────────────────────────────────────────────────────

    def tell(
        self, name: str, status: str, renewals: int, ends: float | None, left: float | None = None
    ) -> None:
        for line, follows in enumerate(self.follows):
            if name in follows:
                when = None if ends is None else BORN + 60 * ends
                self.told[line][name].append((status, renewals, when, left))

    def follow(self, line: int, name: str) -> None:
        """The line follows it from now on, and is told what others were told before and holds still."""
        known = self.known[name]
        assert isinstance(known, Alive)
        if known.warned and known.ends is not None and not known.over(self.now):
            left = round(known.ends - self.now, 3)
            self.told[line][name].append(("expiring", known.renewals, BORN + 60 * known.ends, left))
        self.follows[line].add(name)

    def end(self, name: str, status: str) -> None:
        alive = self.known[name]
        assert isinstance(alive, Alive)
        ended = alive.ends if status == "expired" and alive.ends is not None else self.now
        self.tell(name, status, alive.renewals, alive.ends if status == "expired" else None)
        self.known[name] = Dead(status, ended, self.now, alive.renewals)
        for follows in self.follows:
            follows.discard(name)

    def visited(self, name: str) -> Alive | Dead | None:
        """Somebody comes to it: it ends if its time is over, and no turn keeps it."""
        if self.ends_now(name):
            self.end(name, "expired")
        return self.known[name]

    def ends_now(self, name: str) -> bool:
        known = self.known[name]
        return isinstance(known, Alive) and known.over(self.now) and not known.turns

    def refused(self, known: Alive | Dead | None) -> str:
        """Why a session that is not there, or is over, cannot be used."""
        match known:
            case None:
                return "session_not_found"
            case Dead():
                return f"session_{known.status}"
            case Alive():
                return "session_expired" if known.over(self.now) else "ok"

    def check_refusal(self, known: Alive | Dead | None, answered: Any) -> None:
        """It is refused as it should be, with the moment."""
        assert isinstance(answered, frames.Error)
        assert answered.code == self.refused(known)
        if answered.code == "session_expired":
            ends = known.ended if isinstance(known, Dead) else known.ends if known else None
            assert ends is not None
            assert answered.expires_at == BORN + 60 * ends

    # ── What clients do ──────────────────────────────────────────────────────────────────────────────────

    @initialize(terms=partly)
    def begin(self, terms: Terms) -> None:
        """Without it, most of what is done would be done to no session."""
        for name, given in zip(AGENTS, (terms, None, None), strict=True):
            self.make(0, name, given)
            for line in 0, 1:
                self.attach(line, name, False)

    @rule(node=st.integers(0, 1), name=names, terms=st.none() | partly)
    def make(self, node: int, name: str, terms: Terms | None) -> None:
        supervisor = self.gateways[node % self.nodes]
        known = self.visited(name)
        expected = "session_exists" if isinstance(known, Alive) else "ok"
        assert self.attempt(supervisor.make(ANN, AGENTS[name], name, timeout=terms)) == expected
        if expected == "ok":
            self.known[name] = born(name, self.now, terms)

    @rule(line=lines, name=names, create=st.sampled_from([None, None, True, False]))
    def send(self, line: int, name: str, create: bool | None) -> None:
        self.counter += 1
        turn = f"{name}-{self.counter}"
        asked = {} if create is None else {"create": create}
        where = {"session_id": name, "agent": AGENTS[name]}
        answered = self.ask(line, "message", turn_id=turn, content="hi", **where, **asked)
        follower = name in self.follows[line]
        known = self.visited(name)
        may_make = create is not False if known is None else isinstance(known, Dead) and create
        if may_make and not follower:
            known = self.known[name] = born(name, self.now, None)
        if not isinstance(known, Alive):
            self.check_refusal(known, answered)
            return
        if not follower:
            self.follow(line, name)
        if known.over(self.now):
            self.check_refusal(known, answered)
            return
        assert isinstance(answered, frames.Ok), answered
        assert answered.status == ("queued" if known.turns else "started")
        known.turns.append(turn)
        known.said.append(turn)
        if known.touch(self.now):
            self.tell(name, "renewed", known.renewals, known.ends)

    @rule(line=lines, name=names, number=st.integers(0, 9))
    def send_again(self, line: int, name: str, number: int) -> None:
        """What is known already is no new sign of life."""
        known = self.known[name]
        if not isinstance(known, Alive) or known.over(self.now) or not known.said:
            return
        turn = known.said[number % len(known.said)]
        where = {"session_id": name, "agent": AGENTS[name]}
        answered = self.ask(line, "message", turn_id=turn, content="hi", **where)
        assert isinstance(answered, frames.Ok)
        assert answered.duplicate
        if name not in self.follows[line]:
            self.follow(line, name)

    @rule(line=lines, name=names, create=st.booleans())
    def attach(self, line: int, name: str, create: bool) -> None:
        before = len(self.clients[line].frames)
        target = {"session_id": name, "agent": AGENTS[name], "create": create}
        self.ask(line, "attach", sessions=[target])
        known = self.visited(name)
        if create and not isinstance(known, Alive):
            known = self.known[name] = born(name, self.now, None)
        new = [one for one in self.clients[line].frames[before:] if getattr(one, "session_id", None) == name]
        if not isinstance(known, Alive):
            self.check_refusal(known, next(one for one in new if isinstance(one, frames.Error)))
            return
        [attached] = [one for one in new if isinstance(one, frames.Attached)]
        assert attached.expires_at == (None if known.ends is None else BORN + 60 * known.ends)
        self.follow(line, name)

    @rule(line=lines, name=names)
    def detach(self, line: int, name: str) -> None:
        self.ask(line, "detach", session_ids=[name])
        self.follows[line].discard(name)

    @rule(line=lines)
    def vanish(self, line: int) -> None:
        async def step() -> None:
            self.clients[line].vanish()

        self.do(step())
        self.comes(line)

    def comes(self, line: int) -> None:
        """A new line, which follows nothing yet."""

        async def step() -> Client:
            return Client(self.gateways[line % self.nodes])

        self.clients[line : line + 1] = [self.do(step())]
        self.follows[line] = set()
        self.told[line] = {name: [] for name in AGENTS}

    @rule(line=lines, name=names)
    def heartbeat(self, line: int, name: str) -> None:
        answered = self.ask(line, "renew", session_id=name, agent=AGENTS[name])
        known = self.visited(name)
        if not isinstance(known, Alive) or known.over(self.now):
            self.check_refusal(known, answered)
            return
        assert isinstance(answered, frames.Ok)
        if known.touch(self.now):
            self.tell(name, "renewed", known.renewals, known.ends)

    def in_life(self, node: int, name: str, command: Renew | Configure) -> str:
        async def step() -> None:
            async with self.gateways[node % self.nodes].opened(self.key(name)) as session:
                await session.asked(command)

        return self.attempt(step())

    @rule(node=st.integers(0, 1), name=names)
    def renew_by_hand(self, node: int, name: str) -> None:
        code = self.in_life(node, name, Renew(manual=True))
        known = self.visited(name)
        if not isinstance(known, Alive) or known.over(self.now):
            assert code == self.refused(known)
        elif known.timeout is None:
            assert code == "ok"
        elif known.ends == known.began + known.longest:
            assert code == "renewal_refused"
        else:
            assert code == "ok"
            assert known.touch(self.now, by_hand=True)
            self.tell(name, "renewed", known.renewals, known.ends)

    @rule(node=st.integers(0, 1), name=names, terms=partly)
    def configure(self, node: int, name: str, terms: Terms) -> None:
        code = self.in_life(node, name, Configure(terms))
        known = self.visited(name)
        assert code == self.refused(known)
        if code == "ok":
            assert isinstance(known, Alive)
            known.change(terms, self.now)

    @precondition(lambda self: self.counter % 4 == 0)  # seldom: what is deleted does not expire
    @rule(node=st.integers(0, 1), name=names)
    def delete(self, node: int, name: str) -> None:
        known = self.known[name]
        if self.nodes > 1 and isinstance(known, Alive) and known.over(self.now) and known.turns:
            return  # whoever runs its turn is asked to stop, and then ends it as expired
        code = self.attempt(self.gateways[node % self.nodes].delete(self.key(name)))
        if isinstance(known, Alive):
            assert code == "ok", "also if its time is over"
            self.end(name, "closed")
        else:
            assert code == self.refused(known)

    # ── What agents do ───────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: any(self.running(name) for name in AGENTS))
    @rule(data=st.data(), fail=st.booleans())
    def end_turn(self, data: st.DataObject, fail: bool) -> None:
        name = data.draw(st.sampled_from([name for name in AGENTS if self.running(name)]))
        said, alive = self.running(name), self.known[name]
        assert said is not None
        assert isinstance(alive, Alive)
        if fail:
            said.fail()
        else:
            said.end()
        self.do(settle())
        alive.turns.pop(0)
        self.turn_is_over(name, alive)

    def turn_is_over(self, name: str, alive: Alive) -> None:
        """If the session's time is over, too, nothing more is started."""
        if alive.over(self.now):
            alive.turns.clear()
            self.end(name, "expired")

    # ── What time and operators do ───────────────────────────────────────────────────────────────────────

    @rule(minutes=st.sampled_from([0.5, 1.0, 5.0, 16.0, 20.0, 60.0, 700.0, DAY - 1.0, DAY]))
    def pass_time(self, minutes: float) -> None:
        self.now += minutes

    @rule(
        name=names,
        minutes=st.sampled_from([-5.0, -4.0, -1.0, -0.5, 0.0, 0.5, DAY - 0.5, DAY]),
        node=st.sampled_from([None, 0, 1]),
    )
    def come_to_the_end(self, name: str, minutes: float, node: int | None) -> None:
        """So long before the end of that session, or after it; and somebody looks."""
        known = self.known[name]
        ends = known.ends if isinstance(known, Alive) else known.ended if known else None
        if ends is not None:
            self.now = max(self.now, ends + minutes)
        if node is not None:
            self.look_after_due(node, False)

    def swept(self) -> None:
        for name, known in self.known.items():
            if self.ends_now(name):
                self.end(name, "expired")
            elif isinstance(known, Alive) and known.ends is not None and known.near(self.now):
                if not known.warned:
                    left = round(known.ends - self.now, 3)
                    self.tell(name, "expiring", known.renewals, known.ends, left)
                known.warned = True

    @rule(node=st.integers(0, 1), twice=st.booleans())
    def look(self, node: int, twice: bool) -> None:
        self.look_after_due(node, twice)

    def look_after_due(self, node: int, twice: bool) -> None:
        """One gateway looks for what is due, or both at the same time."""

        async def step() -> None:
            here = self.gateways[node % self.nodes]
            there = self.gateways[(node + 1) % self.nodes]
            await asyncio.gather(here.look_after_due(), *([there.look_after_due()] if twice else []))

        self.do(step())
        self.swept()

    def trimmed(self) -> None:
        for name, known in self.known.items():
            if isinstance(known, Dead) and known.since <= self.now - DAY:
                self.known[name] = None

    @rule()
    def trim(self) -> None:
        self.do(self.store.trim(self.clock()))
        self.trimmed()

    @rule(node=st.integers(0, 1))
    def restart(self, node: int) -> None:
        """The gateway stops, which ends what it runs, and another one takes its place."""
        node %= self.nodes
        here = [
            name for name in AGENTS
            if (session := self.gateways[node].sessions.get(self.key(name))) is not None and session.answer
        ]  # fmt: skip
        self.stops[node].set()
        self.do(asyncio.wait_for(self.lives[node], 10))
        for name in here:
            alive = self.known[name]
            assert isinstance(alive, Alive)
            alive.turns.pop(0)
            self.turn_is_over(name, alive)
        self.start(node)
        self.trimmed_or_swept()
        for line in range(node, 4, self.nodes):
            self.comes(line)

    def trimmed_or_swept(self) -> None:
        """A gateway that starts does both at once."""
        self.swept()
        self.trimmed()

    # ── What must hold ───────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def every_line_was_told_just_what_happened(self) -> None:
        for line, client in enumerate(self.clients):
            if client.broken is not None:
                raise client.broken
            for name in AGENTS:
                told = [
                    (one.status, one.renewal_count, one.expires_at, one.minutes_remaining)
                    for one in client.of(name, frames.Session)
                ]
                assert told == self.told[line][name], (line, name)

    @invariant()
    def nothing_comes_after_the_end_and_every_turn_ends_before_it(self) -> None:
        for client in self.clients:
            for name in AGENTS:
                self.check_order(client.of(name))

    def check_order(self, seen: list[Any]) -> None:
        open_turns: set[str] = set()
        ended = False
        for frame in seen:
            match frame:
                case frames.Attached():
                    open_turns, ended = {*frame.queued, *filter(None, [frame.turn_id])}, False
                case frames.Message(turn_id=turn):
                    open_turns.add(turn)
                case frames.Response(turn_id=turn):
                    open_turns.discard(turn)
                case frames.Error(cursor=str(), turn_id=turn):
                    open_turns.discard(turn or "")
                case frames.Session(status="closed" | "expired"):
                    # Another node's line may lag behind an end that was written there and is deleted.
                    assert not open_turns or self.nodes > 1
                    ended = True
                    continue
                case frames.Ok() | frames.Error():
                    continue
            assert not ended, frame

    @invariant()
    def the_store_has_what_the_model_has(self) -> None:
        for name in AGENTS:
            self.loop.run_until_complete(self.check_store(name, self.known[name]))

    async def check_store(self, name: str, known: Alive | Dead | None) -> None:
        try:
            life = (await self.store.summary(self.key(name))).info.life
        except NoSession as none:
            if isinstance(known, Dead):
                assert (none.tombstone, none.ended_at) == (known.status, BORN + 60 * known.ended)
            else:
                assert (known, none.tombstone) == (None, None)
            return
        assert isinstance(known, Alive)
        page = await self.store.history(self.key(name), 1000)
        said = [one.record.turn_id for one in page.messages if isinstance(one.record, Message)]
        assert said == known.said
        if life is None:
            assert known.ends is None
            return
        assert known.ends is not None
        assert known.ends <= known.began + known.longest
        assert (life.expires_at, life.last_activity) == (BORN + 60 * known.ends, BORN + 60 * known.active)
        assert (life.renewal_count, life.warned) == (known.renewals, known.warned)

    def teardown(self) -> None:
        try:
            for supervisor in self.gateways:
                assert not supervisor.runtime.metrics.crashes
        finally:
            for stop in self.stops:
                stop.set()
            self.loop.run_until_complete(asyncio.wait_for(asyncio.gather(*self.lives), 20))
            self.loop.close()


class LifetimesOfOneGateway(Lifetimes):
    """One gateway."""

    nodes = 1


often = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLifetimes = Lifetimes.TestCase
TestLifetimes.settings = often
TestLifetimesOfOneGateway = LifetimesOfOneGateway.TestCase
TestLifetimesOfOneGateway.settings = often
