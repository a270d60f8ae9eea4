from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.records import (
    DEEPEST,
    UNREADABLE,
    Event,
    Record,
    Response,
    Timing,
    ToolCall,
    content_hash,
    decode_record,
    encode_record,
    stand_in,
)
from tests.anything import anything

RECORDS = get_args(Record)


@pytest.mark.parametrize("struct", RECORDS)
@pytest.mark.parametrize("full", [True, False])
def test_every_record_comes_back_as_it_was_kept(
    struct: type[Any], full: bool, sample: Callable[..., Any]
) -> None:
    record = sample(struct, full=full)
    assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize("struct", RECORDS)
def test_a_record_can_be_indexed_by_its_first_bytes(struct: type[Any], sample: Callable[..., Any]) -> None:
    tag = struct.__struct_config__.tag
    assert encode_record(sample(struct)).startswith(b'{"type":"%b",' % tag.encode())


def test_no_two_records_have_one_name() -> None:
    assert len({struct.__struct_config__.tag for struct in RECORDS}) == len(RECORDS)


def test_a_record_of_tomorrow_is_read_without_what_is_not_known_of_it() -> None:
    record = Response("t", "hi", "completed", 1.0, timing=Timing(1, None, 2))
    fields = {**msgspec.json.decode(encode_record(record)), "mood": "good"}
    assert decode_record(msgspec.json.encode(fields)) == record


def test_what_is_no_record_is_told_apart_from_one() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_record(b'{"type":"poem","turn_id":"t"}')


def test_the_hash_tells_contents_apart() -> None:
    hashes = {
        content_hash("a"),
        content_hash("b"),
        content_hash("a", [{"x": 1}]),
        content_hash("a", [{"x": 2}]),
    }
    assert len(hashes) == 4


def test_the_hash_does_not_care_in_which_order_the_keys_came() -> None:
    assert content_hash("a", [{"x": 1, "y": 2}]) == content_hash("a", [{"y": 2, "x": 1}])


def test_no_parts_and_empty_parts_are_one_content() -> None:
    assert content_hash("a") == content_hash("a", [])


@given(st.data())
def test_no_record_is_encoded_that_its_own_decoder_refuses(data: st.DataObject) -> None:
    struct: Any = data.draw(st.sampled_from(RECORDS))
    names = struct.__struct_fields__
    right = {name: _RIGHT.get(name, "text") for name in struct.__struct_fields__[: _required(struct)]}
    odd = data.draw(st.dictionaries(st.sampled_from(names), anything, max_size=3))
    record = struct(**{**right, **odd})
    try:
        encoded = encode_record(record)
    except UNREADABLE:
        return
    read = decode_record(encoded)
    assert encode_record(read) == encoded
    assert json.loads(encoded) == json.loads(msgspec.json.encode(read))


_RIGHT: dict[str, Any] = {
    "created_at": 1.0, "at": 0, "is_error": False, "retryable": True, "status": "completed",
}  # fmt: skip


def _required(struct: Any) -> int:
    return len(struct.__struct_fields__) - len(struct.__struct_defaults__)


@pytest.mark.parametrize(
    "record",
    [
        Response("t", "hi", "completed", 1.0, input_tokens=2.5),  # type: ignore[arg-type]
        Response("t", "hi", "completed", 1.0, output_tokens=True),
        Response("t", "hi", "completed", float("nan")),
        ToolCall("t", 0, 7, "name", None, 1.0),  # type: ignore[arg-type]
        Event("k", {"body": msgspec.Raw(b"{")}, 1.0),
        Event("k", "\ud800", 1.0),
    ],
)
def test_a_record_that_could_not_be_read_again_is_not_encoded(record: Record) -> None:
    with pytest.raises(UNREADABLE):
        encode_record(record)


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def test_a_record_is_nested_so_deep_and_no_deeper() -> None:
    deepest = Event("k", nested(DEEPEST - 1), 1.0)
    assert decode_record(encode_record(deepest)) == deepest
    with pytest.raises(ValueError, match="nested"):
        encode_record(Event("k", nested(DEEPEST), 1.0))
    code = Event("k", "{[" * 10_000, 1.0)
    assert decode_record(encode_record(code)) == code, "text may have any number of brackets"


@pytest.mark.parametrize("kind", ["message", "started", "ended", None])
def test_what_stands_in_for_a_record_is_one(kind: Any) -> None:
    record = stand_in(kind, "t", 1.0)
    assert decode_record(encode_record(record)) == record
    assert record.created_at == 1.0
    assert kind is None or record.turn_id == "t"  # type: ignore[union-attr]
