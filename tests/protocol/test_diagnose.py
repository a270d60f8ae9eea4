"""What is told to a client that sent something wrong; the cases are made from the structs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import msgspec
import pytest
from msgspec import json

from protocol import frames
from protocol.codec import Limits, decode_client_frame
from protocol.diagnose import CLIENT_TYPES
from protocol.errors import Refused

CLIENT = get_args(frames.ClientFrame)
OF_EVERY_KIND: list[Any] = [None, True, 7, 1.5, "x", [], {}, [None], {"a": None}]
CONTROLS = ["\x00", "\n", "\x1b", "\x7f", "\x85"]


class Place(NamedTuple):
    """A field in a frame, or in one of the objects that it holds."""

    struct: type[Any]
    path: tuple[str | int, ...]
    field: Any

    def __repr__(self) -> str:
        return f"{self.struct.__name__}.{self.name}"

    @property
    def name(self) -> str:
        return ".".join(map(str, self.path)).replace(".0", "[0]")

    def frame(self) -> dict[str, Any]:
        """A good frame that has it."""
        made: dict[str, Any] = msgspec.to_builtins(_good(self.struct))
        return {**made, "ref": "r-1"}

    def frame_with(self, value: Any) -> dict[str, Any]:
        frame = self.frame()
        self._holder(frame)[self.path[-1]] = value
        return frame

    def frame_without(self) -> dict[str, Any]:
        frame = self.frame()
        self._holder(frame).pop(self.path[-1])
        return frame

    def _holder(self, frame: Any) -> Any:
        for step in self.path[:-1]:
            frame = frame[step]
        return frame

    def takes(self, value: Any) -> bool:
        try:
            msgspec.convert(value, self.field)
        except msgspec.ValidationError:
            return False
        return True


def _good(struct: type[Any]) -> Any:
    return msgspec.convert({"type": struct.__struct_config__.tag, **GOOD}, struct)


GOOD: dict[str, Any] = {
    "content": "hi",
    "session_id": "s-1",
    "session_ids": ["s-1"],
    "sessions": [{"session_id": "s-1"}],
    "state": "start",
    "command": "stop",
}


def _places(struct: type[Any], fields: type[Any], path: tuple[str | int, ...] = ()) -> Iterator[Place]:
    for field in msgspec.structs.fields(fields):
        here = (*path, field.encode_name)
        yield Place(struct, here, field.type)
        if getattr(field.type, "__origin__", None) is list:
            (item,) = get_args(field.type)
            yield Place(struct, (*here, 0), item)
            if isinstance(item, type) and issubclass(item, msgspec.Struct):
                yield from _places(struct, item, (*here, 0))


PLACES = [place for struct in CLIENT for place in _places(struct, struct)]
REQUIRED = [
    place
    for struct in CLIENT
    for place in _places(struct, struct)
    for owner in [frames.Target if len(place.path) == 3 else struct]
    if any(field.required and field.encode_name == place.path[-1] for field in msgspec.structs.fields(owner))
]
GRAMMATICAL = [place for place in PLACES if place.takes("s-1") and not place.takes("\n")]


def refusal(data: Any) -> Refused:
    if isinstance(data, dict):
        data = json.encode(data)
    with pytest.raises(Refused) as refused:
        decode_client_frame(data, Limits())
    return refused.value


def test_the_cases_cover_every_field_of_every_client_frame() -> None:
    assert {place.struct for place in PLACES} == set(CLIENT)
    assert len(PLACES) >= sum(len(struct.__struct_fields__) for struct in CLIENT)
    assert {place.name for place in PLACES} >= {
        "sessions",
        "sessions[0]",
        "sessions[0].history",
        "session_ids[0]",
    }
    assert {place.name for place in REQUIRED} == {*GOOD, "sessions[0].session_id"}
    for struct in CLIENT:
        assert decode_client_frame(json.encode(_good(struct)), Limits()) == _good(struct)


@pytest.mark.parametrize("place", REQUIRED, ids=repr)
def test_a_missing_field_is_named(place: Place) -> None:
    refused = refusal(place.frame_without())
    assert refused.code == "bad_frame"
    assert refused.content.startswith(f"{place.name} is missing")
    assert refused.ref == "r-1"


@pytest.mark.parametrize("place", PLACES, ids=repr)
def test_a_field_of_the_wrong_kind_is_named_with_what_was_expected_and_what_came(place: Place) -> None:
    wrong = [value for value in OF_EVERY_KIND if not place.takes(value)]
    assert wrong
    for value in wrong:
        refused = refusal(place.frame_with(value))
        assert refused.code in {"bad_frame", "bad_id"}
        assert refused.content.startswith(place.name)
        assert "expected" in refused.content or "is missing" in refused.content
        assert refused.ref == (None if place.path == ("ref",) else "r-1")


@pytest.mark.parametrize("place", PLACES, ids=repr)
def test_what_fits_a_field_is_taken(place: Place) -> None:
    for value in OF_EVERY_KIND:
        if place.takes(value):
            decode_client_frame(json.encode(place.frame_with(value)), Limits())


@pytest.mark.parametrize("place", GRAMMATICAL, ids=repr)
@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_character_in_an_id_is_a_bad_id(place: Place, control: str) -> None:
    refused = refusal(place.frame_with(f"a{control}"))
    assert refused.code == "bad_id"
    assert refused.content.startswith(f"{place.name}: expected 1–")


@pytest.mark.parametrize("place", PLACES, ids=repr)
@pytest.mark.parametrize("size", [300, 100_000, 300_000])
def test_no_field_is_too_large_for_an_answer(place: Place, size: int) -> None:
    if not place.takes("x" * size):
        refused = refusal(place.frame_with("x" * size))
        assert refused.code in {"bad_frame", "bad_id", "frame_too_large"}
        assert len(refused.content) < 300


@pytest.mark.parametrize("place", PLACES, ids=repr)
@pytest.mark.parametrize("nested", [50, 1_000, 50_000])
def test_no_field_is_too_deep_for_an_answer(place: Place, nested: int) -> None:
    marked = json.encode(place.frame_with("DEEP"))
    refused = refusal(marked.replace(b'"DEEP"', b"[" * nested + b"]" * nested))
    assert refused.code == "bad_frame"


@pytest.mark.parametrize("place", PLACES, ids=repr)
def test_what_is_not_utf8_is_told_with_the_byte(place: Place) -> None:
    marked = json.encode(place.frame_with("BAD"))
    refused = refusal(marked.replace(b'"BAD"', b'"\xc3("'))
    assert refused.code == "bad_frame"
    assert f"byte {marked.index(b'BAD')} is not UTF-8" in refused.content


def test_what_is_not_utf8_is_refused_in_a_field_that_nobody_reads_too() -> None:
    assert refusal(b'{"type":"ping","mood":"\xff"}').code == "bad_frame"


@pytest.mark.parametrize("place", PLACES, ids=repr)
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(place: Place) -> None:
    marked = json.encode(place.frame_with("HALF"))
    for half in (b"\\ud800", b"\\udc00", b"\\ud800\\ud800", b"\\udc00\\ud800"):
        refused = refusal(marked.replace(b"HALF", half))
        assert refused.code == "bad_frame"
        assert refused.ref == (None if place.path == ("ref",) else "r-1")


@pytest.mark.parametrize("place", PLACES, ids=repr)
def test_half_a_character_in_a_str_is_refused_wherever_it_stands(place: Place) -> None:
    marked = json.encode(place.frame_with("HALF")).decode()
    assert refusal(marked.replace("HALF", "\ud800")).code == "bad_frame"


@pytest.mark.parametrize("place", PLACES, ids=repr)
@pytest.mark.parametrize("control", CONTROLS[:3])
def test_a_raw_control_character_is_no_json(place: Place, control: str) -> None:
    marked = json.encode(place.frame_with("RAW"))
    assert refusal(marked.replace(b"RAW", control.encode())).code == "bad_frame"


def test_an_unknown_type_is_told_which_there_are() -> None:
    refused = refusal({"type": "shout", "ref": "r-1", "session_id": "s-1", "turn_id": "t-1"})
    assert refused.code == "unknown_type"
    assert "shout" in refused.content
    for known in CLIENT_TYPES:
        assert known in refused.content
    assert (refused.ref, refused.session_id, refused.turn_id) == ("r-1", "s-1", "t-1")


def test_the_known_types_are_those_of_the_frames() -> None:
    assert set(CLIENT_TYPES) == {struct.__struct_config__.tag for struct in CLIENT}


@pytest.mark.parametrize("kind", OF_EVERY_KIND)
def test_a_type_that_is_no_known_word_is_refused(kind: Any) -> None:
    refused = refusal({"type": kind, "ref": "r-1"})
    assert refused.code == ("unknown_type" if kind == "x" else "bad_frame")
    assert refused.ref == "r-1"


def test_a_strangers_word_is_shortened_and_made_harmless() -> None:
    refused = refusal({"type": "\x1b[31m\u202e" + "x" * 1_000})
    assert refused.content.isprintable()
    assert len(refused.content) < 200


@pytest.mark.parametrize("ref", ["a\u200db", "é😀", "a b", "x" * 128])
def test_any_good_ref_comes_back_with_a_refusal(ref: str) -> None:
    assert refusal({"type": "nope", "ref": ref}).ref == ref


@pytest.mark.parametrize("ref", ["", "a\n", "x" * 129, 7, None, ["a"], {"a": 1}])
def test_a_ref_that_is_none_does_not(ref: Any) -> None:
    assert refusal({"type": "nope", "ref": ref}).ref is None


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("[]", "an array"),
        ("null", "null"),
        ("true", "true or false"),
        ("3", "a whole number"),
        ('"a"', "a string"),
    ],
)
def test_json_that_is_no_object_is_told_what_it_is(data: str, kind: str) -> None:
    assert refusal(data).content == f"A frame must be a JSON object, not {kind}."


@pytest.mark.parametrize(
    "data", ["", "{", '{"type":"ping"', '{"type":"ping"}x', '{"type":"ping"}\n{"type":"ping"}']
)
def test_what_is_no_json_is_told_so(data: str) -> None:
    assert refusal(data).content.startswith("A frame must be one JSON object in UTF-8: ")


@pytest.mark.parametrize(
    ("name", "choices"), [("on_busy", "enqueue or reject or interrupt"), ("state", "start or stop")]
)
def test_a_word_out_of_a_few_is_told_which_they_are(name: str, choices: str) -> None:
    place = next(place for place in PLACES if place.name == name)
    assert refusal(place.frame_with("x")).content == f"{name}: expected {choices}."
