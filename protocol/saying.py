"""Saying something to an agent over plain HTTP: what is sent, and the answer, whole or in chunks.

The shapes are OpenFang's, made right.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from .frames import OnBusy
from .ids import AgentName, TurnId

__all__ = [
    "Answered",
    "CancelTurn",
    "Chunk",
    "End",
    "Failure",
    "Problem",
    "Say",
    "Streamed",
    "Tokens",
    "ToolEnds",
    "ToolStarts",
]


class Say(Struct, frozen=True):
    """Something to say to an agent."""

    message: str
    turn_id: Annotated[
        TurnId | None, Meta(description="Protects from running twice; of a named session only.")
    ] = None
    on_busy: OnBusy | None = None
    replaces: Annotated[TurnId | None, Meta(description="That turn and all after it give way to this.")] = (
        None
    )
    create: Annotated[
        bool | None, Meta(description="true: also over a session that was deleted; false: never.")
    ] = None
    metadata: dict[str, Any] | None = None
    sender_id: str | UnsetType = UNSET
    sender_name: str | UnsetType = UNSET
    attachments: (
        Annotated[list[Any], Meta(max_length=0, description="none: this gateway takes no attachments")] | None
    ) = None


class CancelTurn(Struct, frozen=True):
    """Which turn to stop."""

    turn_id: Annotated[TurnId | None, Meta(description="Without it, the one that runs.")] = None
    agent: Annotated[
        AgentName | None, Meta(description="Whose session, where the id alone means several.")
    ] = None
    ref: TurnId | None = None


# ── The whole answer ────────────────────────────────────────────────────────────────────────────────────────


class Answered(Struct, frozen=True):
    """The whole answer to a message."""

    response: str
    content: str
    """The same."""
    input_tokens: int
    output_tokens: int
    status: Literal["completed", "cancelled"]
    session_id: str
    turn_id: str
    iterations: int = 1


class Problem(Struct, frozen=True, kw_only=True):
    """Why a request was refused, or how its turn failed."""

    error: str
    """A sentence for people."""
    content: str
    """The same."""
    code: str
    retryable: bool
    """The same request may be sent again."""
    session_id: str | UnsetType = UNSET
    turn_id: str | UnsetType = UNSET
    retry_after_ms: int | UnsetType = UNSET
    expires_at: float | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    partial: str | UnsetType = UNSET
    """What the turn had said."""


# ── The answer in chunks ────────────────────────────────────────────────────────────────────────────────────


class Chunk(Struct, frozen=True):
    """Event `chunk`: a piece of the answer."""

    content: str
    delta: str
    """The same."""
    session_id: str
    turn_id: str
    done: Literal[False] = False
    type: Literal["text_delta"] = "text_delta"


class ToolStarts(Struct, frozen=True):
    """Event `tool_use`: the agent calls a tool."""

    id: str
    tool: str
    input: Any
    session_id: str
    turn_id: str


class ToolEnds(Struct, frozen=True):
    """Event `tool_result`: the tool answered."""

    id: str
    tool: str
    input: Any
    result: Any
    is_error: bool
    session_id: str
    turn_id: str


class Tokens(Struct, frozen=True):
    """What an answer took."""

    input_tokens: int
    output_tokens: int


class End(Struct, frozen=True):
    """Event `done`: the answer is whole; nothing follows."""

    usage: Tokens
    status: Literal["completed", "cancelled"]
    session_id: str
    turn_id: str
    done: Literal[True] = True
    type: Literal["done"] = "done"


class Failure(Problem, frozen=True, kw_only=True):
    """Event `error`: the turn failed, or its message was refused after all; nothing follows."""

    done: Literal[True] = True
    type: Literal["error"] = "error"


Streamed = (Chunk, ToolStarts, ToolEnds, End, Failure)
"""The events of an answer that comes in chunks."""
