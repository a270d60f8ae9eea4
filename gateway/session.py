"""The actor of one session: commands come in through its mailbox, `decide` makes records of them, the store
makes the records durable, and only then are they true.

It is a task only while it has work. It owns the log's tail and the running turn, and meets everybody else in
two places: `ask` and the readers of its log. Whoever asks may die at any instant; nothing tears.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import structlog
from msgspec.structs import replace

from protocol import codec, lifetime, records
from protocol.errors import Refused
from protocol.history import spaced
from protocol.lifetime import Configure, Life, Renew, Tend
from protocol.records import Record, Terminal, ToolCall, ToolResult
from protocol.scopes import scope_of_user
from protocol.session import (
    IDLE,
    Accepted,
    Cancel,
    Close,
    Command,
    Decided,
    End,
    KnownTurn,
    Lookup,
    Note,
    Send,
    Settle,
    State,
    UseTool,
    decide,
    evolve,
    fold,
)
from protocol.view import notice_of_end, notices

from .actor import Actor, Ask, Delete, Item, Move, Refresh, unavailable
from .beside import beside
from .briefing import Briefing, brief
from .interfaces import (
    Duplicate,
    Head,
    Info,
    Key,
    Loaded,
    NoSession,
    SessionExists,
    Stale,
    Unavailable,
)
from .log import Log
from .opening import GONE, Open, expired, load_or_create, no_session, session_exists
from .runtime import Runtime, until_answered
from .text import Text
from .turn import Answer

__all__ = ["Session"]

logger = structlog.get_logger("gateway.session")


class Keeper(Protocol):
    """Who keeps the sessions."""

    def rest(self, session: Session) -> None:
        """It has no work left: let go of it, unless somebody holds or follows it."""
        ...

    def runs(self, session: Session, running: bool) -> None:
        """It runs a turn, or none any more: its text is to be saved, and its time watched."""
        ...

    def crashed(self, session: Session) -> None:
        """What it ran has no end in the log: somebody must wake it and see."""
        ...


class Arrival(NamedTuple):
    """How the message of a turn came to this process."""

    at: float
    """The loop's time, which does not jump."""
    request_id: str | None


class Session(Actor):
    """One live session."""

    __slots__ = (
        "_arrivals",
        "_keeper",
        "_news",
        "_said_at",
        "_watching",
        "_writing",
        "answer",
        "cleaning",
        "head",
        "holds",
        "info",
        "log",
        "state",
    )

    def __init__(self, runtime: Runtime, keeper: Keeper, key: Key) -> None:
        super().__init__(runtime, key)
        self._keeper = keeper
        self.log = Log(key.session_id, key.agent)
        self.head: Head | None = None
        """None while it is asleep: nothing was read from the store yet, or what was read is not trusted."""
        self.info: Info | None = None
        self.state: State = IDLE
        self.answer: Answer | None = None
        """The running turn, if it runs here."""
        self.cleaning: tuple[Answer, ...] = ()
        """Turns that are over, whose agents still clean up; the next turn waits for all of them. While there
        are any, the session stays in memory."""
        self.holds = 0
        """Who is about to ask or to follow, and must find it here."""
        self._arrivals: dict[str, Arrival] | None = None
        """Of turns that wait or run, if their messages came to this process, by `turn_id`."""
        self._watching = False
        self._writing = False
        self._said_at = 0.0
        """When something was last said, Unix seconds."""
        self._news: asyncio.Event | None = None
        """Set by the store's next word; made by whoever waits for that."""

    # ── What others see ──────────────────────────────────────────────────────────────────────────────────

    def changed(self, head: Head | None) -> None:
        """The store says that somebody wrote; a plain call."""
        if self._news is not None:
            self._news.set()
        if self._writing or self.head is None:
            return  # an append of our own finds out by itself, and who sleeps reads when it wakes
        foreign_turn = self.state.running is not None and self.answer is None
        if head != self.head or foreign_turn:
            # Not at once: we are inside the other's append, and an answer of ours would come before it has
            # returned.
            asyncio.get_running_loop().call_soon(self._read_news)

    def _read_news(self) -> None:
        if self.head is not None:
            self.ask(Refresh())

    @property
    def awake(self) -> bool:
        """The log is taken up, and followers may come."""
        return self.head is not None

    @property
    def overdue(self) -> bool:
        """Its time is over, and no turn keeps it."""
        return self._is_over and self.state.running is None

    @property
    def busy(self) -> bool:
        """A turn runs, waits, or cleans up."""
        return bool(self.state.running or self.state.waiting or self.cleaning)

    @property
    def idle(self) -> bool:
        """Nobody works in it, holds it or follows it."""
        return not (
            self.working or self.holds or self.log.readers or self.answer is not None or self.cleaning
        )

    # ── Working ──────────────────────────────────────────────────────────────────────────────────────────

    async def _do(self, item: Item) -> Accepted:
        ask = item.ask
        if isinstance(ask, Open):
            await self._open(ask, item)
            return Accepted()
        if self.head is None:
            self._wake(await self._load(Open()))
            if isinstance(ask, Settle):
                # Waking has asked for it anew. If this one went on and crashed, that one would wake it again,
                # and so on without an end.
                return Accepted()
        match ask:
            case Refresh():
                await self._refresh()
                return Accepted()
            case Delete():
                return await self._close(item)
            case Move():
                return await self._move(ask, item)
            case Renew() | Configure() | Tend():
                return await self._live(ask, item)
            case Send() | Note() if self.overdue:
                await self._refuse_if_over(item)
        return await self._decide(ask, item)

    async def _decide(self, command: Command, item: Item) -> Accepted:
        """Decide and append, and again if others wrote in between."""
        while True:
            try:
                return await self._decide_once(command, item)
            except Stale:
                if isinstance(command, End | UseTool):
                    await until_answered(self._refresh)  # a turn says it only once
                else:
                    await self._refresh()
            except NoSession:
                self._gone("closed")
                raise Refused("session_closed", "The session was deleted.") from None

    async def _decide_once(self, command: Command, item: Item) -> Accepted:
        """Decide on the head that is known here, and append. Raises `Stale` if it is not the log's any more,
        `NoSession`, and what `decide` raises."""
        runtime = self._runtime
        known: dict[str, KnownTurn | None] = {}
        while True:
            if isinstance(command, Settle) or (isinstance(command, Close) and command.text is not None):
                command = replace(command, text=self.log.text.whole() if self.log.text is not None else "")
            decision = decide(
                self.state,
                command,
                now=runtime.now(),
                node=runtime.node,
                known=known,
                max_waiting=runtime.settings.max_waiting,
                start=not (runtime.draining or self._is_over),
                waited=self._waited() if self._arrivals else {},
            )
            try:
                if isinstance(decision, Lookup):
                    known[decision.turn_id] = await runtime.store.turn(self.key, decision.turn_id)
                    continue
                if not decision.records:
                    return decision.answer
                if isinstance(command, Send | Note) and self._is_over:
                    await self._refuse_if_over(item)
                    raise Stale  # it was renewed elsewhere, and this was decided before that was read
                delta = command.state_delta if isinstance(command, Note) else None
                await self._append(decision, item, delta=delta)
            except Duplicate as duplicate:
                known[duplicate.turn.turn_id] = duplicate.turn
            else:
                return decision.answer

    def _waited(self) -> dict[str, float]:
        """For how many seconds turns have waited, or waited and run."""
        now = asyncio.get_running_loop().time()
        return {turn_id: now - arrival.at for turn_id, arrival in (self._arrivals or {}).items()}

    async def _append(
        self,
        decision: Decided,
        item: Item,
        life: Life | None = None,
        delta: dict[str, Any] | None = None,
    ) -> None:
        """Make these records durable, and what they change beside the log, then true; `delta` is set in the
        state besides. An append whose outcome is unknown is repeated until it is known; who asked is told at
        once, and nothing else is decided meanwhile."""
        runtime, text, head, answer = self._runtime, self.log.text, self.head, self.answer
        appended = spaced(decision.records, self._said_at)
        if isinstance(item.ask, Cancel):
            self._stop(item.ask)  # now: whatever is shown is then in the log, and no store need answer
        assert head is not None
        assert self.info is not None
        info, scopes = beside(
            self.info,
            appended,
            runtime.now(),
            delta=delta,
            gone=() if answer is None else answer.gone,
            life=life,
        )
        unsaved = None
        if text is not None and answer is not None and text.saved < text.length:
            unsaved = text.saved, text.unsaved()
        tag = runtime.new_tag()
        delay = 0.05
        self._writing = True
        try:
            while True:
                try:
                    new_head = await runtime.store.append(
                        self.key, head, tag, appended, text=unsaved, info=info, scopes=scopes
                    )
                    break
                except Unavailable:
                    logger.warning("store unavailable, trying again", delay=delay, **self._whose(item))
                    if not isinstance(item.ask, UseTool):  # the agent waits
                        self._tell(item, unavailable(self.key, item.ask))
                    for waiting in [*(self._mailbox or ())]:
                        if isinstance(waiting.ask, Cancel):
                            self._stop(waiting.ask)
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, 2.0)
        finally:
            self._writing = False
        if text is not None and unsaved is not None:
            text.mark_saved(unsaved[0] + len(unsaved[1]))
        self._take_over(new_head, appended)
        self._start_appended(appended, item)
        if info is not None:
            self._know(info)
        # Woken last: an agent that answers at once is then heard in the very write that tells of its turn.
        self.log.wake()

    def _know(self, info: Info) -> None:
        """What is known beside the log from now on; of its life, followers are told."""
        before = None if self.info is None else self.info.life
        self.info = info
        if info.life is not before:
            for notice in notices(self.key.session_id, before, info.life, self._runtime.now()):
                self.log.tell(codec.encode(notice))

    def _take_over(self, head: Head, appended: Sequence[Record]) -> None:
        """These records are in the log: fold them in, and stop what they stop. The state is taken over whole
        before any reader is woken: a client may answer a turn's end the moment it sees it."""
        for record in appended:
            self.state = evolve(self.state, record)
            if isinstance(record, records.Message | Terminal):
                self._said_at = max(self._said_at, record.created_at)
            if self._arrivals is not None and isinstance(record, Terminal):
                self._arrivals.pop(record.turn_id, None)
                self._arrivals = self._arrivals or None  # most sessions are idle, and there may be many
        self.head = head
        tail_bytes = self._runtime.settings.tail_bytes
        for record in appended:
            self.log.append(record, tail_bytes)
        running, answer = self.state.running, self.answer
        if answer is None:
            return
        if running is None or running.turn_id != answer.turn_id:
            self._let_go(answer)
            if self._is_over:
                self.ask(Tend())
        elif running.cancelling:
            answer.cancel()

    # ── Turns ────────────────────────────────────────────────────────────────────────────────────────────

    def _let_go(self, answer: Answer) -> None:
        """The running turn runs no more; its agent may still clean up."""
        answer.abandon()  # over already, if this was its own end
        self.answer = None
        self._keeper.runs(self, False)
        if not answer.done:
            self.cleaning = (*self.cleaning, answer)

    def _start_appended(self, appended: Sequence[Record], item: Item) -> None:
        """If a turn was started by this append, run it here."""
        ask = item.ask
        if isinstance(ask, Send) and any(
            isinstance(record, records.Message) and record.turn_id == ask.turn_id for record in appended
        ):
            self._arrivals = self._arrivals or {}
            self._arrivals[ask.turn_id] = Arrival(item.at, item.request_id)
        running, text = self.state.running, self.log.text
        if (
            running is None
            or text is None
            or not any(isinstance(record, records.Started) for record in appended)
        ):
            return
        arrival = (self._arrivals or {}).get(running.turn_id)
        answer = Answer(self._runtime, self.log, text, running.message, self, arrival and arrival.at)
        self.answer = answer
        self._keeper.runs(self, True)
        given = partial(self._prepare, running.message, arrival and arrival.request_id)
        self._runtime.tasks.start_soon(answer.run, given, self._runtime.agents.get(self.key.agent))

    async def _prepare(self, message: records.Message, request_id: str | None) -> Briefing:
        """What the agent is given, as soon as those before have cleaned up."""
        await self._clean_up()
        briefing = brief(self._runtime, self.key, self.state, self.info, message, request_id)
        return await self._runtime.answered(briefing)

    async def _clean_up(self) -> None:
        """Wait for the agents that were stopped; for each of them once, and not for ever."""
        until = asyncio.get_running_loop().time() + self._runtime.settings.cleanup_timeout
        waits: list[tuple[Answer, asyncio.Event]] = []
        for previous in self.cleaning:
            previous.cleaned = previous.cleaned or asyncio.Event()
            if previous.awaited_until is None:  # else a turn has waited for it that was stopped meanwhile
                previous.awaited_until = until
            waits.append((previous, previous.cleaned))
        for previous, cleaned in waits:
            try:
                async with asyncio.timeout_at(previous.awaited_until):
                    await cleaned.wait()
            except TimeoutError:
                self._runtime.metrics.abandoned += 1
                logger.warning("agent did not stop", turn_id=previous.turn_id, **self._whose())
                self._forget_cleaning(previous)

    def _forget_cleaning(self, answer: Answer) -> None:
        self.cleaning = tuple(other for other in self.cleaning if other is not answer)

    def _withdrawn(self, ask: Ask) -> Refused:
        if isinstance(ask, Cancel):
            self._stop(ask)  # which needs no store; that it is in the log is not known
            return unavailable(self.key, ask)
        return super()._withdrawn(ask)

    def _stop(self, cancel: Cancel) -> None:
        """Stop the turn that runs here, if that is the one to be cancelled."""
        if self.answer is not None and cancel.turn_id in (None, self.answer.turn_id):
            self.answer.cancel()

    async def record(self, record: ToolCall | ToolResult) -> None:
        """The running turn used a tool."""
        await self.asked(UseTool(record))

    def ended(self, record: Terminal) -> None:
        """The running turn has come to its end."""
        self.ask(End(record))

    def cleaned(self, answer: Answer) -> None:
        """A turn's agent is gone."""
        self._forget_cleaning(answer)
        self._keeper.rest(self)

    # ── Waking up, and what others wrote ─────────────────────────────────────────────────────────────────

    async def _open(self, ask: Open, item: Item) -> None:
        """Take up the log, or make it; anew, if its time is over."""
        asleep = self.head is None
        if asleep:
            self._wake(await self._load(ask))
        was_over = self.overdue
        if was_over and await self._expire(item):
            self._wake(await self._load(ask))
        elif ask.must_be_new and (was_over or not asleep or self._is_over):
            raise session_exists()

    async def _load(self, ask: Open) -> Loaded:
        """`load_or_create`. If the session is gone, whoever still follows it is told so: it may have been
        deleted while this actor had crashed."""
        try:
            return await load_or_create(self._runtime, self.key, ask)
        except Refused as refusal:
            if self.log.readers and self.log.ended is None and refusal.code in GONE:
                self._gone("expired" if refusal.code == "session_expired" else "closed")
            raise

    def _wake(self, loaded: Loaded) -> None:
        log = self.log
        if log.readers and log.ended is None and log.epoch != loaded.head.epoch:
            log.end("closed", codec.encode(notice_of_end(self.key.session_id, "closed", None)))
        if log.ended is not None:
            log = self.log = Log(self.key.session_id, self.key.agent)
        self.head = loaded.head
        self._know(loaded.info)
        self._said_at = loaded.info.updated_at if loaded.head.seq else 0.0
        self.state = fold(loaded.entries, loaded.head.seq)
        log.start(loaded.head.epoch, loaded.head.seq)
        running = self.state.running
        if running is None:
            log.adopt(None)
        else:
            log.adopt(Text(log.epoch, log.session_id, running.turn_id, running.started_seq, loaded.text))
        log.wake()
        if not self._watching:
            self._watching = True
            self._runtime.store.watch(self.key, self.changed)
        if running is not None and running.node == self._runtime.node:
            self.ask(Settle(orphan=running.turn_id))  # it ran here, and this actor crashed
        elif running is None and self.state.waiting:
            self.ask(Settle())

    async def _refresh(self) -> None:
        """Read what others wrote. Raises `Refused` if the session is gone."""
        store = self._runtime.store
        try:
            loaded = await store.load(self.key)
            if self.head is None or loaded.head.epoch != self.head.epoch:
                raise NoSession
            while self.state.seq < loaded.head.seq:
                page = await store.read(self.key, self.state.seq, 1_000, 1 << 20)
                if not page:  # trimmed away under us
                    self._wake(loaded)
                    return
                self._take_over(self.head, [entry.record for entry in page if entry.seq <= loaded.head.seq])
                self.log.wake()
            self.head = loaded.head
            self._know(loaded.info)
            if self.state.running is not None and self.answer is None:
                turn_id, text = await store.text(self.key)
                known = self.log.text
                if known is not None and known.turn_id == turn_id:
                    self.log.extend(text[known.length :])
                    known.mark_saved(len(text))
        except NoSession as gone:
            status = gone.tombstone or ("expired" if self._is_over else "closed")
            self._gone(status)
            raise no_session(NoSession(status, gone.ended_at)) from None

    # ── Living and ending ────────────────────────────────────────────────────────────────────────────────

    @property
    def _is_over(self) -> bool:
        return self.info is not None and lifetime.is_over(self.info.life, self._runtime.now())

    async def _live(self, command: lifetime.Command, item: Item) -> Accepted:
        """What a command does to the session's life. Raises `Refused`."""
        while True:
            if isinstance(command, Tend) and self._is_over and (await self._expire(item) or self._is_over):
                return Accepted()
            await self._refuse_if_over(item)
            assert self.info is not None
            life = lifetime.after(
                self.info.life,
                command,
                self._runtime.now(),
                agent=self.key.agent,
                began=self.info.created_at,
                tiers=self._runtime.tiers,
            )
            if life is None or life == self.info.life:
                return Accepted()
            try:
                await self._append(Decided(()), item, life)
            except Stale:
                await self._refresh()
            except NoSession:
                self._gone("closed")
                raise Refused("session_closed", "The session was deleted.") from None
            else:
                return Accepted()

    async def _refuse_if_over(self, item: Item) -> None:
        """Nothing is done in a session whose time is over, and it ends now unless a turn keeps it. Raises
        `Refused`; on return others have renewed it, and that is read."""
        if self._is_over and self.info is not None and self.info.life is not None:
            expires_at = self.info.life.expires_at
            if await self._expire(item) or self._is_over:
                raise expired(expires_at)

    async def _expire(self, item: Item) -> bool:
        """Its time is over: end it, unless a turn keeps it or others have renewed it. Is it gone?"""
        while self.awake and self.overdue:
            await self._end(item, "expired")
        return not self.awake

    async def _close(self, item: Item) -> Accepted:
        """Somebody wants it ended, with all that others say in it meanwhile."""
        while self.awake:
            if self.state.running is not None and self.answer is None:
                try:
                    await self._decide(Close(text=None), item)
                    await self._end_elsewhere()
                except Refused:
                    if self.awake:
                        raise
                    break  # whoever ran the turn has ended the session
            if self.log.text is not None:
                self.log.text.close()  # its end is decided now: nobody may be shown more than that says
            await self._end(item, "closed")
        return Accepted()

    async def _move(self, ask: Move, item: Item) -> Accepted:
        """It is another user's from now on: here it is over, and whoever follows is told so. Raises
        `Refused`."""
        key, to = self.key, ask.to
        scopes = {scope_of_user(key.agent, key.user): scope_of_user(to.agent, to.user)}
        delay = 0.05
        while self.awake:
            if self.busy:
                raise Refused("session_busy", "A turn of this session is not over yet; try again.")
            assert self.head is not None
            try:
                await self._runtime.store.move(key, self.head, to, self._runtime.now(), scopes)
            except SessionExists:
                raise session_exists() from None
            except Stale:
                await self._refresh()
            except NoSession:
                break  # a try whose outcome was unknown has moved it, or others have ended it
            except Unavailable:
                self._tell(item, unavailable(key, ask))
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)
            else:
                break
        self._gone("closed")
        return Accepted()

    async def _end(self, item: Item, status: Literal["closed", "expired"]) -> None:
        """End every turn, waiting ones too, then the log; if others wrote since it was last read, only read
        that: what was decided may not be true any more."""
        life = None if self.info is None else self.info.life
        ended_at = life.expires_at if status == "expired" and life is not None else None
        try:
            await self._decide_once(Close(), item)
            now = self._runtime.now()
            await self._runtime.store.delete(self.key, now, status, self.head, ended_at=ended_at)
        except Stale:
            with suppress(Refused):  # it is gone
                await self._refresh()
            return
        except NoSession as gone:
            status = gone.tombstone or status
        self._gone(status)

    async def _end_elsewhere(self) -> None:
        """Wait until the node that runs the turn wrote its end; not for ever, it may be gone."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._runtime.settings.cleanup_timeout
        self._news = news = asyncio.Event()
        enough = loop.call_at(deadline, news.set)
        try:
            while self.state.running is not None and loop.time() < deadline:
                news.clear()
                await self._refresh()
                if self.state.running is not None:
                    await news.wait()
        finally:
            enough.cancel()
            self._news = None

    def _gone(self, status: Literal["closed", "expired"]) -> None:
        """The session is over; whoever follows is told."""
        life = None if self.info is None else self.info.life
        self._forget()
        self.log.adopt(None)
        self.log.end(status, codec.encode(notice_of_end(self.key.session_id, status, life)))

    def _rest(self) -> None:
        self._keeper.rest(self)

    def _crash(self) -> None:
        """The next use reads it from the store."""
        self._runtime.metrics.crashes += 1
        self._forget()
        self._keeper.crashed(self)

    def _forget(self) -> None:
        if self.answer is not None:
            self._let_go(self.answer)
        self.head = None
        self.state = IDLE
        self._arrivals = None

    def sleep(self) -> None:
        """Nobody needs it any more; the keeper lets go of it."""
        if self._watching:
            self._watching = False
            self._runtime.store.unwatch(self.key, self.changed)
