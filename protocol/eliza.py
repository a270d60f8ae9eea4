"""The rules of the ElizaOS surface: what a request means, what is refused in which words, and how sessions
and messages are shown.

Positions in a history (`before`, `after`) are milliseconds since 1970. Lengths are counted as JavaScript
does: in UTF-16 units.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID, uuid5

from msgspec import UNSET, UnsetType, json

from . import frames, records
from .eliza_shapes import Answered, Sent, SentData, SessionInfo, Shown, Status, UserMessage
from .errors import Refused
from .lifetime import Life, Terms, is_near, remaining

__all__ = [
    "Channel",
    "actions",
    "agent_named",
    "agent_uuid",
    "between",
    "cannot_renew",
    "channel",
    "channel_id",
    "check_content",
    "check_metadata",
    "content_of",
    "date",
    "error_code",
    "given",
    "invalid",
    "kept",
    "message_id",
    "millis",
    "moment",
    "page_size",
    "reworded",
    "sent",
    "session_info",
    "shown",
    "status_of",
    "transport",
    "units",
    "user_message",
    "whose",
]

MAX_CONTENT = 4_000
MAX_METADATA = 10_240
"""UTF-16 units."""

_NAMES = UUID("6f1d2c34-7a5b-5e0a-9a64-7472756e6b6c")
_NO_SERVER = UUID(int=0)
_SLACK = 1e-3
"""Of a millisecond: what a time in seconds is off by, having been given in milliseconds."""
_BARE = "\x00"
"""Under this name is kept what a client gave as metadata that is no object."""

# ── Names and numbers ───────────────────────────────────────────────────────────────────────────────────────


def agent_uuid(name: str) -> str:
    """The UUID of an agent, for clients that take nothing else."""
    return str(uuid5(_NAMES, f"agent/{name}"))


def channel_id(agent: str, user: str, session_id: str) -> str:
    """The channel of a session: derived, since there is nothing else to it."""
    return str(uuid5(_NAMES, f"channel/{agent}/{user}/{session_id}"))


def message_id(channel: str, turn_id: str, *, is_agent: bool) -> str:
    """A message's id: the same for as long as it is kept."""
    return str(uuid5(UUID(channel), f"{'agent' if is_agent else 'user'}/{turn_id}"))


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


# ── What a request means ────────────────────────────────────────────────────────────────────────────────────


def whose(body: dict[str, Any]) -> tuple[str, str]:
    """The agent and the user that a new session is for. Raises `Refused`."""
    agent, user = body.get("agentId"), body.get("userId")
    if not (isinstance(agent, str) and agent and isinstance(user, str) and user):
        missing = {"missingFields": ["agentId", "userId"]}
        raise Refused("bad_request", "Missing required fields: agentId, userId", details=missing)
    return agent, user


def agent_named(name: str, agents: Sequence[str]) -> str:
    """The agent of that name, or of the UUID that is made of its name. Raises `Refused`."""
    found = {agent_uuid(agent): agent for agent in agents}.get(name.lower(), name)
    if found not in agents:
        raise Refused("agent_not_found", f"Agent with ID '{name[:64]}' not found")
    return found


def transport(value: Any, mode: Any) -> Literal["http", "sse", "websocket"]:
    """How a message is to be answered. Raises `Refused`."""
    wanted = mode if value is None else value
    if wanted is None:
        return "websocket"
    if not isinstance(wanted, str) or wanted not in _TRANSPORTS:
        raise invalid("content", f"Invalid transport. Must be one of: {', '.join(_TRANSPORTS)}")
    return _TRANSPORTS[wanted]


_TRANSPORTS: dict[str, Literal["http", "sse", "websocket"]] = {
    "http": "http",
    "sse": "sse",
    "websocket": "websocket",
    "sync": "http",
    "stream": "sse",
}


def content_of(body: dict[str, Any]) -> str:
    """What a message says, however long. Raises `Refused` if it says nothing."""
    content = body.get("content")
    if not isinstance(content, str):
        raise invalid("content", "Invalid message request format")
    return content


def check_content(content: str) -> None:
    """Raises `Refused` if a message is empty, or too long."""
    if not content:
        raise invalid("content", "Content cannot be empty")
    if units(content) > MAX_CONTENT:
        raise invalid("content", f"Content exceeds maximum length of {MAX_CONTENT} characters")


def check_metadata(metadata: Any) -> None:
    """Raises `Refused` if it is too large."""
    if metadata is not None and units(json.encode(metadata).decode()) > MAX_METADATA:
        raise invalid("metadata", f"Metadata exceeds maximum size of {MAX_METADATA} bytes")


def kept(metadata: Any) -> dict[str, Any]:
    """A session's metadata, as it is kept: an object, whatever a client gave."""
    if isinstance(metadata, dict) and _BARE not in metadata:
        return metadata
    return {_BARE: metadata} if metadata else {}


def given(metadata: dict[str, Any]) -> Any:
    """A session's metadata, as its client gave it."""
    return metadata.get(_BARE, metadata)


def page_size(limit: str | None) -> int:
    """How many messages a page has: what is no number is 50, what is out of bounds is cut."""
    number = re.match(r"\s*([+-]?[0-9]{1,9})", limit or "")
    return 50 if number is None else min(max(int(number[1]), 1), 100)


def moment(name: str, value: str | None) -> int | None:
    """A moment of the query in milliseconds since 1970, None if it is not there. Raises `Refused`."""
    if not value:
        return None
    if re.fullmatch(r"-?[0-9]{1,16}", value):
        at = int(value)
    else:
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            raise _bad_moment(name, "Must be a valid timestamp") from None
        at = round((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)
    if abs(at) > 8_640_000_000_000_000:  # beyond it JavaScript has no dates
        raise _bad_moment(name, "Invalid date from timestamp")
    return at


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
    "internal": "INTERNAL_SERVER_ERROR",
}


def error_code(code: str) -> str:
    """What a code is called here: those that ElizaOS has not got keep their names."""
    return _CODES.get(code, code.upper())


def invalid(what: str, reason: str) -> Refused:
    """Something of a request is not as it must be."""
    return Refused("bad_request", f"Invalid {what}: {reason}", details={"reason": reason})


def _bad_moment(name: str, reason: str) -> Refused:
    details = {"parameter": name, "reason": reason}
    return Refused("bad_request", f"Invalid pagination parameter '{name}': {reason}", details=details)


def reworded(refusal: Refused, session_id: str) -> Refused:
    """A refusal of what was asked of that session, in ElizaOS's words. One that was deleted is not there."""
    match refusal.code:
        case "session_not_found" | "session_closed":
            return Refused("session_not_found", f"Session with ID '{session_id}' not found")
        case "session_expired":
            at = date(refusal.details["expires_at"])
            details = {"sessionId": session_id, "expiresAt": at}
            return Refused("session_expired", f"Session '{session_id}' expired at {at}", details=details)
        case _:
            return refusal


def cannot_renew(session_id: str, life: Life, now: float) -> Refused:
    """The session is at its maximum duration."""
    details = {
        "maxDuration": life.terms.max_duration_minutes,
        "createdAt": date(life.began),
        "timeSinceCreation": millis(now - life.began),
    }
    return Refused(
        "renewal_refused", f"Cannot renew session '{session_id}': Maximum duration reached", details=details
    )


# ── How sessions are shown ──────────────────────────────────────────────────────────────────────────────────


def session_info(
    agent: str,
    user: str,
    session_id: str,
    created_at: float,
    updated_at: float,
    metadata: dict[str, Any],
    life: Life | None,
    now: float,
) -> SessionInfo:
    """A session as it stands at `now`."""
    return SessionInfo(
        session_id=session_id,
        channel_id=channel_id(agent, user, session_id),
        agent_id=agent,
        user_id=user,
        created_at=date(created_at),
        last_activity=date(updated_at if life is None else life.last_activity),
        metadata=given(metadata),
        expires_at=None if life is None else date(life.expires_at),
        timeout_config=Terms() if life is None else life.terms,
        renewal_count=0 if life is None else life.renewal_count,
        time_remaining=None if life is None else millis(remaining(life, now)),
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


# ── How messages are shown ──────────────────────────────────────────────────────────────────────────────────


class Channel(NamedTuple):
    """A session, as far as its messages tell of it."""

    id: str
    agent: str
    user: str
    metadata: dict[str, Any]
    """What all of its messages have."""


def channel(agent: str, user: str, session_id: str, metadata: dict[str, Any], life: Life | None) -> Channel:
    """The channel of a session with that metadata, as it is kept."""
    own = given(metadata)
    told: dict[str, Any] = {"agentId": agent, "userId": user}
    if life is not None:
        told["timeoutConfig"] = life.terms
    told |= own if isinstance(own, dict) else {}
    told["sessionId"] = session_id  # whatever a client calls so
    return Channel(channel_id(agent, user, session_id), agent, user, told)


def user_message(where: Channel, said: frames.Message) -> UserMessage:
    """A user's message, as its sender is told of it."""
    own = said.metadata or {}
    raw: dict[str, Any] = {"content": said.content}
    if "attachments" in own:
        raw["attachments"] = own["attachments"]
    return UserMessage(
        id=message_id(where.id, said.turn_id, is_agent=False),
        content=said.content,
        authorId=where.user,
        createdAt=date(said.created_at),
        channelId=where.id,
        channel_id=where.id,
        message_server_id=str(_NO_SERVER),
        author_id=where.user,
        created_at=millis(said.created_at),
        source_type="user",
        raw_message=raw,
        metadata=where.metadata | own,
    )


def sent(message: UserMessage, status: Status, answered: Answered | UnsetType = UNSET) -> Sent:
    """A message, and what came of it."""
    return Sent(
        id=message.id,
        content=message.content,
        author_id=message.author_id,
        created_at=message.createdAt,
        metadata=message.metadata,
        user_message=message,
        agent_response=answered,
        session_status=status,
        data=SentData(user_message=message, agent_response=answered, session_status=status),
    )


def shown(
    where: Channel,
    record: records.Message | records.Terminal,
    tools: Sequence[records.ToolCall | records.ToolResult],
) -> Shown:
    """A message of the history."""
    is_agent = not isinstance(record, records.Message)
    metadata = dict(where.metadata)
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
            metadata |= {"status": "failed", "code": error_code(record.code)}
    if used := actions(tools):
        metadata["actions"] = used
    return Shown(
        id=message_id(where.id, record.turn_id, is_agent=is_agent),
        content=content,
        author_id=where.agent if is_agent else where.user,
        is_agent=is_agent,
        created_at=date(record.created_at),
        metadata=metadata,
    )


def actions(tools: Sequence[records.ToolCall | records.ToolResult]) -> list[str]:
    """The names of the tools that were used."""
    return [tool.name for tool in tools if isinstance(tool, records.ToolCall)]
