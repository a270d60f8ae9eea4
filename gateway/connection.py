"""One client's line: its places in sessions' logs, and what each of its frames does.

It may die at any instant and no session can tell. The reader never waits for a session: what must look into
the store first is an errand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Protocol, assert_never

import structlog
from msgspec.structs import replace

from protocol import codec, frames
from protocol.errors import Refused
from protocol.lifetime import Renew
from protocol.session import Accepted, Cancel, Send

from .actor import Refresh
from .attachment import Attachment, Round
from .auth import Identity
from .errands import Answer, Errands, as_refusal
from .interfaces import Key, NoSession, Transport, Unavailable
from .limits import Meter
from .opening import CREATE, GONE, Create, no_session
from .session import Session
from .supervisor import Supervisor
from .writer import Writer

__all__ = ["Asked", "Connection", "Greeting"]

logger = structlog.get_logger("gateway.connection")

Greeting = Callable[[frames.Hello, Identity], Awaitable[Identity]]
"""What a later `hello` proves: checks its token, answers the identity. Raises `Refused`."""
SessionFrame = frames.Send | frames.Cancel | frames.SetTyping | frames.Renew

COMMANDS = ("new", "stop")

_NOTICE = 60.0
"""Seconds before the end of its token at which a client is told."""
_FETCH_AGAIN = 0.5
"""Seconds until a page that the store could not give is asked for again."""


class Asked(Protocol):
    """What a client sent, as far as its answer needs to know."""

    @property
    def ref(self) -> str | None: ...


def _named(session_id: str | None) -> tuple[str, ...]:
    return () if session_id is None else (session_id,)


class Connection:
    """What one WebSocket or SSE stream sees of the gateway. The endpoint feeds it (`receive`), waits for
    `room` when it is `full`, and calls `leave` when the line is gone."""

    __slots__ = (
        "_announced",
        "_attachments",
        "_errands",
        "_greeting",
        "_heard",
        "_heartbeat",
        "_limits",
        "_meter",
        "_over",
        "_pages",
        "_supervisor",
        "_transport",
        "_typing",
        "_writer",
        "agent",
        "connection_id",
        "identity",
        "left",
    )

    def __init__(
        self,
        supervisor: Supervisor,
        transport: Transport,
        identity: Identity,
        *,
        agent: str | None = None,
        greeting: Greeting | None = None,
        heartbeat: float | None = None,
        pace: float = 0.0,
    ) -> None:
        runtime = supervisor.runtime
        supervisor.usage.opened(identity)
        self._meter = Meter(supervisor.usage)
        self._supervisor = supervisor
        self._transport = transport
        self._greeting = greeting
        self._writer = Writer(runtime, transport, self, pace)
        self._limits = supervisor.limits
        self._attachments: dict[str, Attachment] = {}
        done, broke = self._writer.make_room, self.broke
        self._errands = Errands(runtime.tasks, done, broke)
        self._pages = Errands(runtime.tasks, done, broke)
        """Pages that laggards miss: they must not wait behind an `attach` of other sessions, nor it behind
        them."""
        self._typing: set[Session] | None = None
        """Where its user may be typing without following the session."""
        self._heard = False
        self._announced: float | None = None
        self._over = False
        self._heartbeat = runtime.settings.heartbeat if heartbeat is None else heartbeat
        self.connection_id = runtime.new_id()
        self.identity = identity
        self.agent = agent
        """The agent this line is bound to, if it is."""
        self.left = False
        supervisor.lines[self.connection_id] = self

    # ── The line ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def congested(self) -> bool:
        """It waits for its socket."""
        return self._writer.congested

    @property
    def lagging(self) -> int:
        """How many of its sessions have news that it cannot be sent now."""
        return self._writer.lagging

    @property
    def full(self) -> bool:
        """Do not read the client until there is `room`."""
        return self._writer.full or len(self._errands) > self._supervisor.runtime.settings.max_errands

    async def room(self) -> None:
        """Wait until the line may be read again."""
        while self.full and not self.left:
            await self._writer.room()

    def welcome(self, hello: frames.Hello) -> None:
        """Greet a client whose `hello` came before there was this line: what it proves is proven."""
        self._heard = True
        if hello.batch is not None:
            self._transport.batch = hello.batch
        self.greet(hello.ref)

    def greet(self, ref: str | None = None) -> None:
        """Say `connected`."""
        settings, store = self._supervisor.runtime.settings, self._supervisor.runtime.store
        self.put(
            frames.Connected(
                connection_id=self.connection_id,
                protocol=1,
                user_id=self.identity.user,
                heartbeat_ms=round(self._heartbeat * 1000),
                max_frame_bytes=settings.max_frame_bytes,
                max_reply_bytes=settings.max_reply_bytes,
                max_sessions=settings.max_sessions,
                durability=store.durability,
                agent_id=self.agent,
                token_expires_at=self.identity.expires_at,
                ref=ref,
                max_message_chars=settings.max_content_chars,
            )
        )

    def put(self, frame: frames.ServerFrame) -> None:
        """Send a frame that is not part of any session's log."""
        self._writer.control(frame)

    def refuse(self, refusal: Refused, ref: str | None = None, session_id: str | None = None) -> None:
        """Tell the client that a frame of its was refused."""
        refusal.ref = refusal.ref or ref
        refusal.session_id = refusal.session_id or session_id
        self._supervisor.runtime.metrics.refused(refusal.code)
        self.put(codec.error_frame(refusal))
        if refusal.status == 429 and self._meter.refused(refusal) and not self._over:
            logger.warning("client goes on though it is refused", connection_id=self.connection_id)
            self._end(4429, "Too much, for a minute without a pause.")

    def _end(self, code: int, reason: str) -> None:
        """Take nothing more, and close the line when all is said."""
        self._over = True
        self._supervisor.runtime.tasks.start_soon(self.close, code, reason)

    def tick(self, now: float) -> None:
        """The wheel turned; `now` is the loop's time."""
        try:
            self._tick(now)
        except Exception:
            self.broke()

    def _tick(self, now: float) -> None:
        if self._writer.tick(now, self._heartbeat):
            logger.warning("client takes nothing", connection_id=self.connection_id)
            self._supervisor.runtime.tasks.start_soon(self.close, 1013, "The line was stuck.")
        self._mind_token()
        if self._typing is not None:
            live = self._supervisor.sessions
            self._typing = {
                session
                for session in self._typing
                if live.get(session.key) is session and session.log.is_typing(self, now)
            } or None

    def _mind_token(self) -> None:
        """Say once that the token ends soon; close the line when it has."""
        ends = self.identity.expires_at
        if ends is None or self._over:
            return
        left = ends - self._supervisor.runtime.now()
        if left <= 0:
            self.refuse(Refused("token_expired", "The token is over; come back with a new one."))
            self._end(4401, "The token is over.")
        elif left <= _NOTICE and self._announced != ends:
            self._announced = ends
            self.put(frames.Token(ends))

    def revoke(self, reason: str) -> None:
        """Its credentials count no longer: close it, and say so."""
        if not self._over:
            self.refuse(Refused("unauthenticated", reason))
            self._end(4401, reason)

    def goaway(self, reason: str, reconnect_after_ms: int) -> None:
        """Tell the client that this line will be closed."""
        self.put(frames.Goaway(reason, reconnect_after_ms))

    async def close(self, code: int, reason: str) -> None:
        """Send what is to be sent, then close the line."""
        await self._writer.flushed(1.0)
        self.leave()
        try:
            await self._transport.close(code, reason)
        except Exception:
            logger.exception("closing failed", connection_id=self.connection_id)

    def leave(self) -> None:
        """The line is gone: follow nothing any more. No turn is touched."""
        if self.left:
            return
        self.left = True
        self._errands.stop()
        self._pages.stop()
        self._supervisor.lines.pop(self.connection_id, None)
        self._supervisor.usage.closed(self.identity)
        self._writer.stop()
        for attachment in [*self._attachments.values()]:
            self._drop(attachment)
        for session in self._typing or ():
            session.log.set_typing(self, None)

    # ── What the writer asks for ─────────────────────────────────────────────────────────────────────────

    def news(self, attachment: Attachment) -> None:
        """That session has something to send."""
        self._writer.news(attachment)

    def fetch(self, attachment: Attachment) -> None:
        """Get the next page of what this one missed, as soon as the line has taken what was read before."""
        if not attachment.gone:
            self._pages.add(partial(self._fetch, attachment), self._stranded)

    async def _fetch(self, attachment: Attachment) -> None:
        await self._taken()
        if attachment.gone:
            return
        runtime = self._supervisor.runtime
        try:
            kept = await runtime.answered(attachment.turn_page(runtime.store, runtime.settings.page_bytes))
        except NoSession:
            await self._find_ended(attachment)
        except Unavailable:
            self._fetch_later(attachment)  # not here: the other pages must not wait for the end of an outage
        else:
            if attachment.gone:
                return
            if kept or not attachment.lags:
                self._writer.news_of_store(attachment)
            else:
                # An errand: it must not meet an attach or a detach of this session.
                whose = (attachment.session.key.session_id,)
                self._errands.add(partial(self._start_over, attachment), self._stranded, whose)

    def _fetch_later(self, attachment: Attachment) -> None:
        asyncio.get_running_loop().call_later(_FETCH_AGAIN, self.fetch, attachment)

    def _stranded(self, error: Accepted | BaseException) -> None:
        """What a session is to be sent next could not be got, and not for want of a store."""
        if isinstance(error, Exception) and not self.left:
            self.broke(error)

    async def _find_ended(self, attachment: Attachment) -> None:
        """The store has no such session any more: have its actor find out, which ends its log."""
        with suppress(Refused):
            await attachment.session.asked(Refresh())
        if attachment.log.ended is None:
            self._fetch_later(attachment)
        elif not attachment.gone:
            self.news(attachment)

    async def _start_over(self, attachment: Attachment) -> None:
        """What it is to be sent next is not kept any more: it begins anew, with a snapshot."""
        await self._taken()
        if attachment.gone:
            return
        key, missed = attachment.session.key, attachment.seq
        try:
            opened = await self.follow(key, "never", attachment.cursor, None)
        except (Refused, Unavailable) as error:
            refusal = as_refusal(error)
            if refusal.code == "store_unavailable":
                self._fetch_later(attachment)
            elif refusal.code in GONE:
                await self._find_ended(attachment)
            else:
                self._give_up(attachment, refusal)
            return
        if opened.lags and opened.seq <= missed:
            logger.error("records are missing", session_id=key.session_id, agent=key.agent, seq=opened.seq)
            self._give_up(opened, Refused("internal", "Some of this session is missing from the store."))

    def _give_up(self, attachment: Attachment, refusal: Refused) -> None:
        """It cannot be followed any more; the client is told why."""
        self._drop(attachment)
        self.refuse(refusal, session_id=attachment.session.key.session_id)

    async def _taken(self) -> None:
        """Wait until the line has taken so much of what was read from the store for it that more may be read.
        Raises `ConnectionError` if it goes first."""
        most = self._supervisor.runtime.settings.max_ahead_bytes
        while self._writer.ahead > most and not self.left:
            await self._writer.room()
        if self.left:
            raise ConnectionError

    def ended(self, attachment: Attachment) -> None:
        """Its session is over, and the client was told."""
        self._drop(attachment)

    def lost(self) -> None:
        """The peer is gone."""
        self.leave()

    def broke(self, error: BaseException | None = None) -> None:
        """A bug: this exception, or the one that is being handled, came on behalf of this line. It is closed,
        and costs nobody else anything."""
        logger.error("line broke", exc_info=error or True, connection_id=self.connection_id)
        if self.left:
            return
        self._over = True
        self.leave()  # first: nothing more is written, least of all what cannot be
        self._supervisor.runtime.tasks.start_soon(self.close, 1011, "A bug in the gateway; it was logged.")

    # ── What clients send ────────────────────────────────────────────────────────────────────────────────

    def receive(self, data: str | bytes) -> None:
        """One message of the client. A plain call; what it answers, it leaves with the writer."""
        if self._over:
            return
        try:
            self._receive(data)
        except Exception:
            self.broke()

    def _receive(self, data: str | bytes) -> None:
        self._supervisor.runtime.metrics.frames_received += 1
        too_much = self._meter.take(len(data))
        try:
            frame = codec.decode_client_frame(data, self._limits, lenient=self.agent is not None)
        except Refused as refusal:
            self.refuse(too_much or refusal, refusal.ref)
        else:
            if too_much is None:
                self.take(frame)
            else:
                self._reply(frame, too_much)

    def take(self, frame: frames.ClientFrame) -> None:
        """Do what the frame says, and tell the client what came of it."""
        if not isinstance(frame, frames.Hello):  # which may bring a new one in the last moment
            self._mind_token()
        if self._over:
            return
        first, self._heard = not self._heard, True
        reply = partial(self._reply, frame)
        match frame:
            case frames.Ping():
                self.put(frames.Pong(frame.ref))
            case frames.Hello():
                self._errands.add(partial(self._hello, frame, first), reply, None)
            case frames.Attach():
                waiting = {target.session_id for target in frame.sessions}
                self._errands.add(partial(self._attach, frame, waiting), reply, waiting)
            case frames.Detach():
                named = frozenset(frame.session_ids)
                if any(map(self._errands.hold, named)):
                    self._errands.add(partial(self._detach_in_turn, frame, reply), reply, named)
                else:
                    self._detach(frame.session_ids)
                    reply(Accepted())
            case frames.RunCommand():
                self._errands.add(partial(self._command, frame), reply, _named(frame.session_id))
            case frames.Send() | frames.Cancel() | frames.SetTyping() | frames.Renew():
                self._to_session(frame, reply)
            case _:
                assert_never(frame)

    def _to_session(self, frame: SessionFrame, reply: Answer) -> None:
        """A frame for one session: at once if that is followed and nothing sent before waits that is about
        it, else as an errand."""
        if frame.session_id is not None and not self._errands.hold(frame.session_id):
            try:
                attachment = self._followed(frame.session_id, frame.agent)
            except Refused as refusal:
                reply(refusal)
                return
            if attachment is not None:
                self._ask(attachment.session, frame, reply)
                return
        self._errands.add(partial(self._find_and_ask, frame, reply), reply, _named(frame.session_id))

    def _followed(
        self, session_id: str, agent: str | None, identity: Identity | None = None
    ) -> Attachment | None:
        """What it follows under that id, and the caller may touch; None if that is nothing."""
        attachment = self._attachments.get(session_id)
        if attachment is None or attachment.log.ended is not None:
            return None
        if not (identity or self.identity).may_touch(attachment.session.key):
            return None
        if agent is not None and agent != attachment.log.agent:
            raise Refused(
                "session_conflict", f"This line follows {session_id} of the agent {attachment.log.agent}."
            )
        return attachment

    def _ask(self, session: Session, frame: SessionFrame, reply: Answer) -> None:
        """What a frame means to its session. A plain call; the answer comes later."""
        match frame:
            case frames.Send():
                if self._supervisor.runtime.draining:
                    reply(Refused("draining", "The gateway stops; send it again after reconnecting."))
                    return
                try:
                    self._supervisor.usage.message(session.key.user)
                except Refused as refusal:
                    reply(refusal)
                    return
                command = Send(
                    turn_id=frame.turn_id or self._supervisor.runtime.new_id(),
                    content=frame.content,
                    on_busy=frame.on_busy or "enqueue",
                    replaces=frame.replaces,
                    metadata=frame.metadata,
                )
                session.log.set_typing(self, None)
                session.ask(command, reply)
            case frames.Cancel():
                session.ask(Cancel(frame.turn_id), reply)
            case frames.SetTyping():
                self.set_typing(session, frame.state == "start")
            case frames.Renew():
                session.ask(Renew(), reply)

    def _reply(self, frame: Asked, answered: Accepted | BaseException) -> None:
        """Tell the client what came of its frame; called by whoever knows, when it is known."""
        if self.left:
            return
        try:
            self._tell_answer(frame, answered)
        except Exception:
            self.broke()

    def _whose(self, frame: Asked) -> str | None:
        """The session that the answer to this frame belongs to."""
        return getattr(frame, "session_id", None)

    def _tell_answer(self, frame: Asked, answered: Accepted | BaseException) -> None:
        session_id = self._whose(frame)
        match answered:
            case Accepted(turn_id=turn_id, status=status, duplicate=duplicate):
                self.put(frames.Ok(frame.ref, session_id, turn_id, status, duplicate))
            case Refused():
                self.refuse(answered, frame.ref, session_id)
            case _:
                self._failed(answered)
                self.refuse(
                    Refused("internal", "A bug in the gateway; it was logged."), frame.ref, session_id
                )

    # ── Errands ──────────────────────────────────────────────────────────────────────────────────────────

    def _failed(self, error: Accepted | BaseException) -> None:
        if self.left:
            return
        logger.error("errand failed", exc_info=error, connection_id=self.connection_id)

    async def _hello(self, hello: frames.Hello, first: bool) -> None:
        identity = self.identity
        if self._greeting is not None and hello.token is not None:
            identity = await self._greeting(hello, identity)
        if hello.user_id is not None and hello.user_id != identity.user:
            if not (first and identity.everyone):
                raise Refused("forbidden", "This line is another user's; open a new one.")
            identity = identity._replace(user=hello.user_id, everyone=False)
        self._become(identity)
        if hello.batch is not None:
            self._transport.batch = hello.batch
        self.greet(hello.ref)

    def _become(self, identity: Identity) -> None:
        """Have these rights from now on: what they do not reach looks as if it were not there. Raises
        `Refused`, and `ConnectionError` if the line went while they were asked for."""
        if self.left:
            raise ConnectionError
        self._supervisor.usage.moved(self.identity, identity)
        self.identity = identity
        for attachment in [*self._attachments.values()]:
            key = attachment.session.key
            if not identity.may_touch(key):
                self._drop(attachment)
                self.refuse(no_session(NoSession()), session_id=key.session_id)

    async def _attach(self, attach: frames.Attach, waiting: set[str]) -> None:
        """Follow them one after the other, no faster than the line takes their openings; `waiting` are those
        whose turn has not come."""
        ok = frames.Ok(attach.ref)
        turn = Round(ok, len(attach.sessions))
        for target in attach.sessions:
            await self._taken()
            try:
                key = await self.resolve(target.session_id, target.agent)
                await self.follow(
                    key, "again" if target.create else "never", target.cursor, target.history, turn
                )
            except (Refused, Unavailable) as error:
                self.refuse(as_refusal(error), session_id=target.session_id)
                if (answer := turn.one_less()) is not None:
                    self.put(answer)
            waiting.discard(target.session_id)
        if not attach.sessions:
            self.put(ok)

    async def follow(
        self, key: Key, create: Create, cursor: str | None, history: int | None, turn: Round | None = None
    ) -> Attachment:
        """Follow that session from `cursor`; instead of its present place, if it is followed already. Raises
        `Refused`. For errands, and for lines of which no client knows: two at once would not see each
        other."""
        supervisor, limit = self._supervisor, self._supervisor.runtime.settings.max_sessions
        if key.session_id not in self._attachments and len(self._attachments) >= limit:
            raise Refused(
                "too_many_sessions", f"One line follows {limit:,} sessions at the most.", limit=limit
            )
        async with supervisor.opened(key, create) as session:
            try:
                attachment = await Attachment.follow(self, session, supervisor.runtime, cursor, history)
            except NoSession as gone:  # deleted while its history was read
                raise no_session(gone) from None
            if self.left:  # in here: leaving the block lets go of a session that nobody follows
                attachment.leave()
                raise ConnectionError
        replaced = self._attachments.get(key.session_id)
        if replaced is not None:
            if replaced.log.ended is not None and replaced.opening is None and not replaced.told_end:
                self.put(codec.decode_server_frame(replaced.log.ending))
            self._drop(replaced)
        self._attachments[key.session_id] = attachment
        attachment.round = turn
        self._writer.news_of_store(attachment)
        return attachment

    async def _detach_in_turn(self, detach: frames.Detach, reply: Answer) -> None:
        self._detach(detach.session_ids)
        reply(Accepted())

    def _detach(self, session_ids: Iterable[str]) -> None:
        for session_id in session_ids:
            if (attachment := self._attachments.get(session_id)) is not None:
                self._drop(attachment)

    def _drop(self, attachment: Attachment) -> None:
        if attachment.gone:
            return
        attachment.leave()
        self._writer.forget(attachment)
        session_id = attachment.session.key.session_id
        if self._attachments.get(session_id) is attachment:
            del self._attachments[session_id]
        if attachment.round is not None and (ok := attachment.round.one_less()) is not None:
            self.put(ok)
        self._supervisor.rest(attachment.session)

    async def _find_and_ask(self, frame: SessionFrame, reply: Answer) -> None:
        if isinstance(frame, frames.Send):
            await self.follow_and_send(frame, reply)
            return
        attachment = self._followed(frame.session_id, frame.agent)
        if attachment is not None:
            self._ask(attachment.session, frame, reply)
            return
        key = await self._supervisor.resolve(self.identity, frame.session_id, frame.agent, self.agent)
        async with self._supervisor.opened(key) as session:
            self._ask(session, frame, reply)

    async def follow_and_send(self, frame: frames.Send, reply: Answer) -> None:
        """Follow the session of a message, made if it never was, then leave the message with it."""
        create = CREATE[frame.create]
        if frame.session_id is None:
            key = await self._active(frame.agent)
            frame = replace(frame, session_id=key.session_id)
            reply = partial(self._reply, frame)
            create = "new"
        else:
            key = await self.resolve(frame.session_id, frame.agent)
        attachment = self._followed(key.session_id, key.agent)
        if attachment is None:
            attachment = await self.follow(key, create, None, 0)
        self._ask(attachment.session, frame, reply)

    async def join(self, key: Key, create: Create) -> None:
        """Follow that session as a message to it does, after what the client asked for before; if it is
        followed, nothing changes. Raises `Refused`, and `ConnectionError` if the line goes first."""
        session_id = key.session_id
        if not self._errands.hold(session_id) and self._followed(session_id, key.agent) is not None:
            return
        joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def errand() -> None:
            if self._followed(session_id, key.agent) is None:
                await self.follow(key, create, None, 0)
            settle(Accepted())

        def settle(answered: Accepted | BaseException) -> None:
            if joined.done():
                return
            if isinstance(answered, BaseException):
                joined.set_exception(answered)
            else:
                joined.set_result(None)

        self._errands.add(errand, settle, (session_id,))
        await joined

    async def resolve(self, session_id: str, agent: str | None, identity: Identity | None = None) -> Key:
        """Which session a frame of this line means, or a request that names it; `identity` is who makes that.
        Raises `Refused`."""
        attachment = self._followed(session_id, agent, identity)
        if attachment is not None:
            return attachment.session.key
        return await self._supervisor.resolve(identity or self.identity, session_id, agent, self.agent)

    async def _active(self, agent: str | None) -> Key:
        return await self._supervisor.active(self.identity, agent or self.agent)

    def set_typing(self, session: Session, typing: bool) -> None:
        """Its user types in that session, followed or not, or has stopped."""
        settings = self._supervisor.runtime.settings
        session.log.set_typing(self, monotonic() + settings.typing_timeout if typing else None)
        if typing and session.key.session_id not in self._attachments:
            self._typing = (self._typing or set()) | {session}

    async def _command(self, frame: frames.RunCommand) -> None:
        """A command of the agent-bound socket."""
        if self.agent is None:
            raise Refused("bad_frame", "Commands are for the socket of one agent, /api/agents/{agent}/ws.")
        name, supervisor = frame.command.strip().lower(), self._supervisor
        match name:
            case "new":
                key = await supervisor.make(self.identity, self.agent, activate=True)
                message = "A new session is the active one."
            case "stop":
                key = (
                    await self.resolve(frame.session_id, self.agent)
                    if frame.session_id is not None
                    else await self._active(None)
                )
                async with supervisor.opened(key) as session:
                    stopped = (await session.asked(Cancel())).turn_id is not None
                message = "Run cancelled." if stopped else "No active run to cancel."
            case _:
                known = ", ".join(COMMANDS)
                raise Refused("bad_frame", f"There is no command {name[:40]!r}; known are {known}.")
        self.put(frames.CommandResult(frame.command, message, key.session_id, frame.ref))
