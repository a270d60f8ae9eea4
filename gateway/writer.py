"""The one writer of a connection: whenever its socket can take data, it goes round the sessions that have
news and sends each one what lies past its place.

Sessions share the socket by bytes, in turns (deficit round robin). While the socket is full it waits, and
text simply accumulates in the logs. It reads memory only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from protocol import codec, frames

from .attachment import Attachment
from .interfaces import Transport
from .runtime import Runtime

__all__ = ["Writer"]

_QUICK = 0.02
"""Seconds within which one write after the other counts as a burst."""
_BURST = 8
"""Writes of a burst that a paced line takes without a rest: a turn's first delta never waits for one."""


class Owner(Protocol):
    """The connection."""

    def fetch(self, attachment: Attachment) -> None:
        """What this one is to be sent next is in the store only; say `news` again when it is here."""
        ...

    def ended(self, attachment: Attachment) -> None:
        """This one's session is over, and the client was told."""
        ...

    def lost(self) -> None:
        """The peer is gone."""
        ...

    def broke(self) -> None:
        """A bug: an exception, which is handled at present, came while the line was written to."""
        ...


class Writer:
    """Writes one connection. `pace`: where a write costs much, seconds between those of a burst. Text gathers
    meanwhile, and nobody counts as lagging for it."""

    __slots__ = (
        "_burst",
        "_control",
        "_control_bytes",
        "_control_put",
        "_control_sent",
        "_loop",
        "_owner",
        "_pace",
        "_ready",
        "_rests_until",
        "_room",
        "_runtime",
        "_since",
        "_transport",
        "_woken",
        "ahead",
        "congested",
        "stopped",
    )

    def __init__(self, runtime: Runtime, transport: Transport, owner: Owner, pace: float = 0.0) -> None:
        self._runtime = runtime
        self._transport = transport
        self._owner = owner
        self.congested = False
        """It waits for the socket."""
        self.stopped = False
        """Nothing is written any more."""
        self.ahead = 0
        """About how many bytes were read from the store for its sessions and are not written yet."""
        # Lists until they are needed: an empty deque holds 600 bytes, and most connections are idle.
        self._ready: deque[Attachment] | None = None
        self._control: deque[bytes] | None = None
        self._control_bytes = 0
        self._control_put = 0
        self._control_sent = 0
        self._room: asyncio.Event | None = None
        self._woken = False
        """It will write in the next pass, or writes."""
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        """When the last write began (loop time)."""
        self._pace = pace
        self._burst = 0
        self._rests_until = 0.0
        """When a paced line may be written to again (loop time)."""

    # ── What there is to write ───────────────────────────────────────────────────────────────────────────

    def control(self, frame: frames.ServerFrame) -> None:
        """Send this before anything of the sessions."""
        if not self.stopped:
            self.say(codec.encode(frame))

    def say(self, data: bytes) -> None:
        """`control`, of what is encoded already or is no frame of the protocol."""
        if self.stopped:
            return
        if self._control is None:
            self._control = deque()
        self._control.append(data)
        self._control_put += 1
        self._control_bytes += len(data)
        self._wake()

    def news(self, attachment: Attachment) -> None:
        """That session has something to send; said once until it was asked."""
        if self.stopped:
            return
        if self._ready is None:
            self._ready = deque()
        if attachment.opening is not None:
            attachment.after = self._control_put
        self._ready.append(attachment)
        self._wake()

    def news_of_store(self, attachment: Attachment) -> None:
        """`news`, of what was read from the store for that session: its opening or a page."""
        self.ahead += attachment.ahead
        self.news(attachment)

    def forget(self, attachment: Attachment) -> None:
        """What was read from the store for that session is sent, or will not be."""
        self.ahead -= attachment.ahead
        attachment.ahead = 0
        self.make_room()

    @property
    def full(self) -> bool:
        """So many control frames are unsent that the client is not read until they are."""
        return self._control_bytes > self._runtime.settings.max_control_bytes

    async def room(self) -> None:
        """Wait until there may be room."""
        self._room = self._room or asyncio.Event()
        await self._room.wait()

    def make_room(self) -> None:
        """There may be room: who waits for it looks again."""
        if self._room is not None:
            self._room.set()
            self._room = None

    async def flushed(self, seconds: float) -> None:
        """Wait until everything is written, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                while self._woken and not self.stopped:
                    self._room = self._room or asyncio.Event()
                    await self._room.wait()
        except TimeoutError:
            pass

    def stop(self) -> None:
        """Write no more."""
        self.stopped = True
        self._control = self._ready = None
        self._control_bytes = 0
        self.make_room()

    @property
    def lagging(self) -> int:
        """How many sessions have news for a line that does not take them."""
        return len(self._ready) if self.congested and self._ready is not None else 0

    def tick(self, now: float, heartbeat: float) -> bool:
        """The wheel turned. Sends a sign of life if nothing was sent for `heartbeat` seconds, and answers
        whether the peer has taken nothing for too long."""
        quiet = now - self._since
        if self.congested:
            return quiet > self._runtime.settings.stuck_timeout
        if quiet > heartbeat * 0.9:
            self.control(frames.Pong())
        return False

    # ── Writing ──────────────────────────────────────────────────────────────────────────────────────────

    def _wake(self) -> None:
        """Write in the next pass of the loop, with whatever else has news by then; after a rest, if one is
        due."""
        if self._woken:
            return
        self._woken = True
        rest = self._rests_until - self._loop.time() if self._pace else 0.0
        if rest > 0.0:
            self._loop.call_later(rest, self._write, context=self._runtime.tasks.context)
        else:
            # Not in the context of the turn that has news: what is written is many turns' and many users'.
            self._loop.call_soon(self._write, context=self._runtime.tasks.context)

    def _write(self) -> None:
        """Write what there is; as a plain call as long as the line takes it, else in a task."""
        try:
            self._write_batch()
        except Exception:
            self._owner.broke()

    def _write_batch(self) -> None:
        batch = [] if self.stopped else self._fill()
        if not batch:
            self._woken = False
            self.make_room()
            return
        now = self._loop.time()
        if self._pace:
            self._burst = self._burst + 1 if now - self._since < _QUICK else 0
            if self._burst > _BURST:
                self._rests_until = now + self._pace
        self._since = now
        metrics = self._runtime.metrics
        metrics.batches += 1
        metrics.frames_sent += len(batch)
        if self._transport.send_nowait(batch):
            self._go_on()
        else:
            self._runtime.tasks.start_soon(self._wait_and_write, batch)

    async def _wait_and_write(self, batch: list[bytes]) -> None:
        """The writer's task, while the line cannot take what there is."""
        try:
            self.congested = True
            await self._transport.send(batch)
        except ConnectionError:
            self._owner.lost()
        except Exception:
            self._owner.broke()
        else:
            self.congested = False
            self._go_on()

    def _go_on(self) -> None:
        """A batch is written."""
        self._woken = False
        if self._ready or self._control:
            self._wake()
        else:
            self.make_room()

    def _fill(self) -> list[bytes]:
        """The next batch: control frames first (a quantum while sessions wait), then a share of each ready
        session in turn."""
        out: list[bytes] = []
        settings = self._runtime.settings
        room, quantum, max_delta = settings.batch_bytes, settings.quantum_bytes, settings.max_delta_chars
        ready = self._ready
        size = self._fill_control(out, quantum if ready else room)
        early = 0
        while ready and size < room:
            attachment = ready.popleft()
            if attachment.gone:
                continue
            if attachment.opening is not None and attachment.after > self._control_sent:
                # The ok of a detach goes before the attached of what was attached again after it.
                ready.append(attachment)
                early += 1
                if early > len(ready):
                    break
                continue
            attachment.deficit += quantum
            if attachment.deficit <= 0:
                ready.append(attachment)
                continue
            spent = attachment.read(out, attachment.deficit, max_delta)
            size += spent
            if attachment.others:
                self._runtime.metrics.others_sent += attachment.others
                attachment.others = 0
            attachment.deficit -= spent
            if attachment.ahead:
                self._sent(attachment)
            if attachment.told_end:
                self._owner.ended(attachment)
            elif attachment.deficit <= 0:
                ready.append(attachment)
            elif attachment.lags:
                self._owner.fetch(attachment)
            else:
                attachment.ready = False
                attachment.deficit = 0
                if attachment.log.kept is not None:
                    attachment.log.release()
        self._runtime.metrics.bytes_sent += size
        return out

    def _fill_control(self, out: list[bytes], room: int) -> int:
        control, size = self._control, 0
        while control and size < room:
            frame = control.popleft()
            out.append(frame)
            self._control_sent += 1
            size += len(frame)
        if not control:
            self._control = None  # every line was greeted once, and few are told anything again soon
        self._control_bytes -= size
        if size:
            self._runtime.metrics.others_sent += len(out)
            if not self.full:
                self.make_room()
        return size

    def _sent(self, attachment: Attachment) -> None:
        """Its opening was sent, and some of what was read from the store."""
        opened, attachment.round = attachment.round, None
        if opened is not None and (ok := opened.one_less()) is not None:
            self.control(ok)
        if not attachment.page:
            self.forget(attachment)
