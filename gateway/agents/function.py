"""Function: a user's own function as an agent.

    async def agent(turn): yield "hi"      an async generator: its pieces are the answer
    async def agent(turn): return "hi"     a coroutine: what it returns is the answer
    def agent(turn): yield "hi"            a generator: runs in a thread, may block
    def agent(turn): return "hi"           a function: likewise

What is returned may be a text, another piece, an iterable of pieces, or None for an empty answer.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any, get_args

from gateway.interfaces import Limits, Piece, Turn
from gateway.threads import Threads

__all__ = ["FunctionAgent", "callee"]

_ACCEPTED = (
    "an agent is a function of one argument, the turn: an async generator (async def with yield), "
    "a coroutine function (async def with return), a generator or a plain function (def); or an object whose "
    "__call__ is one of these"
)
_PIECES = get_args(Piece)


class FunctionAgent:
    """`fn(turn)` as an `Agent`. Raises `TypeError` if `fn` is nothing that could answer a turn. If `fn` has
    `limits`, they are the agent's.

    `history`: how many past messages `turn.history` holds. `threads`: how many turns run at once if `fn` is
    not async, 1 to 1,000; further ones wait. One that is cancelled is told at its next `yield`; one that
    never gets there keeps its thread. `grace`: once all threads have been kept like that for so many
    seconds, turns are `agent_unavailable` until one returns.
    """

    def __init__(
        self, fn: Callable[[Turn], Any], *, history: int = 100, threads: int = 8, grace: float = 1.0
    ) -> None:
        _refuse_what_takes_no_turn(fn)
        if history < 0:
            raise ValueError(f"history is {history}; allowed are 0 and more")
        if not 1 <= threads <= 1_000:
            raise ValueError(f"threads is {threads}; allowed are 1 to 1,000")
        if not 0 <= grace <= 3_600:
            raise ValueError(f"grace is {grace}; allowed are 0 to 3,600 seconds")
        self.history = history
        self.limits: Limits | None = getattr(fn, "limits", None)
        self._fn = fn
        self._threads = Threads(threads, grace)
        self._answer = self._way_to_answer(fn)

    def __call__(self, turn: Turn) -> AsyncGenerator[Piece, None]:
        return self._answer(turn)

    @property
    def hung(self) -> int:
        """Threads whose turn is over and that have not returned."""
        return self._threads.hung

    async def check(self) -> str:
        return f"{_name(self._fn)}: a function, ready"

    async def aclose(self) -> None:
        """Nothing to do: the end of a turn has told its thread, and a hung one does not hold the exit."""

    def _way_to_answer(self, fn: Callable[[Turn], Any]) -> Callable[[Turn], AsyncGenerator[Piece, None]]:
        called = callee(fn)
        if inspect.isasyncgenfunction(called):
            return fn  # itself: nothing of ours runs per piece
        if inspect.iscoroutinefunction(called):
            return self._await
        return self._thread

    async def _await(self, turn: Turn) -> AsyncGenerator[Piece, None]:
        for piece in _pieces(await self._fn(turn)):
            yield piece

    def _thread(self, turn: Turn) -> AsyncGenerator[Piece, None]:
        return self._threads.iterate(lambda: _pieces(self._fn(turn)))


def callee(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function that runs when `fn` is called: itself, what a partial wraps, an object's `__call__`."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn if inspect.isroutine(fn) else type(fn).__call__


def _refuse_what_takes_no_turn(fn: Callable[[Turn], Any]) -> None:
    if not callable(fn) or isinstance(fn, type):
        raise TypeError(f"{_name(fn)} is no agent: {_ACCEPTED}")
    try:
        inspect.signature(fn).bind(None)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{_name(fn)} cannot be called with a turn ({error}): {_ACCEPTED}") from None


def _name(fn: object) -> str:
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    return f"{module}.{name}" if module and name else repr(fn)


def _pieces(answer: object) -> Iterable[Piece]:
    """What a function returned, as pieces. Whether each is one, the turn checks."""
    match answer:
        case None:
            return ()
        case _ if isinstance(answer, _PIECES):
            return (answer,)
        case Iterable() if not isinstance(answer, Mapping | bytes):
            return answer
        case _:
            raise TypeError(f"the function returned {type(answer).__name__}, which is no answer: {_ACCEPTED}")
