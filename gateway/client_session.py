"""One session as a client holds it: what was seen of it, the turns that are waited for, and who watches.

No I/O: the client feeds it frames (`receive`) and tells it when a line is lost; it says what it wants sent
through its `Wire`. What is shown is what the transcript verified: no character twice, none left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Literal, Protocol
from weakref import WeakSet

from protocol import transcript
from protocol.errors import TABLE, Refused
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
    TextDelta,
)
from protocol.frames import Session as Notice
from protocol.records import Timing
from protocol.transcript import OutOfOrder, Transcript

from .client_feed import Feed

__all__ = ["LineClosed", "Session", "Turn", "TurnFailed", "Wire"]

UNASKED = "-"
"""The `ref` of frames whose answer nobody waits for."""
_WATCHED = 1_000
"""Frames that may wait for one who watches a session."""
_OVER = ("completed", "cancelled", "failed")


class TurnFailed(Exception):
    """The turn ended as an `error`, or its message was refused: `frame` says which and why."""

    def __init__(self, frame: Error) -> None:
        super().__init__(f"{frame.code}: {frame.content}")
        self.frame = frame


class LineClosed(Exception):
    """There is no line to the gateway any more, and trying again would not help.

    `close_code` is the WebSocket's (an HTTP refusal counts as the one that means the same), `code` that of
    the error table, if the gateway said one.
    """

    def __init__(self, close_code: int, content: str, code: str | None = None) -> None:
        super().__init__(content)
        self.close_code = close_code
        self.content = content
        self.code = code


class Wire(Protocol):
    """The client, as its sessions see it: plain calls, which do nothing while there is no line."""

    def post(self, turn: Turn) -> None:
        """Send the turn's message. It is sent again on every new line, until it is acknowledged or over."""
        ...

    def put(self, frame: ClientFrame) -> None:
        """Send this, if there is a line."""
        ...

    def attach(self, session: Session) -> None:
        """Follow that session from where it says. Said of all sessions on every new line."""
        ...

    def forget(self, session: Session) -> None:
        """Follow it no more."""
        ...


class Turn:
    """One message and its answer.

    Iterate it for the turn's frames: the last one is its `response` or `error`, and the `text_delta`s before
    it, however often the line broke, are its text, except for what an interrupted turn lost. Await it for the
    `response`; raises `TurnFailed`. Both raise `LineClosed` if there is no line any more.
    """

    def __init__(self, wire: Wire, message: Send, session_id: str, turn_id: str) -> None:
        self._wire = wire
        self._feed = Feed()
        self._over = asyncio.Event()
        self._failure: Exception | None = None
        self._view: transcript.Turn | None = None
        self._reached = 0
        """Characters given to the iterator, or waiting there."""
        self.message = message
        self.session_id = session_id
        self.turn_id = turn_id
        self.end: Response | Error | None = None
        """Its last frame, as soon as it is over."""
        self.sent = 0
        """How often its message was sent."""
        self.acknowledged = False
        """The gateway has it: it will run, whatever happens to the line."""
        self.expected = False
        """It was acknowledged before the session was last attached, so a snapshot must tell of it."""
        self.cancelling = False

    @property
    def text(self) -> str:
        """The answer so far; the whole of it when the turn is over."""
        return self._view.text if self._view is not None else ""

    @property
    def over(self) -> bool:
        """Has it ended, or failed?"""
        return self._over.is_set()

    def cancel(self) -> None:
        """Stop it, also if it still waits. It then ends as `cancelled`, with the text so far."""
        self.cancelling = True
        if not self.over:
            self._wire.put(self.cancel_frame)

    @property
    def cancel_frame(self) -> Cancel:
        """What asks the gateway to stop it."""
        return Cancel(self.session_id, self.message.agent, self.turn_id, ref=UNASKED)

    def __await__(self) -> Generator[Any, None, Response]:
        return self._ended().__await__()

    async def _ended(self) -> Response:
        await self._over.wait()
        if self._failure is not None:
            raise self._failure
        if isinstance(self.end, Response):
            return self.end
        assert self.end is not None
        raise TurnFailed(self.end)

    def __aiter__(self) -> AsyncIterator[ServerFrame]:
        return self._feed

    # ── What its session tells it ───────────────────────────────────────────────────────────────────────────

    def look(self, view: transcript.Turn) -> None:
        """This is what the session shows of it."""
        self.acknowledged = True
        self._view = view

    def take(self, frame: ServerFrame) -> None:
        """The next frame of this turn; the transcript has it already."""
        match frame:
            case TextDelta():
                self.show(frame.cursor)
            case Response() | Error():
                self.finish(frame)
            case _:
                self._feed.put(frame)

    def show(self, cursor: str) -> None:
        """Give the iterator what the view has beyond what was given before: if the view was built anew, its
        text began anew."""
        if rest := self.text[self._reached :]:
            self._feed.put(TextDelta(cursor, self.session_id, self.turn_id, rest))
            self._reached += len(rest)

    def finish(self, frame: Response | Error) -> None:
        """It is over."""
        if self.over:
            return
        self.show(frame.cursor or "")
        self.end = frame
        self._feed.put(frame)
        self._feed.close()
        self._over.set()

    def fail(self, error: Exception) -> None:
        """Nothing more will be known of it."""
        if not self.over:
            self._failure = error
            self._feed.close(error)
            self._over.set()


class Session:
    """One conversation. Made by `Client.session`; all its methods but `ready` are plain calls."""

    def __init__(
        self,
        wire: Wire,
        session_id: str,
        agent: str | None,
        history: int | None,
        new_id: Callable[[], str],
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
        self._missing = False
        """The last snapshot told nothing of some turn; whether that is lost shows when the running one is over."""
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
        once. A `turn_id` of the caller's own makes that hold over restarts of the caller, too."""
        turn_id = turn_id or self._new_id()
        message = Send(
            content,
            session_id=self.session_id,
            agent=self.agent,
            turn_id=turn_id,
            on_busy=on_busy,
            replaces=replaces,
            metadata=metadata,
        )
        turn = Turn(self._wire, message, self.session_id, turn_id)
        if self._failure is not None:
            turn.fail(self._failure)
        else:
            self._turns[turn_id] = turn
            self._wire.post(turn)
        return turn

    def follow(self) -> Turn | None:
        """The turn that runs, whoever sent it; its iterator begins with the text so far. None if none
        runs."""
        view = self.transcript.turn(self.transcript.running or "")
        if view is None or self._failure is not None:
            return None
        if view.turn_id not in self._turns:
            message = Send(view.content or "", self.session_id, self.agent, view.turn_id)
            turn = self._turns[view.turn_id] = Turn(self._wire, message, self.session_id, view.turn_id)
            turn.look(view)
            turn.show(self.transcript.cursor or "")
        return self._turns[view.turn_id]

    def cancel(self) -> None:
        """Stop the turn that runs."""
        running = self._turns.get(self.transcript.running or "")
        if running is not None:
            running.cancel()
        else:
            turn_id = self.transcript.running
            self._wire.put(Cancel(self.session_id, self.agent, turn_id, ref=UNASKED))

    def typing(self, typing: bool) -> None:
        """Let the session's other readers know that the user is typing; a start holds for 10 s."""
        state: Literal["start", "stop"] = "start" if typing else "stop"
        self._wire.put(SetTyping(self.session_id, state, self.agent, ref=UNASKED))

    def frames(self) -> AsyncIterator[ServerFrame]:
        """Every frame of this session from now on, for whoever wants to fold them. Raises `Lagged` if they
        are not taken, and `LineClosed` at the end of the line."""
        feed = Feed(_WATCHED)
        if self._failure is not None:
            feed.close(self._failure)
        self._watchers.add(feed)
        return feed

    async def ready(self) -> None:
        """Wait until the conversation so far is known; it is empty if there is none yet. Raises `Refused`
        if it cannot be followed, `LineClosed` if there is no line."""
        await self._ready.wait()
        if self._failure is not None:
            raise self._failure
        if self._refusal is not None and self._refusal.code != "session_not_found":
            raise Refused(self._refusal.code, self._refusal.content, session_id=self.session_id)

    def detach(self) -> None:
        """Follow it no more. Its turns run on; whoever waits for one gets `LineClosed`."""
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
            turn.expected = turn.acknowledged
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
                self._ended()
            case _:
                self._tell(frame)

    def acknowledge(self, turn: Turn, ok: Ok) -> None:
        """The gateway has that message."""
        turn.acknowledged = True
        if not (ok.duplicate and ok.status in _OVER) or turn.over:
            return
        view = self.transcript.turn(turn.turn_id)
        if view is not None:
            self._found(turn, view)
        elif turn.sent == 1 or not self._replayed:
            # It may have been over before the view began, and then no frame tells of it: look at it all.
            self.transcript = Transcript(self.session_id)
            self._wire.attach(self)

    def refuse(self, error: Error) -> None:
        """It cannot be followed. Messages not acknowledged yet are answered themselves."""
        self._refusal = error
        self._ready.set()
        for turn in self.pending:
            if turn.acknowledged:
                turn.finish(error)
        self._sweep()

    def lost(self) -> None:
        """The line is gone."""
        self.transcript.detach()

    def fail(self, error: Exception) -> None:
        """There will be no line any more: everybody who waits is told why."""
        self._failure = error
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
        if isinstance(frame, Response | Error):
            self._look_for_missing()
            self._sweep()

    def _attached(self, frame: Attached) -> None:
        self._refusal = None
        self._replayed = frame.mode == "replay"
        for turn in self.pending:
            view = self.transcript.turn(turn.turn_id)
            if view is not None:
                self._found(turn, view)
        self._missing = self._missing or frame.mode == "snapshot"
        self._look_for_missing()
        self._sweep()
        self._ready.set()

    def _found(self, turn: Turn, view: transcript.Turn) -> None:
        """The view tells of that turn; if it ended while nobody listened, in the words of the history."""
        turn.look(view)
        if view.over:
            turn.finish(_end_of(view, self.session_id))

    def _look_for_missing(self) -> None:
        """End the turns that the gateway knew and knows no more. A snapshot begins where the running turn
        does: until that is over, frames of others may still come."""
        if not self._missing or self.transcript.running is not None:
            return
        self._missing = False
        for turn in self.pending:
            if turn.expected and self.transcript.turn(turn.turn_id) is None:
                turn.finish(_lost(turn))

    def _ended(self) -> None:
        """A notice of the session's life came. If that is over, so are its turns."""
        if self.transcript.ended is not None:
            for turn in self.pending:
                view = self.transcript.turn(turn.turn_id)
                if view is not None:
                    self._found(turn, view)
            self._sweep()

    def _sweep(self) -> None:
        self._turns = {turn_id: turn for turn_id, turn in self._turns.items() if not turn.over}


def _end_of(view: transcript.Turn, session_id: str) -> Response | Error:
    """The end of a turn, as far as the history tells."""
    if view.status == "failed":
        code = view.code or "agent_failed"
        return Error(
            view.reason or "The turn failed while nobody listened.",
            code,
            TABLE[code].retryable if code in TABLE else False,
            session_id=session_id,
            turn_id=view.turn_id,
            partial=view.text,
        )
    return Response(
        cursor="",
        session_id=session_id,
        turn_id=view.turn_id,
        content=view.text,
        status="cancelled" if view.status == "cancelled" else "completed",
        input_tokens=0,
        output_tokens=0,
        timing=Timing(0, 0, 0),
        created_at=view.created_at or 0.0,
        thought=view.thought or None,
    )


def _lost(turn: Turn) -> Error:
    return Error(
        "The gateway tells nothing of this turn any more: it is too old, was replaced, or was forgotten.",
        "turn_not_found",
        False,
        session_id=turn.session_id,
        turn_id=turn.turn_id,
        partial=turn.text,
    )
