"""One client's line: its places in sessions' logs, and what each of its frames does.

It may die at any instant and no session can tell. The reader never waits for a session: what must look into
the store first is an errand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import assert_never

import structlog
from msgspec.structs import replace

from protocol import codec, frames
from protocol.errors import Refused
from protocol.lifetime import Renew
from protocol.session import Accepted, Cancel, Send

from .attachment import Attachment, Round
from .auth import Identity
from .errands import Answer, Errands, as_refusal
from .interfaces import Key, NoSession, Transport, Unavailable
from .limits import Meter
from .opening import CREATE, Create, no_session
from .session import Session
from .supervisor import Supervisor
from .writer import Writer

__all__ = ["Connection", "Greeting"]

logger = structlog.get_logger("gateway.connection")

Greeting = Callable[[frames.Hello, Identity], Awaitable[Identity]]
"""What a later `hello` proves: checks its token, answers the identity. Raises `Refused`."""
SessionFrame = frames.Send | frames.Cancel | frames.SetTyping | frames.Renew

COMMANDS = ("new", "stop")

_NOTICE = 60.0
"""Seconds before the end of its token at which a client is told."""
_FETCH_AGAIN = 0.5
"""Seconds until a page that the store could not give is asked for again."""


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
        self._errands = Errands(runtime.tasks, self._writer.make_room)
        self._typing: set[Session] | None = None
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
        """The wheel turned."""
        if self._writer.tick(now, self._heartbeat):
            logger.warning("client takes nothing", connection_id=self.connection_id)
            self._supervisor.runtime.tasks.start_soon(self.close, 1013, "The line was stuck.")
        self._mind_token()

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
        await self._transport.close(code, reason)

    def leave(self) -> None:
        """The line is gone: follow nothing any more. No turn is touched."""
        if self.left:
            return
        self.left = True
        self._errands.stop()
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
        """Get the next page of what this one missed."""
        if not attachment.gone:
            self._errands.add(partial(self._fetch, attachment), self._failed)

    async def _fetch(self, attachment: Attachment) -> None:
        if attachment.gone:
            return
        runtime = self._supervisor.runtime
        try:
            await attachment.turn_page(runtime.store, runtime.settings.page_bytes)
        except NoSession:
            pass  # deleted: its log says so
        except Unavailable:
            # Not here: other errands are refused in an outage, and must not wait for its end.
            asyncio.get_running_loop().call_later(_FETCH_AGAIN, self.fetch, attachment)
            return
        self.news(attachment)

    def ended(self, attachment: Attachment) -> None:
        """Its session is over, and the client was told."""
        self._drop(attachment)

    def lost(self) -> None:
        """The peer is gone."""
        self.leave()

    # ── What clients send ────────────────────────────────────────────────────────────────────────────────

    def receive(self, data: str | bytes) -> None:
        """One message of the client. A plain call; what it answers, it leaves with the writer."""
        if self._over:
            return
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
                self._errands.add(partial(self._hello, frame, first), reply)
            case frames.Attach():
                self._errands.add(partial(self._attach, frame), reply)
            case frames.Detach():
                self._errands.add(partial(self._detach, frame, reply), reply)
            case frames.RunCommand():
                self._errands.add(partial(self._command, frame), reply)
            case frames.Send() | frames.Cancel() | frames.SetTyping() | frames.Renew():
                self._to_session(frame, reply)
            case _:
                assert_never(frame)

    def _to_session(self, frame: SessionFrame, reply: Answer) -> None:
        """A frame for one session: at once if it is followed, else after it was found, and after what was
        sent before."""
        if not self._errands and frame.session_id is not None:
            try:
                attachment = self._followed(frame.session_id, frame.agent)
            except Refused as refusal:
                reply(refusal)
                return
            if attachment is not None:
                self._ask(attachment.session, frame, reply)
                return
        self._errands.add(partial(self._find_and_ask, frame, reply), reply)

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
                self._set_typing(session, frame.state == "start")
            case frames.Renew():
                session.ask(Renew(), reply)

    def _reply(self, frame: frames.ClientFrame, answered: Accepted | BaseException) -> None:
        """Tell the client what came of its frame; called by whoever knows, when it is known."""
        if self.left:
            return
        session_id = getattr(frame, "session_id", None)
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

    async def _attach(self, attach: frames.Attach) -> None:
        ok = frames.Ok(attach.ref)
        turn = Round(ok, len(attach.sessions))
        for target in attach.sessions:
            try:
                key = await self.resolve(target.session_id, target.agent)
                await self.follow(
                    key, "again" if target.create else "never", target.cursor, target.history, turn
                )
            except (Refused, Unavailable) as error:
                self.refuse(as_refusal(error), session_id=target.session_id)
                if (answer := turn.one_less()) is not None:
                    self.put(answer)
        if not attach.sessions:
            self.put(ok)

    async def follow(
        self, key: Key, create: Create, cursor: str | None, history: int | None, turn: Round | None = None
    ) -> Attachment:
        """Follow that session from `cursor`; instead of its present place, if it is followed already. Raises
        `Refused`. For errands, and for lines of which no client knows: two at once would not see each
        other."""
        supervisor, limit = self._supervisor, self._supervisor.runtime.settings.max_sessions
        replaced = self._attachments.get(key.session_id)
        if replaced is None and len(self._attachments) >= limit:
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
        if replaced is not None:
            if replaced.log.ended is not None and replaced.opening is None and not replaced.told_end:
                self.put(codec.decode_server_frame(replaced.log.ending))
            self._drop(replaced)
        self._attachments[key.session_id] = attachment
        attachment.round = turn
        self.news(attachment)
        return attachment

    async def _detach(self, detach: frames.Detach, reply: Answer) -> None:
        for session_id in detach.session_ids:
            if (attachment := self._attachments.get(session_id)) is not None:
                self._drop(attachment)
        reply(Accepted())

    def _drop(self, attachment: Attachment) -> None:
        attachment.leave()
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
        joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def errand() -> None:
            if self._followed(key.session_id, key.agent) is None:
                await self.follow(key, create, None, 0)
            settle(Accepted())

        def settle(answered: Accepted | BaseException) -> None:
            if joined.done():
                return
            if isinstance(answered, BaseException):
                joined.set_exception(answered)
            else:
                joined.set_result(None)

        self._errands.add(errand, settle)
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

    def _set_typing(self, session: Session, typing: bool) -> None:
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
