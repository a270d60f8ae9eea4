"""How much callers may: what they have open, and how often they ask.

A caller is an address until it is known who calls, and then a user, too. Neither counts where it says
nothing: this machine's own addresses, behind which may be everybody, and users where nobody has to say who
they are. Nothing is kept of who has nothing open and has not asked for a while.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from protocol.bucket import CALM, FULL, GRAIN, Rate, milliseconds
from protocol.errors import Refused
from protocol.ids import is_guest

from .auth import Identity
from .settings import Settings

__all__ = ["Meter", "Usage"]

_SECOND = 1.0 + GRAIN


class Usage:
    """What the callers of one gateway use. `clock` is in seconds, and never goes back."""

    def __init__(
        self, settings: Settings, *, known_users: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self.frames = Rate(settings.max_frames_per_second)
        self.frame_seconds = 1.0 / settings.max_frames_per_second
        self.bytes = Rate(settings.max_bytes_per_second)
        self.byte_seconds = 1.0 / settings.max_bytes_per_second
        self._known_users = known_users
        """They have to say who they are."""
        self._lets_guests_in = settings.guests
        self._messages = Buckets(Rate(settings.max_messages_per_minute, 60.0))
        self._messages_of_guests = Buckets(Rate(settings.max_guest_messages_per_minute, 60.0))
        self._guests = Buckets(Rate(settings.max_guests_per_minute, 60.0))
        self._requests = Buckets(Rate(settings.max_requests_per_second))
        self._of_user = Open("user", settings.max_connections_per_user)
        self._of_guest = Open("guest", settings.max_guest_connections)
        self._of_address = Open("address", settings.max_connections_per_address)

    # ── Addresses ────────────────────────────────────────────────────────────────────────────────────────

    def came(self, caller: str | None) -> None:
        """A request or an upgrade from there, which is open until it `went`. `caller` is what `caller_at`
        makes of an address. Raises `Refused`."""
        if caller is None:
            return
        self._of_address.check(caller)
        self._requests.take(caller, self.clock(), "requests of one address")
        self._of_address.add(caller)

    def went(self, caller: str | None) -> None:
        """It is over."""
        if caller is not None:
            self._of_address.remove(caller)

    def guest(self, caller: str | None) -> None:
        """Somebody there wants a guest's token. Raises `Refused`."""
        if caller is not None:
            self._guests.take(caller, self.clock(), "guests of one address")

    # ── Users ────────────────────────────────────────────────────────────────────────────────────────────

    def check(self, identity: Identity) -> None:
        """Raises `Refused` if that user may open no other line."""
        if (user := self._user_of(identity)) is not None:
            self._lines_of(user).check(user)

    def opened(self, identity: Identity) -> None:
        """That user opens a line. Raises `Refused`."""
        if (user := self._user_of(identity)) is not None:
            self._lines_of(user).check(user)
            self._lines_of(user).add(user)

    def closed(self, identity: Identity) -> None:
        """The line that was opened as that one is closed."""
        if (user := self._user_of(identity)) is not None:
            self._lines_of(user).remove(user)

    def moved(self, before: Identity, after: Identity) -> None:
        """A line that was opened as one goes on as another. Raises `Refused`; it is the one then that it
        was."""
        if self._user_of(before) != self._user_of(after):
            self.opened(after)
            self.closed(before)

    def message(self, user: str) -> None:
        """One more message to a session of that user. Raises `Refused`."""
        if not self._known_users:
            return
        if self._is_guest(user):
            self._messages_of_guests.take(user, self.clock(), "messages of one guest")
        else:
            self._messages.take(user, self.clock(), "messages of one user")

    def _is_guest(self, user: str) -> bool:
        return self._lets_guests_in and is_guest(user)

    def _lines_of(self, user: str) -> Open:
        return self._of_guest if self._is_guest(user) else self._of_user

    def _user_of(self, identity: Identity) -> str | None:
        """As whom a line counts; None: as nobody, like a service's that speaks for everyone."""
        return identity.user if self._known_users and not identity.everyone else None


class Open:
    """How many things somebody has open. Who has none is not kept."""

    def __init__(self, whose: str, most: int) -> None:
        self._whose = whose
        self._most = most
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def check(self, name: str) -> None:
        """Raises `Refused` if that one may open no other."""
        if self._counts.get(name, 0) >= self._most:
            raise Refused(
                "too_many_connections",
                f"One {self._whose} may have {self._most:,} connections: close others first.",
                limit=self._most,
            )

    def add(self, name: str) -> None:
        """It opened one more."""
        self._counts[name] = self._counts.get(name, 0) + 1

    def remove(self, name: str) -> None:
        """It closed one."""
        self._counts[name] -= 1
        if not self._counts[name]:
            del self._counts[name]


class Buckets:
    """Token buckets by name, of one rate. Those that are full again go as others are used: whoever was not
    heard for longer than a bucket takes to fill has a full one."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._full_at: OrderedDict[str, float] = OrderedDict()
        """The longest unused first."""

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, name: str, now: float, what: str) -> None:
        """One from that bucket. Raises `Refused` with when there is one again."""
        full_at = self._full_at.get(name, FULL)
        wait = self._rate.wait(full_at, now)
        if wait:
            raise too_many(self._rate, what, wait)
        self._full_at[name] = self._rate.take(full_at, now)
        self._full_at.move_to_end(name)
        while self._full_at[oldest := next(iter(self._full_at))] <= now:
            del self._full_at[oldest]


class Meter:
    """How much one connection sends, and whether it goes on though told to wait."""

    __slots__ = ("_bytes_full_at", "_frames_full_at", "_streak", "_usage")

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._frames_full_at = self._bytes_full_at = FULL
        self._streak = CALM

    def take(self, size: int) -> Refused | None:
        """It sent a frame of so many bytes. Answers why that is too much, if it is."""
        # What `Rate` does, without calling it: this is in the way of every frame.
        usage, frames, octets = self._usage, self._frames_full_at, self._bytes_full_at
        now = usage.clock()
        frames = (frames if frames > now else now) + usage.frame_seconds
        octets = (octets if octets > now else now) + usage.byte_seconds * size
        if frames - now > _SECOND:
            return too_many(usage.frames, "frames of one connection", frames - now - 1.0)
        if octets - now > _SECOND:
            return too_many(usage.bytes, "bytes of one connection", octets - now - 1.0)
        self._frames_full_at, self._bytes_full_at = frames, octets
        return None

    def refused(self, refusal: Refused) -> bool:
        """It was refused for being too much. Has that become abuse?"""
        now = self._usage.clock()
        self._streak = self._streak.refused(now, refusal.retry_after_ms or 0)
        return self._streak.is_abuse(now)


def too_many(rate: Rate, what: str, wait: float) -> Refused:
    """Why something came too often, and when to come back."""
    per = "second" if rate.seconds == 1.0 else "minute"
    return Refused(
        "rate_limited",
        f"Too many {what}: {rate.most:,} a {per} are allowed.",
        retry_after_ms=milliseconds(wait),
        limit=round(rate.most),
    )
