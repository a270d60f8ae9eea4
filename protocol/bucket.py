"""Token buckets, and who goes on though told to wait: arithmetic on times that are passed in.

The whole state of a bucket is the time at which it will be full again (the generic cell rate algorithm of
ITU-T I.371, turned round), so that one that is full is no state at all.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

__all__ = ["CALM", "FULL", "GRAIN", "Rate", "Streak", "milliseconds"]

FULL = 0.0
"""`full_at` of a bucket from which nothing was taken yet."""
GRAIN = 1e-6
"""Seconds that do not count: a sum of many costs is that inexact, and the last of them must not be
refused."""
PAUSE = 1.0
"""Seconds that whoever is refused is told to wait at the least."""
ABUSE = 60.0
"""Seconds for which somebody goes on without a pause, until that is abuse."""


class Rate(NamedTuple):
    """So much may come within so many seconds: all of it at once, and the next as the bucket fills again."""

    most: float
    seconds: float = 1.0

    def wait(self, full_at: float, now: float, cost: float = 1.0) -> float:
        """Seconds until the bucket that is full at `full_at` holds `cost`; 0.0: it does. It never holds more
        than `most`."""
        wait = max(0.0, full_at - now) + cost * self.seconds / self.most - self.seconds
        return wait if wait > GRAIN else 0.0

    def take(self, full_at: float, now: float, cost: float = 1.0) -> float:
        """When the bucket will be full again, after `cost` was taken."""
        return max(full_at, now) + cost * self.seconds / self.most


def milliseconds(wait: float) -> int:
    """What somebody is told who has to wait so many seconds."""
    return max(round(PAUSE * 1000), int(wait * 1000) + 1)


class Streak(NamedTuple):
    """Refusals of one peer, each of which came before the wait of the one before it was over."""

    began: float
    until: float
    """When the last wait ends."""

    def refused(self, now: float, retry_after_ms: int) -> Streak:
        """It was refused again, and told to wait so long."""
        return Streak(self.began if now < self.until else now, now + retry_after_ms / 1000)

    def is_abuse(self, now: float) -> bool:
        """Has it gone on for a minute?"""
        return now - self.began >= ABUSE


CALM = Streak(inf, -inf)
"""Never refused."""
