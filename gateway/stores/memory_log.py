"""One session's log in memory: its records, the index of its turns, and the running turn's text.

Nothing here knows a second session or decides whether an append may happen: `MemoryStore` does. What grows
with a conversation is made when it has begun, so that a session nobody spoke in yet stays small.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

import structlog
from msgspec import Struct, json

from gateway.interfaces import NOTHING, Direction, Head, Info, KnownTurn, Said
from protocol.history import Status, cut, outcome, unsaved
from protocol.lifetime import Life
from protocol.records import (
    UNREADABLE,
    Entry,
    Failed,
    Message,
    Record,
    Response,
    Started,
    ToolCall,
    ToolResult,
    content_hash,
    decode_record,
    encode_record,
    stand_in,
)

__all__ = ["Log"]

logger = structlog.get_logger("gateway.store")

_SHOWN = (Message, Response, Failed)


class Turn(Struct, gc=False):
    """What the index knows of one turn. Numbers are seqs."""

    seq: int
    content_hash: str
    status: Status = "waiting"
    started: int | None = None
    ended: int | None = None
    ended_at: float = 0.0
    hidden: int | None = None
    """The message that replaced it."""


class Log:
    """A session. `records[0]` has the seq `first`; earlier ones were trimmed."""

    __slots__ = (
        "_beside",
        "_pieces",
        "_records",
        "_said",
        "_turns",
        "created_at",
        "epoch",
        "first",
        "key",
        "label",
        "life",
        "node",
        "running",
        "saved",
        "seq",
        "shown",
        "tag",
        "updated_at",
        "waiting",
    )

    def __init__(self, epoch: str, info: Info) -> None:
        self.key = info.key
        self.created_at = info.created_at
        self.updated_at = info.updated_at
        self.label = info.label
        self.keep_beside(info)
        self.epoch = epoch
        self.seq = 0
        self.tag = ""
        self.first = 1
        self.shown = 0
        """How many messages the history shows."""
        self.running: str | None = None
        """The running turn, and below it the node that runs it: None once that node is gone."""
        self.node: str | None = None
        self.waiting = 0
        self._records: list[bytes] | None = None
        self._said: list[int] | None = None
        self._turns: dict[str, Turn] | None = None
        self._pieces: list[str] | None = None
        self.saved = 0
        """How many characters of the running turn's text are kept."""

    @property
    def head(self) -> Head:
        return Head(self.epoch, self.seq, self.tag)

    @property
    def busy(self) -> bool:
        return self.running is not None or self.waiting > 0

    def describe(self) -> Info:
        state, metadata = json.decode(self._beside) if self._beside else (NOTHING, NOTHING)
        return Info(
            self.key,
            self.created_at,
            self.updated_at,
            self.label,
            state or NOTHING,
            metadata or NOTHING,
            self.life,
        )

    def keep_beside(self, info: Info) -> None:
        """Take over the state, the metadata and the life."""
        self._beside = json.encode((info.state, info.metadata)) if info.state or info.metadata else b""
        self.life: Life | None = info.life

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────────────────

    def extend(self, tag: str, records: Sequence[Record], bodies: list[bytes]) -> None:
        """Append `records`, of which `bodies` is the JSON."""
        self.tag = tag
        if bodies:
            self._records = self._records or []
            self._records.extend(bodies)
            self.updated_at = records[-1].created_at
        for record in records:
            self.seq += 1
            self._index(record)

    def write(self, offset: int, text: str) -> bool:
        """Add what is not there yet to the running turn's text, if one runs. Was there anything to add?"""
        fresh = unsaved(self.saved, offset, text) if self.running is not None else ""
        if fresh:
            self._pieces = self._pieces or []
            self._pieces.append(fresh)
            self.saved += len(fresh)
        return fresh != ""

    def abandon(self, node: str) -> None:
        """That node is gone, and does not run this log's turn any more even if one of its name comes back."""
        if self.node == node:
            self.node = None

    def trim(self, young: float | None, keep: int | None) -> int:
        """Let go of records older than `young` (Unix seconds) or beyond the newest `keep`; how many went."""
        target = 0 if keep is None else self.seq - keep
        if young is not None:
            target = max(target, self._last_before(young))
        begun = (
            (turn.seq, turn.ended) for turn in reversed(self._index_of_turns.values()) if turn.seq <= target
        )
        last = cut(target, begun)
        if last < self.first or self._records is None:
            return 0
        gone = last + 1 - self.first
        self.shown -= self._shown(self.first, last)
        del self._records[:gone]
        if self._said is not None:
            del self._said[: bisect_right(self._said, last)]
        self.first = last + 1
        return gone

    def forget_turns(self, before: float) -> None:
        """Let go of turns whose records went, if they ended by then (Unix seconds)."""
        if self._turns is not None and self.first > 1:
            old = [
                turn_id
                for turn_id, turn in self._turns.items()
                if turn.seq < self.first and turn.ended_at <= before
            ]
            for turn_id in old:
                del self._turns[turn_id]

    def _index(self, record: Record) -> None:
        match record:
            case Message():
                self._begin(record)
            case Started() if (turn := self._turn(record.turn_id)) and turn.status == "waiting":
                turn.status, turn.started = "running", self.seq
                self.waiting -= 1
                self.running, self.node = record.turn_id, record.node
            case Response() | Failed() if (turn := self._turn(record.turn_id)) and turn.ended is None:
                turn.status, turn.ended, turn.ended_at = outcome(record), self.seq, record.created_at
                self._end(record.turn_id)
                self._say(shown=turn.hidden is None)

    def _begin(self, message: Message) -> None:
        if message.replaces is not None:
            self._hide(message.replaces)
        self._turns = {} if self._turns is None else self._turns
        self._turns[message.turn_id] = Turn(self.seq, content_hash(message.content, message.parts))
        self.waiting += 1
        self._say(shown=True)

    def _hide(self, turn_id: str) -> None:
        """That turn and all after it give way to the message that is appended now."""
        if (replaced := self._turn(turn_id)) is None:
            return
        self.shown -= self._shown(max(replaced.seq, self.first), self.seq)
        for turn in self._index_of_turns.values():
            if turn.seq >= replaced.seq and turn.hidden is None:
                turn.hidden = self.seq

    def _end(self, turn_id: str) -> None:
        if self.running == turn_id:
            self.running = self.node = self._pieces = None
            self.saved = 0
        else:
            self.waiting -= 1

    def _say(self, shown: bool) -> None:
        self._said = self._said or []
        self._said.append(self.seq)
        self.shown += shown

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────

    def text(self) -> str:
        """What is kept of the running turn's text."""
        return "".join(self._pieces or ())

    def known(self, turn_id: str) -> KnownTurn | None:
        turn = self._turn(turn_id)
        if turn is None:
            return None
        return KnownTurn(turn_id, turn.seq, turn.content_hash, turn.status, self._stands(turn) or turn_id)

    def after(self, seq: int) -> Iterator[tuple[int, Entry]]:
        """The records after `seq` with their size in bytes."""
        for place in range(max(seq + 1, self.first), self.seq + 1):
            size, record = self._read(place)
            yield size, Entry(place, record)

    def open_entries(self) -> list[Entry]:
        """The records of turns that are not over."""
        if not self.busy:
            return []
        begun = {turn_id: turn.seq for turn_id, turn in self._index_of_turns.items() if turn.ended is None}
        since = self.after(min(begun.values()) - 1)
        return [entry for _, entry in since if getattr(entry.record, "turn_id", None) in begun]

    def said(
        self, position: int | None, direction: Direction, as_of: int | None
    ) -> Iterator[tuple[int, Said]]:
        """The messages of the history with their size in bytes: from `position` on, in that direction."""
        said = self._said or []
        end = self.seq if as_of is None else as_of
        if direction == "before":
            newest = bisect_left(said, end + 1 if position is None else min(position, end + 1))
            seqs = said[:newest][::-1]
        else:
            oldest = bisect_right(said, position or 0)
            seqs = said[oldest : bisect_right(said, end)]
        for seq in seqs:
            size, record = self._read(seq)
            if not isinstance(record, _SHOWN):
                size, record = self._mend(seq, "misplaced")
                assert isinstance(record, _SHOWN)
            turn = self._index_of_turns[record.turn_id]
            if turn.hidden is None or turn.hidden > end:
                more, tools = (0, []) if isinstance(record, Message) else self._tools(record.turn_id, turn)
                yield size + more, Said(seq, record, tools)

    def _tools(self, turn_id: str, turn: Turn) -> tuple[int, list[ToolCall | ToolResult]]:
        size, tools = 0, []
        for seq in range((turn.started or turn.seq) + 1, turn.ended or 0):
            more, record = self._read(seq)
            if isinstance(record, ToolCall | ToolResult) and record.turn_id == turn_id:
                size += more
                tools.append(record)
        return size, tools

    def _stands(self, turn: Turn) -> str | None:
        turns = self._index_of_turns.items()
        return next((name for name, one in turns if one.seq >= turn.seq and one.hidden is None), None)

    def _shown(self, first: int, last: int) -> int:
        """How many messages of the turns that begin in that range the history shows."""
        turns = (turn for turn in self._index_of_turns.values() if first <= turn.seq <= last)
        return sum(1 + (turn.ended is not None) for turn in turns if turn.hidden is None)

    def _turn(self, turn_id: str) -> Turn | None:
        return self._index_of_turns.get(turn_id)

    @property
    def _index_of_turns(self) -> dict[str, Turn]:
        """In the order in which the turns begin."""
        return self._turns or {}

    def _last_before(self, young: float) -> int:
        """The last of the oldest records that are all older than `young`."""
        last = self.first - 1
        while last < self.seq and self._read(last + 1)[1].created_at < young:
            last += 1
        return last

    def _read(self, seq: int) -> tuple[int, Record]:
        """A record, with its size in bytes; if it cannot be read, what takes its place."""
        assert self._records is not None
        body = self._records[seq - self.first]
        try:
            return len(body), decode_record(body)
        except UNREADABLE as error:
            return self._mend(seq, type(error).__name__)

    def _mend(self, seq: int, why: str) -> tuple[int, Record]:
        """Keep something else in the place of a record that cannot be read; so that is logged once."""
        session_id, agent = self.key.session_id, self.key.agent
        logger.error("a record cannot be read", session_id=session_id, agent=agent, seq=seq, why=why)
        record = self._stand_in(seq)
        body = encode_record(record)
        assert self._records is not None
        self._records[seq - self.first] = body
        return len(body), record

    def _stand_in(self, seq: int) -> Record:
        for turn_id, turn in self._index_of_turns.items():
            if seq == turn.seq:
                return stand_in("message", turn_id, self.updated_at)
            if seq == turn.started:
                return stand_in("started", turn_id, self.updated_at)
            if seq == turn.ended:
                return stand_in("ended", turn_id, turn.ended_at)
        return stand_in(None, "", self.updated_at)
