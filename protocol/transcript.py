"""Frames → what a person sees of one session: the client's half of the protocol.

A `Transcript` folds the frames of one session in the order in which they came, over as many lines as that
takes, and checks on the way what the protocol promises of that order. So it is also the oracle of the tests:
a gateway that tears, doubles or reorders anything makes it raise `OutOfOrder`.

It is plain enough to be ported line by line; lengths and offsets are in code points.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from . import frames
from .cursor import Cursor, format_cursor, parse_cursor

__all__ = ["OutOfOrder", "Transcript", "Turn", "TurnState"]

TurnState: TypeAlias = Literal["waiting", "running", "completed", "cancelled", "failed"]


class OutOfOrder(ValueError):
    """A frame came that the protocol rules out here: the gateway is wrong, or frames were lost on the way.

    Its text says what came and what was expected. A transcript that raised it is good for reading only.
    """


class Turn(Struct):
    """One turn as a person sees it: what the user said, and the answer so far."""

    turn_id: str
    content: str | None = None
    """What the user said; None if that was before the oldest message shown."""
    created_at: float | None = None
    status: TurnState = "waiting"
    """`waiting` until something shows that it runs."""
    text: str = ""
    """The answer so far; the whole of it when the turn is over."""
    skipped: int = 0
    """How much of the answer came before `text` and was not sent here: the reader resumed within it."""
    thought: str = ""
    tools: list[frames.ToolUse] = []
    code: str | None = None
    """Why it failed: a code of the error table."""
    reason: str | None = None
    """Why it failed: a sentence for people."""
    place: int = 0
    """Where in the text the last tool record stands."""

    @property
    def over(self) -> bool:
        """Has it ended?"""
        return self.status not in ("waiting", "running")

    @property
    def shown(self) -> int:
        """How many characters of the answer the reader was sent, here or before it resumed."""
        return self.skipped + len(self.text)


class Transcript:
    """What one session looks like to a reader who was sent the frames applied so far."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.agent: str | None = None
        self.turns: list[Turn] = []
        """What is to be shown, in the order in which the messages were accepted; replaced turns are gone."""
        self.running: str | None = None
        """The turn that runs, as far as the frames have told."""
        self.queue: list[str] = []
        """The turns that wait, as accepted; one that interrupts runs before the others."""
        self.agent_typing = False
        self.user_typing = False
        """The user is typing on another line."""
        self.attached = False
        self.ended: Literal["closed", "expired"] | None = None
        self.expires_at: float | None = None
        self.has_more = False
        """There are messages before the oldest one shown."""
        self._at: Cursor | None = None
        self._known: dict[str, Turn] = {}
        """Every turn told of since the last snapshot, those that are not shown included."""
        self._speaker: Turn | None = None
        """The turn whose text the cursor's offset counts: it has shown that it runs, and is not over."""
        self._strangers: Literal["refused", "shown", "hidden"] = "refused"
        """What becomes of a turn whose message came before anything that was sent here."""

    @property
    def cursor(self) -> str | None:
        """Where to resume: what the next `attach` should say. None before the first `attached`."""
        return format_cursor(*self._at) if self._at else None

    def turn(self, turn_id: str) -> Turn | None:
        """That turn, shown or not; None if no frame since the last snapshot told of it."""
        return self._known.get(turn_id)

    def detach(self) -> None:
        """The line is gone, or `detach` was answered: nothing more is expected before an `attached`."""
        self.attached = self.agent_typing = self.user_typing = False

    def apply(self, frame: frames.ServerFrame) -> None:
        """Take in the next frame. Raises `OutOfOrder`.

        Frames of the connection, answers and refusals pass all others: they say nothing of the session's
        order, and change nothing here.
        """
        whose = getattr(frame, "session_id", None)
        if whose not in (None, self.session_id):
            raise OutOfOrder(f"A frame of session {whose} came to the transcript of {self.session_id}.")
        match frame:
            case frames.Connected() | frames.Token() | frames.Goaway() | frames.Pong():
                pass
            case frames.Ok() | frames.CommandResult() | frames.Error(cursor=None):
                pass
            case frames.ToolStart() | frames.ToolEnd() | frames.Typing(state="tool"):
                pass  # said again in the frame of the tool itself
            case frames.Attached():
                self._attach(frame)
            case _ if not self.attached:
                raise OutOfOrder(f"{_kind(frame)} came before attached{self._since_it_ended()}.")
            case frames.Message():
                self._message(frame)
            case frames.Typing():
                self._typing(frame)
            case frames.TextDelta():
                self._text(frame)
            case frames.ThoughtDelta():
                self._speaking(frame, frame.turn_id).thought += frame.content
            case frames.ToolCall() | frames.ToolResult():
                self._tool(frame)
            case frames.Response() | frames.Error():
                self._end(frame)
            case frames.Session():
                self._session(frame)
            case _:
                assert_never(frame)

    def _since_it_ended(self) -> str:
        return f", since the session had {self.ended}" if self.ended else ""

    # ── Attaching ───────────────────────────────────────────────────────────────────────────────────────────

    def _attach(self, frame: frames.Attached) -> None:
        cursor = _parsed(frame.cursor)
        if frame.mode == "replay" and self._at is not None:
            # The offset counts only for the turn that ran there: it may be 0 if that one is over.
            if cursor not in (self._at, self._at._replace(offset=0)):
                raise OutOfOrder(f"A replay from {frame.cursor} came to a reader at {self.cursor}.")
        else:
            if frame.mode == "snapshot" and cursor.offset != 0:
                raise OutOfOrder(f"A snapshot begins at offset 0, not at {frame.cursor}.")
            self._start_over(frame)
        self.detach()
        self._at = cursor
        self.attached = True
        self.ended = None
        self.agent = frame.agent
        self.expires_at = frame.expires_at
        self.running = frame.turn_id
        self.queue = list(frame.queued)
        running = self._known.get(frame.turn_id or "")
        if running is not None and not running.over:
            running.status = "running"

    def _start_over(self, frame: frames.Attached) -> None:
        self.turns = []
        self._known = {}
        self._speaker = None
        self._strangers = "refused" if frame.mode == "snapshot" else "shown"
        self.has_more = bool(frame.has_more)
        for message in frame.messages or []:
            if message.role == "user":
                self._show(Turn(message.turn_id, message.content, message.created_at))
            else:
                turn = self._known.get(message.turn_id) or self._stranger(message.turn_id)
                turn.text = message.content
                turn.status = message.status or "completed"
                turn.tools = message.tools or []
                turn.code = message.code
        for turn_id in [frame.turn_id, *frame.queued]:
            if turn_id is not None and turn_id not in self._known:
                self._stranger(turn_id)

    def _show(self, turn: Turn) -> None:
        self._known[turn.turn_id] = turn
        self.turns.append(turn)

    def _stranger(self, turn_id: str) -> Turn:
        """A turn whose message was not shown: it stands before all those whose message was."""
        turn = self._known[turn_id] = Turn(turn_id)
        if self._strangers != "hidden":
            self.turns.insert(sum(1 for shown in self.turns if shown.content is None), turn)
        return turn

    # ── Turns ───────────────────────────────────────────────────────────────────────────────────────────────

    def _message(self, frame: frames.Message) -> None:
        cursor = self._record(frame, frame.cursor)
        known = self._known.get(frame.turn_id)
        if known is not None and (known.content is not None or known.over or known is self._speaker):
            raise OutOfOrder(f"message of turn {frame.turn_id} came, which had been told of before.")
        if frame.replaces is not None:
            self._replace(frame.replaces)
        if known is not None and known in self.turns:
            self.turns.remove(known)
        turn = Turn(frame.turn_id, frame.content, frame.created_at)
        self._show(turn)
        self._at = cursor
        if frame.turn_id == self.running:
            turn.status = "running"
        elif frame.turn_id not in self.queue:
            self.queue.append(frame.turn_id)

    def _replace(self, turn_id: str) -> None:
        """That turn and all after it leave the view; one that was never told of was before all of it."""
        replaced = self._known.get(turn_id)
        if replaced is None:
            self.turns = []
            self._strangers = "hidden" if self._strangers == "shown" else self._strangers
        elif replaced in self.turns:
            self.turns = self.turns[: self.turns.index(replaced)]
        else:
            raise OutOfOrder(f"message replaces turn {turn_id}, which had been replaced before.")

    def _typing(self, frame: frames.Typing) -> None:
        starts = frame.state == "start"
        if starts and (self.agent_typing if frame.author == "agent" else self.user_typing):
            raise OutOfOrder(f"typing start came, but the {frame.author} was typing already.")
        if frame.author == "user":
            self.user_typing = starts
            return
        if frame.turn_id is not None:
            self._speaking(frame, frame.turn_id)
        self.agent_typing = starts

    def _text(self, frame: frames.TextDelta) -> None:
        turn = self._open(frame, frame.turn_id)
        if turn.place > turn.shown:
            # Only a turn that is over sends its tool records ahead of its text, and then without the text.
            raise OutOfOrder(f"text_delta of turn {turn.turn_id} came after the tool record at {turn.place}.")
        cursor = self._moved(frame, frame.cursor, self._offset + len(frame.content))
        self._speaking(frame, frame.turn_id)
        if turn.shown != self._offset:
            raise OutOfOrder(f"text_delta came to {self.cursor}, but {turn.shown} characters were shown.")
        turn.text += frame.content
        self._at = cursor

    def _tool(self, frame: frames.ToolCall | frames.ToolResult) -> None:
        turn = self._open(frame, frame.turn_id)
        reached = max(turn.shown, turn.place)
        if self._speaker is None:
            reached = max(reached, self._offset)
        if frame.at < reached:
            raise OutOfOrder(f"{_kind(frame)} at {frame.at} came when turn {turn.turn_id} was at {reached}.")
        cursor = self._record(frame, frame.cursor)
        self._speaking(frame, frame.turn_id)
        self._at = cursor
        turn.place = frame.at
        if isinstance(frame, frames.ToolCall):
            use = frames.ToolUse(frame.tool_call_id, frame.name, frame.input, None, False, frame.at)
            turn.tools = [*turn.tools, use]
        else:
            turn.tools = [_with_result(use, frame) for use in turn.tools]

    def _end(self, frame: frames.Response | frames.Error) -> None:
        turn = self._open(frame, frame.turn_id)
        cursor = self._record(frame, frame.cursor or "", ends=turn)
        if isinstance(frame, frames.Response):
            _check_whole(turn, frame.content, saved_only=frame.status == "cancelled")
            turn.text, turn.status = frame.content, frame.status
            turn.thought = frame.thought or turn.thought
        else:
            _check_whole(turn, frame.partial or "", saved_only=frame.code == "turn_interrupted")
            turn.text, turn.status = frame.partial or "", "failed"
            turn.code, turn.reason = frame.code, frame.content
        turn.skipped = 0
        self._at = cursor
        if turn is self._speaker:
            self._speaker = None
            self.agent_typing = False
        if turn.turn_id == self.running:
            self.running = None
        self._leave_queue(turn.turn_id)

    def _session(self, frame: frames.Session) -> None:
        if frame.expires_at is not None:
            self.expires_at = frame.expires_at
        if frame.status in ("closed", "expired"):
            for turn in self._known.values():
                if not turn.over:  # it ended too, but the log went before a reader who lagged was told
                    turn.status = "cancelled"
            self.detach()
            self.ended = frame.status
            self.running = self._speaker = None
            self.queue = []

    def _leave_queue(self, turn_id: str) -> None:
        self.queue = [waiting for waiting in self.queue if waiting != turn_id]

    # ── What is checked of many frames ──────────────────────────────────────────────────────────────────────

    def _open(self, frame: frames.ServerFrame, turn_id: str | None) -> Turn:
        """The turn of `frame`, which was told of before and is not over."""
        turn = self._known.get(turn_id or "")
        if turn is None and turn_id and self._strangers != "refused":
            turn = self._stranger(turn_id)
        if turn is None:
            raise OutOfOrder(f"{_kind(frame)} of turn {turn_id} came, whose message was not shown.")
        if turn.over:
            raise OutOfOrder(f"{_kind(frame)} of turn {turn_id} came after it was over ({turn.status}).")
        return turn

    def _speaking(self, frame: frames.ServerFrame, turn_id: str) -> Turn:
        """The turn of `frame`, which shows that it runs; then no other does."""
        turn = self._open(frame, turn_id)
        if self._speaker is None:
            turn.skipped = self._offset
        elif self._speaker is not turn:
            raise OutOfOrder(f"{_kind(frame)} of {turn_id} came before {self._speaker.turn_id} was over.")
        self._speaker = turn
        self.running = turn_id
        turn.status = "running"
        self._leave_queue(turn_id)
        return turn

    def _record(self, frame: frames.ServerFrame, text: str, *, ends: Turn | None = None) -> Cursor:
        """The cursor of a record: further in the log; in the text where it was, or at 0 if that is over."""
        assert self._at is not None, "attached comes first"
        if _parsed(text).seq == self._at.seq:
            raise OutOfOrder(f"{_kind(frame)} at {text} came to a reader at {self.cursor}.")
        offset = 0 if ends is not None and ends is self._speaker else self._offset
        return self._moved(frame, text, offset, 0)

    def _moved(self, frame: frames.ServerFrame, text: str, *offsets: int) -> Cursor:
        """The cursor of `frame`, if it leads on from where this reader stands, to one of `offsets`."""
        assert self._at is not None, "attached comes first"
        cursor = _parsed(text)
        if cursor.epoch != self._at.epoch or cursor.seq < self._at.seq:
            raise OutOfOrder(f"{_kind(frame)} at {text} came to a reader at {self.cursor}.")
        if cursor.offset not in offsets:
            raise OutOfOrder(f"{_kind(frame)} came with offset {cursor.offset} instead of {offsets[0]}.")
        return cursor

    @property
    def _offset(self) -> int:
        return self._at.offset if self._at else 0


def _parsed(text: str) -> Cursor:
    cursor = parse_cursor(text)
    if cursor is None:
        raise OutOfOrder(f"{text!r} came as a cursor, which is epoch.seq.offset.")
    return cursor


def _with_result(use: frames.ToolUse, result: frames.ToolResult) -> frames.ToolUse:
    if use.tool_call_id != result.tool_call_id:
        return use
    return replace(use, content=result.content, is_error=result.is_error)


def _check_whole(turn: Turn, whole: str, *, saved_only: bool = False) -> None:
    """Does `whole` go on from what was shown of the turn? If only what was saved is known, it may be less."""
    rest = whole[turn.skipped :]
    if not (rest.startswith(turn.text) or (saved_only and turn.text.startswith(rest))):
        raise OutOfOrder(f"Turn {turn.turn_id} ended with other text than the {turn.shown} characters shown.")
    if turn.place > len(whole):
        raise OutOfOrder(f"Turn {turn.turn_id} ended at {len(whole)}, before its tool at {turn.place}.")


def _kind(frame: frames.ServerFrame) -> str:
    return str(frame.__struct_config__.tag)
