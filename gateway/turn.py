"""One answer in flight: runs the agent, times it out, can be stopped, and says how it ended.

An `Answer` ends in exactly one terminal record, handed over once. From that moment its text is closed and
nothing the agent still does counts; its clean-up goes on, and the next turn of the session waits for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import aclosing
from typing import Any, Protocol

import msgspec
import structlog

from protocol import records
from protocol.codec import encode
from protocol.scopes import changes, merged, split

from . import interfaces
from .briefing import Briefing
from .interfaces import Agent, AgentError, Alive, Note, Piece, Thought, Unavailable, Usage
from .log import Log
from .pieces import FAILED, WrongPiece, failure_of, metadata_of, plain, state_of, tool_of, usage_of
from .runtime import Runtime
from .text import Text, clean

__all__ = ["Answer"]

logger = structlog.get_logger("gateway.turn")

_BREATHE = 64
"""After so many pieces an agent that never waits lets the others run."""
_COUNTED = 32
"""So many pieces are counted at once, and of their gaps one is timed: it is the path of every token."""


class Owner(Protocol):
    """The session, as its running turn sees it."""

    async def record(self, record: records.ToolCall | records.ToolResult) -> None:
        """Make a tool record durable. The rules may refuse it; then it was none."""
        ...

    def ended(self, record: records.Terminal) -> None:
        """How the turn ended; said once, from whatever task the end came from. A plain call."""
        ...

    def cleaned(self, answer: Answer) -> None:
        """The turn's agent is gone, clean-up and all."""
        ...


class Answer:
    """The running turn's agent at work."""

    __slots__ = (
        "_arrived_at",
        "_counted",
        "_first_at",
        "_input_tokens",
        "_kept",
        "_limits",
        "_log",
        "_metadata",
        "_output_tokens",
        "_progress",
        "_progress_at",
        "_runtime",
        "_session",
        "_signs",
        "_started_at",
        "_state",
        "_task",
        "_timed",
        "_timed_from",
        "_tool_bytes",
        "_waits",
        "awaited_until",
        "cleaned",
        "gone",
        "message",
        "over",
        "room",
        "text",
    )

    def __init__(
        self,
        runtime: Runtime,
        log: Log,
        text: Text,
        message: records.Message,
        session: Owner,
        arrived_at: float | None = None,
    ) -> None:
        """`arrived_at` is the loop's time at which the message came to this process. If it came to another
        one (None), the wall clock is all there is."""
        self._runtime = runtime
        self._log = log
        self._session = session
        self.text = text
        self.message = message
        self.over = False
        """Its terminal record was handed over, or it was told to be silent."""
        self.cleaned: asyncio.Event | None = None
        """Set when the agent's clean-up is done; made by whoever waits for it."""
        self.awaited_until: float | None = None
        """Until when the next turn waits for that, loop time; None while none waits."""
        self.room: asyncio.Event | None = None
        """Set when the store took enough of the text; made while the agent waits for that."""
        self.gone: Collection[str] = ()
        """What a completed turn took out of the session's state."""
        if arrived_at is None:
            arrived_at = asyncio.get_running_loop().time() - max(0.0, runtime.now() - message.created_at)
        self._arrived_at = arrived_at
        self._waits = False
        """The agent has spoken, and waits until the store has taken that."""
        self._state = b""
        """What the agent was given as `turn.state`, as JSON."""
        self._kept: bytes | None = None
        """The state that is kept with the session, where that is another one."""
        self._task: asyncio.Task[None] | None = None
        self._started_at: float | None = None
        self._first_at: float | None = None
        self._counted = 0
        self._timed = False
        self._timed_from = 0.0
        self._limits = runtime.limits(log.agent)
        self._signs = 0
        """Pieces that are no text: signs of life, even if nothing is to be seen of them."""
        self._progress = 0
        self._progress_at = 0.0
        self._tool_bytes = 0
        self._input_tokens = 0
        self._output_tokens = 0
        self._metadata: dict[str, Any] | None = None

    @property
    def turn_id(self) -> str:
        return self.message.turn_id

    @property
    def started_at(self) -> float | None:
        """When the agent was given the turn, Unix seconds; None until then."""
        return None if self._started_at is None else self._unix(self._started_at)

    @property
    def active_at(self) -> float | None:
        """When it last produced something, as far as the wheel has seen; None until it was started."""
        return None if self._started_at is None else self._unix(self._progress_at)

    def _unix(self, moment: float) -> float:
        return self._runtime.now() - (asyncio.get_running_loop().time() - moment)

    @property
    def done(self) -> bool:
        """The agent is gone, clean-up and all."""
        return self.over and self._task is None

    # ── Running ──────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, given: Callable[[], Awaitable[Briefing]], agent: Agent | None) -> None:
        """Run the agent to its end: the turn's task. Never raises. `given` gathers what the agent is given.
        One frame, not three: there may be 10,000s of turns that wait for their agents."""
        self._task = asyncio.current_task()
        pieces = 0
        try:
            if self.over:  # stopped before it came to run: the agent is not called
                return
            if agent is None:
                raise AgentError("The gateway was started without this agent.", "agent_unavailable")
            turn, kept = await given()
            self._begin(turn, kept)
            async with aclosing(agent(turn)) as answer:
                try:
                    async for piece in answer:
                        if self.over:  # what it says when it was stopped is not for the next turn's text
                            return
                        pieces += 1
                        if type(piece) is str:
                            if self._extend(piece):
                                await self._save_soon()
                        else:
                            await self._take(piece)
                        if pieces % _COUNTED == 0:
                            if pieces % _BREATHE == 0:
                                await asyncio.sleep(0)
                            self._count(pieces)
                except AgentError as error:
                    self._fail(error)  # now: closing the agent may take its time, or raise something else
            if not self.over:
                self._complete(turn)
        except asyncio.CancelledError:
            if not self.over:
                if self._task is not None and self._task.cancelling():  # the process stops
                    self.fail("turn_interrupted", "The gateway stopped; send the message again.")
                else:
                    self._fail(AgentError("The agent cancelled itself."))
        except AgentError as error:
            self._fail(error)
        except Unavailable:
            self._fail(AgentError("The store does not answer.", "store_unavailable"))
        except BaseException:  # an agent's sys.exit() must not end the gateway
            logger.exception("agent failed", turn_id=self.turn_id, **_whose(self._log))
            self._fail(AgentError(FAILED))
        finally:
            self._count(pieces)
            self._task = None
            if self.cleaned is not None:
                self.cleaned.set()
            self._session.cleaned(self)

    def _begin(self, turn: interfaces.Turn, kept: dict[str, Any] | None) -> None:
        # What the agent logs says whose turn it was.
        structlog.contextvars.bind_contextvars(
            turn_id=self.turn_id, session_id=turn.session.session_id, agent=turn.session.agent
        )
        if turn.request_id is not None:
            structlog.contextvars.bind_contextvars(request_id=turn.request_id)
        self._state = encode(turn.state)
        self._kept = None if kept is None else encode(kept)
        self._started_at = self._progress_at = asyncio.get_running_loop().time()

    def _count(self, pieces: int) -> None:
        """So many pieces came until now; how long the next one takes is timed."""
        metrics, new = self._runtime.metrics, pieces - self._counted
        self._counted = pieces
        metrics.deltas += new
        metrics.deltas_offered += new * len(self._log.readers)
        self._timed_from, self._timed = asyncio.get_running_loop().time(), False

    def _time(self) -> None:
        """A piece came that is timed: the first one, the one after it, and the one after each count."""
        now, metrics = asyncio.get_running_loop().time(), self._runtime.metrics
        if self._first_at is None:
            assert self._started_at is not None
            self._first_at = self._timed_from = now
            metrics.first_delta.observe(now - self._started_at)
        else:
            metrics.gap.observe(now - self._timed_from)
            self._timed = True

    def _extend(self, piece: str) -> bool:
        """Add a piece of text; true if so much is unsaved that the store should hear of it."""
        text, settings = self.text, self._runtime.settings
        if text.length + len(piece) > settings.max_text_chars:
            self._log.extend(piece[: settings.max_text_chars - text.length])
            raise AgentError(
                f"The answer has more than {settings.max_text_chars:,} characters.", "answer_too_large"
            )
        self._log.extend(piece)
        if not self._timed:
            self._time()
        return text.unsaved_bytes >= settings.save_bytes

    async def _save_soon(self) -> None:
        """Much text is unsaved: hurry the store, and wait for it if it is too much."""
        self._runtime.save_soon()
        while self.text.unsaved_bytes > self._runtime.settings.max_unsaved_bytes and not self.over:
            self.room = asyncio.Event()
            await self._wait_for_store(self.room.wait())

    async def _wait_for_store(self, answer: Awaitable[object]) -> None:
        """Wait for that; the agent cannot speak meanwhile, and is not called silent."""
        self._waits = True
        try:
            await answer
        finally:
            self._waits = False
            self._progress_at = asyncio.get_running_loop().time()

    async def _take(self, piece: Piece) -> None:
        """A piece that is not plain text."""
        self._signs += 1
        if isinstance(piece, Alive):
            self._counted += 1  # as if it had been counted: it is no delta
            return
        text, settings = self.text, self._runtime.settings
        if not self._timed:
            self._time()
        match piece:
            case Thought():
                if text.thought is None:
                    text.thought = Text("", "", "", 0)
                thought = plain(piece)
                if text.thought.length + len(thought) > settings.max_text_chars:
                    raise AgentError("The reasoning is longer than an answer may be.", "answer_too_large")
                text.thought.extend(thought)
                self._log.wake()
            case str():
                if self._extend(plain(piece)):
                    await self._save_soon()
            case interfaces.ToolCall() | interfaces.ToolResult():
                used, size = tool_of(piece, settings.max_tool_depth)
                self._check_size(size)
                await self._wait_for_store(self._session.record(self._record_of(used)))
            case Usage():
                input_tokens, output_tokens = usage_of(piece)
                self._input_tokens += input_tokens
                self._output_tokens += output_tokens
            case Note():
                metadata, size = metadata_of(piece, settings.max_tool_depth)
                self._check_size(size)
                self._metadata = {**(self._metadata or {}), **metadata}
            case _:
                expected = "str, Thought, ToolCall, ToolResult, Usage, Note or Alive"
                raise WrongPiece("piece", "type", expected, type(piece).__name__)

    def _record_of(
        self, used: interfaces.ToolCall | interfaces.ToolResult
    ) -> records.ToolCall | records.ToolResult:
        turn_id, at, now = self.turn_id, self.text.length, self._runtime.now()
        if isinstance(used, interfaces.ToolCall):
            return records.ToolCall(turn_id, at, used.tool_call_id, used.name, used.input, now)
        return records.ToolResult(turn_id, at, used.tool_call_id, used.content, used.is_error, now)

    def _check_size(self, size: int) -> None:
        """What comes beside the text is not too large. Raises `AgentError`."""
        settings = self._runtime.settings
        self._tool_bytes += size
        if size > settings.max_tool_bytes:
            raise AgentError(
                f"A tool's input or content may have {settings.max_tool_bytes:,} bytes.", "answer_too_large"
            )
        if self._tool_bytes > settings.max_turn_tool_bytes:
            raise AgentError(
                f"The tools of one turn may exchange {settings.max_turn_tool_bytes:,} bytes.",
                "answer_too_large",
            )

    # ── Ending ───────────────────────────────────────────────────────────────────────────────────────────

    def _complete(self, turn: interfaces.Turn) -> None:
        after = state_of(turn.state, self._state, self._runtime.settings.max_tool_depth)
        if after is None and self._kept is None:
            self._end(self._response("completed"))
            return
        given = msgspec.json.decode(self._state)
        kept = given if self._kept is None else msgspec.json.decode(self._kept)
        after = given if after is None else after
        self.gone = (given.keys() | kept.keys()) - after.keys()
        # Also what was set to what is kept anyway: who undoes this turn must know of it.
        parts = split(changes(kept, after) | changes(given, after))
        undo = {name: given[name] for name in parts.session if name in given} if parts.session else None
        delta = merged(*parts)  # the record, too, is without what is never kept
        self._end(self._response("completed", delta or None, undo))

    def cancel(self) -> None:
        """Somebody asked to stop it: it ends as cancelled with the text so far, at once."""
        if not self.over:
            self._end(self._response("cancelled"))
            self._stop()

    def fail(self, code: str, content: str) -> None:
        """It ends as failed with the text so far, at once."""
        self._fail(AgentError(content, code))
        self._stop()

    def abandon(self) -> None:
        """The log does not know it as running any more: it stops, and has no last word."""
        if not self.over:
            self.over = True
            self.text.close()
            self._stop()

    def _fail(self, error: AgentError) -> None:
        if self.over:
            return
        self.text.close()
        failure = failure_of(error)
        if isinstance(error, WrongPiece):
            logger.error(
                "agent yielded a wrong piece",
                turn_id=self.turn_id,
                piece=error.piece,
                field=error.field,
                expected=error.expected,
                got=error.got,
                **_whose(self._log),
            )
        elif failure.wrong:
            logger.error(
                "agent raised a wrong AgentError",
                turn_id=self.turn_id,
                fields=failure.wrong,
                **_whose(self._log),
            )
        self._end(
            records.Failed(
                turn_id=self.turn_id,
                content=clean(failure.content)[0],
                code=failure.code,
                retryable=failure.retryable,
                retry_after_ms=failure.retry_after_ms,
                partial=self.text.whole(),
                created_at=self._runtime.now(),
            )
        )

    def _response(
        self,
        status: Any,
        state_delta: dict[str, Any] | None = None,
        state_undo: dict[str, Any] | None = None,
    ) -> records.Response:
        text = self.text
        text.close()
        if text.thought is not None:
            text.thought.close()
        return records.Response(
            turn_id=self.turn_id,
            content=text.whole(),
            status=status,
            created_at=self._runtime.now(),
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            timing=self._timing(),
            thought=text.thought.whole() if text.thought is not None else None,
            metadata=self._metadata,
            state_delta=state_delta,
            state_undo=state_undo,
        )

    def _timing(self) -> records.Timing:
        now = asyncio.get_running_loop().time()
        started_at = now if self._started_at is None else self._started_at
        return records.Timing(
            queued_ms=_ms(started_at - self._arrived_at),
            first_delta_ms=None if self._first_at is None else _ms(self._first_at - started_at),
            total_ms=_ms(now - self._arrived_at),
        )

    def _end(self, record: records.Terminal) -> None:
        self.over = True
        metrics = self._runtime.metrics
        metrics.ended(record.status if isinstance(record, records.Response) else record.code)
        if self._started_at is not None:
            seconds = asyncio.get_running_loop().time() - self._started_at
            metrics.turn_seconds.observe(seconds)
            if isinstance(record, records.Response) and record.status == "completed":
                self._runtime.took(self._log.agent, seconds)
        self._session.ended(record)

    def _stop(self) -> None:
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    # ── Being timed ──────────────────────────────────────────────────────────────────────────────────────

    def check(self, now: float) -> None:
        """End it if it has been silent or has run too long; `now` is the loop's time. Called by the wheel."""
        if self.over or self._started_at is None:
            return
        output = self.text.length + self._tool_bytes + (self.text.thought.length if self.text.thought else 0)
        if output + self._signs != self._progress:
            self._progress, self._progress_at = output + self._signs, now
        silent, limits = now - self._progress_at, self._limits
        if now - self._started_at > limits.turn:
            self._give_up("turn_deadline", "turn", f"The answer took longer than {limits.turn:g} s")
        elif not output and silent > limits.first_output:
            self._give_up(
                "agent_timeout", "first_output", f"The agent said nothing for {limits.first_output:g} s"
            )
        elif output and not self._waits and silent > limits.silence:
            self._give_up("agent_stalled", "silence", f"The agent fell silent for {limits.silence:g} s")

    def _give_up(self, code: str, limit: str, what: str) -> None:
        option = self._runtime.limit_option(self._log.agent, limit)
        logger.warning("agent given up", code=code, limit=option, turn_id=self.turn_id, **_whose(self._log))
        self.fail(code, f"{what}, the limit set by {option}.")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _whose(log: Log) -> dict[str, str]:
    return {"session_id": log.session_id, "agent": log.agent}
