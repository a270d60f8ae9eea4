"""What is wrong with a client frame, or another value: which field, what was expected, what came.

The slow half of decoding, walked only by frames that the fast decoder refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from . import frames, ids
from .errors import Refused

__all__ = ["CLIENT_TYPES", "diagnose", "explain", "malformed", "told_in"]

CLIENT_TYPES = tuple(sorted(str(frame.__struct_config__.tag) for frame in get_args(frames.ClientFrame)))
_NOT_JSON: Any = object()
_GRAMMARS: dict[str, str] = {
    "session_id": get_args(ids.SessionId)[1].description,
    "session_ids": get_args(ids.SessionId)[1].description,
    "agent": get_args(ids.AgentName)[1].description,
    "user_id": get_args(ids.UserId)[1].description,
    "user": get_args(ids.UserId)[1].description,
    "turn_id": get_args(ids.TurnId)[1].description,
    "replaces": get_args(ids.TurnId)[1].description,
    "ref": get_args(ids.Ref)[1].description,
}
_EXPECTED = _GRAMMARS | {
    "on_busy": " or ".join(get_args(frames.OnBusy)),
    "state": " or ".join(get_args(get_type_hints(frames.SetTyping)["state"])),
}
_KINDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
    "null": "null",
    "NoneType": "null",
}


def diagnose(data: str | bytes, error: Exception, *, lenient: bool) -> frames.ClientFrame:
    """Raises `Refused` for a frame that the fast decoder refused with `error`, or answers it after all: bare
    text on a `lenient` line, and a frame that names its `type` twice (of duplicate keys the last wins)."""
    fields = _loads(data)
    if fields is _NOT_JSON:
        if lenient and (text := _bare_text(data)) is not None:
            return frames.Send(content=text)
        raise Refused("bad_frame", f"A frame must be one JSON object in UTF-8: {malformed(error)}.") from None
    if not isinstance(fields, dict):
        raise Refused("bad_frame", f"A frame must be a JSON object, not {_kind_of(fields)}.") from None
    if lenient and "type" not in fields and "content" in fields:
        fields["type"] = "message"
    told = _told(fields)
    if not isinstance(error, msgspec.ValidationError):
        raise Refused("bad_frame", f"The frame is malformed: {malformed(error)}.", **told) from None
    kind = fields.get("type")
    if isinstance(kind, str) and kind not in CLIENT_TYPES:
        known = ", ".join(CLIENT_TYPES)
        raise Refused(
            "unknown_type", f"There is no frame type {_shown(kind)}; known are {known}.", **told
        ) from None
    try:
        frame: frames.ClientFrame = msgspec.convert(fields, frames.ClientFrame)
    except msgspec.ValidationError as cause:
        code, content = _explain(cause, kind)
        raise Refused(code, content, **told) from None
    if not _can_be_sent(fields):
        raise Refused(
            "bad_frame", "The frame holds half a character, or a number that is out of range.", **told
        ) from None
    return frame


def _loads(data: str | bytes) -> Any:
    """The JSON value, whatever else is wrong with it; `_NOT_JSON` if it is none."""
    try:
        # The standard library's parser takes lone surrogates, so that even such a frame's `ref` is answered.
        text = data if isinstance(data, str) else data.decode()
        return json.loads(text, parse_constant=_no_constant, parse_int=_short_int)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _can_be_sent(fields: dict[str, Any]) -> bool:
    """Is it JSON to every parser? The standard library's takes lone surrogates, and 1e999 for infinity."""
    try:
        json.dumps(fields, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _short_int(digits: str) -> float:
    return int(digits) if len(digits) < 20 else float("inf")


def _bare_text(data: str | bytes) -> str | None:
    try:
        text = data if isinstance(data, str) else data.decode()
        text.encode()
    except UnicodeError:
        return None
    return text if text.strip() and text.lstrip()[0] not in "{[" else None


def told_in(data: str | bytes) -> dict[str, Any]:
    """What a frame that is refused tells of itself: see `Refused`. Empty, if it is no JSON object."""
    fields = _loads(data)
    return _told(fields) if isinstance(fields, dict) else {}


def _told(fields: dict[str, Any]) -> dict[str, Any]:
    """The frame's `ref`, `session_id` and `turn_id`, as far as they are fit to be sent back."""
    told = {}
    for name in ("ref", "session_id", "turn_id"):
        value = fields.get(name)
        if isinstance(value, str):
            try:
                value.encode()
                told[name] = ids.check_turn_id(value)
            except (UnicodeError, Refused):
                pass
    return told


def _explain(error: msgspec.ValidationError, kind: Any) -> tuple[str, str]:
    """`(code, sentence)` for what does not fit the frame's struct."""
    code, sentence = _fault(error, _EXPECTED, "The frame")
    if isinstance(kind, str) and sentence.endswith(" is missing."):
        sentence = f"{sentence[:-1]} in this {kind} frame."
    return code or "bad_frame", sentence


def explain(error: msgspec.ValidationError, kind: Any, whole: str) -> Refused:
    """The refusal of a value that does not fit the type `kind`: which field, what was expected, what came.
    `whole` is what the sentence calls the value itself. The code is `bad_id` or `bad_request`."""
    code, sentence = _fault(error, _expected(kind), whole)
    return Refused(code or "bad_request", sentence)


def _fault(
    error: msgspec.ValidationError, expected: Mapping[str, str], whole: str
) -> tuple[Literal["bad_id"] | None, str]:
    """`(code, sentence)` of a fault, the code only if it is an id that is none. `expected` says in words what
    strings and choices a field takes, by the field's name."""
    reason, _, path = str(error).partition(" - at `")
    path = path.removeprefix("$").removesuffix("`").removeprefix(".")
    name = re.sub(r"\[\d*\]$", "", path).rpartition(".")[2]
    if missing := re.search(r"missing required field `(\w+)`", reason):
        return None, f"{path}.{missing[1]} is missing." if path else f"{missing[1]} is missing."
    if name in expected and re.search("regex|length|enum", reason):
        return "bad_id" if _snake(name) in _GRAMMARS else None, f"{path}: expected {expected[name]}."
    reason = re.sub(r"`([\w |]+)`", lambda kinds: _kinds(kinds[1]), reason)
    return None, f"{path or whole}: {reason[0].lower()}{reason[1:]}."


@cache
def _expected(kind: Any) -> dict[str, str]:
    """What strings and choices the fields of a struct, or of several, take: in words, by their names on the
    wire."""
    if isinstance(kind, UnionType):
        return {name: text for one in get_args(kind) for name, text in _expected(one).items()}
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return {}
    hints = get_type_hints(kind, include_extras=True)
    words = {field.encode_name: _words(hints[field.name]) for field in msgspec.structs.fields(kind)}
    return {name: text for name, text in words.items() if text}


def _words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    for meta in getattr(hint, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and (meta.pattern or meta.max_length is not None):
            return meta.description or ""
    return "".join(map(_words, get_args(hint)))


def _snake(name: str) -> str:
    """`sessionId` as `session_id`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _kinds(names: str) -> str:
    return " or ".join(_KINDS.get(name, name) for name in names.split(" | "))


def _kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool() | str() | int() | float():
            return _KINDS[type(value).__name__]
        case _:
            return _KINDS["array"]


def malformed(error: Exception) -> str:
    """Why these bytes are not JSON, as the end of a sentence."""
    match error:
        case UnicodeDecodeError():
            return f"byte {error.start} is not UTF-8"
        case RecursionError():
            return "it is nested too deep"
        case _ if "malformed" in str(error):
            return str(error).removeprefix("JSON is malformed: ")
        case _:
            return "it breaks off, or holds half a character or a number that is out of range"


def _shown(text: str) -> str:
    """A stranger's word, short and harmless enough to be put in a sentence."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text[:40])
