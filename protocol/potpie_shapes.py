"""The shapes of the Potpie surface: what its requests hold, and what is answered.

Its front end reads some fields that mean nothing here (projects, attachments): they are there and empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from . import records
from .ids import AgentName, TurnId
from .native import date
from .potpie import POSITION
from .potpie_events import ToolStep, citations, tool_steps

__all__ = [
    "ActiveSession",
    "ConversationInfo",
    "ConversationMessage",
    "Detail",
    "MessageForm",
    "MessagesPage",
    "NoRun",
    "Node",
    "Regenerate",
    "Resume",
    "Stop",
    "Stopped",
    "Talk",
    "TaskStatus",
    "Which",
    "answer_id",
    "epoch_ms",
    "shown",
]

Agent = Annotated[
    AgentName | None, Meta(description="The agent of a new conversation, or of one of several with that id.")
]
Cursor = Annotated[
    str,
    Meta(
        pattern=POSITION,
        description="seq-offset, the `id` of the last event that was heard; what is told is after it",
    ),
]
Nothing = Annotated[list[Any], Meta(max_length=0, description="none: this gateway takes none")] | None
Millis = Annotated[int, Meta(description="Milliseconds since 1970.")]

# ── What requests hold ──────────────────────────────────────────────────────────────────────────────────────


class Which(Struct, frozen=True):
    """Which conversation."""

    agent: Agent = None


class Talk(Which, frozen=True):
    """How a message is to be answered."""

    stream: bool = True
    """As events, or as one document when the run is over."""
    session_id: TurnId | None = None
    """What the run is to be called."""
    prev_human_message_id: str | None = None
    """Of a run without a `session_id`: a part of its name."""
    cursor: Cursor | None = None
    """Only listen to that run, from there on: nothing is said."""


class Resume(Which, frozen=True):
    """From where a run is to be heard."""

    cursor: Cursor | None = None


class Stop(Which, frozen=True):
    """Which run is to be stopped; without a `session_id` the one that goes on."""

    session_id: TurnId | None = None


class MessagesPage(Which, frozen=True):
    """A page of a conversation, counted from its first message."""

    start: Annotated[int, Meta(ge=0, le=1 << 31)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 10


class Node(Struct, frozen=True):
    """A node of a project's graph that a message is about: given to the agent as metadata."""

    node_id: str
    name: str


class MessageForm(Struct, frozen=True):
    """A message, as a form or as JSON. Other fields are left alone."""

    content: str
    node_ids: list[Node] | None = None
    """In a form: as JSON text."""
    images: Nothing = None
    attachment_ids: Nothing = None


class Regenerate(Struct, frozen=True):
    """The last message is to be answered again."""

    node_ids: list[Node] | None = None


# ── What is answered ────────────────────────────────────────────────────────────────────────────────────────


class ActiveSession(Struct, frozen=True, rename="camel"):
    """The run of a conversation: the one that goes on, else the newest."""

    session_id: str
    status: Literal["active", "completed", "idle"]
    cursor: str
    """From where its answer can be rebuilt."""
    conversation_id: str
    started_at: Millis
    """When it was accepted."""
    last_activity: Millis
    """When it last produced something."""


class TaskStatus(Struct, frozen=True, rename="camel"):
    """How far that run is."""

    is_active: bool
    session_id: str
    estimated_completion: Millis
    """Of one that is over, when it was."""
    conversation_id: str


class Stopped(Struct, frozen=True):
    """What came of stopping."""

    message: str
    stopped: bool
    """There was something to stop."""
    saved_partial: bool = False
    """It had said something, which is kept."""
    message_id: str | None = None
    """Of what was kept."""
    status: Literal["success"] = "success"


class ConversationMessage(Struct, frozen=True):
    """One message of a conversation."""

    id: str
    conversation_id: str
    content: str
    sender_id: str | None
    type: Literal["HUMAN", "AI_GENERATED"]
    created_at: str
    citations: list[str]
    tool_calls: list[ToolStep]
    thinking: str | None
    status: Literal["ACTIVE"] = "ACTIVE"
    reason: None = None
    has_attachments: bool = False
    attachments: list[Any] = []


class ConversationInfo(Struct, frozen=True):
    """A conversation."""

    id: str
    title: str
    created_at: str
    updated_at: str
    total_messages: int
    agent_ids: list[str]
    is_creator: bool
    creator_id: str
    status: Literal["active"] = "active"
    access_type: Literal["write"] = "write"
    visibility: Literal["private"] = "private"
    project_ids: list[str] = []


class Detail(Struct, frozen=True):
    """Why something was refused."""

    detail: str


class NoRun(Struct, frozen=True, rename="camel"):
    """There is no such run, or no such conversation."""

    error: str
    conversation_id: str


def shown(
    record: records.Message | records.Terminal,
    tools: Sequence[records.ToolCall | records.ToolResult],
    conversation_id: str,
    user: str,
) -> ConversationMessage:
    """One message of the history."""
    said = isinstance(record, records.Message)
    answered = record if isinstance(record, records.Response) else None
    return ConversationMessage(
        id=record.turn_id if said else answer_id(record.turn_id),
        conversation_id=conversation_id,
        content=record.partial if isinstance(record, records.Failed) else record.content,
        sender_id=user if said else None,
        type="HUMAN" if said else "AI_GENERATED",
        created_at=date(record.created_at),
        citations=[] if answered is None else citations(answered.metadata),
        tool_calls=tool_steps(tools),
        thinking=None if answered is None else answered.thought,
    )


def answer_id(run_id: str) -> str:
    """The id of the message that answers in that run; the user's message has the run's own."""
    return f"{run_id}:answer"


def epoch_ms(time: float) -> int:
    """Milliseconds since 1970, of seconds."""
    return round(time * 1000)
