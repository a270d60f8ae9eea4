"""How sessions and their logs look to clients of ADK: an app is an agent, an invocation is a turn.

One record is one event or none, so that a log can be shown in pieces, and what is streamed is what is stored.
The shapes are those of google-adk 2.13, whose own client takes no unknown key in a session, in actions, in
content or in a part.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field, to_builtins

from . import records
from .records import Entry, Failed, Message, Response, Started, ToolCall, ToolResult
from .scopes import merged, split

__all__ = [
    "KIND",
    "USER",
    "Actions",
    "Content",
    "Event",
    "Parts",
    "Session",
    "SessionUnderApi",
    "Teller",
    "belongs_to",
    "event_id",
    "id_of",
    "note",
    "partial",
    "place_of",
]

KIND = "adk"
"""The `kind` of records that hold an event as it is shown: `{"turn"?, "event"}`."""
USER = "user"
"""The author of what the user says."""

# ── Shapes ──────────────────────────────────────────────────────────────────────────────────────────────────

Parts = Annotated[
    list[dict[str, Any]],
    Meta(description="Each of text, thought, inlineData, fileData, functionCall, functionResponse …"),
]


class Actions(Struct, frozen=True, rename="camel"):
    """What an event did beside what it says. These four are always there, and objects."""

    state_delta: dict[str, Any] = {}
    artifact_delta: dict[str, Any] = {}
    requested_auth_configs: dict[str, Any] = {}
    requested_tool_confirmations: dict[str, Any] = {}


_NO_ACTIONS = Actions()


class Content(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What somebody says."""

    parts: Parts
    role: str | None = None


class NodeInfo(Struct, frozen=True):
    """Where in a workflow: there is none here."""

    path: str = ""


class Event(Struct, frozen=True, rename="camel", omit_defaults=True):
    """One event of a session. Those that were imported may have further fields."""

    id: str
    invocation_id: str
    author: str
    timestamp: Annotated[float, Meta(description="Unix seconds.")]
    actions: Actions
    node_info: NodeInfo
    content: Content | None = None
    partial: Annotated[bool | None, Meta(description="A piece of what a later event says whole.")] = None
    interrupted: bool | None = None
    error_code: str | None = None
    error_message: str | None = None
    usage_metadata: dict[str, Any] | None = None
    custom_metadata: dict[str, Any] | None = None
    long_running_tool_ids: list[str] | None = None


class Session(Struct, frozen=True, rename="camel"):
    """A session; in a list, and only there, without its events."""

    id: str
    app_name: str
    user_id: str
    state: dict[str, Any]
    events: list[Event]
    last_update_time: Annotated[float, Meta(description="Unix seconds.")]


class SessionUnderApi(Session, frozen=True):
    """A session as it is under `/api`: with the names of the Go server's documentation, too."""

    session_id: str = field(name="sessionID")
    user_named: str = field(name="userID")


# ── Events ──────────────────────────────────────────────────────────────────────────────────────────────────


def event_id(turn_id: str, seq: int) -> str:
    """The id of the event that the record numbered `seq` is shown as."""
    return f"{turn_id}.{seq}"


def place_of(event: str) -> int | None:
    """The number of the record which `event_id` may have named so; None if it named nothing so."""
    digits = event.rpartition(".")[2]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 12 else None


def id_of(entry: Entry) -> str | None:
    """The id of the event that this record is shown as, if it is."""
    seq, record = entry
    if not isinstance(record, records.Event):
        return event_id(record.turn_id, seq)
    if record.kind != KIND:
        return None
    event = record.body["event"]
    return event["id"] or event_id(event["invocationId"], seq)


def belongs_to(record: records.Record) -> str | None:
    """The turn that a record is of."""
    if isinstance(record, records.Event):
        return record.body.get("turn") if record.kind == KIND else None
    return record.turn_id


def note(invocation_id: str, state_delta: dict[str, Any], now: float) -> records.Event:
    """The record of a change of the state outside any turn."""
    event = Event("", invocation_id, USER, now, _set(state_delta), NodeInfo())
    return records.Event(KIND, {"event": to_builtins(event)}, now)


def partial(event: str, turn_id: str, agent: str, piece: str, now: float, *, thought: bool = False) -> Event:
    """A piece of a running turn's text, or of its reasoning."""
    content = Content([_thought(piece) if thought else {"text": piece}], "model")
    return Event(event, turn_id, agent, now, _NO_ACTIONS, NodeInfo(), content, partial=True)


class Teller:
    """Shows the records of one session as events, in the order of the log; a user's message when its turn
    starts (or ends without having started), so that the events of two invocations are never mixed. A turn of
    which only later records are told must have started."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._silent: dict[str, Message] = {}
        """Turns that are not shown: those that wait, and those whose events were imported beside them."""
        self._tools: dict[tuple[str, str], str] = {}

    def tell(self, entry: Entry) -> Any:
        """The event that shows this record (an `Event`, or the JSON of one as it was imported); None for
        records that are not shown."""
        seq, record = entry
        if isinstance(record, records.Event):
            return _as_kept(record, seq)
        if isinstance(record, Message):
            self._silent[record.turn_id] = record
            return None
        asked = self._silent.get(record.turn_id)
        if asked is None:
            return self._said(record, seq)
        if isinstance(record, Started | Response | Failed) and not asked.imported:
            return _asked(self._silent.pop(record.turn_id), record, seq)
        return None

    def _said(self, record: records.Record, seq: int) -> Event | None:
        """What an agent did."""
        match record:
            case ToolCall():
                self._tools[record.turn_id, record.tool_call_id] = record.name
                call = {"id": record.tool_call_id, "name": record.name, "args": _args(record.input)}
                return self._event(record, seq, Content([{"functionCall": call}], "model"))
            case ToolResult():
                name = self._tools.get((record.turn_id, record.tool_call_id), "")
                answer = {"id": record.tool_call_id, "name": name, "response": _response(record)}
                return self._event(record, seq, Content([{"functionResponse": answer}], USER))
            case Response(imported=False):
                return self._answered(record, seq)
            case Failed():
                content = _spoken(record.partial, None)
                return self._event(record, seq, content, error_code=record.code, error_message=record.content)
            case _:
                return None

    def _answered(self, record: Response, seq: int) -> Event:
        tokens = record.input_tokens, record.output_tokens
        names = "promptTokenCount", "candidatesTokenCount", "totalTokenCount"
        return self._event(
            record,
            seq,
            _spoken(record.content, record.thought),
            _set(record.state_delta),
            interrupted=True if record.status == "cancelled" else None,
            usage_metadata=dict(zip(names, (*tokens, sum(tokens)), strict=True)) if any(tokens) else None,
            custom_metadata=record.metadata,
        )

    def _event(
        self,
        record: ToolCall | ToolResult | Response | Failed,
        seq: int,
        content: Content | None,
        actions: Actions = _NO_ACTIONS,
        **fields: Any,
    ) -> Event:
        turn_id, at = record.turn_id, record.created_at
        return Event(event_id(turn_id, seq), turn_id, self._agent, at, actions, NodeInfo(), content, **fields)


def _as_kept(record: records.Event, seq: int) -> dict[str, Any] | None:
    if record.kind != KIND:
        return None
    return {**record.body["event"], "id": id_of(Entry(seq, record))}


def _asked(message: Message, started: Started | Response | Failed, seq: int) -> Event:
    """What the user says."""
    parts = [{"text": message.content}] if message.parts is None else message.parts
    return Event(
        event_id(message.turn_id, seq),
        message.turn_id,
        USER,
        max(message.created_at, started.created_at),
        _set(message.state_delta),
        NodeInfo(),
        Content(parts, USER),
        custom_metadata=message.metadata,
    )


def _set(state_delta: dict[str, Any] | None) -> Actions:
    """What was set in the state, without what is never kept."""
    return Actions(merged(*split(state_delta))) if state_delta else _NO_ACTIONS


def _spoken(text: str, thought: str | None) -> Content | None:
    parts = [_thought(thought)] if thought else []
    if text:
        parts.append({"text": text})
    return Content(parts, "model") if parts else None


def _thought(text: str) -> dict[str, Any]:
    return {"text": text, "thought": True}


def _args(value: Any) -> dict[str, Any]:
    """A tool's input as ADK has it: an object."""
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"input": value}


def _response(result: ToolResult) -> dict[str, Any]:
    """A tool's answer as ADK has it: an object, in which a value that is none is the `result` or `error`."""
    if result.is_error:
        return {"error": result.content}
    return result.content if isinstance(result.content, dict) else {"result": result.content}
