"""What one line must look into the store for first: done one after the other, in order, so that its reader
never waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from protocol.errors import Refused
from protocol.session import Accepted

from .interfaces import Unavailable
from .runtime import Tasks

__all__ = ["Answer", "Errand", "Errands", "as_refusal"]

Errand = Callable[[], Awaitable[None]]
Answer = Callable[[Accepted | BaseException], None]
"""Is told what came of it, when that is known. Must not wait."""


class Errands:
    """The errands of one line, in the order in which they came. A task runs them, and ends with the last one.
    `done` is called after each of them."""

    __slots__ = ("_done", "_stopped", "_tasks", "_waiting")

    def __init__(self, tasks: Tasks, done: Callable[[], None]) -> None:
        self._tasks = tasks
        self._done = done
        self._stopped = False
        # While there are any: an empty deque holds 600 bytes, and most connections are idle.
        self._waiting: deque[tuple[Errand, Answer]] | None = None

    def __len__(self) -> int:
        """How many there are, the one at work included."""
        return len(self._waiting) if self._waiting is not None else 0

    def add(self, errand: Errand, answer: Answer) -> None:
        """Do this one after all others; a plain call. `answer` is told what went wrong, if anything does:
        `Refused`, any other exception, or `ConnectionError` if its turn came after `stop`."""
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append((errand, answer))
        if len(self._waiting) == 1:
            self._tasks.start_soon(self._run)

    def stop(self) -> None:
        """The line is gone: begin no other. The one at work is left to find out by itself."""
        self._stopped = True

    async def _run(self) -> None:
        """The one at work stays first in line, so that what must come after it sees that it is there."""
        while self._waiting:
            errand, answer = self._waiting[0]
            try:
                if self._stopped:
                    raise ConnectionError
                await errand()
            except (Refused, Unavailable) as error:
                answer(as_refusal(error))
            except Exception as error:
                answer(error)
            self._waiting.popleft()
            self._done()
        self._waiting = None


def as_refusal(error: Refused | Unavailable) -> Refused:
    """What a client is told of it."""
    if isinstance(error, Refused):
        return error
    return Refused("store_unavailable", "The store does not answer; send it again.")
