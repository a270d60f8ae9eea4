"""The tail of one live session: what its readers still have to be told, and where each of them stands.

Nothing is ever queued for a reader. A slow one is a `Reader` that lags; catching up, late joining, resuming
and coalescing are all the same `read`. What is not in memory any more, its owner fetches from the store as a
page.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, Protocol

from protocol import codec
from protocol.records import Failed, Record, Response, Started

from .text import Text

__all__ = ["Follower", "Log"]

_NOTICES = 16
"""Notices kept for readers who wait for their sockets."""


class Follower(Protocol):
    """What a log knows of a reader."""

    seq: int
    """The last record it was sent."""
    ready: bool
    """It was woken and has not read to the end since."""
    owed: Text | None
    """The text of a turn that ended while it kept up: it still gets what it has not got of that."""

    @property
    def congested(self) -> bool:
        """Does its owner wait for the socket?"""
        ...

    def wake(self) -> None:
        """There is news."""
        ...

    def meet(self, text: Text | None) -> None:
        """The running turn's text was taken up anew."""
        ...


class Log:
    """The newest records of one session, as far as somebody follows it, and the text of its running turn."""

    __slots__ = (
        "_bytes",
        "agent",
        "base",
        "ended",
        "ending",
        "epoch",
        "kept",
        "notices",
        "readers",
        "seq",
        "session_id",
        "text",
        "told",
        "typing",
    )

    def __init__(self, session_id: str, agent: str) -> None:
        self.session_id = session_id
        self.agent = agent
        self.epoch = ""
        self.seq = 0
        """The newest record's number."""
        self.base = 0
        """Records up to here are in the store only."""
        self.text: Text | None = None
        """Of the turn that runs."""
        self.readers: list[Follower] = []
        self.typing: dict[object, float] | None = None
        """Which readers' users are typing, and until when (loop time)."""
        self.told = 0
        """How many notices there were of the session's life."""
        self.notices: deque[bytes] | None = None
        """The newest of them, as frames."""
        self.ended: Literal["closed", "expired"] | None = None
        self.ending = b""
        """The frame that tells of its end."""
        self.kept: list[tuple[Record, codec.Shared]] | None = None
        """The records past `base`, if there are any that not every reader has been sent."""
        self._bytes = 0

    def start(self, epoch: str, seq: int) -> None:
        """Take up the log as the store has it."""
        self.epoch = epoch
        self.seq = seq
        self._forget()

    def append(self, record: Record, tail_bytes: int) -> None:
        """The next record is durable; `wake` tells the readers. Of what they have not been sent, at most
        about `tail_bytes` are kept here."""
        self.seq += 1
        match record:
            case Started():
                self.text = Text(self.epoch, self.session_id, record.turn_id, self.seq)
            case Response() | Failed() if self.text is not None and self.text.turn_id == record.turn_id:
                if isinstance(record, Response) and self.text.length < len(record.content):
                    self.text.extend(record.content[self.text.length :])  # another process ran it
                self.text.close()
                for reader in self.readers:
                    # Who kept up gets the rest of the text before its end; who did not, gets the whole with
                    # it.
                    reader.owed = None if reader.congested else self.text
                self.text = None
            case _:
                pass
        if all(reader.congested for reader in self.readers):
            self._forget()  # nobody is there to be told now: who comes to it later reads it from the store
            return
        shared = codec.Shared(record, self.session_id)
        if self.kept is None:
            self.kept = []
        self.kept.append((record, shared))
        self._bytes += shared.size
        if self._bytes > tail_bytes:
            self._let_go(tail_bytes)

    def extend(self, piece: str) -> None:
        """The running turn wrote `piece`. A plain call: it is on the path of every token."""
        text = self.text
        if text is not None:
            text.extend(piece)
            for reader in self.readers:
                if not reader.ready:
                    reader.wake()

    def wake(self) -> None:
        """There is news: every reader's owner is told, once until it has read."""
        for reader in self.readers:
            if not reader.ready:
                reader.wake()

    def tell(self, notice: bytes) -> None:
        """Something of the session's life, for those who follow now; a frame. Who lags far misses the
        oldest."""
        self.notices = self.notices or deque(maxlen=_NOTICES)
        self.notices.append(notice)
        self.told += 1
        self.wake()

    def end(self, status: Literal["closed", "expired"], notice: bytes) -> None:
        """The session is over; readers are told by this frame, and read no further."""
        self.ended = status
        self.ending = notice
        self.wake()

    def adopt(self, text: Text | None) -> None:
        """The running turn's text as the store has it: another process runs it, or this one forgot."""
        self.text = text
        for reader in self.readers:
            reader.meet(text)

    def set_typing(self, owner: object, until: float | None) -> None:
        """The user at `owner` is typing until then (loop time), or not any more."""
        if until is not None:
            self.typing = {**(self.typing or {}), owner: until}
        elif self.typing is not None and owner in self.typing:
            self.typing = {other: when for other, when in self.typing.items() if other is not owner} or None
        else:
            return
        self.wake()

    def is_typing(self, owner: object, now: float) -> bool:
        """Is the user at `owner` typing at `now` (loop time)?"""
        return self.typing is not None and self.typing.get(owner, now) > now

    def stop_typing(self, now: float) -> None:
        """Users who have said nothing more for too long are not typing any more."""
        for owner, until in (self.typing or {}).items():
            if until <= now:
                self.set_typing(owner, None)

    def record(self, seq: int) -> tuple[Record, codec.Shared]:
        """The record numbered `seq`, which is in memory."""
        assert self.kept is not None
        return self.kept[seq - self.base - 1]

    def release(self) -> None:
        """Forget the records that every reader has been sent. Only worth it while there are few to ask."""
        if len(self.readers) <= 16 and all(reader.seq == self.seq for reader in self.readers):
            self._forget()

    def _forget(self) -> None:
        self.base = self.seq
        self.kept = None
        self._bytes = 0

    def _let_go(self, tail_bytes: int) -> None:
        gone = 0
        assert self.kept is not None
        # The newest record stays, however large: the readers who are at its heels are about to ask for it.
        while self._bytes > tail_bytes // 2 and gone < len(self.kept) - 1:
            self._bytes -= self.kept[gone][1].size
            gone += 1
        del self.kept[:gone]
        self.base += gone
