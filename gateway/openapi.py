"""The HTTP API as an OpenAPI 3.1 document: made of what is told of the endpoints, of the structs that they
read and answer, and of the table of errors, so that it cannot lag behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_type_hints

import msgspec
from starlette.routing import BaseRoute

from protocol.components import Json, components
from protocol.errors import TABLE
from protocol.ids import UserId

from . import __version__
from .described import SURFACES, Described, Shapes, operations

__all__ = ["openapi"]

_ABOUT = {
    "title": "Trunkline",
    "version": __version__,
    "summary": "Conversations with agents, over one WebSocket and over HTTP.",
    "description": (
        "All surfaces work on the same sessions: what one makes, every other one can see and continue, and "
        "so can the WebSocket at `/ws`; `asyncapi.json` describes that. An error has the same status on "
        "all of them, and the shape of its surface."
    ),
    "license": {"name": "MIT", "identifier": "MIT"},
}
_SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A user's token, or a service's key.",
    },
    "key": {"type": "apiKey", "in": "header", "name": "X-API-KEY", "description": "A service's key."},
}
_USER = {
    "name": "X-User-Id",
    "in": "header",
    "required": False,
    "description": "For whom a caller acts that has no user of its own; `?user_id=` says the same.",
}
_HEADERS: dict[str, Json] = {
    "X-Request-Id": {"description": "The caller's, if it is fit for a log.", "schema": {"type": "string"}},
    "Retry-After": {"description": "In whole seconds.", "schema": {"type": "integer", "minimum": 0}},
    "WWW-Authenticate": {"description": "How to say who one is.", "schema": {"const": "Bearer"}},
}


def openapi(routes: Sequence[BaseRoute], shapes: Shapes) -> Json:
    """The document; equal routes give an equal one. Which `servers` it holds is for whoever serves it."""
    told = [*operations(routes, shapes)]
    kinds = _Kinds(told)
    paths: dict[str, Json] = {}
    for one in told:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, kinds)
    surfaces = {one.surface for one in told}
    return {
        "openapi": "3.1.0",
        "info": _ABOUT,
        "tags": [
            {"name": name, "description": about}
            for name, about in dict(SURFACES.values()).items()
            if name in surfaces
        ],
        "paths": paths,
        "components": {
            "schemas": kinds.definitions,
            "parameters": {"User": {**_USER, "schema": kinds.received(UserId)}},
            "headers": _HEADERS,
            "securitySchemes": _SECURITY,
        },
    }


class _Kinds:
    """The schemas of all types that are received and sent."""

    def __init__(self, told: Iterable[Described]) -> None:
        received, sent = [UserId], []
        for one in told:
            received += [*one.parameters.values(), *_fields(one.told.query).values()]
            received += [] if one.told.body is None else [one.told.body]
            others = (*one.told.other_media.values(), *one.told.also.values())
            answers = (one.told.answer, *others, one.bodies)
            sent += [kind for answer in answers for kind in _any(answer)]
        found = components(received, sent, "#/components/schemas/{name}")
        self.definitions = found.definitions
        # Not every type can be hashed: a list, since there are few.
        self._received = [*zip(received, found.received, strict=True)]
        self._sent = [*zip(sent, found.sent, strict=True)]

    def received(self, kind: Any) -> Json:
        """The schema of a type that is received."""
        return next(schema for one, schema in self._received if one == kind)

    def sent(self, answer: Any) -> Json:
        """The schema of an answer."""
        schemas = [next(schema for one, schema in self._sent if one == kind) for kind in _any(answer)]
        return {"anyOf": schemas} if len(schemas) > 1 else schemas[0]


def _any(answer: Any) -> tuple[Any, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def _fields(query: type[msgspec.Struct] | None) -> dict[str, Any]:
    """The types of a query's parameters, by the fields' names."""
    return {} if query is None else get_type_hints(query, include_extras=True)


# ── One operation ───────────────────────────────────────────────────────────────────────────────────────────


def _operation(one: Described, kinds: _Kinds) -> Json:
    told = one.told
    operation: Json = {
        "tags": [one.surface],
        "summary": told.summary,
        "operationId": "_".join([one.method.lower(), *_words(one.path)]),
        "parameters": [*_parameters(one, kinds)],
        "responses": _responses(one, kinds),
        "security": [] if told.public else [{"bearer": []}, {"key": []}],
    }
    if told.body is not None:
        operation["requestBody"] = {
            "required": not told.optional,
            "content": {told.body_media: {"schema": kinds.received(told.body)}},
        }
    return operation


def _words(path: str) -> Iterator[str]:
    for part in path.strip("/").split("/"):
        yield "".join(char if char.isalnum() else "_" for char in part).strip("_") or "root"


def _parameters(one: Described, kinds: _Kinds) -> Iterator[Json]:
    for name, kind in one.parameters.items():
        yield {"name": name, "in": "path", "required": True, "schema": kinds.received(kind)}
    if (query := one.told.query) is not None:
        hints = _fields(query)
        for field in msgspec.structs.fields(query):
            schema = {**_not_null(kinds.received(hints[field.name]))}
            if field.default not in (msgspec.NODEFAULT, msgspec.UNSET, None):
                schema["default"] = field.default
            about = {"description": schema.pop("description")} if "description" in schema else {}
            yield {
                "name": field.encode_name,
                "in": "query",
                "required": field.required,
                **about,
                "schema": schema,
            }
    if not one.told.public and "user_id" not in one.parameters:
        yield {"$ref": "#/components/parameters/User"}


def _not_null(schema: Json) -> Json:
    """A parameter is left out rather than null."""
    choices: list[Json] = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) != 1:
        return schema
    return choices[0] | {key: value for key, value in schema.items() if key != "anyOf"}


def _responses(one: Described, kinds: _Kinds) -> Json:
    told = one.told
    responses: Json = {str(told.status): _response("It is done.", told.media, kinds.sent(told.answer))}
    for media, answer in told.other_media.items():
        responses[str(told.status)]["content"][media] = {"schema": kinds.sent(answer)}
    for status, answer in told.also.items():
        responses[str(status)] = _response("Or this.", told.also_media, kinds.sent(answer))
    by_status: dict[int, list[str]] = {}
    for code in one.codes:
        by_status.setdefault(TABLE[code].status, []).append(code)
    for status, codes in sorted(by_status.items()):
        told_of = ", ".join(f"`{code}`" for code in codes)
        response = _response(told_of, "application/json", kinds.sent(one.bodies))
        if any(TABLE[code].retry_after_ms for code in codes):
            response["headers"] |= _header("Retry-After")
        if status == 401:
            response["headers"] |= _header("WWW-Authenticate")
        responses.setdefault(str(status), response)["x-codes"] = codes
    return responses


def _response(about: str, media: str, schema: Json) -> Json:
    if media == "text/event-stream":
        schema = _event(schema)
    return {
        "description": about,
        "headers": _header("X-Request-Id"),
        "content": {media: {"schema": schema}},
    }


def _event(data: Json) -> Json:
    """One event of a stream. OpenAPI 3.1 knows no streams: this is how 3.2 describes their items."""
    text = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    return {
        "description": "Each of the server-sent events.",
        "type": "object",
        "properties": {"data": text, "event": {"type": "string"}, "id": {"type": "string"}},
        "required": ["data"],
    }


def _header(name: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"}}
