"""Potpie's view of a session: which turn is the run, how it stands, when it will be over, what a new one is
called.

A run is a turn, and its id the `turn_id`. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable
from statistics import median
from typing import Literal, NamedTuple, get_args

from .history import Status, outcome
from .ids import TurnId
from .records import Entry, Message, Started, Terminal

__all__ = [
    "POSITION",
    "START",
    "Position",
    "Run",
    "ended_run",
    "estimate",
    "free_number",
    "open_run",
    "parse_position",
    "run_id",
]


# ── Where a listener stands ─────────────────────────────────────────────────────────────────────────────────


class Position(NamedTuple):
    """How far a listener has heard a run: the records up to `seq`, and `offset` characters of its text. As
    text `seq-offset`, which looks like the id of an entry in a Redis stream."""

    seq: int
    offset: int

    def __str__(self) -> str:
        return f"{self.seq}-{self.offset}"


START = Position(0, 0)
"""Nothing was heard yet."""

# Twenty digits: as long as Redis writes them. int() of a hostile 5,000-digit string would be slow.
POSITION = r"^[0-9]{1,20}-[0-9]{1,20}$(?!\n)"
"""How a client writes one."""


def parse_position(text: str | None) -> Position:
    """The position that a text of that pattern spells; the start, if there is none."""
    if text is None:
        return START
    seq, _, offset = text.partition("-")
    return Position(int(seq), int(offset))


# ── Which run, and how it stands ────────────────────────────────────────────────────────────────────────────


class Run(NamedTuple):
    """One run, as far as the log tells."""

    run_id: str
    status: Status
    accepted_at: float
    active_at: float
    """When it last produced something; of one that is over, its end."""
    began_at: float | None = None
    """None: it has not begun, or that does not matter any more."""
    cursor: Position = START
    """From where its answer can be rebuilt: the start while it is active, else its end."""

    @property
    def active(self) -> bool:
        """It runs, or will."""
        return self.status in ("waiting", "running")

    @property
    def told_as(self) -> Literal["active", "completed", "idle"]:
        """Its status in Potpie's words."""
        if self.active:
            return "active"
        return "completed" if self.status == "completed" else "idle"


def open_run(entries: Iterable[Entry], named: str | None = None) -> Run | None:
    """The run that goes on, of the records of turns that are not over: the one that runs, else the first that
    waits; or the `named` one, if it is among them."""
    accepted: dict[str, float] = {}
    active: dict[str, float] = {}
    running: Started | None = None
    for _, record in entries:
        match record:
            case Message():
                accepted[record.turn_id] = record.created_at
            case Started():
                running = record
            case _:
                pass
        if (turn_id := getattr(record, "turn_id", None)) is not None:
            active[turn_id] = record.created_at
    chosen = named or (running.turn_id if running is not None else next(iter(accepted), None))
    if chosen is None or chosen not in accepted:
        return None
    if running is None or running.turn_id != chosen:
        return Run(chosen, "waiting", accepted[chosen], active[chosen])
    return Run(chosen, "running", accepted[chosen], active[chosen], running.created_at)


def ended_run(seq: int, terminal: Terminal, accepted_at: float) -> Run:
    """A run that is over, by its last record, which is numbered `seq`."""
    ended = Position(seq, 0)
    return Run(terminal.turn_id, outcome(terminal), accepted_at, terminal.created_at, cursor=ended)


def estimate(run: Run, durations: Collection[float], deadline: float, now: float) -> float:
    """When the run will be over, or was. `durations` are the seconds that the agent's newest runs took;
    where nothing was measured, it has `deadline` seconds."""
    if not run.active:
        return run.active_at
    began = now if run.began_at is None else run.began_at
    return max(now, began + (median(durations) if durations else deadline))


# ── What a new one is called ────────────────────────────────────────────────────────────────────────────────


_LONGEST: int = get_args(TurnId)[1].max_length


def run_id(user: str, previous: str | None, number: int) -> str:
    """What a run is called to which the client gave no id: by the user and the message before it; the first
    of that name (0) without a number."""
    suffix = f"-{number}" if number else ""
    return f"conversation:{user}:{previous or 'new'}"[: _LONGEST - len(suffix)] + suffix


def free_number() -> Generator[int, bool, int]:
    """A number that is not taken yet, where they are taken one after the other: yields the numbers to look
    up, is sent whether they are taken, and returns the free one. O(log n) questions."""
    taken, free = -1, 0
    while (yield free):
        taken, free = free, 2 * free + 1
    while free - taken > 1:
        middle = (taken + free) // 2
        if (yield middle):
            taken = middle
        else:
            free = middle
    return free
