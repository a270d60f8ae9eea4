"""One session as a client holds it: what was seen of it, the turns that are waited for, and who watches.

No I/O: the client feeds it frames (`receive`) and tells it when a line is lost; it says what it wants sent
through its `Wire`. What is shown is what the transcript verified: no character twice, none left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol
from weakref import WeakSet

from protocol import codec, transcript
from protocol.errors import Refused
from protocol.frames import (
    Attached,
    Cancel,
    ClientFrame,
    Error,
    Ok,
    OnBusy,
    Response,
    Send,
    ServerFrame,
    SetTyping,
    Target,
)
from protocol.frames import Session as Notice
from protocol.transcript import OutOfOrder, Transcript

from .client_feed import Feed
from .client_line import LineClosed
from .client_turn import UNASKED, Turn, end_of, refusal

__all__ = ["Session", "Wire"]

_WATCHED = 1_000
"""Frames that may wait for one who watches a session."""
_OVER = ("completed", "cancelled", "failed")


class Wire(Protocol):
    """The client, as its sessions see it: plain calls, which do nothing while there is no line."""

    def post(self, turn: Turn) -> None:
        """Send the turn's message. Done for all that are pending on every new line."""
        ...

    def put(self, frame: ClientFrame) -> None:
        """Send this."""
        ...

    def attach(self, session: Session) -> None:
        """Follow that session from where it stands. Done for all of them on every new line."""
        ...

    def forget(self, session: Session) -> None:
        """Follow it no more."""
        ...


class Session:
    """One conversation. Made by `Client.session`; all its methods but `ready` are plain calls."""

    def __init__(
        self, wire: Wire, session_id: str, agent: str | None, history: int | None, new_id: Callable[[], str]
    ) -> None:
        self._wire = wire
        self._new_id = new_id
        self._wanted = history
        self._turns: dict[str, Turn] = {}
        self._watchers: WeakSet[Feed] = WeakSet()
        self._ready = asyncio.Event()
        self._refusal: Error | None = None
        self._failure: Exception | None = None
        self._replayed = False
        """The last `attached` went on from the view that was there."""
        self._until: str | None = None
        """The turn that ran when a snapshot came: at its end, what the snapshot does not tell of has come, or
        is lost."""
        self.session_id = session_id
        self.agent = agent
        self.transcript = Transcript(session_id)
        """What a person sees of it, verified on the way."""

    # ── For its user ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def history(self) -> list[transcript.Turn]:
        """The conversation, oldest turn first; empty until the session is `ready`."""
        return self.transcript.turns

    def send(
        self,
        content: str,
        *,
        on_busy: OnBusy | None = None,
        replaces: str | None = None,
        metadata: dict[str, Any] | None = None,
        turn_id: str | None = None,
    ) -> Turn:
        """Say something. It is sent until it is acknowledged, over as many lines as that takes, and runs
        once. A `turn_id` of the caller's own makes that hold over restarts of the caller, too; said again
        while it is not over, it is the same turn.

        What cannot be sent, metadata that is no JSON for example, ends its turn as `bad_frame`; half a
        surrogate pair is sent as U+FFFD.
        """
        asked = Send(
            content,
            session_id=self.session_id,
            agent=self.agent,
            turn_id=turn_id or self._new_id(),
            on_busy=on_busy,
            replaces=replaces,
            metadata=metadata,
        )
        try:
            message, refused = codec.as_sent(asked), None
        except Refused as error:
            message, refused = asked, error
        assert message.turn_id is not None
        turn = Turn(self._wire, message, self.session_id, message.turn_id)
        if self._failure is not None:
            turn.fail(self._failure)
        elif refused is not None:
            turn.finish(refusal(turn, refused.code, refused.content))
        elif (known := self._turns.get(turn.turn_id)) is not None and not known.over:
            if known.message.content == message.content:
                return known
            turn.finish(refusal(turn, "turn_conflict", "This turn_id is that of another message."))
        else:
            self._turns[turn.turn_id] = turn
            self._wire.post(turn)
            if turn.over:
                self.drop(turn)
        return turn

    def follow(self) -> Turn | None:
        """The turn that runs, whoever sent it; its iterator begins with the text so far. None if none
        runs."""
        view = self.transcript.turn(self.transcript.running or "")
        if view is None or self._failure is not None:
            return None
        turn = self._turns.get(view.turn_id)
        if turn is None:
            message = Send(view.content or "", self.session_id, self.agent, view.turn_id)
            turn = self._turns[view.turn_id] = Turn(self._wire, message, self.session_id, view.turn_id)
            turn.look(view)
            turn.show(self.transcript.cursor or "")
        return turn

    def cancel(self) -> None:
        """Stop the turn that runs."""
        running = self.transcript.running
        if (turn := self._turns.get(running or "")) is not None:
            turn.cancel()
        else:
            self._wire.put(Cancel(self.session_id, self.agent, running, ref=UNASKED))

    def typing(self, typing: bool) -> None:
        """Let the session's other readers know that the user is typing; a start holds for 10 s."""
        self._wire.put(SetTyping(self.session_id, "start" if typing else "stop", self.agent, ref=UNASKED))

    def frames(self) -> AsyncIterator[ServerFrame]:
        """Every frame of this session from now on, for who folds them himself. Raises `Lagged` if too many
        wait to be taken, and `LineClosed` at the end of the line."""
        feed = Feed(_WATCHED)
        if self._failure is not None:
            feed.close(self._failure)
        self._watchers.add(feed)
        return feed

    async def ready(self) -> None:
        """Wait until the conversation so far is known; it is empty if there is none yet. Raises `Refused`
        if it cannot be followed, `LineClosed` if there will be no line."""
        await self._ready.wait()
        if self._failure is not None:
            raise self._failure
        if self._refusal is not None and self._refusal.code != "session_not_found":
            raise Refused(self._refusal.code, self._refusal.content, session_id=self.session_id)

    def detach(self) -> None:
        """Follow it no more. Its turns run on; whoever waits for one here gets `LineClosed`."""
        self._wire.forget(self)
        self.fail(LineClosed(1000, f"The session {self.session_id} was detached."))

    # ── For the client ──────────────────────────────────────────────────────────────────────────────────────

    @property
    def pending(self) -> list[Turn]:
        """The turns that are not over, in the order in which they were sent."""
        return [turn for turn in self._turns.values() if not turn.over]

    def target(self) -> Target:
        """From where it is to be followed."""
        for turn in self._turns.values():
            turn.asked = turn.acknowledged
        return Target(self.session_id, self.agent, self.transcript.cursor, self._wanted)

    def receive(self, frame: ServerFrame) -> None:
        """The next frame of this session."""
        if not (self.transcript.attached or isinstance(frame, Attached)):
            return  # of a following that was given up
        try:
            self.transcript.apply(frame)
        except OutOfOrder as error:
            self._wire.forget(self)
            self.fail(error)
            return
        for feed in self._watchers:
            feed.put(frame)
        match frame:
            case Attached():
                self._attached(frame)
            case Notice():
                if self.transcript.ended is not None:
                    self._look()
            case _:
                self._tell(frame)
        self._turns = {turn.turn_id: turn for turn in self.pending}

    def acknowledge(self, turn: Turn, ok: Ok) -> None:
        """The gateway has that message."""
        turn.acknowledged = True
        if not (ok.duplicate and ok.status in _OVER) or turn.over:
            return
        if self.transcript.turn(turn.turn_id) is not None:
            self._look()
        elif turn.attempts == 1 or not self._replayed:
            # It may have been over before the view began, and then no frame tells of it: look at it all.
            self.transcript = Transcript(self.session_id)
            self._wire.attach(self)

    def drop(self, turn: Turn) -> None:
        """Its message was refused: no frame will tell of it."""
        if self._turns.get(turn.turn_id) is turn:
            del self._turns[turn.turn_id]

    @property
    def refused(self) -> bool:
        """It could not be followed when that was last asked for."""
        return self._refusal is not None

    def refuse(self, error: Error) -> None:
        """It cannot be followed. Messages not acknowledged yet are answered themselves."""
        self._refusal = error
        self._ready.set()
        for turn in self.pending:
            if turn.acknowledged:
                turn.finish(error)

    def lost(self) -> None:
        """The line is gone."""
        self.transcript.detach()

    def fail(self, error: Exception) -> None:
        """There will be no line any more: everybody who waits is told why."""
        self._failure = self._failure or error
        self._ready.set()
        for turn in self.pending:
            turn.fail(error)
        for feed in self._watchers:
            feed.close(error)

    # ── Turns ───────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, frame: ServerFrame) -> None:
        turn_id = getattr(frame, "turn_id", None) or ""
        turn, view = self._turns.get(turn_id), self.transcript.turn(turn_id)
        if turn is not None and view is not None:
            turn.look(view)
            turn.take(frame)
        if isinstance(frame, Response | Error) and turn_id == self._until:
            self._end_lost()

    def _attached(self, frame: Attached) -> None:
        self._refusal = None
        self._replayed = frame.mode == "replay"
        self._look()
        if not self._replayed:  # a replay leaves nothing out: it only goes on
            for turn in self.pending:
                turn.expected = turn.asked
            self._until = frame.turn_id
            if frame.turn_id is None:
                self._end_lost()
        self._ready.set()

    def _look(self) -> None:
        """What does the view tell of the turns that are waited for? Of those that ended while nobody
        listened, no frame will come."""
        for turn in self.pending:
            view = self.transcript.turn(turn.turn_id)
            if view is not None:
                turn.look(view)
                if view.over:
                    turn.finish(end_of(view, self.session_id))

    def _end_lost(self) -> None:
        """End the turns that the gateway knew and knows no more. A snapshot begins where the running turn
        does: until that is over, frames of others may still come."""
        self._until = None
        for turn in self.pending:
            if turn.expected and self.transcript.turn(turn.turn_id) is None:
                turn.finish(
                    refusal(turn, "turn_not_found", "It is too old, was replaced, or the gateway forgot it.")
                )
