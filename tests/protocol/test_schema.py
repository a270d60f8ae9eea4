from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from jsonschema import Draft202012Validator, ValidationError

from protocol import frames
from protocol.codec import encode
from protocol.schema import asyncapi, json_schema, typescript

CLIENT = get_args(frames.ClientFrame)
SERVER = get_args(frames.ServerFrame)
NESTED = (frames.Target, frames.HistoryMessage, frames.ToolUse, frames.Timing)
SCHEMA = json_schema()


def check(frame: Any, union: str) -> None:
    one = {"$ref": f"#/$defs/{union}", "$defs": SCHEMA["$defs"]}
    Draft202012Validator(one).validate(frame)


# ── JSON Schema ─────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_a_json_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    json.dumps(SCHEMA)


def test_it_holds_every_frame_and_what_they_hold() -> None:
    names = {struct.__name__ for struct in (*CLIENT, *SERVER, *NESTED)}
    assert set(SCHEMA["$defs"]) == names | {"ClientFrame", "ServerFrame"}
    for union, structs in (("ClientFrame", CLIENT), ("ServerFrame", SERVER)):
        assert SCHEMA["$defs"][union]["oneOf"] == [
            {"$ref": f"#/$defs/{struct.__name__}"} for struct in structs
        ]


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize(
    ("struct", "union"),
    [(struct, "ClientFrame") for struct in CLIENT] + [(struct, "ServerFrame") for struct in SERVER],
)
def test_what_is_sent_validates(
    struct: type[Any], union: str, full: bool, sample: Callable[..., Any]
) -> None:
    check(json.loads(encode(sample(struct, full=full))), union)


@pytest.mark.parametrize("struct", [*CLIENT, *SERVER])
def test_a_frame_without_one_of_its_required_fields_does_not(
    struct: type[Any], sample: Callable[..., Any]
) -> None:
    union = "ClientFrame" if struct in CLIENT else "ServerFrame"
    frame = json.loads(encode(sample(struct, full=False)))
    for name in frame:
        with pytest.raises(ValidationError):
            check({key: value for key, value in frame.items() if key != name}, union)


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "shout"},
        {"type": "cancel", "session_id": "a b"},
        {"type": "cancel", "session_id": ".."},
        {"type": "cancel", "session_id": "s\n"},
        {"type": "typing", "session_id": "s", "state": "maybe"},
        {"type": "attach", "sessions": [{}]},
        {"type": "message", "content": 7},
        {"type": "ping", "ref": "x" * 129},
        {"type": "ping", "ref": None},
    ],
)
def test_what_may_not_be_sent_does_not_validate(frame: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        check(frame, "ClientFrame")


@pytest.mark.parametrize("struct", [*CLIENT, *SERVER, *NESTED])
def test_required_are_the_fields_that_are_always_sent(struct: type[Any]) -> None:
    always = {
        field.encode_name
        for field in msgspec.structs.fields(struct)
        if field.required or not struct.__struct_config__.omit_defaults
    }
    assert set(SCHEMA["$defs"][struct.__name__]["required"]) - {"type"} == always


@pytest.mark.parametrize("struct", [*CLIENT, *SERVER, *NESTED])
def test_each_says_what_its_struct_says(struct: type[Any]) -> None:
    assert SCHEMA["$defs"][struct.__name__]["description"] == " ".join((struct.__doc__ or "").split())


def test_it_comes_out_the_same_every_time() -> None:
    assert json.dumps(json_schema()) == json.dumps(json_schema())
    assert json.dumps(asyncapi()) == json.dumps(asyncapi())
    assert typescript() == typescript()


# ── AsyncAPI ────────────────────────────────────────────────────────────────────────────────────────────────


def resolve(document: dict[str, Any], ref: str) -> Any:
    found: Any = document
    for step in ref.removeprefix("#/").split("/"):
        found = found[step]
    return found


def test_every_reference_in_the_asyncapi_leads_somewhere() -> None:
    document = asyncapi()
    refs = re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))
    assert refs
    for ref in refs:
        assert isinstance(resolve(document, ref), dict)


def test_the_gateway_receives_client_frames_and_sends_server_frames() -> None:
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    assert {channel["address"] for channel in document["channels"].values()} == {
        "/ws",
        "/api/agents/{agent}/ws",
    }
    of_the_agent_socket = {"command", "command_result", "tool_start", "tool_end"}
    for operation in document["operations"].values():
        channel = resolve(document, operation["channel"]["$ref"])
        structs = CLIENT if operation["action"] == "receive" else SERVER
        expected = [struct.__struct_config__.tag for struct in structs]
        if channel["address"] == "/ws":
            expected = [tag for tag in expected if tag not in of_the_agent_socket]
        messages = [
            resolve(document, resolve(document, one["$ref"])["$ref"]) for one in operation["messages"]
        ]
        assert [message["name"] for message in messages] == expected
        for message in messages:
            payload = resolve(document, message["payload"]["$ref"])
            assert payload["properties"]["type"] == {"enum": [message["name"]]}
            assert message["summary"] == payload["description"]
    assert len(document["operations"]) == 4


def test_a_channel_has_the_parameters_of_its_address() -> None:
    for channel in asyncapi()["channels"].values():
        assert re.findall(r"{(\w+)}", channel["address"]) == list(channel.get("parameters", {}))


# ── TypeScript ──────────────────────────────────────────────────────────────────────────────────────────────

FIELD = re.compile(r"  (\w+)(\??): (.+);")
WORDS = {"string", "number", "boolean", "null", "unknown", "Record<string, unknown>"}


def declared() -> dict[str, dict[str, tuple[bool, str]]]:
    """`{interface: {field: (optional, type)}}`; fails on a line that is neither of those nor a comment."""
    interfaces: dict[str, dict[str, tuple[bool, str]]] = {}
    current: dict[str, tuple[bool, str]] | None = None
    for line in typescript().splitlines():
        if match := re.fullmatch(r"export interface (\w+) {", line):
            current = interfaces[match[1]] = {}
        elif match := FIELD.fullmatch(line):
            assert current is not None
            current[match[1]] = (match[2] == "?", match[3])
        elif line == "}":
            current = None
        else:
            assert re.fullmatch(r"|//.*| */\*\* [^*]* \*/|export type \w+ =|  \| \w+;?", line), line
    return interfaces


@pytest.mark.parametrize("struct", [*CLIENT, *SERVER, *NESTED])
def test_every_struct_has_an_interface_with_its_fields(struct: type[Any]) -> None:
    suffix = "" if struct in NESTED else "Frame"
    fields = declared()[struct.__name__ + suffix]
    if struct not in NESTED:
        assert fields.pop("type") == (False, f'"{struct.__struct_config__.tag}"')
    assert {name: optional for name, (optional, _) in fields.items()} == {
        field.encode_name: not field.required and struct.__struct_config__.omit_defaults
        for field in msgspec.structs.fields(struct)
    }


def test_every_type_that_is_named_is_declared() -> None:
    interfaces = declared()
    for fields in interfaces.values():
        for _, kind in fields.values():
            for word in kind.split(" | "):
                word = re.sub(r"Array<(.*)>", r"\1", word)
                assert word in WORDS or word in interfaces or re.fullmatch(r'"\w+"', word), kind


@pytest.mark.parametrize(("name", "structs"), [("ClientFrame", CLIENT), ("ServerFrame", SERVER)])
def test_the_unions_are_of_every_frame(name: str, structs: tuple[type[Any], ...]) -> None:
    members = "".join(f"\n  | {struct.__name__}Frame" for struct in structs)
    assert f"export type {name} ={members};\n" in typescript()


def test_what_is_there_or_null_says_so() -> None:
    assert declared()["Timing"]["first_delta_ms"] == (False, "number | null")
    assert declared()["ErrorFrame"]["cursor"] == (True, "string")
    assert declared()["AttachFrame"]["sessions"] == (False, "Array<Target>")
    assert declared()["AttachedFrame"]["mode"] == (False, '"replay" | "snapshot"')


@pytest.mark.parametrize("struct", [*CLIENT, *SERVER, *NESTED])
def test_each_interface_says_what_its_struct_says(struct: type[Any]) -> None:
    name = struct.__name__ + ("" if struct in NESTED else "Frame")
    assert f"/** {' '.join((struct.__doc__ or '').split())} */\nexport interface {name} {{" in typescript()
