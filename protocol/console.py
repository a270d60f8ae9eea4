"""What an operator's page and the gateway say to each other over `/console/ws`, and what it is not shown.

It is a line like any other, but for this: the client follows one session at a time, whosever it is; it gets
figures every second; and of frames it sees that they went by, not what was said in them. Times are Unix
seconds, durations seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from .diagnose import explain, malformed, told_in
from .errors import Refused
from .frames import Hello, Ping
from .ids import AgentName, Ref, SessionId, TurnId, UserId

__all__ = [
    "About",
    "Cancel",
    "Close",
    "Command",
    "Errand",
    "Figures",
    "List",
    "Listed",
    "Row",
    "Spread",
    "Unwatch",
    "Watch",
    "Which",
    "decode",
    "redacted",
]

# ── What the page asks ──────────────────────────────────────────────────────────────────────────────────────


class List(Struct, tag_field="type", tag="list", frozen=True):
    """Which sessions there are, those that run first; answered by `sessions`."""

    search: Annotated[str, Meta(max_length=256)] = ""
    """A part of an id, a user or an agent."""
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    ref: Ref | None = None


class Which(Struct, frozen=True, kw_only=True):
    """What names its session in full: it is one among all users'."""

    agent: AgentName
    user: UserId
    session_id: SessionId
    ref: Ref | None = None


class Watch(Which, tag_field="type", tag="watch", frozen=True, kw_only=True):
    """Follow that session, from some records ago, and no other."""


class Unwatch(Struct, tag_field="type", tag="unwatch", frozen=True):
    """Follow nothing."""

    ref: Ref | None = None


class Cancel(Which, tag_field="type", tag="cancel", frozen=True, kw_only=True):
    """Stop that turn, or the one that runs."""

    turn_id: TurnId | None = None


class Close(Which, tag_field="type", tag="close", frozen=True, kw_only=True):
    """End that session, and delete what was said in it."""


Errand: TypeAlias = List | Watch | Unwatch | Cancel | Close
Command: TypeAlias = Hello | Ping | Errand

_decoder: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)


def decode(data: str | bytes, limit: int) -> Command:
    """What the page sent, at most `limit` bytes. Raises `Refused`, which says what is wrong with it."""
    text = data.encode("utf-8", "replace") if isinstance(data, str) else data
    if len(text) > limit:
        raise Refused("frame_too_large", f"A frame may have {limit:,} bytes.", limit=limit)
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError as error:
        refusal = explain(error, Command, "The frame")
        code = "bad_id" if refusal.code == "bad_id" else "bad_frame"
        raise Refused(code, refusal.content, **told_in(text)) from None
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Refused("bad_frame", f"The frame is not JSON: {malformed(error)}.") from None


# ── What it is told ─────────────────────────────────────────────────────────────────────────────────────────


class About(Struct, tag_field="type", tag="about", frozen=True):
    """What is watched here; comes after `connected`."""

    version: str
    node: str
    agents: list[str]
    contents: bool
    """Is it shown what was said?"""


class Spread(Struct, frozen=True):
    """How some durations are spread: half of them, and all but one of a hundred, are no longer than this."""

    p50: float | None
    p99: float | None


class Figures(Struct, tag_field="type", tag="figures", frozen=True, kw_only=True):
    """The gateway at one moment: what is, how much came per second since the last figures, and how long
    things took in the last ten of them."""

    at: float
    connections: int
    sessions: int
    """Those that are live: used by somebody, or at work."""
    turns_running: int
    turns_waiting: int
    readers_lagging: int
    """Sessions that have news for a line that does not take them."""
    deltas_per_second: float
    frames_out_per_second: float
    frames_in_per_second: float
    bytes_out_per_second: float
    errors_per_second: float
    first_delta: Spread
    gap: Spread
    """Between two deltas of one turn."""
    coalescing: float | None
    """How many deltas were sent as one, on the average of the last ten; None if none was."""
    event_loop_lag: float
    memory: int
    """Bytes."""
    cpu: float
    """Seconds of it per second."""
    errors: dict[str, int]
    """By code, since the gateway was started."""


class Row(Struct, frozen=True, kw_only=True):
    """A session in the table."""

    agent: str
    user: str
    session_id: str
    label: str | None
    """None also where contents are not shown: it was given by whoever talks there."""
    messages: int
    created_at: float
    updated_at: float
    expires_at: float | None
    live: bool
    running: str | None
    """Which turn runs."""
    waiting: int
    readers: int


class Listed(Struct, tag_field="type", tag="sessions", frozen=True):
    """The answer to `list`."""

    sessions: list[Row]
    looked_at: int
    """How many of the newest sessions were looked at, beside those that are live."""
    complete: bool
    """There are no others that fit."""
    ref: Ref | None = None


# ── What it is not told ─────────────────────────────────────────────────────────────────────────────────────

_SHOWN = frozenset(
    (
        *("type", "ref", "session_id", "turn_id", "cursor", "at", "created_at", "replaces", "role", "author"),
        *("agent", "mode", "reason", "status", "state", "queued", "has_more", "duplicate"),
        *("tool_call_id", "name", "is_error", "input_tokens", "output_tokens", "timing"),
        *("code", "retryable", "retry_after_ms", "limit"),
        *("expires_at", "renewal_count", "minutes_remaining"),
    )
)
"""The fields of a session's frames that say nothing of what was said. Whatever else there is, now or one day,
may."""


def redacted(frame: dict[str, Any]) -> dict[str, Any]:
    """A frame of a session without its contents: of each only how large it is (a text: in characters,
    anything else: in bytes of JSON), as `{"hidden": 12}`."""
    return {name: value if name in _SHOWN else _hidden(name, value) for name, value in frame.items()}


def _hidden(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in ("messages", "tools") and isinstance(value, list):
        return [redacted(one) for one in value]
    return {"hidden": len(value) if isinstance(value, str) else len(msgspec.json.encode(value))}
