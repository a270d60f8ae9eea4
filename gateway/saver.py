"""Saves running turns' text behind their backs: every so often, and at once when one has written much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

import structlog

from .actor import Refresh
from .interfaces import Saved, Segment, Unavailable
from .runtime import Runtime, is_cancelled
from .session import Session
from .turn import Answer

__all__ = ["Saver"]

logger = structlog.get_logger("gateway.supervisor")

_STEP = 64
"""Sessions looked at before the others may go on."""


class Saver:
    """Saves the text of `busy`, the sessions that run a turn; looked at anew each time. `reached` is told
    whether the store answered."""

    def __init__(self, runtime: Runtime, busy: Collection[Session], reached: Callable[[bool], None]) -> None:
        self._runtime = runtime
        self._busy = busy
        self._reached = reached
        self._hurry = asyncio.Event()
        runtime.save_soon = self._hurry.set

    async def run(self) -> None:
        """Save every `save_interval`, at once when one has written much; for ever."""
        interval = self._runtime.settings.save_interval
        while True:
            self._hurry.clear()
            try:
                await self.save()
            except Unavailable:
                self._reached(False)
                await asyncio.sleep(interval)
            except (Exception, asyncio.CancelledError):
                if is_cancelled():
                    raise
                logger.exception("saving text failed")
                await asyncio.sleep(interval)
            try:
                async with asyncio.timeout(interval):
                    await self._hurry.wait()
            except TimeoutError:
                pass

    async def save(self) -> None:
        """Save what running turns wrote, in one commit for all of them; in small steps, so that no delta
        waits until a thousand sessions are gathered. Raises `Unavailable`."""
        answers: list[tuple[Session, Answer]] = []
        batch: list[Segment] = []
        for number, session in enumerate([*self._busy], 1):
            answer = session.answer
            if answer is not None and answer.text.saved < answer.text.length:
                answers.append((session, answer))
                batch.append(Segment(session.key, answer.turn_id, answer.text.saved, answer.text.unsaved()))
            if number % _STEP == 0:
                await asyncio.sleep(0)
        if not batch:
            return
        saved = await self._save(batch)
        self._reached(True)
        for number, ((session, answer), segment, answered) in enumerate(
            zip(answers, batch, saved, strict=True), 1
        ):
            if answered is not None:
                _after_save(session, answer, segment, answered)
            elif session.answer is answer:
                answer.fail("internal", "A bug in the gateway; it was logged.")
            if number % _STEP == 0:
                await asyncio.sleep(0)

    async def _save(self, batch: Sequence[Segment]) -> Sequence[Saved | None]:
        """What the store says of each segment; None of one that alone keeps the others from being saved."""
        store, saved = self._runtime.store, list[Saved | None]()
        try:
            return await store.save_text(batch)
        except Unavailable:
            raise
        except Exception as error:
            for segment in batch if len(batch) > 1 else ():
                try:
                    saved += await store.save_text([segment])
                except Unavailable:
                    raise
                except Exception:
                    logger.exception("saving text failed", session_id=segment.key.session_id)
                    saved.append(None)
            if any(saved):
                return saved
            raise error


def _after_save(session: Session, answer: Answer, segment: Segment, saved: Saved) -> None:
    answer.text.mark_saved(segment.offset + len(segment.text))
    if answer.room is not None:
        answer.room.set()
    if not saved.running and session.answer is answer and not answer.over:
        session.ask(Refresh())  # others ended this turn: it stops, and writes nothing
