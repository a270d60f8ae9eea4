"""The import of a history from ADK: its events as they were sent, and the conversation that they tell.

The events are what ADK's clients are shown again; the turns beside them, marked as imported, are what every
other surface, and agents, are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import to_builtins

from .adk import KIND, USER, Actions, NodeInfo
from .adk_request import FunctionCall, FunctionResponse, NewEvent, Part, text_of
from .errors import Refused
from .ids import check_turn_id
from .records import Event, Message, Record, Response, Started, ToolCall, ToolResult

__all__ = ["imported", "state_of"]

_PARAGRAPH = "\n\n"
"""Between what an agent says in several events of one turn."""
_RESERVED = {"adk_request_credential", "adk_request_confirmation", "adk_request_input"}
"""Names of calls that ADK makes itself."""


def imported(
    raw: Sequence[dict[str, Any]],
    events: Sequence[NewEvent],
    agent: str,
    now: float,
    new_id: Callable[[], str],
) -> list[Record]:
    """The records of a session that begins with these events: `raw` in camel case, and what they are read as.
    Pieces of later events are left out. Raises `Refused` for what only ADK itself may say."""
    history = _History(new_id)
    for number, (sent, event) in enumerate(zip(raw, events, strict=True)):
        if reason := _refusal(event):
            raise Refused("bad_request", f"Session initialization event {number} cannot include {reason}.")
        if not event.partial:
            history.add(event, _filled(sent, event, agent, now, new_id), now)
    history.end()
    return history.records


def state_of(events: Sequence[NewEvent]) -> dict[str, Any]:
    """The state that these events have set, one after the other."""
    state: dict[str, Any] = {}
    for event in events:
        delta = (event.actions or {}).get("stateDelta")
        if isinstance(delta, dict) and not event.partial:
            state |= delta
    return state


def _refusal(event: NewEvent) -> str | None:
    """What the event holds that no client may say."""
    if event.long_running_tool_ids:
        return "long-running tool IDs"
    parts = _parts(event)
    names = {call.name for part in parts if (call := part.function_call or part.function_response)}
    return "ADK protocol function calls" if names & _RESERVED else None


def _parts(event: NewEvent) -> list[Part]:
    return (event.content.parts if event.content is not None else None) or []


def _filled(
    sent: dict[str, Any], event: NewEvent, agent: str, now: float, new_id: Callable[[], str]
) -> dict[str, Any]:
    """The event as it was sent, with what every event has."""
    by_user = event.content is not None and event.content.role == USER
    filled = {
        **{name: value for name, value in sent.items() if value is not None},
        "id": event.id or new_id(),
        "invocationId": event.invocation_id or "",
        "author": event.author or (USER if by_user else agent),
        "timestamp": now if event.timestamp is None else event.timestamp,
        "actions": _all_actions(event),
        "nodeInfo": sent.get("nodeInfo") or to_builtins(NodeInfo()),
    }
    if event.content is not None:
        filled["content"] = {**sent["content"], "parts": sent["content"].get("parts") or []}
    return filled


def _all_actions(event: NewEvent) -> dict[str, Any]:
    given = {name: value for name, value in (event.actions or {}).items() if value is not None}
    return {**to_builtins(Actions()), **given}


class _History:
    """Events, one by one, as records. Each turn begins with what the user says, and has its events between
    its first record and its last."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self.records: list[Record] = []
        self._new_id = new_id
        self._turn_id: str | None = None
        self._taken: set[str] = set()
        self._at = 0.0
        """When the last event was."""
        self._forget()

    def _forget(self) -> None:
        self._texts: list[str] = []
        self._length = 0
        self._thoughts: list[str] = []
        self._used_tools = False
        self._open: list[tuple[str, str]] = []
        """Calls without an id of their own that no answer came to: `(name, id)`."""

    def add(self, event: NewEvent, shown: dict[str, Any], now: float) -> None:
        """The next event; `shown` is how it is given back."""
        self._at = min(max(shown["timestamp"], 0.0), now)
        does = parts = _parts(event)
        if shown["author"] == USER:
            says = [part for part in parts if part.function_response is None]
            does = [part for part in parts if part.function_response is not None]
            if says:
                self.end()
                self._begin(text_of(says), event.invocation_id)
        if self._turn_id is None and does:
            self._begin("", event.invocation_id)  # the agent speaks first
        self._do(does)
        self.records.append(Event(KIND, {"turn": self._turn_id, "event": shown}, self._at))

    def _begin(self, content: str, invocation_id: str | None) -> None:
        turn_id = self._turn_id = self._id_of_turn(invocation_id)
        self._taken.add(turn_id)
        self.records += [
            Message(turn_id, content, self._at, imported=True),
            Started(turn_id, "", self._at),
        ]

    def _id_of_turn(self, invocation_id: str | None) -> str:
        """An invocation is a turn; but one in which the user speaks twice is two."""
        try:
            turn_id: str = check_turn_id(invocation_id or "")
        except Refused:
            return self._new_id()
        return self._new_id() if turn_id in self._taken else turn_id

    def _do(self, parts: list[Part]) -> None:
        """What the agent says and does."""
        if text := text_of(parts):
            self._length += len(text) + (len(_PARAGRAPH) if self._texts else 0)
            self._texts.append(text)
        if thought := text_of(parts, thought=True):
            self._thoughts.append(thought)
        for part in parts:
            if part.function_call is not None:
                self._call(part.function_call)
            if part.function_response is not None:
                self._answer(part.function_response)

    def _call(self, call: FunctionCall) -> None:
        name = call.name or ""
        if not call.id:
            self._open.append((name, self._new_id()))
        self._use(ToolCall, call.id or self._open[-1][1], name=name, input=call.args or {})

    def _answer(self, answer: FunctionResponse) -> None:
        tool_call_id = answer.id or self._called(answer.name or "")
        self._use(ToolResult, tool_call_id, content=answer.response or {}, is_error=False)

    def _called(self, name: str) -> str:
        """The id that was made for the oldest unanswered call of that name."""
        for called in self._open:
            if called[0] == name:
                self._open.remove(called)
                return called[1]
        return self._new_id()

    def _use(self, kind: type[ToolCall] | type[ToolResult], tool_call_id: str, **fields: Any) -> None:
        self._used_tools = True
        self.records.append(
            kind(
                turn_id=self._turn_id or "",
                at=self._length,
                tool_call_id=tool_call_id,
                created_at=self._at,
                **fields,
            )
        )

    def end(self) -> None:
        """The turn is over: the user speaks again, or nobody does. If the agent did nothing, it was
        stopped."""
        if self._turn_id is None:
            return
        answered = bool(self._texts or self._thoughts or self._used_tools)
        self.records.append(
            Response(
                self._turn_id,
                _PARAGRAPH.join(self._texts),
                "completed" if answered else "cancelled",
                self._at,
                thought=_PARAGRAPH.join(self._thoughts) or None,
                imported=True,
            )
        )
        self._turn_id = None
        self._forget()
