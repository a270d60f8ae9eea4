"""Structs as JSON Schema, as they are received and as they are sent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from msgspec import UNSET, Struct, UnsetType

from protocol import frames, records
from protocol.components import components

REF = "#/$defs/{name}"


class Leaf(Struct, frozen=True):
    """A leaf
    of a tree."""

    size: int = 1


class Sparse(Struct, frozen=True, omit_defaults=True, rename="camel"):
    first_name: str
    nick_name: str | None = None
    leaves: list[Leaf] = []


class Full(Struct, frozen=True, rename="camel"):
    nick_name: str | None = None
    next_page: str | UnsetType = UNSET


class Cat(Struct, tag=True):
    lives: int


class Dog(Struct, tag=True):
    bones: int


class Tree(Struct):
    branches: list[Tree]


def fits(schema: dict[str, Any], definitions: dict[str, Any], value: Any) -> bool:
    validator = Draft202012Validator({**schema, "$defs": definitions})
    return bool(validator.is_valid(msgspec.json.decode(msgspec.json.encode(value))))


def test_what_is_received_may_leave_out_what_has_a_default() -> None:
    [schema], _, definitions = components([Sparse], [], REF)
    assert fits(schema, definitions, {"firstName": "Ann"})
    assert fits(schema, definitions, {"firstName": "Ann", "nickName": None})
    assert not fits(schema, definitions, {"nickName": "A"})


def test_what_is_sent_has_all_its_fields_but_those_that_are_left_out() -> None:
    _, [full, sparse], definitions = components([], [Full, Sparse], REF)
    assert definitions["Full"]["required"] == ["nickName"]
    assert definitions["Sparse"]["required"] == ["firstName"]
    for schema, value in ((full, Full()), (full, Full("n", "p")), (sparse, Sparse("Ann", None, [Leaf(2)]))):
        assert fits(schema, definitions, value)
    assert not fits(sparse, definitions, {"firstName": "Ann", "nickName": None})
    assert not fits(full, definitions, {})


def test_what_is_received_and_sent_has_two_shapes() -> None:
    [received], [sent], definitions = components([Leaf], [Leaf], REF)
    assert (received, sent) == ({"$ref": "#/$defs/LeafIn"}, {"$ref": "#/$defs/Leaf"})
    assert fits(received, definitions, {})
    assert not fits(sent, definitions, {})


def test_of_a_union_exactly_one_fits() -> None:
    [schema], _, definitions = components([Cat | Dog], [], REF)
    assert schema == {"oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}
    assert fits(schema, definitions, Dog(3))


@pytest.mark.parametrize("sides", [(2, 0), (1, 1), (0, 2)])
def test_two_structs_of_one_name_are_told_apart_by_their_modules(sides: tuple[int, int]) -> None:
    kinds = [frames.ToolCall, records.ToolCall]
    received, sent, definitions = components(kinds[: sides[0]], kinds[sides[0] :], REF)
    names = [schema["$ref"].rpartition("/")[2] for schema in received + sent]
    assert names == ["FramesToolCall", "RecordsToolCall"]
    assert "cursor" in definitions["FramesToolCall"]["properties"]
    assert "cursor" not in definitions["RecordsToolCall"]["properties"]


def test_a_struct_may_hold_itself() -> None:
    [schema], _, definitions = components([Tree], [], REF)
    assert fits(schema, definitions, Tree([Tree([])]))
    assert not fits(schema, definitions, {"branches": [{}]})


def test_what_is_said_of_a_struct_is_one_line_without_its_breaks() -> None:
    _, _, definitions = components([], [Leaf], REF)
    assert definitions["Leaf"]["description"] == "A leaf of a tree."


def test_types_that_are_no_structs_keep_their_order() -> None:
    received, sent, definitions = components([int, list[str]], [dict[str, Any], str], REF)
    assert received == [{"type": "integer"}, {"type": "array", "items": {"type": "string"}}]
    assert (sent, definitions) == ([{"type": "object"}, {"type": "string"}], {})
