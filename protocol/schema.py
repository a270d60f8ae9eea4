"""The frames as JSON Schema, as AsyncAPI and as a TypeScript declaration: made from the structs, so that none
of them can lag behind.

They describe what is sent. An optional field that has nothing to say is left out; a gateway also takes `null`
for it. Equal structs give equal output, to the byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import msgspec

from . import frames
from .components import Json, as_sent

__all__ = ["asyncapi", "json_schema", "typescript"]

_CLIENT: tuple[type[msgspec.Struct], ...] = get_args(frames.ClientFrame)
_SERVER: tuple[type[msgspec.Struct], ...] = get_args(frames.ServerFrame)
_AGENT_SOCKET_ONLY = (frames.RunCommand, frames.CommandResult, frames.ToolStart, frames.ToolEnd)
_TITLE = "Trunkline protocol"
_VERSION = "1.0.0"


def json_schema() -> Json:
    """Every frame as JSON Schema 2020-12; `$defs` hold `ClientFrame` and `ServerFrame`, told apart by
    `type`."""
    (client, server), definitions = _components("#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": _TITLE,
        "description": "One frame: what a client sends, or what the gateway sends.",
        "anyOf": [{"$ref": "#/$defs/ClientFrame"}, {"$ref": "#/$defs/ServerFrame"}],
        "$defs": {"ClientFrame": client, "ServerFrame": server, **definitions},
    }


def _components(ref: str) -> tuple[list[Json], dict[str, Json]]:
    unions, found = msgspec.json.schema_components([frames.ClientFrame, frames.ServerFrame], ref_template=ref)
    definitions = {name: as_sent(getattr(frames, name), found[name]) for name in sorted(found)}
    return [_one_of(union) for union in unions], definitions


def _one_of(union: Json) -> Json:
    """JSON Schema proper knows no `discriminator`; that exactly one fits says the same."""
    return {"oneOf": union["anyOf"]}


# ── AsyncAPI ────────────────────────────────────────────────────────────────────────────────────────────────


def asyncapi() -> Json:
    """The two WebSocket endpoints as AsyncAPI 3.0.0, seen from the gateway: it receives client frames and
    sends server frames. Who may connect is left to the deployment."""
    _, schemas = _components("#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": _TITLE,
            "version": _VERSION,
            "description": "Many conversations with agents over one WebSocket.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "socket": _channel("/ws", "One line for sessions with any agent.", on_agent_socket=False),
            "agentSocket": {
                **_channel("/api/agents/{agent}/ws", "The same, with a default agent.", on_agent_socket=True),
                "parameters": {"agent": {"description": "The agent's name."}},
            },
        },
        "operations": {
            f"{action}{channel[0].upper()}{channel[1:]}": _operation(action, channel, on_agent_socket)
            for channel, on_agent_socket in (("socket", False), ("agentSocket", True))
            for action in ("receive", "send")
        },
        "components": {
            "messages": {frame.__name__: _message(frame, schemas) for frame in (*_CLIENT, *_SERVER)},
            "schemas": schemas,
        },
    }


def _channel(address: str, description: str, *, on_agent_socket: bool) -> Json:
    return {
        "address": address,
        "description": description,
        "messages": {
            frame.__name__: {"$ref": f"#/components/messages/{frame.__name__}"}
            for frame in _frames((*_CLIENT, *_SERVER), on_agent_socket)
        },
        "bindings": {"ws": {"method": "GET"}},
    }


def _operation(action: str, channel: str, on_agent_socket: bool) -> Json:
    which = _CLIENT if action == "receive" else _SERVER
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [
            {"$ref": f"#/channels/{channel}/messages/{frame.__name__}"}
            for frame in _frames(which, on_agent_socket)
        ],
    }


def _frames(which: tuple[type[msgspec.Struct], ...], on_agent_socket: bool) -> list[type[msgspec.Struct]]:
    return [frame for frame in which if on_agent_socket or frame not in _AGENT_SOCKET_ONLY]


def _message(frame: type[msgspec.Struct], schemas: dict[str, Json]) -> Json:
    return {
        "name": frame.__struct_config__.tag,
        "title": frame.__name__,
        "summary": schemas[frame.__name__]["description"],
        "payload": {"$ref": f"#/components/schemas/{frame.__name__}"},
    }


# ── TypeScript ──────────────────────────────────────────────────────────────────────────────────────────────


def typescript() -> str:
    """A declaration file: an interface per frame, and the unions `ClientFrame` and `ServerFrame`.

    The interfaces of frames end in `Frame`, so that none hides the DOM's own `Error` or `Response`.
    """
    definitions: dict[str, Json] = json_schema()["$defs"]
    of_frames = {frame.__name__ for frame in (*_CLIENT, *_SERVER)}

    def name_of(definition: str) -> str:
        return f"{definition}Frame" if definition in of_frames else definition

    parts = ["// The frames of the Trunkline protocol, version 1. Made by `gateway schema --typescript`.\n"]
    for definition, schema in definitions.items():
        name = name_of(definition)
        if "oneOf" in schema:
            members = "".join(f"\n  | {_type(member, name_of)}" for member in schema["oneOf"])
            parts.append(f"export type {name} ={members};\n")
        else:
            parts.append(_interface(name, schema, name_of))
    return "\n".join(parts)


def _interface(name: str, schema: Json, name_of: Callable[[str], str]) -> str:
    lines = [f"/** {schema['description']} */", f"export interface {name} {{"]
    for field, kind in schema["properties"].items():
        if description := kind.get("description"):
            lines.append(f"  /** {description} */")
        optional = "" if field in schema["required"] else "?"
        lines.append(f"  {field}{optional}: {_type(kind, name_of)};")
    return "\n".join([*lines, "}\n"])


def _type(schema: Json, name_of: Callable[[str], str]) -> str:
    """What TypeScript calls it."""
    match schema:
        case {"$ref": str(ref)}:
            return name_of(ref.rpartition("/")[2])
        case {"enum": list(values)}:
            return " | ".join(f'"{value}"' for value in values)
        case {"anyOf": list(choices)}:
            return " | ".join(_type(choice, name_of) for choice in choices)
        case {"type": "array", "items": dict(items)}:
            return f"Array<{_type(items, name_of)}>"
        case {"type": str(name)}:
            return _NAMES[name]
        case _:
            return "unknown"


_NAMES = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
    "object": "Record<string, unknown>",
}
