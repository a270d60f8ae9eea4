"""The shapes of the native routes of sessions: what their requests hold, and what is answered.

They are OpenFang's where it has such a thing. Fields whose value nobody here knows are there and empty, for
clients that read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, json

from . import records
from .frames import HistoryMessage
from .ids import AgentName, Label, SessionId
from .view import history_message, tool_uses

__all__ = [
    "Conversation",
    "ConversationPage",
    "Deleted",
    "Done",
    "Following",
    "Labelled",
    "Listed",
    "Made",
    "Messages",
    "NewLabel",
    "NewSession",
    "Page",
    "PageBefore",
    "Sessions",
    "SessionsPage",
    "Shown",
    "ShownTool",
    "Stopped",
    "Which",
    "date",
    "shown",
]

Limit = Annotated[int, Meta(ge=1, le=1000, description="How many at the most.")]
Place = Annotated[str, Meta(description="The `next_cursor` of the page before.")]
Name = Annotated[AgentName | None, Meta(description="Whose session, where the id alone means several.")]
Date = Annotated[str, Meta(description="ISO 8601, in UTC.", extra_json_schema={"format": "date-time"})]

# ── What requests hold ──────────────────────────────────────────────────────────────────────────────────────


class Which(Struct, frozen=True):
    """Which session."""

    agent: Name = None


class Page(Struct, frozen=True):
    """A page of a list."""

    limit: Limit = 100
    cursor: Place | None = None


class SessionsPage(Page, frozen=True):
    """A page of all sessions, or of those of one agent."""

    agent: AgentName | None = None


class ConversationPage(Page, frozen=True):
    """A page of a conversation."""

    agent: Name = None


class PageBefore(Struct, frozen=True):
    """A page of a conversation."""

    limit: Limit = 100
    before: Annotated[str, Meta(description="The `before` of the page after it.")] | None = None
    agent: Name = None


class Following(Struct, frozen=True):
    """How to follow a session."""

    agent: Name = None
    cursor: Annotated[str, Meta(description="Where to go on from; `Last-Event-ID` wins over it.")] | None = (
        None
    )
    history: (
        Annotated[int, Meta(ge=0, description="Messages wanted where there is no usable cursor.")] | None
    ) = None
    create: Annotated[bool, Meta(description="Make the session, if it is not there.")] = False


class NewSession(Struct, frozen=True):
    """A session to be made."""

    label: Label | None = None
    session_id: SessionId | None = None


class NewLabel(Struct, frozen=True):
    """A session's new name."""

    label: Annotated[Label | None, Meta(description="null takes the name away.")]


# ── What is answered ────────────────────────────────────────────────────────────────────────────────────────


class Listed(Struct, frozen=True):
    """A session in a list."""

    session_id: str
    agent_id: str
    message_count: int
    created_at: Date
    label: str | None
    active: bool | UnsetType = UNSET
    """Is it the caller's active one with its agent? In the list of one agent only."""


class Sessions(Struct, frozen=True):
    """A page of sessions, newest first."""

    sessions: list[Listed]
    next_cursor: str | UnsetType = UNSET
    """What the next page is asked with; absent on the last."""


class ShownTool(Struct, frozen=True):
    """A tool that an agent used."""

    name: str
    input: Any
    result: str
    is_error: bool
    running: bool = False
    expanded: bool = False


class Shown(Struct, frozen=True):
    """A message of a conversation."""

    role: Literal["User", "Assistant"]
    content: str
    turn_id: str
    status: Literal["completed", "cancelled", "failed"] | UnsetType = UNSET
    """Of the assistant's."""
    tools: list[ShownTool] | UnsetType = UNSET


class Conversation(Struct, frozen=True):
    """A session and a page of its messages, oldest first."""

    session_id: str | None
    """null: there is no active session yet."""
    agent_id: str
    message_count: int
    label: str | None
    messages: list[Shown]
    created_at: Date | UnsetType = UNSET
    raw_message_count: int = 0
    context_window_tokens: int = 0
    """0: nobody counts them here."""
    next_cursor: str | UnsetType = UNSET
    """What the page of older messages is asked with; absent on the last."""


class Messages(Struct, frozen=True):
    """A page of messages as the protocol shows them, oldest first."""

    messages: list[HistoryMessage]
    has_more: bool
    before: str | UnsetType = UNSET
    """What the page of older ones is asked with."""


class Made(Struct, frozen=True):
    """A session was made, and is the active one."""

    session_id: str
    label: str | None
    agent_id: str


class Done(Struct, frozen=True):
    """It is done."""

    message: str
    session_id: str
    status: Literal["ok"] = "ok"


class Stopped(Struct, frozen=True):
    """Whether anything ran."""

    message: str
    stopped: bool
    session_id: str | None
    status: Literal["ok"] = "ok"


class Labelled(Struct, frozen=True):
    """The session has that name."""

    session_id: str
    label: str | None
    status: Literal["updated"] = "updated"


class Deleted(Struct, frozen=True):
    """The session is gone."""

    session_id: str
    status: Literal["deleted"] = "deleted"


# ── How they are made ───────────────────────────────────────────────────────────────────────────────────────


def date(seconds: float) -> str:
    """Unix seconds as a date in ISO 8601, in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def shown(
    record: records.Message | records.Terminal, tools: Sequence[records.ToolCall | records.ToolResult]
) -> Shown:
    """A message of the history in a conversation."""
    message = history_message(record, tools)
    return Shown(
        role="User" if message.role == "user" else "Assistant",
        content=message.content,
        turn_id=message.turn_id,
        status=message.status or UNSET,
        tools=[
            ShownTool(use.name, use.input, _text(use.content), use.is_error) for use in tool_uses(tools) or ()
        ]
        or UNSET,
    )


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.encode(content).decode()
