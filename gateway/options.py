"""One thing that can be set: what it means, what it may be, and how text from outside becomes its value.

The fields of a frozen struct are options if each is `Annotated[type, About(…)]`; `options_of` finds them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from msgspec import Struct
from msgspec.structs import FieldInfo, fields

__all__ = ["About", "BadSetting", "Option", "options_of"]


class BadSetting(ValueError):
    """A value that is not allowed. The sentence says which, what it was, and what is allowed."""


class About(NamedTuple):
    """What is known of an option beside its type and default."""

    what: str
    """What it means: a sentence."""
    unit: str = ""
    low: float = 0
    high: float = 0
    """Within which bounds a number must be, both inclusive."""
    flag: str | None = None
    """None: it is set through the environment only. A flag of a tuple may be repeated, one of a bool has no
    value: it says yes."""
    pattern: str = "(?s).+"
    words: str = "any text"
    """What a text must match, and how that is said."""
    shown: Callable[[str], str] = str
    """A text without what may be secret in it."""


class Option(NamedTuple):
    """One field, and how it is given from outside."""

    name: str
    kind: type
    """`bool`, `int`, `float`, `str` or `tuple` (of texts)."""
    optional: bool
    choices: tuple[str, ...]
    about: About
    default: Any

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return f"GATEWAY_{self.name.upper()}"

    @property
    def allowed(self) -> str:
        """What it may be, in words."""
        if self.choices:
            return " or ".join(self.choices)
        if self.kind is bool:
            return "true or false"
        if self.kind not in _NUMBERS:
            return self.about.words
        unit = f" of {self.about.unit}" if self.about.unit else ""
        return f"{_NUMBERS[self.kind][1]}{unit} from {self.about.low:,} to {self.about.high:,}"

    def read(self, given: str | tuple[str, ...] | bool, source: str) -> Any:
        """The value that was given as text, several texts separated by spaces. Raises `BadSetting`, which
        names the `source`."""
        value: Any = given
        if self.kind is tuple:
            value = tuple(given.split()) if isinstance(given, str) else given
        elif self.kind is bool:
            value = _BOOLEANS.get(str(given), given)
        elif self.kind in _NUMBERS and re.fullmatch(_NUMBERS[self.kind][0], str(given)):
            value = self.kind(given)
        self.check(value, source)
        return value

    def check(self, value: Any, source: str) -> None:
        """Raises `BadSetting` if `value` is not allowed."""
        if not self._allows(value):
            raise BadSetting(f"{source} is {self.show(value)!r}; allowed is {self.allowed}.")

    def show(self, value: Any) -> str:
        """The value for people, without what may be secret in it."""
        if isinstance(value, bool):
            return str(value).lower()
        texts = value if isinstance(value, tuple) else () if value is None else (value,)
        return " ".join(self.about.shown(str(text)) for text in texts)

    def _allows(self, value: Any) -> bool:
        if value is None:
            return self.optional
        if self.choices:
            return value in self.choices
        if self.kind is bool:
            return isinstance(value, bool)
        if self.kind in _NUMBERS:
            kinds = (int,) if self.kind is int else (int, float)
            return isinstance(value, kinds) and self.about.low <= value <= self.about.high
        texts = value if self.kind is tuple and isinstance(value, tuple) else (value,)
        return all(isinstance(text, str) and re.fullmatch(self.about.pattern, text) for text in texts)


_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_NUMBERS = {
    int: (r"-?[0-9]{1,18}", "a whole number"),
    float: (r"-?[0-9]{1,18}(\.[0-9]{1,18})?", "a number"),
}


def options_of(struct: type[Struct]) -> dict[str, Option]:
    """The options that a struct's fields are, by name, in order."""
    return {field.name: _option(field) for field in fields(struct)}


def _option(field: FieldInfo) -> Option:
    assert get_origin(field.type) is Annotated, f"{field.name} says nothing about itself"
    annotation, about = get_args(field.type)
    of = get_args(annotation)
    choices = of if get_origin(annotation) is Literal else ()
    kinds = (str,) if choices else (get_origin(annotation), annotation, *of)
    kind = next(kind for kind in kinds if kind in (bool, int, float, str, tuple))
    return Option(field.name, kind, NoneType in of, choices, about, field.default)
