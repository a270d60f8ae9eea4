"""Lifetimes: how long a session lives, when it is warned of its end, and what makes it live on.

Three tiers say so, field by field: the session over its agent over the world. A session of which no tier
names a timeout lives for ever. Durations are minutes, moments Unix seconds; `now` is always passed in. The
rules and the names are those of ElizaOS' sessions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from .errors import Refused

__all__ = [
    "DEFAULTS",
    "Bounds",
    "Command",
    "Configure",
    "Life",
    "Renew",
    "Tend",
    "Terms",
    "Tiers",
    "after",
    "asked",
    "asked_anew",
    "begin",
    "due_at",
    "is_near",
    "is_over",
    "needs",
    "reconfigured",
    "remaining",
    "renewed",
    "tiers",
    "warn_at",
]

# ── What the tiers say ──────────────────────────────────────────────────────────────────────────────────────


class Terms(Struct, frozen=True, omit_defaults=True, rename="camel", gc=False):
    """What one tier says; None: nothing. Complete, what holds for a session."""

    timeout_minutes: float | None = None
    """How long after its last activity, or after its beginning, a session expires."""
    auto_renew: bool | None = None
    """Does activity move the expiry?"""
    max_duration_minutes: float | None = None
    """What no renewal moves the expiry beyond, counted from the beginning."""
    warning_threshold_minutes: float | None = None
    """How long before its expiry a session counts as expiring."""


DEFAULTS = Terms(30.0, True, 720.0, 5.0)
"""What the world says if nobody does."""


class Bounds(Struct, frozen=True):
    """Between what a session's timeout may be, in minutes."""

    min_timeout: float = 5.0
    max_timeout: float = 1440.0


class Tiers(Struct, frozen=True):
    """What agents and the world say, and what sessions may."""

    world: Terms = DEFAULTS
    """Complete."""
    explicit: bool = False
    """The world's timeout was given, and so holds for sessions that nobody gave one."""
    bounds: Bounds = Bounds()
    agents: dict[str, Terms] = {}
    cleanup_minutes: float | None = None
    """How often to look for what expired; None: as often as for anything else."""

    def terms(self, agent: str, session: Terms | None) -> Terms | None:
        """What holds for a session that itself says `session` (None: nothing was said about its lifetime, not
        even that the defaults may hold). None: it lives for ever."""
        own = self.agents.get(agent, Terms())
        if session is None and own.timeout_minutes is None and not self.explicit:
            return None
        return _over(session or Terms(), own, self.world)


def _over(first: Terms, *others: Terms) -> Terms:
    """The first tier that says something, field by field. A maximum duration that `first` gives is never
    below the timeout."""
    values = [
        next((value for tier in (first, *others) if (value := getattr(tier, name)) is not None), None)
        for name in Terms.__struct_fields__
    ]
    terms = Terms(*values)
    if first.max_duration_minutes is not None and terms.timeout_minutes is not None:
        longest = max(first.max_duration_minutes, terms.timeout_minutes)
        terms = replace(terms, max_duration_minutes=longest)
    return terms


# ── What a client asks for ──────────────────────────────────────────────────────────────────────────────────


def asked(body: Any, tiers: Tiers) -> Terms:
    """What the `timeoutConfig` of a new session says: out of bounds is clamped, what is no number is the
    world's, what is no object says nothing. Raises `Refused` only if `autoRenew` is no boolean."""
    if not isinstance(body, Mapping):
        return Terms()
    low, high = tiers.bounds.min_timeout, tiers.bounds.max_timeout
    return _asked(body, tiers, timeout=lambda minutes: min(max(minutes, low), high))


def asked_anew(body: Any, tiers: Tiers) -> Terms:
    """What a change of a session's `timeoutConfig` says. Raises `Refused` for a timeout out of bounds, and
    for what is neither a number nor a text."""
    if not isinstance(body, Mapping):
        raise Refused("bad_request", "The timeout configuration must be an object.")
    for name in _NUMBERS:
        if name in body and (isinstance(body[name], bool) or not isinstance(body[name], int | float | str)):
            raise Refused("bad_request", f"{name}: expected a number.")
    low, high = tiers.bounds.min_timeout, tiers.bounds.max_timeout

    def within(minutes: float) -> float:
        if not low <= minutes <= high:
            raise Refused("bad_request", f"Timeout must be between {low:g} and {high:g} minutes.")
        return minutes

    return _asked(body, tiers, timeout=within)


_NUMBERS = ("timeoutMinutes", "maxDurationMinutes", "warningThresholdMinutes")


def _asked(body: Mapping[str, Any], tiers: Tiers, timeout: Any) -> Terms:
    auto_renew = body.get("autoRenew")
    if "autoRenew" in body and not isinstance(auto_renew, bool):
        raise Refused("bad_request", "autoRenew: expected true or false.")
    longest = 2 * tiers.bounds.max_timeout
    rules = timeout, lambda minutes: min(max(minutes, 0.0), longest), lambda minutes: max(minutes, 1.0)
    fields = Terms.__struct_fields__[0], *Terms.__struct_fields__[2:]
    values = {}
    for name, field, rule in zip(_NUMBERS, fields, rules, strict=True):
        if name in body:
            minutes = _number(body[name])
            values[field] = getattr(tiers.world, field) if minutes is None else rule(minutes)
    return Terms(auto_renew=auto_renew, **values)


_MOST = 1e15
"""Minutes that any greater number means: with an infinity there is no reckoning, and JSON has none."""


def _number(value: Any) -> float | None:
    """A number, or a text in decimals; null counts as 0, as it does in JavaScript. None for all else."""
    match value:
        case bool():
            return None
        case int() | float():
            return float(min(max(value, -_MOST), _MOST))
        case str() if re.fullmatch(r"\s*-?[0-9]{1,15}(\.[0-9]{1,15})?\s*", value):
            return float(value)
        case None:
            return 0.0
        case _:
            return None


# ── What the environment says ───────────────────────────────────────────────────────────────────────────────

WORLD = {
    "SESSION_DEFAULT_TIMEOUT_MINUTES": (30.0, 1, 10_080),
    "SESSION_MIN_TIMEOUT_MINUTES": (5.0, 1, 60),
    "SESSION_MAX_TIMEOUT_MINUTES": (1440.0, 60, 10_080),
    "SESSION_MAX_DURATION_MINUTES": (720.0, 60, 20_160),
    "SESSION_WARNING_THRESHOLD_MINUTES": (5.0, 1, 60),
    "SESSION_CLEANUP_INTERVAL_MINUTES": (None, 1, 60),
}
"""The world's variables: the default, and the bounds that what is given is clamped to."""


def tiers(environ: Mapping[str, str], agents: Iterable[str]) -> Tiers:
    """What the environment says: `SESSION_…` of the world, `<NAME>_SESSION_…` or `CHARACTER.<NAME>.SESSION_…`
    of the agents, NAME being in capitals and with `_` for everything but letters and digits. What is no
    number is as if not given."""
    timeout, low, high, duration, warning, cleanup = (
        default if (given := _number(environ.get(name) or "")) is None else min(max(given, lowest), highest)
        for name, (default, lowest, highest) in WORLD.items()
    )
    bounds = Bounds(low or 0.0, high or 0.0)
    return Tiers(
        world=Terms(timeout, True, duration, warning),
        explicit=_number(environ.get("SESSION_DEFAULT_TIMEOUT_MINUTES") or "") is not None,
        bounds=bounds,
        agents={agent: _agent_terms(environ, agent, bounds) for agent in agents},
        cleanup_minutes=cleanup,
    )


_ANYBODY = ("SESSION_TIMEOUT_MINUTES", "SESSION_AUTO_RENEW")
"""What without a name is every agent's; the other names, so, are the world's."""
_FLAGS = {"true": True, "false": False}


def _agent_terms(environ: Mapping[str, str], agent: str, bounds: Bounds) -> Terms:
    name = re.sub(r"[^A-Z0-9]", "_", agent.upper())

    def given(setting: str) -> Iterator[str]:
        for prefix in (f"{name}_", f"CHARACTER.{name}.", *([""] if setting in _ANYBODY else [])):
            yield environ.get(f"{prefix}{setting}") or ""

    def minutes(setting: str, low: float, high: float) -> float | None:
        numbers = (_number(value) for value in given(setting))
        return next((min(max(number, low), high) for number in numbers if number is not None), None)

    low, high = bounds.min_timeout, bounds.max_timeout
    renew = (_FLAGS.get(value.strip().lower()) for value in given("SESSION_AUTO_RENEW"))
    return Terms(
        minutes("SESSION_TIMEOUT_MINUTES", low, high),
        next((flag for flag in renew if flag is not None), None),
        minutes("SESSION_MAX_DURATION_MINUTES", low, 2 * high),
        minutes("SESSION_WARNING_THRESHOLD_MINUTES", 1, high),
    )


# ── A life ──────────────────────────────────────────────────────────────────────────────────────────────────


class Life(Struct, frozen=True, omit_defaults=True, gc=False):
    """How long a session lives, and how far it has come. Moments are Unix seconds."""

    terms: Terms
    """Complete."""
    began: float
    last_activity: float
    base: float
    """From where the timeout counts while activity does not move it: the beginning, or the last renewal by
    hand since then."""
    expires_at: float
    renewal_count: int = 0
    warned: bool = False
    """That it is expiring was announced."""


class Renew(Struct, frozen=True):
    """Somebody is there. `manual`: and wants the expiry to move, even if activity does not move it."""

    manual: bool = False


class Configure(Struct, frozen=True):
    """Other terms, where these say something."""

    terms: Terms


class Tend(Struct, frozen=True):
    """Do what time demands: warn, or expire."""


Command: TypeAlias = Renew | Configure | Tend


def begin(terms: Terms, began: float, now: float) -> Life:
    """The life under these complete terms of a session that began then."""
    return _expiring(Life(terms, began, now, began, 0.0))


def renewed(life: Life, now: float, *, manual: bool = False) -> Life:
    """Life after activity, or after a renewal by hand. Raises `Refused('renewal_refused')` if that is to move
    the expiry and cannot: it is at the maximum duration."""
    if not (manual or life.terms.auto_renew):
        return replace(life, last_activity=now)
    if life.expires_at >= _end(life):
        if manual:
            raise Refused(
                "renewal_refused", "The session is at its maximum duration.", expires_at=life.expires_at
            )
        return replace(life, last_activity=now)
    base = life.base if life.terms.auto_renew else now
    moved = replace(life, last_activity=now, base=base, renewal_count=life.renewal_count + 1, warned=False)
    return _expiring(moved)


def reconfigured(life: Life, terms: Terms, now: float) -> Life:
    """Life under other terms, where these say something."""
    changed = _expiring(replace(life, terms=_over(terms, life.terms)))
    return replace(changed, warned=life.warned and is_near(changed, now))


def _expiring(life: Life) -> Life:
    base = life.last_activity if life.terms.auto_renew else life.base
    return replace(life, expires_at=min(base + 60 * (life.terms.timeout_minutes or 0.0), _end(life)))


def _end(life: Life) -> float:
    return life.began + 60 * (life.terms.max_duration_minutes or 0.0)


def is_over(life: Life | None, now: float) -> bool:
    """Has it expired?"""
    return life is not None and life.expires_at <= now


def is_near(life: Life | None, now: float) -> bool:
    """Does it expire soon?"""
    return life is not None and warn_at(life) <= now < life.expires_at


def remaining(life: Life, now: float) -> float:
    """Seconds that are left."""
    return max(0.0, life.expires_at - now)


def warn_at(life: Life) -> float:
    """From when on it is expiring."""
    return life.expires_at - 60 * (life.terms.warning_threshold_minutes or 0.0)


def due_at(life: Life) -> float:
    """When somebody must look after it next."""
    return life.expires_at if life.warned else min(warn_at(life), life.expires_at)


def after(
    life: Life | None, command: Command, now: float, *, agent: str, began: float, tiers: Tiers
) -> Life | None:
    """The life of a session of that agent, which began then and is not over, after `command`. Raises
    `Refused('renewal_refused')`."""
    match command:
        case Configure(terms=terms) if life is None and terms != Terms():
            complete = tiers.terms(agent, terms)
            return None if complete is None else begin(complete, began, now)
        case Configure(terms=terms) if life is not None:
            return reconfigured(life, terms, now)
        case Renew(manual=manual) if life is not None:
            return renewed(life, now, manual=manual)
        case Tend() if life is not None and needs(life, now) == "warning":
            return replace(life, warned=True)
        case _:
            return life


def needs(life: Life | None, now: float) -> Literal["expiry", "warning"] | None:
    """What time demands."""
    if is_over(life, now):
        return "expiry"
    return "warning" if is_near(life, now) and life is not None and not life.warned else None
