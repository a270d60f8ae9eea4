"""Structs as JSON Schema under names of their own: what is received may leave out what has a default, what is
sent is described as it is encoded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, Struct, inspect

__all__ = ["Components", "Json", "as_sent", "components"]

Json: TypeAlias = dict[str, Any]


class Components(NamedTuple):
    """Schemas of types, and of the structs that they refer to."""

    received: list[Json]
    sent: list[Json]
    definitions: dict[str, Json]


def components(received: Sequence[Any], sent: Sequence[Any], ref: str) -> Components:
    """The schemas of these types, in their order, and of every struct in them by name. `ref` is how one is
    referred to: `#/components/schemas/{name}`.

    A struct has its class's name, with that of its module before it where two have one name, and `In` behind
    it where it is received as well as sent.
    """
    structs = {"received": [*_structs(received)], "sent": [*_structs(sent)]}
    names = _names({*structs["received"], *structs["sent"]})
    names_in = {
        cls: f"{name}In" if cls in structs["received"] and cls in structs["sent"] else name
        for cls, name in names.items()
    }
    taken, definitions_in = _schemas(received, structs["received"], names_in, ref)
    given, definitions = _schemas(sent, structs["sent"], names, ref)
    definitions = {cls: as_sent(cls, schema) for cls, schema in definitions.items()}
    named = {names_in[cls]: schema for cls, schema in definitions_in.items()}
    named |= {names[cls]: schema for cls, schema in definitions.items()}
    return Components(taken, given, dict(sorted(named.items())))


def as_sent(struct: type[Struct], schema: Json) -> Json:
    """A struct's schema as its values are encoded: either with all fields, or without those that have their
    default; those that are `UNSET` are left out."""
    properties = schema["properties"]
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    if struct.__struct_config__.omit_defaults:
        properties = {name: _present(field) for name, field in properties.items()}
        required = schema["required"]
    else:
        required = [name for name in properties if name not in fields or fields[name].default is not UNSET]
    described = {"description": " ".join(schema["description"].split())} if "description" in schema else {}
    return {**schema, **described, "properties": properties, "required": required}


def _present(field: Json) -> Json:
    """A field that is left out rather than null."""
    if "default" not in field or field["default"] is not None or "anyOf" not in field:
        return field
    choices = [choice for choice in field["anyOf"] if choice != {"type": "null"}]
    if len(choices) > 1:
        return {"anyOf": choices}
    about = {"description": field["description"]} if "description" in field else {}
    return {**choices[0], **about}


def _schemas(
    kinds: Sequence[Any], structs: Sequence[type[Struct]], names: dict[type[Struct], str], ref: str
) -> tuple[list[Json], dict[type[Struct], Json]]:
    """The schemas of `kinds` and of the structs in them, which are called by `names`."""
    found, definitions = msgspec.json.schema_components(kinds, ref_template="{name}")
    # A struct is called by its class's name there or, where that is not enough, by where it stands.
    classes = {cls.__name__: cls for cls in structs} | {_place(cls): cls for cls in structs}
    called = {name: ref.format(name=names[cls]) for name, cls in classes.items()}
    return (
        [_renamed(schema, called) for schema in found],
        {classes[name]: _renamed(schema, called) for name, schema in definitions.items()},
    )


def _place(cls: type[Struct]) -> str:
    return re.sub(r"[^a-zA-Z0-9.\-_]", "_", f"{cls.__module__}.{cls.__qualname__}")


def _renamed(schema: Any, called: dict[str, str]) -> Any:
    """`schema` with what it refers to `called` so. That exactly one of a union fits says the same as a
    `discriminator`."""
    match schema:
        case {"discriminator": _, "anyOf": choices, **rest}:
            return {**rest, "oneOf": _renamed(choices, called)}
        case {"$ref": str(name), **rest}:
            return {**_renamed(rest, called), "$ref": called[name]}
        case dict():
            return {key: _renamed(value, called) for key, value in schema.items()}
        case list():
            return [_renamed(value, called) for value in schema]
        case _:
            return schema


def _names(structs: Iterable[type[Struct]]) -> dict[type[Struct], str]:
    names: dict[str, list[type[Struct]]] = {}
    for cls in structs:
        names.setdefault(cls.__name__, []).append(cls)
    return {
        cls: name if len(alike) == 1 else f"{_title(cls.__module__)}{name}"
        for name, alike in names.items()
        for cls in alike
    }


def _title(module: str) -> str:
    return "".join(part.capitalize() for part in module.rpartition(".")[2].split("_"))


def _structs(kinds: Sequence[Any]) -> Iterator[type[Struct]]:
    """Every struct in these types, once."""
    seen: set[type[Struct]] = set()
    waiting: list[Any] = [*inspect.multi_type_info(kinds)]
    while waiting:
        match waiting.pop():
            case inspect.StructType(cls=cls, fields=fields) if cls not in seen:
                seen.add(cls)
                yield cls
                waiting += [field.type for field in fields]
            case inspect.Type() as kind if not isinstance(kind, inspect.StructType):
                waiting += msgspec.structs.asdict(kind).values()
            case tuple() as kinds_within:
                waiting += kinds_within
            case _:
                pass
