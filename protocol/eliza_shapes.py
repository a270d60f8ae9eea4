"""The shapes of the ElizaOS surface: what its requests hold, and what is answered.

Dates are ISO 8601 in UTC to the millisecond, with a `Z`; durations in a configuration are minutes, what is
left of a life is milliseconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from .ids import AgentName
from .lifetime import Terms

__all__ = [
    "AllPage",
    "Answered",
    "ApiError",
    "Chunk",
    "Cursors",
    "Deleted",
    "Done",
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
    "Stats",
    "Status",
    "StreamError",
    "UserMessage",
    "Which",
]

Moment = Annotated[str, Meta(description="Milliseconds since 1970, or a date in ISO 8601.")]
Transport = Literal["http", "sse", "websocket", "sync", "stream"]

# ── What requests hold ──────────────────────────────────────────────────────────────────────────────────────


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
    transport: Transport | None = None
    """How it is answered: `http` waits, `sse` streams, `websocket` answers at once and leaves the rest to a
    socket."""
    mode: Transport | None = None
    """The same, where `transport` is not given."""


class Which(Struct, frozen=True):
    """Which session."""

    agent: Annotated[
        AgentName | None, Meta(description="Whose session, where the id alone means several.")
    ] = None


class MessagesPage(Which, frozen=True):
    """Which messages: the newest, those before or after a moment, or from an exact place."""

    limit: Annotated[str | None, Meta(description="1–100, by default 50; what is beyond is cut.")] = None
    before: Moment | None = None
    after: Moment | None = None
    cursor: Annotated[
        str | None, Meta(description="The `cursor` of the page before; with the same `before` and `after`.")
    ] = None

    @property
    def forward(self) -> bool:
        """From a moment on, oldest first; else from the end, or from a moment, back."""
        return bool(self.after) and not self.before


class AllPage(Struct, frozen=True):
    """A page of all sessions."""

    limit: Annotated[int, Meta(ge=1, le=1_000, description="How many at the most.")] = 1_000
    cursor: Annotated[str | None, Meta(description="The `nextCursor` of the page before.")] = None


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


class UserMessage(Struct, frozen=True):
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


class SentData(Struct, frozen=True, rename="camel", kw_only=True):
    """A message that was sent, and what came of it."""

    success: bool = True
    user_message: UserMessage
    agent_response: Answered | UnsetType = UNSET
    session_status: Status


class Sent(Struct, frozen=True, rename="camel", kw_only=True):
    """The same in three shapes at once: what the documentation says, what the server answers, and what the
    npm client takes out of `data`."""

    success: bool = True
    id: str
    content: str
    author_id: str
    created_at: str
    metadata: dict[str, Any]
    user_message: UserMessage
    agent_response: Answered | UnsetType = UNSET
    session_status: Status
    data: SentData


class Chunk(Struct, frozen=True, rename="camel"):
    """A piece of an answer, as it is streamed."""

    message_id: str
    chunk: str
    index: int


class StreamError(Struct, frozen=True):
    """Why a streamed answer failed."""

    error: str
    code: str


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
    """Where the page ends, exactly; there if there is more, or may be later."""


class Done(Struct, frozen=True):
    """It is done."""

    success: bool
    message: str


class Deleted(Done, frozen=True):
    """A session that was deleted; `data` is what the npm client takes."""

    data: Done


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
