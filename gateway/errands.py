"""What one line must look into the store for first: done one after the other, in order, so that its reader
never waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple

from protocol.errors import Refused
from protocol.session import Accepted

from .interfaces import Unavailable
from .runtime import Tasks

__all__ = ["Answer", "Errand", "Errands", "as_refusal"]

Errand = Callable[[], Awaitable[None]]
Answer = Callable[[Accepted | BaseException], None]
"""Is told what came of it, when that is known. Must not wait."""


class Waiting(NamedTuple):
    """An errand that is not done yet."""

    errand: Errand
    answer: Answer
    sessions: Collection[str] | None
    """The ids of the sessions that it is about; None: it may be about any of them."""


class Errands:
    """The errands of one line, in the order in which they came. A task runs them, and ends with the last one.
    `done` is called after each of them; `broke`, if an answer could not be given, while that exception is
    handled."""

    __slots__ = ("_broke", "_done", "_stopped", "_tasks", "_waiting")

    def __init__(self, tasks: Tasks, done: Callable[[], None], broke: Callable[[], None]) -> None:
        self._tasks = tasks
        self._done = done
        self._broke = broke
        self._stopped = False
        # While there are any: an empty deque holds 600 bytes, and most connections are idle.
        self._waiting: deque[Waiting] | None = None

    def __len__(self) -> int:
        """How many there are, the one at work included."""
        return len(self._waiting) if self._waiting is not None else 0

    def hold(self, session_id: str) -> bool:
        """Is one of them about that session? Then what comes next for it must wait behind that one."""
        return any(one.sessions is None or session_id in one.sessions for one in self._waiting or ())

    def add(self, errand: Errand, answer: Answer, sessions: Collection[str] | None = ()) -> None:
        """Do this one after all others; a plain call. It is about these `sessions`, by their ids (None: about
        all); a set may shrink while the errand is at work. `answer` is told what went wrong, if anything
        does: `Refused`, any other exception, or `ConnectionError` if its turn came after `stop`."""
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(Waiting(errand, answer, sessions))
        if len(self._waiting) == 1:
            self._tasks.start_soon(self._run)

    def stop(self) -> None:
        """The line is gone: begin no other. The one at work is left to find out by itself."""
        self._stopped = True

    async def _run(self) -> None:
        """The one at work stays first in line, so that what must come after it sees that it is there."""
        while self._waiting:
            errand, answer, _ = self._waiting[0]
            try:
                await self._do(errand, answer)
            except Exception:
                self._broke()
            self._waiting.popleft()
            self._done()
        self._waiting = None

    async def _do(self, errand: Errand, answer: Answer) -> None:
        try:
            if self._stopped:
                raise ConnectionError
            await errand()
        except (Refused, Unavailable) as error:
            answer(as_refusal(error))
        except Exception as error:
            answer(error)


def as_refusal(error: Refused | Unavailable) -> Refused:
    """What a client is told of it."""
    if isinstance(error, Refused):
        return error
    return Refused("store_unavailable", "The store does not answer; send it again.")
