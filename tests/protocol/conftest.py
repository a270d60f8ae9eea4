"""Values made from the structs themselves, so that a new field or frame is covered by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec.inspect as inspect
import pytest


@pytest.fixture
def sample() -> Callable[..., Any]:
    """`sample(struct)`: an instance with every field set; with `full=False`, only with the required ones."""
    return make_sample


def make_sample(struct: type[Any], *, full: bool = True) -> Any:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    fields = [field for field in info.fields if full or field.required]
    return struct(**{field.name: _value(field.name, field.type) for field in fields})


def _value(name: str, kind: inspect.Type) -> Any:
    match kind:
        case inspect.Metadata(type=inner):
            return _value(name, inner)
        case inspect.UnionType(types=types):
            return _value(name, next(kind for kind in types if not isinstance(kind, inspect.NoneType)))
        case inspect.LiteralType(values=values):
            return values[-1]
        case inspect.StructType(cls=struct):
            return make_sample(struct)
        case inspect.ListType(item_type=item):
            return [_value(name, item)]
        case inspect.VarTupleType(item_type=item):
            return (_value(name, item),)
        case inspect.DictType() | inspect.AnyType():
            return {"key": [1, 2.5, True, None, "text é \u2028 \U0001f600"]}
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 7
        case inspect.FloatType():
            return 1_700_000_000.25
        case inspect.StrType():
            return "e1.17.512" if name == "cursor" else f"{name}-1"
        case _:
            raise AssertionError(f"no sample for {kind}")
