"""The watchdog: a thread that asks the event loop for a sign of life, and says where it stands if none comes.

An `async` agent that blocks the loop blocks everybody. It cannot be stopped, but it can be found.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType

import structlog

from .interfaces import Turn
from .metrics import Metrics

__all__ = ["Watchdog"]

logger = structlog.get_logger("gateway.watchdog")

_REMEMBERED = 60
"""How many answers `event_loop_lag` is the worst of."""


class Watchdog:
    """Asks every quarter of a `threshold` (seconds), and logs the loop's stack once for each time that the
    answer takes longer than that. `metrics.event_loop_lag` is the worst of the last sixty answers."""

    def __init__(self, metrics: Metrics, threshold: float = 1.0) -> None:
        self._metrics = metrics
        self._threshold = threshold
        self._lags: deque[float] = deque(maxlen=_REMEMBERED)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the running loop from its own thread until the block is left."""
        left = threading.Event()
        loop, thread = asyncio.get_running_loop(), threading.get_ident()
        # A daemon, and never joined: while the loop waited for it, it would wait for the loop.
        watch = threading.Thread(target=self._watch, args=(loop, thread, left), daemon=True)
        watch.start()
        try:
            yield
        finally:
            left.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int, left: threading.Event) -> None:
        while not left.wait(self._threshold / 4):
            turned, asked, told = threading.Event(), monotonic(), False
            try:
                loop.call_soon_threadsafe(turned.set)
            except RuntimeError:  # the loop is closed
                return
            while not turned.wait(self._threshold):
                if left.is_set():
                    return
                if not told:
                    told = True
                    try:
                        self._tell(thread)
                    except Exception:
                        logger.exception("event loop blocked, and nobody can tell by what")
            self._lags.append(monotonic() - asked)
            self._metrics.event_loop_lag = max(self._lags)

    def _tell(self, thread: int) -> None:
        frame = sys._current_frames().get(thread)
        if frame is None:
            return
        stack = "".join(traceback.format_stack(frame))
        logger.error("event loop blocked", seconds=self._threshold, stack=stack, **_whose(frame))


def _whose(frame: FrameType | None) -> dict[str, str]:
    """The turn that is worked for at `frame`: whoever runs an agent holds what the agent was given."""
    while frame is not None:
        for value in frame.f_locals.values():
            if type(value) is Turn:  # not isinstance: that asks the value, which may be a proxy and raise
                return {
                    "session_id": value.session.session_id,
                    "agent": value.session.agent,
                    "turn_id": value.turn_id,
                }
        frame = frame.f_back
    return {}
