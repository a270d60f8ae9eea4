"""Frames: what may cross the wire, both directions, as one struct each.

Times are Unix seconds (float, UTC). The first field of every server frame that moves a reader is `cursor`:
what is encoded always begins `{"type":"…","cursor":"…"`, which is what lets one encoding serve readers at
other offsets. Names: imperative for what a client sends, noun for what the gateway sends.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct

from .ids import AgentName, Ref, SessionId, TurnId, UserId
from .records import Timing

OnBusy: TypeAlias = Literal["enqueue", "reject", "interrupt"]
TurnStatus: TypeAlias = Literal["started", "queued", "completed", "cancelled", "failed"]

# ── What a client sends ─────────────────────────────────────────────────────────────────────────────────────


class Hello(Struct, tag_field="type", tag="hello", frozen=True, omit_defaults=True):
    """Who the client is and what it can do; answered by `connected`."""

    token: str | None = None
    user_id: UserId | None = None
    batch: bool | None = None
    client: str | None = None
    ref: Ref | None = None


class Target(Struct, frozen=True, omit_defaults=True):
    """One session to follow, and from where."""

    session_id: SessionId
    agent: AgentName | None = None
    cursor: str | None = None
    history: int | None = None
    """Messages wanted when there is no usable cursor: 0–200, default 50."""
    create: bool = False


class Attach(Struct, tag_field="type", tag="attach", frozen=True, omit_defaults=True):
    """Start following sessions: one `attached` each, then catch-up, then live."""

    sessions: list[Target]
    ref: Ref | None = None


class Detach(Struct, tag_field="type", tag="detach", frozen=True, omit_defaults=True):
    """Stop following. Never cancels a turn."""

    session_ids: list[SessionId]
    ref: Ref | None = None


class Send(Struct, tag_field="type", tag="message", frozen=True, omit_defaults=True):
    """A user message. `turn_id` is the idempotency key."""

    content: str
    session_id: SessionId | None = None
    agent: AgentName | None = None
    turn_id: TurnId | None = None
    on_busy: OnBusy | None = None
    replaces: TurnId | None = None
    metadata: dict[str, Any] | None = None
    create: bool | None = None
    """True: also over a tombstone. False: never. Absent: a session that never was is made."""
    ref: Ref | None = None


class Cancel(Struct, tag_field="type", tag="cancel", frozen=True, omit_defaults=True):
    """Stop that turn, waiting ones included; without `turn_id`, the one that runs when this is decided."""

    session_id: SessionId
    agent: AgentName | None = None
    turn_id: TurnId | None = None
    ref: Ref | None = None


class SetTyping(Struct, tag_field="type", tag="typing", frozen=True, omit_defaults=True):
    """The user is typing, or no longer: shown to the session's other connections."""

    session_id: SessionId
    state: Literal["start", "stop"]
    agent: AgentName | None = None
    ref: Ref | None = None


class Renew(Struct, tag_field="type", tag="renew", frozen=True, omit_defaults=True):
    """Heartbeat of a session: moves its expiry, if it allows that."""

    session_id: SessionId
    agent: AgentName | None = None
    ref: Ref | None = None


class Ping(Struct, tag_field="type", tag="ping", frozen=True, omit_defaults=True):
    """Answered by `pong`."""

    ref: Ref | None = None


class RunCommand(Struct, tag_field="type", tag="command", frozen=True, omit_defaults=True):
    """A command of the agent-bound socket: `stop` or `new`; answered by `command_result`."""

    command: str
    session_id: SessionId | None = None
    ref: Ref | None = None


ClientFrame: TypeAlias = Hello | Attach | Detach | Send | Cancel | SetTyping | Renew | Ping | RunCommand

# ── What the gateway sends ──────────────────────────────────────────────────────────────────────────────────


class Connected(Struct, tag_field="type", tag="connected", frozen=True, omit_defaults=True):
    """The line is open and this is its user; the limits a client must know."""

    connection_id: str
    protocol: int
    user_id: str
    heartbeat_ms: int
    max_frame_bytes: int
    max_reply_bytes: int
    max_sessions: int
    durability: Literal["memory", "process", "disk", "replicated"]
    agent_id: str | None = None
    token_expires_at: float | None = None
    ref: str | None = None
    max_message_chars: int | None = None


class Ok(Struct, tag_field="type", tag="ok", frozen=True, omit_defaults=True):
    """The frame with that `ref` was accepted. To a `message`: durable, and it will run."""

    ref: str | None = None
    session_id: str | None = None
    turn_id: str | None = None
    status: TurnStatus | None = None
    duplicate: bool = False
    attached: bool = False


class ToolUse(Struct, frozen=True, omit_defaults=True):
    """A tool call and its result, in a message of the history. Without a result, `content` is null."""

    tool_call_id: str
    name: str
    input: Any
    content: Any
    is_error: bool
    at: int


class HistoryMessage(Struct, frozen=True, omit_defaults=True):
    """One message of a conversation: what its user said, or how the agent's turn ended."""

    role: Literal["user", "agent"]
    turn_id: str
    content: str
    created_at: float
    status: Literal["completed", "cancelled", "failed"] | None = None
    code: str | None = None
    tools: list[ToolUse] | None = None
    metadata: dict[str, Any] | None = None


class Attached(Struct, tag_field="type", tag="attached", frozen=True, omit_defaults=True):
    """This session is followed from here; precedes every other frame of it."""

    cursor: str
    session_id: str
    agent: str
    mode: Literal["replay", "snapshot"]
    status: Literal["idle", "running"]
    queued: list[str]
    reason: Literal["epoch", "trimmed", "ahead", "malformed"] | None = None
    turn_id: str | None = None
    expires_at: float | None = None
    messages: list[HistoryMessage] | None = None
    has_more: bool | None = None


class Message(Struct, tag_field="type", tag="message", frozen=True, omit_defaults=True):
    """A user message entered the log."""

    cursor: str
    session_id: str
    turn_id: str
    content: str
    created_at: float
    replaces: str | None = None
    metadata: dict[str, Any] | None = None


class Typing(Struct, tag_field="type", tag="typing", frozen=True, omit_defaults=True):
    """Somebody writes, or stopped. Live only. On the agent-bound socket also that the agent uses a `tool`."""

    session_id: str
    state: Literal["start", "stop", "tool"]
    author: Literal["agent", "user"]
    turn_id: str | None = None
    tool: str | None = None


class TextDelta(Struct, tag_field="type", tag="text_delta", frozen=True, omit_defaults=True):
    """Append `content` to the turn's text."""

    cursor: str
    session_id: str
    turn_id: str
    content: str


class ThoughtDelta(Struct, tag_field="type", tag="thought_delta", frozen=True, omit_defaults=True):
    """A piece of reasoning. Live only."""

    session_id: str
    turn_id: str
    content: str


class ToolCall(Struct, tag_field="type", tag="tool_call", frozen=True, omit_defaults=True):
    """The agent calls a tool, `at` characters into its text."""

    cursor: str
    session_id: str
    turn_id: str
    at: int
    tool_call_id: str
    name: str
    input: Any


class ToolResult(Struct, tag_field="type", tag="tool_result", frozen=True, omit_defaults=True):
    """The tool answered, `at` characters into the text. `id`, `tool` and `result` say it again in OpenFang's
    words, on the agent-bound socket."""

    cursor: str
    session_id: str
    turn_id: str
    at: int
    tool_call_id: str
    content: Any
    is_error: bool
    id: str | None = None
    tool: str | None = None
    result: str | None = None


class ToolStart(Struct, tag_field="type", tag="tool_start", frozen=True, omit_defaults=True):
    """The agent calls a tool, in OpenFang's words, on the agent-bound socket."""

    session_id: str
    turn_id: str
    id: str
    tool: str


class ToolEnd(Struct, tag_field="type", tag="tool_end", frozen=True, omit_defaults=True):
    """What it calls the tool with, as JSON text. OpenFang's name: the tool only begins with it."""

    session_id: str
    turn_id: str
    id: str
    tool: str
    input: str


class Response(Struct, tag_field="type", tag="response", frozen=True, omit_defaults=True):
    """The turn is over: answered or cancelled. `content` is its whole text. Terminal."""

    cursor: str
    session_id: str
    turn_id: str
    content: str
    status: Literal["completed", "cancelled"]
    input_tokens: int
    output_tokens: int
    timing: Timing
    created_at: float
    thought: str | None = None
    metadata: dict[str, Any] | None = None


class Error(Struct, tag_field="type", tag="error", frozen=True, omit_defaults=True, kw_only=True):
    """With `cursor` the end of a turn that failed (`partial` is its text so far); without, a frame was
    refused."""

    cursor: str | None = None
    content: str
    code: str
    retryable: bool
    session_id: str | None = None
    turn_id: str | None = None
    ref: str | None = None
    retry_after_ms: int | None = None
    partial: str | None = None
    expires_at: float | None = None
    limit: int | None = None


class Session(Struct, tag_field="type", tag="session", frozen=True, omit_defaults=True):
    """A notice about the session's life. Live only."""

    session_id: str
    status: Literal["expiring", "renewed", "expired", "closed"]
    renewal_count: int
    expires_at: float | None = None
    minutes_remaining: float | None = None


class Token(Struct, tag_field="type", tag="token", frozen=True):
    """The token ends soon: say `hello` with a new one."""

    expires_at: float


class Goaway(Struct, tag_field="type", tag="goaway", frozen=True):
    """This connection will be closed."""

    reason: str
    reconnect_after_ms: int


class Pong(Struct, tag_field="type", tag="pong", frozen=True, omit_defaults=True):
    """Answers `ping`; unasked, a sign of life."""

    ref: str | None = None


class CommandResult(Struct, tag_field="type", tag="command_result", frozen=True, omit_defaults=True):
    """Answers `command` on the agent-bound socket."""

    command: str
    message: str
    session_id: str
    ref: str | None = None


ServerFrame: TypeAlias = (
    Connected
    | Ok
    | Attached
    | Message
    | Typing
    | TextDelta
    | ThoughtDelta
    | ToolCall
    | ToolResult
    | ToolStart
    | ToolEnd
    | Response
    | Error
    | Session
    | Token
    | Goaway
    | Pong
    | CommandResult
)
