"""An actor: what is left in its mailbox is done one after the other, in a task only while there is something
to do. Whoever asks may die at any instant; nothing tears."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog
from msgspec import Struct

from protocol import lifetime
from protocol.errors import Refused
from protocol.session import Accepted, Command, Send, UseTool

from .interfaces import Key, Unavailable
from .opening import Open
from .runtime import Runtime

__all__ = ["Actor", "Ask", "Delete", "Item", "Move", "Refresh", "unavailable"]

logger = structlog.get_logger("gateway.session")


class Refresh(Struct, frozen=True):
    """Somebody else wrote: read it."""


class Delete(Struct, frozen=True):
    """End the session: every turn, then the log."""


class Move(Struct, frozen=True):
    """Be another user's session from now on, under that key. `session_busy`, while a turn is not over."""

    to: Key


Ask = Command | lifetime.Command | Open | Refresh | Delete | Move
Answerer = Callable[[Accepted | BaseException], None]


class Item(Struct):
    """Something in the mailbox."""

    ask: Ask
    answer: Answerer | None
    request_id: str | None = None
    at: float = 0.0
    """When it was left there, on the loop's clock."""


class Actor:
    """The mailbox of one session. Who derives from it says what is done with an item, and what after the last
    one."""

    __slots__ = ("_at_work", "_mailbox", "_runtime", "key", "working")

    def __init__(self, runtime: Runtime, key: Key) -> None:
        self._runtime = runtime
        self.key = key
        self.working = False
        """Its task runs."""
        self._mailbox: deque[Item] | None = None
        self._at_work: Item | None = None

    def ask(self, ask: Ask, answer: Answerer | None = None, request_id: str | None = None) -> None:
        """Leave something in the mailbox; a plain call. `answer` is called later with what came of it:
        `Accepted`, or the exception (`Refused` for refusals). It may be called after the caller is gone, and
        must not wait. Whoever gets no answer is never refused: the session itself, and the running turn that
        uses a tool."""
        if self._mailbox is None:
            self._mailbox = deque()
        if answer is None:
            if any(item.answer is None and item.ask == ask for item in self._mailbox):
                return  # it waits already
        elif not isinstance(ask, UseTool):
            limit = self._runtime.settings.max_asking
            limit = limit if isinstance(ask, Send) else 2 * limit  # messages leave room to cancel them
            if len(self._mailbox) >= limit:
                answer(Refused("overloaded", f"{limit:,} requests wait for this session already; try again."))
                return
        self._mailbox.append(Item(ask, answer, request_id, asyncio.get_running_loop().time()))
        if not self.working:
            self.working = True
            self._runtime.tasks.start_now(self._work())

    async def asked(self, ask: Ask, request_id: str | None = None) -> Accepted:
        """`ask`, and wait for the answer. Cancelling the wait takes nothing back."""
        future: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()

        def answer(answered: Accepted | BaseException) -> None:
            if future.done():
                return
            if isinstance(answered, BaseException):
                future.set_exception(answered)
            else:
                future.set_result(answered)

        self.ask(ask, answer, request_id)
        return await future

    async def _work(self) -> None:
        """One item after the other until there are none; the actor's task."""
        try:
            while self._mailbox:
                item = self._at_work = self._mailbox.popleft()
                try:
                    answered: Accepted | BaseException = await self._do(item)
                except Refused as refusal:
                    if refusal.session_id is None:
                        refusal.session_id = self.key.session_id
                    answered = refusal
                except Unavailable:
                    answered = unavailable(self.key, item.ask)
                except (Exception, asyncio.CancelledError):
                    if self._runtime.tasks.stopping:
                        raise
                    # Nobody else cancels this task: something that was called has cancelled itself.
                    logger.exception("session crashed", **self._whose(item))
                    self._crash()
                    answered = self._broken()
                self._tell(item, answered)
        finally:
            left = [] if self._at_work is None else [self._at_work, *(self._mailbox or ())]
            self.working = False
            self._mailbox = self._at_work = None
            for item in left:
                self._tell(item, self._broken())
            self._rest()

    def answer_overdue(self, now: float) -> None:
        """Whoever has waited for `store_timeout` is answered; `now` is the loop's time. What was not begun by
        then is never done, of what was begun nobody knows yet."""
        since = now - self._runtime.settings.store_timeout
        late: list[Item] = []
        left: deque[Item] = deque()
        for item in self._mailbox or ():
            (late if _overdue(item, since) else left).append(item)
        if late:
            self._mailbox = left
        for item in late:
            self._tell(item, self._withdrawn(item.ask))
        if self._at_work is not None and _overdue(self._at_work, since):
            self._tell(self._at_work, unavailable(self.key, self._at_work.ask))

    def _tell(self, item: Item, answered: Accepted | BaseException) -> None:
        """Whoever asked is told, once."""
        answer, item.answer = item.answer, None
        if answer is None:
            return
        try:
            answer(answered)
        except Exception:
            logger.exception("answering failed", **self._whose(item))

    def _broken(self) -> Refused:
        code, content = "internal", "A bug in the gateway; it was logged."
        if self._runtime.tasks.stopping:
            code, content = "draining", "The gateway stops; send it again after reconnecting."
        return Refused(code, content, session_id=self.key.session_id)

    def _withdrawn(self, ask: Ask) -> Refused:
        """What is answered where something was asked that is never done, for the store did not answer in
        time."""
        return Refused(
            "store_unavailable",
            "The store does not answer; this was not done. Send it again.",
            session_id=self.key.session_id,
            turn_id=ask.turn_id if isinstance(ask, Send) else None,
        )

    async def _do(self, item: Item) -> Accepted:
        """Do what is asked. Raises `Refused`, `Unavailable`; anything else is a crash."""
        raise NotImplementedError

    def _crash(self) -> None:
        """Trust nothing that was held in memory."""
        raise NotImplementedError

    def _rest(self) -> None:
        """The mailbox is empty."""
        raise NotImplementedError

    def _whose(self, item: Item | None = None) -> dict[str, str]:
        """What a line in the log says of the session, and of the request that left `item` there."""
        whose = {"session_id": self.key.session_id, "agent": self.key.agent}
        if item is not None and item.request_id is not None:
            whose["request_id"] = item.request_id
        return whose


def _overdue(item: Item, since: float) -> bool:
    """Does somebody wait for its answer since then? A turn that uses a tool waits as long as it takes."""
    return item.answer is not None and item.at <= since and not isinstance(item.ask, UseTool)


def unavailable(key: Key, ask: Ask) -> Refused:
    """What is answered while the store is not."""
    return Refused(
        "store_unavailable",
        "The store does not answer; whether this was done is unknown. Send it again under the same turn_id.",
        session_id=key.session_id,
        turn_id=ask.turn_id if isinstance(ask, Send) else None,
    )
