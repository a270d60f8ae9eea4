"""One follower's place in one session's log, and what it is sent next."""

from __future__ import annotations

from collections import deque
from typing import Literal

from protocol import codec, frames
from protocol.cursor import format_cursor
from protocol.records import Entry, Failed, Record, Response, Started, ToolCall, ToolResult

from .log import Log
from .text import Text

__all__ = ["Reader"]


class Reader:
    """How far one follower has been sent one log. A slow one is just a reader that lags: catching up, late
    joining, resuming and coalescing are all the same `read`.

    Its owner sets `opening` (the `attached` frame), calls `read` whenever it may write, and gives it a `page`
    from the store when it `lags`.
    """

    __slots__ = (
        "_caught_up",
        "_deltas",
        "_noticed",
        "_text",
        "_thought_at",
        "_told_agent",
        "_told_user",
        "expiring",
        "log",
        "offset",
        "opening",
        "others",
        "owed",
        "owner",
        "page",
        "ready",
        "seq",
        "told_end",
    )

    def __init__(self, log: Log, owner: object, seq: int, offset: int = 0) -> None:
        self.log = log
        self.owner = owner
        """Whose user's typing it is not told of."""
        self.seq = seq
        self.offset = offset
        """Characters sent of the text of the turn that runs at `seq`."""
        self.others = 0
        """Frames it was sent that were no deltas, since its owner last counted them. Of deltas there are too
        many to count each."""
        self._deltas = 0
        self.opening: bytes | None = None
        self.expiring: bytes | None = None
        """Goes with the opening: the session was said to expire soon before this reader came."""
        self.page: deque[Entry] | None = None
        self.ready = False
        """Its owner knows that there is news."""
        self.owed: Text | None = None
        """The text of a turn that ended while this reader kept up."""
        self.told_end = False
        """The session is over and so is this reader."""
        text = log.text
        self._text = text if text is not None and text.started_seq <= seq else None
        self._thought_at = text.thought.length if text is not None and text.thought is not None else 0
        self._noticed = log.told
        self._caught_up = False
        self._told_agent = False
        self._told_user = False

    @property
    def congested(self) -> bool:
        """Does the owner wait for the socket?"""
        return False

    def wake(self) -> None:
        """There is news: called once until `ready` is false again."""
        self.ready = True

    @property
    def lags(self) -> bool:
        """What comes next is in the store only: it wants a `page`."""
        return self.seq < self.log.base and not self.page and self.log.ended is None

    @property
    def cursor(self) -> str:
        """Where it stands."""
        return format_cursor(self.log.epoch, self.seq, self.offset)

    def meet(self, text: Text | None) -> None:
        """The log took up the running turn's text anew."""
        if text is not None and text.started_seq <= self.seq:
            self._text = text

    def read(self, out: list[bytes], budget: int, max_delta: int) -> int:
        """Put what comes next into `out`, about `budget` bytes, and answer how many. Fewer than `budget` mean
        that there is no more to be had now. One delta has at most `max_delta` characters."""
        log = self.log
        spent = 0
        if self.opening is not None:
            self.others += 1
            out.append(self.opening)
            spent = len(self.opening)
            self.opening = None
            if self.expiring is not None:
                self.others += 1
                out.append(self.expiring)
                spent += len(self.expiring)
                self.expiring = None
        text = self._text
        if (
            self._told_agent
            and text is not None
            and text is log.text
            and self.seq == log.seq
            and text.thought is None
            and log.typing is None
            and log.ended is None
            and log.told == self._noticed
            and self.offset < text.length <= self.offset + max_delta
            and not self._told_user
        ):
            # The way of nearly every delta: nothing but new text since the last time.
            frame = text.delta(self.seq, self.offset, text.length)
            self.offset = text.length
            out.append(frame)
            return spent + len(frame)
        before = len(out)
        while spent < budget:
            if self.seq == log.seq:
                size = self._read_live(out, max_delta)
                if size == 0:
                    break
                spent += size
            elif self.page or self.seq >= log.base:
                spent += self._read_record(out, max_delta)
            elif log.ended is not None:
                self.seq = log.seq  # what was to be read is deleted
            else:
                break
        self.others += len(out) - before - self._deltas
        self._deltas = 0
        return spent

    def _read_record(self, out: list[bytes], max_delta: int) -> int:
        """The next record, or first some of the text that comes before it."""
        log = self.log
        if self.page:
            record: Record = self.page[0].record
            shared = codec.Shared(record, log.session_id)
        else:
            record, shared = log.record(self.seq + 1)
        text = self._text
        size = 0
        match record:
            case Started():
                self._enter(record.turn_id)
            case ToolCall() | ToolResult() if text is not None and text.turn_id == record.turn_id:
                if self.offset < min(record.at, text.length) and (text is log.text or text is self.owed):
                    return self._delta(out, text, record.at, max_delta)
            case Response() | Failed() if text is not None and text.turn_id == record.turn_id:
                if text is self.owed and self.offset < text.length:
                    return self._delta(out, text, text.length, max_delta)
                size = self._leave(out, text)
            case _:
                pass
        if self.page:
            self.page.popleft()
        self.seq += 1
        frame = shared.at(log.epoch, self.seq, self.offset)
        if frame is not None:
            out.append(frame)
            size += len(frame)
        return size

    def _enter(self, turn_id: str) -> None:
        """The reader comes to where that turn started."""
        self.offset = self._thought_at = 0
        self._text = None
        for text in (self.log.text, self.owed):
            if text is not None and text.turn_id == turn_id:
                self._text = text

    def _leave(self, out: list[bytes], text: Text) -> int:
        """The reader comes to where that turn ended."""
        self.offset = 0
        self._text = self.owed = None
        if not self._told_agent:
            return 0
        return self._tell_agent(out, text, "stop")

    def _read_live(self, out: list[bytes], max_delta: int) -> int:
        """What is going on now, past the last record."""
        log, text = self.log, self._text
        size = 0
        if text is not None and text is log.text:
            if self._caught_up:
                if not self._told_agent:
                    size += self._tell_agent(out, text, "start")
                if text.thought is not None and self._thought_at < text.thought.length:
                    size += self._thought(out, text, text.thought.length, max_delta)
            if self.offset < text.length:
                return size + self._delta(out, text, text.length, max_delta)
            if not self._told_agent:
                size += self._tell_agent(out, text, "start")
        self._caught_up = True
        if log.typing is not None or self._told_user:
            size += self._tell_user(out)
        if log.told != self._noticed:
            size += self._tell_notices(out)
        if log.ended is not None and not self.told_end:
            self.told_end = True
            out.append(log.ending)
            size += len(log.ending)
        return size

    def _tell_notices(self, out: list[bytes]) -> int:
        missed = [*(self.log.notices or ())][self._noticed - self.log.told :]
        self._noticed = self.log.told
        out += missed
        return sum(map(len, missed))

    def _delta(self, out: list[bytes], text: Text, stop: int, max_delta: int) -> int:
        stop = min(stop, text.length, self.offset + max_delta)
        frame = text.delta(self.seq, self.offset, stop)
        self.offset = stop
        self._deltas += 1
        out.append(frame)
        return len(frame)

    def _thought(self, out: list[bytes], text: Text, stop: int, max_delta: int) -> int:
        stop = min(stop, self._thought_at + max_delta)
        frame = text.thought_delta(self._thought_at, stop)
        self._thought_at = stop
        self._deltas += 1
        out.append(frame)
        return len(frame)

    def _tell_agent(self, out: list[bytes], text: Text, state: Literal["start", "stop"]) -> int:
        self._told_agent = state == "start"
        return _put(out, frames.Typing(self.log.session_id, state, "agent", text.turn_id))

    def _tell_user(self, out: list[bytes]) -> int:
        typing = any(owner is not self.owner for owner in self.log.typing or ())
        if typing == self._told_user:
            return 0
        self._told_user = typing
        return _put(out, frames.Typing(self.log.session_id, "start" if typing else "stop", "user"))


def _put(out: list[bytes], frame: frames.ServerFrame) -> int:
    data = codec.encode(frame)
    out.append(data)
    return len(data)
