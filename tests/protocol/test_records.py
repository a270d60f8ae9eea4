from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from protocol.records import Record, Response, Timing, content_hash, decode_record, encode_record

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
