"""Conversations as readers are told them, with what `protocol.transcript` shows of them after every frame:
what the JavaScript transcript is held against.

Most are what the real gateway says, in memory, to a reader who lags, goes and comes back, about a session
that somebody else uses at the same time; the rest is what it never says.

    python -m tests.web.vectors > vectors.json
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from gateway import Thought, ToolCall, ToolResult
from gateway.interfaces import Key
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol import codec, frames
from protocol.transcript import OutOfOrder, Transcript, Turn
from tests.harness import Client, Script, gateway, settle
from tests.protocol.test_transcript import FORBIDDEN, RUNNING, at, attached, failed, response, text

__all__ = ["vectors"]

Step: TypeAlias = frames.ServerFrame | None
"""A frame; None: the line broke."""

GENERATED = 300
LENGTH = 40
PIECES = ("a", "bc ", "é", "😀", "\n", "👩\u200d👧", "\u202e", "\ud83d", "\ude42", "𝔊x" * 9)
SESSION = {"session_id": "s", "agent": "a"}
QUIET = Settings(
    save_interval=1000.0, due_interval=1000.0, drain_timeout=0.01, tail_bytes=400, page_bytes=300,
    quantum_bytes=64, batch_bytes=200, max_delta_chars=30, max_waiting=6,
)  # fmt: skip


class Reader(Client):
    """Keeps every frame that comes in `steps`, and lags if it is told to."""

    def __init__(self, supervisor: Supervisor, steps: list[Step]) -> None:
        self.steps = steps
        super().__init__(supervisor)

    def _take(self, frame: frames.ServerFrame) -> None:
        if self.close_code is None:
            self.steps.append(frame)
            super()._take(frame)


class Tale:
    """One session, used and read at random."""

    def __init__(self, supervisor: Supervisor, script: Script, seed: int) -> None:
        self.random = random.Random(seed)
        self.supervisor, self.script = supervisor, script
        self.steps: list[Step] = []
        self.speaker = Client(supervisor)
        self.said = self.tools = 0
        self.reader = Reader(supervisor, self.steps)

    async def run(self) -> list[Step]:
        self.attach(None)
        for _ in range(LENGTH):
            if (waits := self.random.choice(DEEDS)(self)) is not None:
                await waits
            await settle(self.random.choice((1, 3, 30)))
        self.reader.resume()
        await settle(100)
        for line in (self.reader, self.speaker):
            line.vanish()
        return self.steps

    # ── What is done ────────────────────────────────────────────────────────────────────────────────────────

    def say(self, **fields: Any) -> None:
        over = [turn.turn_id for turn in self.seen if turn.over]
        fields["on_busy"] = self.random.choice(("enqueue", "enqueue", "interrupt"))
        if over and "create" not in fields and self.random.random() < 0.4:
            fields["replaces"] = self.random.choice(over)
        if self.random.random() < 0.3:
            fields["metadata"] = {"n": self.said}
        self.said += 1
        self.speaker.put("message", content=f"{self.said}? 😀", turn_id=f"t{self.said}", **SESSION, **fields)

    def write(self) -> None:
        for turn in self.script.turns[-3:]:
            turn.say("".join(self.random.choices(PIECES, k=3)))

    def think(self) -> None:
        for turn in self.script.turns[-1:]:
            turn.say(Thought("hm … "))

    def use(self) -> None:
        for turn in self.script.turns[-1:]:
            self.tools += 1
            turn.say(ToolCall(f"c{self.tools}", "search", {"q": "😀"}))
            if self.random.random() < 0.7:
                turn.say("".join(self.random.choices(PIECES, k=2)))
                turn.say(ToolResult(f"c{self.tools}", ["found"], self.random.random() < 0.3))

    def end(self) -> None:
        for turn in self.script.turns[-1:]:
            if not turn.last:
                self.random.choice((turn.end, turn.end, turn.fail))()

    def cancel(self) -> None:
        turns = [turn.turn_id for turn in self.seen if not turn.over]
        if turns:
            self.speaker.put("cancel", turn_id=self.random.choice(turns), **SESSION)

    def type(self) -> None:
        self.speaker.put("typing", state=self.random.choice(("start", "stop")), **SESSION)

    async def begin_anew(self) -> None:
        """Rarely: it is deleted, and made again by whoever speaks next."""
        if self.random.random() < 0.2 and self.seen:
            await self.supervisor.delete(Key("a", "ann", "s"))
            self.say(create=True)

    def lag(self) -> None:
        self.reader.stall()

    def catch_up(self) -> None:
        self.reader.resume()

    def come_back(self) -> None:
        """On a new line, with a cursor that an old one gave, or none."""
        cursors = self.reader.cursors.get("s", ())
        self.reader.vanish()
        self.steps.append(None)
        self.reader = Reader(self.supervisor, self.steps)
        self.attach(cursors[-1] if cursors and self.random.random() < 0.8 else None)

    def attach(self, cursor: str | None) -> None:
        history = self.random.choice((0, 2, 50))
        target = {**SESSION, "history": history, "create": True} | ({"cursor": cursor} if cursor else {})
        self.reader.put("attach", sessions=[target])

    @property
    def seen(self) -> Sequence[Turn]:
        transcript = self.speaker.transcripts.get("s")
        return transcript.turns if transcript is not None else ()


DEEDS: tuple[Callable[[Tale], Awaitable[None] | None], ...] = (
    *(
        Tale.say,
        Tale.say,
        Tale.write,
        Tale.write,
        Tale.write,
        Tale.think,
        Tale.use,
        Tale.use,
        Tale.end,
        Tale.end,
    ),
    *(Tale.cancel, Tale.type, Tale.begin_anew, Tale.lag, Tale.catch_up, Tale.come_back, Tale.come_back),
)


async def generated() -> AsyncIterator[tuple[str, Sequence[Step]]]:
    """What readers of the real gateway were told."""
    for seed in range(GENERATED):
        script = Script()
        async with gateway({"a": script}, MemoryStore(generation="g"), QUIET) as supervisor:
            yield f"seed {seed}", await Tale(supervisor, script, seed).run()


# ── What it seldom or never says ────────────────────────────────────────────────────────────────────────────


def by_hand() -> Iterator[tuple[str, Sequence[Step]]]:
    """Turns that died with their process, and everything that the tests of the transcript know of."""
    said = (*RUNNING, text(at(2, 3), "a😀b"))
    for saved in ("", "a", "a😀", "a😀b", "a😀bc"):
        yield f"interrupted after {saved!r}", (*said, failed(at(3), saved, code="turn_interrupted"))
        yield f"cancelled, and dead after {saved!r}", (*said, response(at(3), saved, status="cancelled"))
    yield (
        "interrupted while the line was gone",
        (*(*said, None, attached(at(2, 3), "replay"), failed(at(3), "a", code="turn_interrupted")),),
    )
    for name, (before, frame, _) in FORBIDDEN.items():
        yield name, (*before, frame)


# ── What is to be seen ──────────────────────────────────────────────────────────────────────────────────────


def vector(name: str, steps: Sequence[Step], *, real: bool = False) -> dict[str, Any]:
    """Each step with what is seen after it, up to the first that must not come. Raises `OutOfOrder` if that
    is of the `real` gateway."""
    transcript = Transcript("s")
    told: list[dict[str, Any]] = []
    for step in steps:
        try:
            transcript.detach() if step is None else transcript.apply(step)
        except OutOfOrder as error:
            if real:
                raise
            told.append({"frame": step, "raises": str(error)})
            break
        told.append({"frame": step, "seen": seen(transcript)})
    return {"name": name, "steps": told}


def seen(transcript: Transcript) -> dict[str, Any]:
    """All that a transcript shows, in the names of JavaScript."""
    return {
        "agent": transcript.agent,
        "turns": [turn_seen(turn) for turn in transcript.turns],
        "running": transcript.running,
        "queue": [*transcript.queue],
        "agentTyping": transcript.agent_typing,
        "userTyping": transcript.user_typing,
        "attached": transcript.attached,
        "ended": transcript.ended,
        "expiresAt": transcript.expires_at,
        "hasMore": transcript.has_more,
        "cursor": transcript.cursor,
    }


def turn_seen(turn: Turn) -> dict[str, Any]:
    """One turn of it."""
    return {
        "turnId": turn.turn_id,
        "content": turn.content,
        "createdAt": turn.created_at,
        "status": turn.status,
        "text": turn.text,
        "length": len(turn.text),
        "skipped": turn.skipped,
        "thought": turn.thought,
        "tools": msgspec.to_builtins([msgspec.structs.asdict(use) for use in turn.tools]),
        "code": turn.code,
        "reason": turn.reason,
        "place": turn.place,
    }


async def vectors() -> list[dict[str, Any]]:
    """All of them."""
    return [vector(*told) for told in by_hand()] + [vector(*told, real=True) async for told in generated()]


if __name__ == "__main__":
    sys.stdout.buffer.write(codec.encode(asyncio.run(vectors())))
