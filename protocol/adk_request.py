"""What clients of ADK send: bodies in camel or snake case, states raw or wrapped, messages in parts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct, ValidationError, convert

from .adk import NodeInfo
from .diagnose import explain

__all__ = [
    "AppsPage",
    "EventsPage",
    "NewEvent",
    "NewMessage",
    "NewSession",
    "Part",
    "Patch",
    "Run",
    "SessionsPage",
    "camelled",
    "fit",
    "text_of",
    "wrapped",
]

Fitting = TypeVar("Fitting", bound=Struct)

# ── Queries ─────────────────────────────────────────────────────────────────────────────────────────────────


class EventsPage(Struct, frozen=True):
    """Which events of a session: all, the newest, or the newest before one."""

    limit: Annotated[int, Meta(ge=0, description="How many of the newest; without it, all.")] | None = None
    before: Annotated[str | None, Meta(description="The id of the event after them.")] = None


class SessionsPage(Struct, frozen=True):
    """Which sessions: all, or a page."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="How many; without it, all.")] | None = None
    cursor: Annotated[str | None, Meta(description="That of the `Link` header of the page before.")] = None


class AppsPage(Struct, frozen=True):
    """How to list the apps."""

    detailed: bool = False


# ── Bodies ──────────────────────────────────────────────────────────────────────────────────────────────────


class FunctionCall(Struct, frozen=True):
    """A tool is called."""

    id: str | None = None
    name: str | None = None
    args: dict[str, Any] | None = None


class FunctionResponse(Struct, frozen=True):
    """A tool answers."""

    id: str | None = None
    name: str | None = None
    response: dict[str, Any] | None = None


class Part(Struct, frozen=True, rename="camel"):
    """A piece of what is said. Whatever else it has (`inlineData`, `fileData` …) is given back as sent."""

    text: str | None = None
    thought: Annotated[bool | None, Meta(description="The text is reasoning.")] = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None


class NewMessage(Struct, frozen=True):
    """What the user says."""

    parts: Annotated[list[Part], Meta(min_length=1)]
    role: Annotated[str | None, Meta(description="Whatever it says, it is the user.")] = None


class Said(Struct, frozen=True):
    """What somebody said."""

    parts: list[Part] | None = None
    role: str | None = None


class NewEvent(Struct, frozen=True, rename="camel"):
    """An event of a history to begin with. Whatever else it has is given back as sent."""

    id: str | None = None
    invocation_id: str | None = None
    author: str | None = None
    timestamp: Annotated[float | None, Meta(description="Unix seconds.")] = None
    content: Said | None = None
    actions: Annotated[dict[str, Any] | None, Meta(description="What it did: `stateDelta` is set.")] = None
    node_info: NodeInfo | None = None
    partial: Annotated[bool | None, Meta(description="true: it is left out.")] = None
    interrupted: bool | None = None
    error_code: str | None = None
    error_message: str | None = None
    usage_metadata: dict[str, Any] | None = None
    custom_metadata: dict[str, Any] | None = None
    long_running_tool_ids: Annotated[list[str] | None, Meta(description="There may be none.")] = None


class NewSession(Struct, frozen=True, rename="camel"):
    """A session to be made."""

    session_id: str | None = None
    state: dict[str, Any] | None = None
    events: list[NewEvent] | None = None


class Patch(Struct, frozen=True, rename="camel"):
    """A change of a session's state."""

    state_delta: dict[str, Any]


class Run(Struct, frozen=True, rename="camel"):
    """Something to say to an agent."""

    app_name: str
    user_id: str
    session_id: str
    new_message: NewMessage
    streaming: Annotated[bool | None, Meta(description="Send the text in pieces, as it grows.")] = None
    state_delta: dict[str, Any] | None = None
    custom_metadata: dict[str, Any] | None = None


def fit(body: Any, kind: type[Fitting]) -> Fitting:
    """A JSON value as a `kind`. Raises `Refused` that names the field."""
    try:
        return convert(body, kind)
    except ValidationError as error:
        raise explain(error, kind, "The body") from None


def wrapped(body: Any) -> Any:
    """The body of a new session out of what is posted to its own path: an object of nothing but `state` and
    `events` is that already (the Go server's way), any other is the state itself (the Python server's)."""
    if not isinstance(body, dict):
        return body
    state, events = body.get("state"), body.get("events", [])
    wraps = body.keys() <= {"state", "events"} and isinstance(state, dict | None) and isinstance(events, list)
    return body if wraps else {"state": body}


def text_of(parts: list[Part], *, thought: bool = False) -> str:
    """What is said in these parts, each text a paragraph; or what is thought."""
    return "\n".join(part.text for part in parts if part.text and bool(part.thought) is thought)


# ── Spelling ────────────────────────────────────────────────────────────────────────────────────────────────

_LEAF: Mapping[str, Any] = {}
_DATA = ("inlineData", "fileData", "executableCode", "codeExecutionResult", "videoMetadata")
_PART = dict.fromkeys(("functionCall", "functionResponse", *_DATA), _LEAF)
_CONTENT = {"parts": _PART}
_EVENT = {"content": _CONTENT, "actions": _LEAF, "nodeInfo": _LEAF, "usageMetadata": _LEAF}
_BODY = {"newMessage": _CONTENT, "events": _EVENT}
"""Under which keys of a body there are names of ADK's, and not of anybody else's."""


def camelled(value: Any, names: Mapping[str, Any] = _BODY) -> Any:
    """A body with ADK's own names in camel case: never those within a state, or within a tool's input."""
    if isinstance(value, list):
        return [camelled(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    spelled = {_camel(name) if "_" in name else name: inner for name, inner in value.items()}
    for name in names.keys() & spelled.keys():
        spelled[name] = camelled(spelled[name], names[name])
    return spelled


def _camel(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])_([a-z0-9])", lambda match: match[1].upper(), name)
