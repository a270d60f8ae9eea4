"""One session followed by one connection, and how it comes to be followed."""

from __future__ import annotations

from collections import deque
from typing import Literal, Protocol

import structlog
from msgspec.structs import replace

from protocol import codec, frames
from protocol.cursor import Replay, Snapshot, resume
from protocol.errors import Refused
from protocol.records import Entry
from protocol.view import expiring, history_message

from .actor import Refresh
from .interfaces import Store
from .reader import Reader
from .runtime import Runtime
from .session import Session

__all__ = ["Attachment", "Owner", "Round"]

logger = structlog.get_logger("gateway.connection")

DEFAULT_HISTORY = 50
_PAGE = 100
"""Records read from the store at once, for a reader who lags."""


class Owner(Protocol):
    """The connection, as an attachment sees it."""

    @property
    def congested(self) -> bool:
        """It waits for its socket."""
        ...

    def news(self, attachment: Attachment) -> None:
        """That session has something to send."""
        ...


class Round:
    """The sessions of one `attach` frame, whose `ok` comes after the last `attached`."""

    __slots__ = ("_left", "_ok")

    def __init__(self, ok: frames.Ok, sessions: int) -> None:
        self._ok = ok
        self._left = sessions

    def one_less(self) -> frames.Ok | None:
        """One more session was told its `attached`, or why not; the last one's is answered with the `ok`."""
        self._left -= 1
        return self._ok if self._left == 0 else None


class Attachment(Reader):
    """A reader whose owner is a connection."""

    __slots__ = ("after", "ahead", "deficit", "gone", "round", "session")

    def __init__(self, connection: Owner, session: Session, seq: int, offset: int = 0) -> None:
        super().__init__(session.log, connection, seq, offset)
        self.ready = True  # until its owner has its opening, and says so
        self.owner: Owner = connection
        self.session = session
        self.deficit = 0
        """Bytes it may still send before it is the others' turn; below zero after a frame larger than its
        share."""
        self.after = 0
        """How many control frames go before its `opening`: those that were put before it."""
        self.ahead = 0
        """About how many bytes that were read from the store for it are not sent yet, opening and page."""
        self.gone = False
        """Not followed any more."""
        self.round: Round | None = None
        """Which `attach` waits for its `attached` to be sent."""

    @property
    def congested(self) -> bool:
        return self.owner.congested

    def wake(self) -> None:
        self.ready = True
        self.owner.news(self)

    @classmethod
    async def follow(
        cls, connection: Owner, session: Session, runtime: Runtime, cursor: str | None, history: int | None
    ) -> Attachment:
        """Start following an awake session, which somebody holds, from `cursor`; with a snapshot of `history`
        messages if that is of no use. It is registered before anything is awaited, and not ready until it has
        its `opening`: what happens meanwhile is past its position, and so will be sent. Raises `Refused`."""
        place = _place(session, cursor)
        if isinstance(place, Snapshot) and place.reason == "ahead":
            await session.asked(Refresh())
            place = _place(session, cursor)
            if isinstance(place, Snapshot) and place.reason == "ahead":
                logger.error("cursor ahead of the log", cursor=cursor, session_id=session.key.session_id)
        page = None
        if isinstance(place, Replay) and place.seq < session.log.base:
            read = runtime.store.read(session.key, place.seq, _PAGE, runtime.settings.page_bytes)
            page = await runtime.answered(read)
            again = _place(session, cursor)
            place = again if page else Snapshot("trimmed")
        if session.log.ended is not None or not session.awake:
            raise Refused("session_closed", "The session was deleted.")
        if isinstance(place, Replay):
            attachment = cls(connection, session, place.seq, place.offset)
            attachment._register(runtime)
            attachment._take_page(page)
            attachment._open(attachment._attached("replay", None))
            return attachment
        running = session.state.running
        seq = session.state.seq if running is None else running.started_seq
        attachment = cls(connection, session, seq)
        attachment._register(runtime)
        # Said as of its cursor, and before the history is read: what came or ended since is told after it.
        attached = attachment._attached("snapshot", place.reason)
        if running is not None:
            attached = replace(attached, queued=[*running.behind])
        wanted = DEFAULT_HISTORY if history is None else history
        messages: list[frames.HistoryMessage] = []
        has_more = seq > 0
        if wanted and seq:
            try:
                said = await runtime.answered(
                    runtime.store.history(
                        session.key, wanted, as_of=seq, max_bytes=runtime.settings.max_history_bytes
                    )
                )
            except BaseException:
                attachment.leave()
                raise
            messages = [history_message(one.record, one.tools) for one in said.messages]
            has_more = said.has_more
        attachment._open(replace(attached, messages=messages, has_more=has_more))
        return attachment

    def _register(self, runtime: Runtime) -> None:
        """From here on it is told what happens; that the session is expiring, also if others were told
        before."""
        self.log.readers.append(self)
        info = self.session.info
        notice = expiring(self.log.session_id, None if info is None else info.life, runtime.now())
        self.expiring = None if notice is None else codec.encode(notice)

    def _open(self, attached: frames.Attached) -> None:
        self.opening = codec.encode(attached)
        self.ahead += len(self.opening)

    def _take_page(self, page: list[Entry] | None) -> bool:
        left = [entry for entry in page or () if self.seq < entry.seq <= self.log.seq]
        self.page = deque(left) if left else None
        self.ahead += sum(len(codec.encode(entry.record)) for entry in left)
        return bool(left)

    async def turn_page(self, store: Store, max_bytes: int) -> bool:
        """Get the next records that are in the store only. Answers false if the store does not keep them any
        more. Raises `NoSession` if the session is deleted."""
        return self._take_page(await store.read(self.session.key, self.seq, _PAGE, max_bytes))

    def leave(self) -> None:
        """Follow no more."""
        self.gone = True
        if self in self.log.readers:
            self.log.readers.remove(self)
        self.log.set_typing(self.owner, None)

    def _attached(
        self,
        mode: Literal["replay", "snapshot"],
        reason: Literal["epoch", "trimmed", "ahead", "malformed"] | None,
    ) -> frames.Attached:
        state, key, info = self.session.state, self.session.key, self.session.info
        life = None if info is None else info.life
        return frames.Attached(
            cursor=self.cursor,
            session_id=key.session_id,
            agent=key.agent,
            mode=mode,
            reason=reason,
            status="idle" if state.running is None else "running",
            turn_id=None if state.running is None else state.running.turn_id,
            queued=[message.turn_id for message in state.waiting],
            expires_at=None if life is None else life.expires_at,
        )


def _place(session: Session, cursor: str | None) -> Replay | Snapshot:
    running = session.state.running
    started = None if running is None else running.started_seq
    return resume(cursor, session.log.epoch, session.state.seq, started)
