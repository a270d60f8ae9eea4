"""What there is to tell of the HTTP endpoints: where each is found, to which surface it belongs, and which
errors it may answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from starlette.responses import Response
from starlette.routing import BaseRoute

from protocol.errors import TABLE, Refused
from protocol.ids import AgentName, Label, SessionId, UserId

from .http import Endpoint, Operation, Path, error_response, operation_of

__all__ = ["SURFACES", "Described", "Shapes", "operations"]

Shape: TypeAlias = Callable[[Refused], Response]
Shapes: TypeAlias = Sequence[tuple[re.Pattern[str], Shape]]
"""How errors look under which paths, where that is not the native shape."""

SURFACES = {
    "sessions": ("Sessions", "Conversations: lists, pages, names, and what is done to them."),
    "messages": ("Messages", "Say something to an agent, and get the answer whole or in chunks."),
    "agents": ("Agents", "Those that the gateway was started with."),
    "sse": ("Streams", "Frames as server-sent events; they are those of the WebSocket."),
    "frames": ("Frames", "The way up beside a stream."),
    "adk": ("ADK", "For clients of Google's Agent Development Kit."),
    "messaging": ("ElizaOS", "For clients of ElizaOS's sessions."),
    "conversations": ("Potpie", "For Potpie's front end."),
    "runs": ("Potpie", "For Potpie's front end."),
    "guests": ("Guests", "For visitors without an account, where the gateway lets them in."),
    "operations": ("Operation", "For probes, and for operators."),
    "pages": ("Pages", "For people."),
    "descriptions": ("Pages", "For people."),
}
"""By an endpoint's module: the name under which its operations are listed, and what they are for."""

_PARAMETERS: dict[str, Any] = {
    "agent": AgentName,
    "app_name": AgentName,
    "session_id": SessionId,
    "conversation_id": SessionId,
    "user_id": UserId,
    "label": Label,
}
"""The types of the parameters in paths."""
_OF_ALL = ("forbidden", "rate_limited", "internal")
_OF_CALLERS = ("unauthenticated", "token_expired", "bad_id", "store_unavailable")
_OF_BODIES = ("bad_request", "frame_too_large", "unsupported_media_type")


class Described(NamedTuple):
    """An operation, and where it is found."""

    path: str
    """As OpenAPI writes it: `/things/{id}`."""
    method: str
    told: Operation
    surface: str
    shape: Shape
    """How its errors look."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The types of those in its path, by name."""
        names = re.findall(r"{(\w+)}", self.path)
        return {name: self.told.path.get(name, _PARAMETERS.get(name, str)) for name in names}

    @property
    def bodies(self) -> tuple[Any, ...]:
        """The types of its errors' bodies."""
        return tuple(vars(self.shape).get("bodies", (dict[str, Any],)))

    @property
    def codes(self) -> list[str]:
        """The errors that it may answer, in the order of the table."""
        codes = {*_OF_ALL, *self.told.errors}
        if not self.told.public:
            codes.update(_OF_CALLERS)
        if self.told.body is not None:
            codes.update(_OF_BODIES)
        if self.told.query is not None:
            codes.add("bad_request")
        if self.parameters:
            codes.add("bad_id")
        if AgentName in self.parameters.values():
            codes.add("agent_not_found")
        return [code for code in TABLE if code in codes]


def operations(routes: Sequence[BaseRoute], shapes: Shapes) -> Iterator[Described]:
    """What is told of these routes. A path with a slash at its end is the same as the one without."""
    paths = {route.path for route in routes if isinstance(route, Path)}
    for route in routes:
        if not isinstance(route, Path) or (route.path.endswith("/") and route.path[:-1] in paths):
            continue
        path = re.sub(r":\w+}", "}", route.path)
        shape = next((shape for under, shape in shapes if under.fullmatch(path)), error_response)
        for method, endpoint in route.endpoints.items():
            if (told := operation_of(endpoint)) is not None:
                yield Described(path, method, told, _surface(endpoint), shape)


def _surface(endpoint: Endpoint) -> str:
    function = getattr(endpoint, "func", endpoint)
    module = str(function.__module__).rpartition(".")[2]
    return SURFACES.get(module, (module, ""))[0]
