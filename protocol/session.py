"""The rules of a session: `decide(state, command)` says which records follow, `evolve(state, record)` what
they mean.

A session runs one turn at a time; others wait. Nothing here waits, reads a clock or knows a store: what a
decision needs and the state does not hold (a turn that is long over) is asked for with `Lookup` and passed in
as `known`. The pattern is the Decider (Jérémie Chassaing).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from .errors import Refused
from .frames import OnBusy, TurnStatus
from .records import (
    CancelRequested,
    Entry,
    Event,
    Failed,
    Message,
    Record,
    Response,
    Started,
    Terminal,
    Timing,
    ToolCall,
    ToolResult,
    content_hash,
)

__all__ = [
    "IDLE",
    "Accepted",
    "Cancel",
    "Close",
    "Command",
    "Decided",
    "End",
    "KnownTurn",
    "Lookup",
    "Note",
    "Running",
    "Send",
    "Settle",
    "State",
    "UseTool",
    "decide",
    "evolve",
    "fold",
]

# ── State ───────────────────────────────────────────────────────────────────────────────────────────────────


class Running(NamedTuple):
    """The turn that runs."""

    message: Message
    started_seq: int
    node: str
    """Which process runs it."""
    behind: tuple[str, ...] = ()
    """The turns that waited when it started."""
    cancelling: bool = False

    @property
    def turn_id(self) -> str:
        return self.message.turn_id


class State(Struct, frozen=True, gc=False):
    """What the log says of turns that are not over. `seq` is that of the last record folded in.

    There is one for every live session; like all these values it holds no cycle, and is nothing to a
    collector.
    """

    seq: int = 0
    running: Running | None = None
    waiting: tuple[Message, ...] = ()
    """In the order in which they will run."""

    @property
    def busy(self) -> bool:
        return self.running is not None or bool(self.waiting)


IDLE = State()


def evolve(state: State, record: Record) -> State:
    """The state after `record`, which is the next one in the log."""
    seq, running, waiting = state.seq + 1, state.running, state.waiting
    match record:
        case Message(interrupts=True):
            return State(seq, running, (record, *waiting))
        case Message():
            return State(seq, running, (*waiting, record))
        case Started():
            message = next(message for message in waiting if message.turn_id == record.turn_id)
            rest = tuple(other for other in waiting if other is not message)
            return State(seq, Running(message, seq, record.node, record.behind), rest)
        case CancelRequested():
            if running is not None and running.turn_id == record.turn_id:
                running = running._replace(cancelling=True)
            return State(seq, running, waiting)
        case Response() | Failed():
            if running is not None and running.turn_id == record.turn_id:
                return State(seq, None, waiting)
            return State(seq, running, tuple(other for other in waiting if other.turn_id != record.turn_id))
        case _:
            return State(seq, running, waiting)


def fold(entries: Iterable[Entry], head_seq: int) -> State:
    """The state at `head_seq`, from the records of the turns that are not over there."""
    state = IDLE
    for seq, record in entries:
        state = evolve(replace(state, seq=seq - 1), record)
    return replace(state, seq=head_seq)


# ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────


class Send(Struct, frozen=True):
    """A user's message."""

    turn_id: str
    content: str
    on_busy: OnBusy = "enqueue"
    replaces: str | None = None
    metadata: dict[str, Any] | None = None
    parts: list[Any] | None = None
    state_delta: dict[str, Any] | None = None
    """What it sets in the session's state."""


class Note(Struct, frozen=True):
    """Something is said or set outside any turn."""

    event: Event
    state_delta: dict[str, Any] | None = None
    """What it sets in the session's state."""


class Cancel(Struct, frozen=True):
    """Stop that turn, or the one that runs."""

    turn_id: str | None = None


class UseTool(Struct, frozen=True):
    """The running turn called a tool, or got its result."""

    record: ToolCall | ToolResult


class End(Struct, frozen=True):
    """The running turn is over, in these words."""

    record: Terminal


class Settle(Struct, frozen=True):
    """Look whether something was left behind: a turn whose process is gone, a waiting turn and none that
    runs."""

    orphan: str | None = None
    """The running turn of which the caller knows that nobody runs it any more."""
    text: str = ""
    """What was saved of it."""


class Close(Struct, frozen=True):
    """The session ends: every turn does, waiting ones too. `text` is the running turn's; None if it runs
    elsewhere, and is asked to stop there first: only who runs it knows all that was shown of it."""

    text: str | None = ""


Command: TypeAlias = Send | Note | Cancel | UseTool | End | Settle | Close


class KnownTurn(NamedTuple):
    """What is known of a turn, for as long as its records are kept and at least 24 h."""

    turn_id: str
    seq: int
    """Of its message."""
    content_hash: str
    status: Literal["waiting", "running", "completed", "cancelled", "failed"]
    stands: str
    """The first turn at or after this one that has not been replaced; itself, if it has not."""


# ── Decisions ───────────────────────────────────────────────────────────────────────────────────────────────


class Accepted(NamedTuple):
    """The answer to `Send` and `Cancel`."""

    turn_id: str | None = None
    status: TurnStatus | None = None
    duplicate: bool = False


class Decided(NamedTuple):
    """Append these records, then answer so."""

    records: tuple[Record, ...]
    answer: Accepted = Accepted()


class Lookup(NamedTuple):
    """Decide again, with what is known of this turn."""

    turn_id: str


def decide(
    state: State,
    command: Command,
    *,
    now: float,
    node: str,
    known: Mapping[str, KnownTurn | None],
    max_waiting: int = 16,
    start: bool = True,
    waited: Mapping[str, float] = {},
) -> Decided | Lookup:
    """What follows from `command` at time `now` (Unix seconds), decided on `node`. Raises `Refused`.

    `known` holds what was looked up since the state was read, None for turns that the session never saw.
    Without `start` (a node that stops) nothing new is started: it waits for the next one. `waited` says for
    how many seconds turns have waited, of those of which it is known better than by their `created_at`.
    """
    match command:
        case Send():
            decision = _send(state, command, now, known, max_waiting, waited)
        case Note(event=event):
            decision = Decided((event,))
        case Cancel():
            decision = _cancel(state, command, now, known, waited)
        case UseTool(record=tool):
            decision = Decided((tool,) if _may_speak(state, tool.turn_id) else ())
        case End(record=terminal):
            decision = Decided(_end(state, terminal))
        case Settle():
            decision = Decided(_settle(state, command, now))
        case Close():
            decision = Decided(_close(state, command, now, waited))
    if start and isinstance(decision, Decided) and not isinstance(command, Close):
        return _start_next(state, decision, now, node)
    return decision


def _start_next(state: State, decision: Decided, now: float, node: str) -> Decided:
    """Whatever was decided: if then nothing runs and something waits, the first of those starts."""
    for record in decision.records:
        state = evolve(state, record)
    if state.running is not None or not state.waiting:
        return decision
    turn_id, *behind = [message.turn_id for message in state.waiting]
    answer = decision.answer
    if answer.turn_id == turn_id and answer.status == "queued":
        answer = answer._replace(status="started")
    return Decided((*decision.records, Started(turn_id, node, now, tuple(behind))), answer)


def _send(
    state: State,
    send: Send,
    now: float,
    known: Mapping[str, KnownTurn | None],
    max_waiting: int,
    waited: Mapping[str, float],
) -> Decided | Lookup:
    if (seen := _seen(state, send.turn_id, known)) is not None:
        return Decided((), _duplicate(send, *seen))
    try:
        return _accept(state, send, now, known, max_waiting, waited)
    except Refused as refusal:
        if send.turn_id not in known:  # it may have been accepted before, and then it is no refusal
            return Lookup(send.turn_id)
        refusal.turn_id = send.turn_id
        raise


def _accept(
    state: State,
    send: Send,
    now: float,
    known: Mapping[str, KnownTurn | None],
    max_waiting: int,
    waited: Mapping[str, float],
) -> Decided | Lookup:
    """A message whose turn the session has not seen."""
    if send.on_busy == "reject" and state.busy:
        raise Refused("session_busy", "A turn is running; wait for its end or send with another on_busy.")
    interrupted = _interrupted(state, now, waited) if send.on_busy == "interrupt" else ()
    others = len(state.waiting) - sum(isinstance(record, Response) for record in interrupted)
    if state.busy and others >= max_waiting:
        raise Refused("queue_full", f"{max_waiting} messages wait already; send it when one has ended.")
    replaced = None if send.replaces is None else _replaced(state, send.replaces, known)
    if isinstance(replaced, Lookup):
        return replaced
    message = Message(
        turn_id=send.turn_id,
        content=send.content,
        created_at=now,
        replaces=None if replaced is None else replaced.stands,
        interrupts=send.on_busy == "interrupt",
        metadata=send.metadata,
        parts=send.parts,
        state_delta=send.state_delta,
    )
    return Decided((*interrupted, message), Accepted(send.turn_id, "queued"))


def _seen(state: State, turn_id: str, known: Mapping[str, KnownTurn | None]) -> tuple[str, TurnStatus] | None:
    """`(content hash, status)` of a turn that the session has already."""
    if state.running is not None and state.running.turn_id == turn_id:
        return _hash(state.running.message), "started"
    for message in state.waiting:
        if message.turn_id == turn_id:
            return _hash(message), "queued"
    if (turn := known.get(turn_id)) is None:
        return None
    match turn.status:
        case "waiting":
            return turn.content_hash, "queued"
        case "running":
            return turn.content_hash, "started"
        case status:
            return turn.content_hash, status


def _hash(message: Message) -> str:
    return content_hash(message.content, message.parts)


def _duplicate(send: Send, seen_hash: str, status: TurnStatus) -> Accepted:
    if seen_hash != content_hash(send.content, send.parts):
        raise Refused(
            "turn_conflict",
            "This turn_id was used for another content; a new message needs a new turn_id.",
            turn_id=send.turn_id,
        )
    return Accepted(send.turn_id, status, duplicate=True)


def _interrupted(state: State, now: float, waited: Mapping[str, float]) -> tuple[Record, ...]:
    """What an interrupting message stops: the running turn, and waiting ones that came to interrupt it."""
    records: list[Record] = []
    if state.running is not None and not state.running.cancelling:
        records.append(CancelRequested(state.running.turn_id, now))
    records += [_cancelled(message, now, waited) for message in state.waiting if message.interrupts]
    return tuple(records)


def _replaced(state: State, turn_id: str, known: Mapping[str, KnownTurn | None]) -> KnownTurn | Lookup:
    live = state.waiting if state.running is None else (state.running.message, *state.waiting)
    if any(message.turn_id == turn_id for message in live):
        raise Refused("session_busy", "The turn to be replaced is not over; cancel it, or wait for its end.")
    if turn_id not in known:
        return Lookup(turn_id)
    turn = known[turn_id]
    if turn is None:
        raise Refused("turn_not_found", "replaces names no turn of this session.")
    return turn


def _cancel(
    state: State,
    cancel: Cancel,
    now: float,
    known: Mapping[str, KnownTurn | None],
    waited: Mapping[str, float],
) -> Decided | Lookup:
    running, turn_id = state.running, cancel.turn_id
    if running is not None and turn_id in (None, running.turn_id):
        records = () if running.cancelling else (CancelRequested(running.turn_id, now),)
        return Decided(records, Accepted(running.turn_id))
    for message in state.waiting:
        if message.turn_id == turn_id:
            return Decided((_cancelled(message, now, waited),), Accepted(turn_id))
    if turn_id is None:
        return Decided(())
    if turn_id not in known:
        return Lookup(turn_id)
    if known[turn_id] is None:
        raise Refused("turn_not_found", "There is no such turn in this session.", turn_id=turn_id)
    return Decided((), Accepted(turn_id))


def _may_speak(state: State, turn_id: str) -> bool:
    running = state.running
    return running is not None and running.turn_id == turn_id and not running.cancelling


def _end(state: State, terminal: Terminal) -> tuple[Record, ...]:
    running = state.running
    if running is None or running.turn_id != terminal.turn_id:
        return ()
    if not running.cancelling:
        return (terminal,)
    # Whoever asked to cancel was told ok: the turn ends as cancelled, also if it got to its own end first.
    if isinstance(terminal, Response):
        return (replace(terminal, status="cancelled", state_delta=None, state_undo=None),)
    return (Response(terminal.turn_id, terminal.partial, "cancelled", terminal.created_at),)


def _settle(state: State, settle: Settle, now: float) -> tuple[Record, ...]:
    running = state.running
    if running is None or running.turn_id != settle.orphan:
        return ()
    if running.cancelling:  # whoever asked for that was told ok
        return (Response(running.turn_id, settle.text, "cancelled", now),)
    return (
        Failed(
            turn_id=running.turn_id,
            content="The gateway that ran this turn stopped; send the message again.",
            code="turn_interrupted",
            retryable=True,
            partial=settle.text,
            created_at=now,
        ),
    )


def _close(state: State, close: Close, now: float, waited: Mapping[str, float]) -> tuple[Record, ...]:
    ended: list[Record] = [_cancelled(message, now, waited) for message in state.waiting]
    running = state.running
    if running is not None and close.text is not None:
        ended.insert(0, _cancelled(running.message, now, waited, close.text))
    elif running is not None and not running.cancelling:
        ended.append(CancelRequested(running.turn_id, now))
    return tuple(ended)


def _cancelled(message: Message, now: float, waited: Mapping[str, float], text: str = "") -> Response:
    seconds = waited.get(message.turn_id, now - message.created_at)
    ms = max(0, round(seconds * 1000))
    return Response(message.turn_id, text, "cancelled", now, timing=Timing(ms, None, ms))
