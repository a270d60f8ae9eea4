"""The live sessions: finds or starts them, lets go of the idle, times running turns, and drains.

One wheel turns per process; no session and no connection has a timer of its own.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import anyio
import structlog

from protocol.codec import Limits
from protocol.errors import Refused
from protocol.ids import check_agent_name, check_session_id
from protocol.lifetime import Tend, Terms
from protocol.records import Record
from protocol.session import Settle

from .actor import Delete, Refresh
from .auth import Identity
from .interfaces import Due, Key, Unavailable
from .limits import Usage
from .opening import Create, Open
from .runtime import Runtime, is_cancelled
from .saver import Saver
from .session import Session

__all__ = ["Line", "Supervisor"]

T = TypeVar("T")

logger = structlog.get_logger("gateway.supervisor")

_TICK = 0.1
"""Seconds between two turns of the wheel: how late a time-out may come."""


class Line(Protocol):
    """What the supervisor knows of a connection."""

    @property
    def identity(self) -> Identity:
        """Who is at the other end."""
        ...

    @property
    def lagging(self) -> int:
        """How many of its sessions have news that it cannot be sent now."""
        ...

    def tick(self, now: float) -> None:
        """The wheel turned; `now` is the loop's time."""
        ...

    def goaway(self, reason: str, reconnect_after_ms: int) -> None:
        """Tell the client that this line will be closed."""
        ...

    def revoke(self, reason: str) -> None:
        """Its credentials count no longer: close it, and say so."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Close the line."""
        ...


class Supervisor:
    """Every live session and every open line of one process, as long as the block of `running` lasts."""

    def __init__(self, runtime: Runtime, default_agent: str, usage: Usage | None = None) -> None:
        self.runtime = runtime
        self.usage = usage or Usage(runtime.settings, known_users=False)
        """What callers use, and how much they may."""
        self.default_agent = default_agent
        self.sessions: dict[Key, Session] = {}
        self.lines: dict[str, Line] = {}
        """By connection id."""
        settings = runtime.settings
        self.limits = Limits(
            settings.max_frame_bytes,
            settings.max_content_chars,
            settings.max_metadata_bytes,
            settings.max_metadata_depth,
            settings.max_history,
        )
        """What a client's frame may hold."""
        self.store_reachable = True
        self._busy: dict[Session, None] = {}
        """Those that run a turn, in the order in which they began."""
        self._busy_of: dict[str, dict[Session, None]] = {}
        """The same, by user; who has none is not kept."""
        self._crashed: dict[Key, None] = {}
        """Whose actor crashed, in that order."""
        self._lives_looked_at = -math.inf
        self._rested = asyncio.Event()
        self._saver = Saver(runtime, self._busy, self._reached)
        runtime.metrics.watch(self)

    # ── Finding sessions ─────────────────────────────────────────────────────────────────────────────────

    async def resolve(
        self, identity: Identity, session_id: str, agent: str | None, default_agent: str | None = None
    ) -> Key:
        """Which session is meant by an id that its connection does not follow: that of the named agent; else
        the only one with that id among the caller's; else a new one of the default agent. Raises
        `Refused`."""
        check_session_id(session_id)
        if agent is not None:
            check_agent_name(agent)
            return self._touched(identity, Key(self._used(identity, agent), identity.user, session_id))
        user = None if identity.everyone else identity.user
        found = await self.runtime.answered(self.runtime.store.find(session_id, user, identity.agents))
        found = [key for key in found if identity.may_touch(key)]
        if len(found) > 1:
            raise Refused(
                "session_ambiguous", "Several sessions have this id; name the agent.", session_id=session_id
            )
        if found:
            return found[0]
        return self._touched(identity, Key(self._used(identity, default_agent), identity.user, session_id))

    def _used(self, identity: Identity, agent: str | None) -> str:
        """That agent, or else the first that the caller may use. Raises `Refused('agent_not_found')`."""
        if agent is None:
            agent = next(filter(identity.may_use, (self.default_agent, *self.runtime.agents)), None)
        if agent is None:
            raise Refused("agent_not_found", "There is no agent that these credentials may use.")
        if agent not in self.runtime.agents or not identity.may_use(agent):
            raise Refused("agent_not_found", f"There is no agent {agent!r}.")
        return agent

    def _touched(self, identity: Identity, key: Key) -> Key:
        """That session, if the caller may know of it. Raises `Refused('session_not_found')`."""
        if not identity.may_touch(key):
            raise Refused("session_not_found", "There is no such session.", session_id=key.session_id)
        return key

    async def active(self, identity: Identity, agent: str | None) -> Key:
        """The caller's active session with that agent; made and activated, if there is none."""
        agent = self._used(identity, agent)
        while True:
            key = await self.runtime.answered(self.runtime.store.active(agent, identity.user))
            if key is not None and identity.may_touch(key):
                return key
            try:
                return await self.make(identity, agent, activate=True, unless_active=True)
            except Refused as refusal:
                if refusal.code != "session_exists":
                    raise  # otherwise somebody else has just made it

    async def make(
        self,
        identity: Identity,
        agent: str,
        session_id: str | None = None,
        *,
        label: str | None = None,
        activate: bool = False,
        unless_active: bool = False,
        metadata: dict[str, Any] | None = None,
        state: dict[str, Any] | None = None,
        records: Sequence[Record] = (),
        timeout: Terms | None = None,
    ) -> Key:
        """Make a session that is not there, also over a tombstone; all of it or nothing. See `Open` for what
        it begins with. Raises `Refused`: `session_exists`, `agent_not_found`, `session_not_found` if the
        caller may not know of one with that id, `bad_id`."""
        session_id = self.runtime.new_id() if session_id is None else check_session_id(session_id)
        key = self._touched(identity, Key(self._used(identity, agent), identity.user, session_id))
        ask = Open(
            "again",
            must_be_new=True,
            activate=activate,
            unless_active=unless_active,
            label=label,
            metadata=metadata,
            state=state,
            records=records,
            timeout=timeout,
        )
        async with self.held(key) as session:
            await session.asked(ask)
        return key

    async def delete(self, key: Key) -> None:
        """End a session: every turn, then the log; also one whose time is over. Raises `Refused` if there is
        none."""
        async with self.held(key) as session:
            await session.asked(Delete())

    @asynccontextmanager
    async def held(self, key: Key) -> AsyncIterator[Session]:
        """The session, live at least until the block is left; asleep if nobody used it."""
        session = self.sessions.get(key)
        if session is None:
            session = self.sessions[key] = Session(self.runtime, self, key)
        session.holds += 1
        try:
            yield session
        finally:
            session.holds -= 1
            self.rest(session)

    @asynccontextmanager
    async def opened(self, key: Key, create: Create = "never") -> AsyncIterator[Session]:
        """The session, awake. Raises `Refused` if it is not there and may not be made."""
        async with self.held(key) as session:
            if not session.awake or session.overdue:
                await session.asked(Open(create=create))
            yield session

    def rest(self, session: Session) -> None:
        """Let go of a session that has no work, and that nobody holds or follows."""
        self._rested.set()
        if session.idle and self.sessions.get(session.key) is session:
            del self.sessions[session.key]
            _with_each([session], Session.sleep)

    def runs(self, session: Session, running: bool) -> None:
        """A session runs a turn, or none any more."""
        user = session.key.user
        if running:
            self._busy[session] = None
            self._busy_of.setdefault(user, {})[session] = None
        elif session in self._busy:
            del self._busy[session], self._busy_of[user][session]
            if not self._busy_of[user]:
                del self._busy_of[user]

    def busy_of(self, user: str) -> list[Session]:
        """That user's sessions that run a turn here."""
        return [*self._busy_of.get(user, ())]

    def crashed(self, session: Session) -> None:
        """An actor crashed: it is woken at the next look, and then ends what it ran."""
        self._crashed[session.key] = None

    # ── Living ───────────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the store, turn the wheel; on leaving drain, and stop what is left."""
        runtime = self.runtime
        async with runtime.store.open(runtime.node, runtime.now()), runtime.tasks as tasks:
            wheel = [
                tasks.start_soon(self._forever, self._time_turns, _TICK),
                tasks.start_soon(self._forever, self._tick, 1.0),
                tasks.start_soon(self._saver.run),
                tasks.start_soon(self._forever, self.look_after_due, runtime.settings.due_interval),
                tasks.start_soon(self._forever, self._trim, runtime.settings.trim_interval),
            ]
            try:
                yield
            finally:
                await self.drain()
                for task in wheel:
                    task.cancel()
                await self._close_lines()

    async def _forever(self, step: Callable[[], None] | Callable[[], object], interval: float) -> None:
        """Take that step again and again; what goes wrong in one is logged, and the next one comes."""
        while True:
            try:
                result = step()
                if asyncio.iscoroutine(result):
                    await result
            except Unavailable:
                self.store_reachable = False
                logger.warning("store unavailable", step=step.__name__)
            except (Exception, asyncio.CancelledError):
                if is_cancelled():
                    raise
                logger.exception("step failed", step=step.__name__)
            await asyncio.sleep(interval)

    def _time_turns(self) -> None:
        now = asyncio.get_running_loop().time()

        def check(session: Session) -> None:
            if session.answer is not None:
                session.answer.check(now)

        _with_each([*self._busy], check)

    def _tick(self) -> None:
        now = asyncio.get_running_loop().time()

        def tend(session: Session) -> None:
            if session.log.typing is not None:
                session.log.stop_typing(now)
            if session.working:
                session.answer_overdue(now)

        def tick(line: Line) -> None:
            line.tick(now)

        _with_each([*self.sessions.values()], tend)
        _with_each([*self.lines.values()], tick)

    async def look_after_due(self) -> None:
        """Turns whose actor crashed, turns that wait though none runs, turns whose process is gone, and
        sessions whose life demands something. What could not be looked after now is the next time."""
        for key in [*self._crashed]:
            del self._crashed[key]  # before: it may crash again while it is looked after
            try:
                await self._look_after(Due(key))
            except Unavailable:
                self._crashed[key] = None
                raise
        now = self.runtime.now()
        since = now - self._lives_looked_at
        # Lives end by the wall clock. If that was set back, it is time to look, too.
        lives = not 0.0 <= since < 60 * (self.runtime.tiers.cleanup_minutes or 0.0)
        found = await self.runtime.store.due(now, self.runtime.node)
        for due in found:
            if lives or not due.life:
                await self._look_after(due)
        if lives and not any(due.life for due in found):
            self._lives_looked_at = now  # a store may give them in parts
        self.store_reachable = True

    async def _look_after(self, due: Due) -> None:
        live = self.sessions.get(due.key)
        if live is not None and live.awake and due.orphan is None and not due.life:
            return  # its actor starts what waits by itself
        async with self.held(due.key) as session:
            try:
                if due.life:
                    await session.asked(Tend())
                    return
                await session.asked(Refresh() if session.awake else Open())
                if session.answer is None:
                    await session.asked(Settle(orphan=due.orphan))
            except Refused as refusal:
                logger.warning("could not settle", code=refusal.code, session_id=due.key.session_id)
                if refusal.code == "store_unavailable":
                    raise Unavailable from refusal

    async def _trim(self) -> None:
        await self.runtime.store.trim(self.runtime.now())

    async def save(self) -> None:
        """Save now what running turns wrote. Raises `Unavailable`."""
        await self._saver.save()

    def _reached(self, reachable: bool) -> None:
        self.store_reachable = reachable

    # ── Draining ─────────────────────────────────────────────────────────────────────────────────────────

    async def drain(self) -> None:
        """Take no more, tell the clients, and give running turns `drain_timeout` seconds to end by
        themselves; what then still runs ends as interrupted, with its text. Then the lines are closed: a
        server that waits for its requests would wait for every stream. Safe to call twice."""
        if self.runtime.draining:
            return
        self.runtime.draining = True
        settings = self.runtime.settings

        def goaway(line: Line) -> None:
            line.goaway("The gateway stops.", round(settings.reconnect_after * 1000))

        def interrupt(session: Session) -> None:
            if session.answer is not None and not session.answer.over:
                session.answer.fail("turn_interrupted", "The gateway stopped; send the message again.")

        _with_each([*self.lines.values()], goaway)
        await self.until(lambda: not self._busy, settings.drain_timeout)
        _with_each([*self._busy], interrupt)
        await self.until(lambda: not any(s.working for s in self.sessions.values()), settings.cleanup_timeout)
        await self._close_lines()

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for something that can become true only when a session comes to rest. Is it so in time?"""
        # Not `asyncio.timeout`: before Python 3.11.4 it cancels for good whoever was cancelled once before.
        with anyio.move_on_after(seconds):
            while not condition():
                self._rested.clear()
                await self._rested.wait()
        return condition()

    async def _close_lines(self) -> None:
        async with asyncio.TaskGroup() as group:
            for line in [*self.lines.values()]:
                group.create_task(_close(line))

    def gauges(self) -> dict[str, float]:
        """What is the case right now."""
        sessions = self.sessions.values()
        answers = [session.answer for session in self._busy if session.answer is not None]
        return {
            "connections": len(self.lines),
            "readers_lagging": sum(line.lagging for line in self.lines.values()),
            "sessions_live": len(sessions),
            "turns_running": len(answers),
            "turns_waiting": sum(len(session.state.waiting) for session in sessions),
            "unsaved_text_bytes": sum(answer.text.unsaved_bytes for answer in answers),
            "agent_threads_hung": sum(getattr(agent, "hung", 0) for agent in self.runtime.agents.values()),
        }


def _with_each(things: Iterable[T], step: Callable[[T], None]) -> None:
    """Take that step with each of them; what goes wrong with one is logged, and costs no other."""
    for thing in things:
        try:
            step(thing)
        except Exception:
            logger.exception("step failed", step=step.__qualname__)


async def _close(line: Line) -> None:
    try:
        await line.close(1001, "The gateway stops.")
    except Exception:
        logger.exception("line not closed")
