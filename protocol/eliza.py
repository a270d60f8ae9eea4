"""The shapes of the ElizaOS surface: what its requests hold, and what is answered.

Dates are ISO 8601 in UTC to the millisecond, with a `Z`; durations in a configuration are minutes, what is
left of a life is milliseconds; so are the positions `before` and `after`. Lengths are counted as JavaScript
does: in UTF-16 units.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid5

from msgspec import UNSET, Meta, Struct, UnsetType, json

from . import records
from .errors import Refused
from .lifetime import Life, Terms, is_near, remaining

__all__ = [
    "AllPage",
    "Answered",
    "ApiError",
    "Deleted",
    "Failure",
    "Health",
    "History",
    "Listed",
    "Made",
    "Make",
    "MessagesPage",
    "Say",
    "Sent",
    "SentData",
    "SessionInfo",
    "Shown",
    "Status",
    "UserMessage",
    "agent_uuid",
    "between",
    "channel_of",
    "check_content",
    "check_metadata",
    "date",
    "error_code",
    "message_id",
    "millis",
    "moment",
    "page_size",
    "session_info",
    "shown",
    "status_of",
    "transport",
    "units",
    "user_message",
]

MAX_CONTENT = 4_000
MAX_METADATA = 10_240
"""UTF-16 units."""

_NAMES = UUID("6f1d2c34-7a5b-5e0a-9a64-7472756e6b6c")
_NO_SERVER = UUID(int=0)
_SLACK = 1e-3
"""Of a millisecond: what a time in seconds is off by, having been given in milliseconds."""

# ── What requests hold ──────────────────────────────────────────────────────────────────────────────────────

Transport = Literal["http", "sse", "websocket"]


class Make(Struct, frozen=True, rename="camel"):
    """A new session."""

    agent_id: Annotated[str, Meta(description="An agent's name, or the UUID that is made of it.")]
    user_id: Annotated[str, Meta(description="Whose session it is.")]
    metadata: Any = None
    timeout_config: Any = None


class Say(Struct, frozen=True, omit_defaults=True):
    """A message."""

    content: str
    attachments: list[Any] | None = None
    metadata: Any = None
    transport: Literal["http", "sse", "websocket", "sync", "stream"] | None = None
    """How it is answered: `http` waits, `sse` streams, `websocket` answers at once and leaves the rest to a
    socket."""
    mode: Literal["http", "sse", "websocket", "sync", "stream"] | None = None
    """The same, where `transport` is not given."""


class AllPage(Struct, frozen=True):
    """A page of all sessions."""

    limit: Annotated[int, Meta(ge=1, le=1_000)] = 1_000
    cursor: str | None = None
    """The `nextCursor` of the page before."""


class MessagesPage(Struct, frozen=True):
    """Which messages: the newest, those before or after a moment, or from an exact place."""

    limit: str | None = None
    """1–100, by default 50; what is beyond is cut."""
    before: str | None = None
    """Milliseconds since 1970, or a date in ISO 8601."""
    after: str | None = None
    cursor: str | None = None
    """The `cursor` of the page before."""


# ── What is answered ────────────────────────────────────────────────────────────────────────────────────────


class Made(Struct, frozen=True, rename="camel"):
    """A session that was made."""

    session_id: str
    channel_id: str
    agent_id: str
    user_id: str
    created_at: str
    metadata: Any
    expires_at: str | None
    timeout_config: Terms


class SessionInfo(Struct, frozen=True, rename="camel"):
    """A session, and where it stands in its life."""

    session_id: str
    channel_id: str
    agent_id: str
    user_id: str
    created_at: str
    last_activity: str
    metadata: Any
    expires_at: str | None
    timeout_config: Terms
    renewal_count: int
    time_remaining: int | None
    """Milliseconds."""
    is_near_expiration: bool


class Status(Struct, frozen=True, rename="camel"):
    """What a message did to its session's life."""

    expires_at: str | None
    renewal_count: int
    was_renewed: bool
    is_near_expiration: bool


class UserMessage(Struct, frozen=True, omit_defaults=True):
    """A user's message, in the names of both kinds of readers."""

    id: str
    content: str
    authorId: str  # noqa: N815
    createdAt: str  # noqa: N815
    channelId: str  # noqa: N815
    channel_id: str
    message_server_id: str
    author_id: str
    created_at: int
    """Milliseconds since 1970."""
    source_type: str
    raw_message: dict[str, Any]
    metadata: dict[str, Any]


class Answered(Struct, frozen=True, omit_defaults=True):
    """What an agent said."""

    text: str
    thought: str | None = None
    actions: list[str] | None = None
    """The tools that it used."""


class SentData(Struct, frozen=True, rename="camel"):
    """A message that was sent, and what came of it."""

    success: bool
    user_message: UserMessage
    session_status: Status
    agent_response: Answered | UnsetType = UNSET


class Sent(Struct, frozen=True, rename="camel"):
    """The same in three shapes at once: what the documentation says, what the server answers, and what the
    npm client takes out of `data`."""

    success: bool
    id: str
    content: str
    author_id: str
    created_at: str
    metadata: dict[str, Any]
    user_message: UserMessage
    session_status: Status
    data: SentData
    agent_response: Answered | UnsetType = UNSET


class Shown(Struct, frozen=True, rename="camel"):
    """A message of the history."""

    id: str
    content: str
    author_id: str
    is_agent: bool
    created_at: str
    metadata: dict[str, Any]


class Cursors(Struct, frozen=True):
    """When the oldest and the newest message of a page were said, in milliseconds since 1970."""

    before: int
    after: int


class History(Struct, frozen=True, rename="camel"):
    """A page of the history, newest first."""

    messages: list[Shown]
    has_more: bool
    cursors: Cursors | UnsetType = UNSET
    cursor: str | UnsetType = UNSET
    """Where the page ends, exactly; there if there is more."""


class Deleted(Struct, frozen=True):
    """A session that was deleted."""

    success: bool
    message: str
    data: dict[str, Any]


class Stats(Struct, frozen=True, rename="camel"):
    """How many sessions there are."""

    total_sessions: int
    active_sessions: int
    expired_sessions: int


class Listed(Struct, frozen=True, rename="camel"):
    """A page of all sessions."""

    sessions: list[SessionInfo]
    total: int
    stats: Stats
    next_cursor: str | UnsetType = UNSET


class Health(Struct, frozen=True, rename="camel"):
    """Whether all is well, and how many sessions there are."""

    status: Literal["healthy", "degraded"]
    active_sessions: int
    timestamp: str
    expiring_soon: int
    uptime: float
    """Seconds."""


class Failure(Struct, frozen=True, omit_defaults=True):
    """Why something was refused."""

    code: str
    message: str
    timestamp: str
    details: dict[str, Any] | None = None


class ApiError(Struct, frozen=True):
    """A refusal."""

    error: Failure


# ── Names and numbers ───────────────────────────────────────────────────────────────────────────────────────


def agent_uuid(name: str) -> str:
    """The UUID of an agent, for clients that take nothing else."""
    return str(uuid5(_NAMES, f"agent/{name}"))


def channel_of(agent: str, user: str, session_id: str) -> str:
    """The channel of a session: derived, since there is nothing else to it."""
    return str(uuid5(_NAMES, f"channel/{agent}/{user}/{session_id}"))


def message_id(channel_id: str, turn_id: str, *, is_agent: bool) -> str:
    """A message's id: the same for as long as it is kept."""
    return str(uuid5(UUID(channel_id), f"{'agent' if is_agent else 'user'}/{turn_id}"))


def date(seconds: float) -> str:
    """Unix seconds as a date."""
    shown = datetime.fromtimestamp(millis(seconds) / 1000, UTC)
    return shown.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def millis(seconds: float) -> int:
    """Unix seconds as milliseconds: whole ones, as they are shown and compared."""
    return int(seconds * 1000 + _SLACK)


def units(text: str) -> int:
    """The length of a text in UTF-16 units."""
    return len(text) + sum(char > "\uffff" for char in text)


def between(before: int | None, after: int | None) -> tuple[float | None, float | None]:
    """Those moments as Unix seconds, so that what is shown to be strictly before the first, and strictly
    after the second, is so in seconds too."""
    earlier = None if before is None else (before - _SLACK) / 1000
    later = None if after is None else (after + 1 - 1.5 * _SLACK) / 1000
    return earlier, later


# ── What is refused ─────────────────────────────────────────────────────────────────────────────────────────

_CODES = {
    "session_not_found": "SESSION_NOT_FOUND",
    "session_expired": "SESSION_EXPIRED",
    "agent_not_found": "AGENT_NOT_FOUND",
    "renewal_refused": "SESSION_RENEWAL_FAILED",
    "bad_request": "VALIDATION_ERROR",
    "bad_frame": "VALIDATION_ERROR",
    "bad_id": "VALIDATION_ERROR",
    "frame_too_large": "VALIDATION_ERROR",
    "message_too_large": "VALIDATION_ERROR",
}


def error_code(code: str) -> str:
    """What a code is called here: those that ElizaOS has not got keep their names."""
    return _CODES.get(code, code.upper())


def transport(value: Any, mode: Any) -> Transport:
    """How a message is to be answered. Raises `Refused`."""
    given = mode if value is None else value
    if given is None:
        return "websocket"
    if given not in _TRANSPORTS:
        raise _invalid("content", f"Invalid transport. Must be one of: {', '.join(_TRANSPORTS)}")
    return _TRANSPORTS[given]


_TRANSPORTS: dict[Any, Transport] = {
    "http": "http",
    "sse": "sse",
    "websocket": "websocket",
    "sync": "http",
    "stream": "sse",
}


def check_content(content: str) -> None:
    """Raises `Refused` if a message is empty, or too long."""
    if not content:
        raise _invalid("content", "Content cannot be empty")
    if units(content) > MAX_CONTENT:
        raise _invalid("content", f"Content exceeds maximum length of {MAX_CONTENT} characters")


def check_metadata(metadata: Any) -> None:
    """Raises `Refused` if it is too large."""
    if metadata is not None and units(json.encode(metadata).decode()) > MAX_METADATA:
        raise _invalid("metadata", f"Metadata exceeds maximum size of {MAX_METADATA} bytes")


def _invalid(what: str, reason: str) -> Refused:
    return Refused("bad_request", f"Invalid {what}: {reason}", details={"reason": reason})


def page_size(limit: str | None) -> int:
    """How many messages a page has: what is no number is 50, what is out of bounds is cut."""
    number = re.match(r"\s*([+-]?[0-9]{1,9})", limit or "")
    return 50 if number is None else min(max(int(number[1]), 1), 100)


def moment(name: str, given: str | None) -> int | None:
    """A moment of the query in milliseconds since 1970, None if it is not there. Raises `Refused`."""
    if not given:
        return None
    if re.fullmatch(r"-?[0-9]{1,16}", given):
        at = int(given)
    else:
        try:
            parsed = datetime.fromisoformat(given)
        except ValueError:
            raise _bad_moment(name, "Must be a valid timestamp") from None
        at = round((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)
    if abs(at) > 8_640_000_000_000_000:
        raise _bad_moment(name, "Invalid date from timestamp")
    return at


def _bad_moment(name: str, reason: str) -> Refused:
    details = {"parameter": name, "reason": reason}
    return Refused("bad_request", f"Invalid pagination parameter '{name}': {reason}", details=details)


# ── What is shown ───────────────────────────────────────────────────────────────────────────────────────────


def session_info(
    agent: str,
    user: str,
    session_id: str,
    created_at: float,
    updated_at: float,
    metadata: Any,
    life: Life | None,
    now: float,
) -> SessionInfo:
    """A session as it stands at `now`."""
    return SessionInfo(
        session_id=session_id,
        channel_id=channel_of(agent, user, session_id),
        agent_id=agent,
        user_id=user,
        created_at=date(created_at),
        last_activity=date(updated_at if life is None else life.last_activity),
        metadata=metadata,
        expires_at=None if life is None else date(life.expires_at),
        timeout_config=Terms() if life is None else life.terms,
        renewal_count=0 if life is None else life.renewal_count,
        time_remaining=None if life is None else int(remaining(life, now) * 1000),
        is_near_expiration=is_near(life, now),
    )


def status_of(before: Life | None, after: Life | None, now: float) -> Status:
    """What came of a life that was `before` and is `after` a message."""
    count = 0 if after is None else after.renewal_count
    return Status(
        expires_at=None if after is None else date(after.expires_at),
        renewal_count=count,
        was_renewed=before is not None and count > before.renewal_count,
        is_near_expiration=is_near(after, now),
    )


def user_message(
    channel_id: str, user: str, turn_id: str, content: str, metadata: dict[str, Any], at: float
) -> UserMessage:
    """A message of a user's, as its sender is told of it."""
    raw: dict[str, Any] = {"content": content}
    if "attachments" in metadata:
        raw["attachments"] = metadata["attachments"]
    return UserMessage(
        id=message_id(channel_id, turn_id, is_agent=False),
        content=content,
        authorId=user,
        createdAt=date(at),
        channelId=channel_id,
        channel_id=channel_id,
        message_server_id=str(_NO_SERVER),
        author_id=user,
        created_at=millis(at),
        source_type="user",
        raw_message=raw,
        metadata=metadata,
    )


def shown(
    channel_id: str,
    agent: str,
    user: str,
    record: records.Message | records.Terminal,
    tools: Sequence[records.ToolCall | records.ToolResult],
    beside: dict[str, Any],
) -> Shown:
    """A message of the history; `beside` is what all of the session's have in their metadata."""
    is_agent = not isinstance(record, records.Message)
    metadata = dict(beside)
    match record:
        case records.Message():
            content = record.content
            metadata |= record.metadata or {}
        case records.Response():
            content = record.content
            metadata |= {"status": record.status, **(record.metadata or {})}
            if record.thought:
                metadata["thought"] = record.thought
        case records.Failed():
            content = record.partial
            metadata |= {"status": "failed", "code": record.code}
    if used := actions(tools):
        metadata["actions"] = used
    return Shown(
        id=message_id(channel_id, record.turn_id, is_agent=is_agent),
        content=content,
        author_id=agent if is_agent else user,
        is_agent=is_agent,
        created_at=date(record.created_at),
        metadata=metadata,
    )


def actions(tools: Sequence[records.ToolCall | records.ToolResult]) -> list[str]:
    """The names of the tools that were used."""
    return [tool.name for tool in tools if isinstance(tool, records.ToolCall)]
