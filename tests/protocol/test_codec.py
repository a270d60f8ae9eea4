from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import frames
from protocol.codec import (
    Delta,
    Limits,
    Shared,
    check_metadata,
    decode_batch,
    decode_client_frame,
    decode_server_frame,
    encode,
    error_frame,
    head,
)
from protocol.errors import TABLE, Refused
from protocol.records import Record
from protocol.view import frame_of

CLIENT = get_args(frames.ClientFrame)
SERVER = get_args(frames.ServerFrame)
RECORDS = get_args(Record)
LIMITS = Limits()

# Everything that can be encoded at all: controls, quotes, line separators, astral planes.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def refusal(data: str | bytes, limits: Limits = LIMITS, *, lenient: bool = False) -> Refused:
    with pytest.raises(Refused) as refused:
        decode_client_frame(data, limits, lenient=lenient)
    return refused.value


# ── Whatever comes in ───────────────────────────────────────────────────────────────────────────────────────


def answers(data: str | bytes) -> None:
    """A frame that can be sent on, or a refusal that can be told: nothing else may come of any input."""
    for lenient in (False, True):
        try:
            frame = decode_client_frame(data, LIMITS, lenient=lenient)
        except Refused as refused:
            told = encode(error_frame(refused))
        else:
            told = encode(frame)
            assert decode_client_frame(told, LIMITS) == frame
        assert min(told) >= 0x20


@given(st.binary(max_size=200))
def test_raw_bytes_are_a_frame_or_a_refusal(data: bytes) -> None:
    answers(data)


@given(st.text(st.characters(), max_size=60))
def test_raw_text_is_a_frame_or_a_refusal(data: str) -> None:
    answers(data)


NAMES = sorted({name for struct in (*CLIENT, frames.Target) for name in struct.__struct_fields__})
TYPES = [struct.__struct_config__.tag for struct in CLIENT]
LIKELY = st.text(st.characters(), max_size=5) | st.sampled_from(["s-1", "start", "enqueue", "e.1.0", *TYPES])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | LIKELY,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | LIKELY, inner, max_size=4)
    ),
    max_leaves=10,
)
ALMOST_FRAMES = st.lists(
    st.tuples(st.just("type"), st.sampled_from(TYPES)) | st.tuples(st.sampled_from([*NAMES, "type"]), VALUES),
    max_size=6,
)


@given(fields=ALMOST_FRAMES, escaped=st.booleans())
def test_what_looks_like_a_frame_is_one_or_a_refusal(fields: list[tuple[str, Any]], escaped: bool) -> None:
    def dumped(value: Any) -> str:
        return json.dumps(value, ensure_ascii=escaped)

    data = "{" + ",".join(f"{dumped(name)}:{dumped(value)}" for name, value in fields) + "}"
    answers(data)
    answers(data.encode("utf-8", "surrogatepass"))


@given(st.data())
def test_a_frame_with_any_byte_changed_is_a_frame_or_a_refusal(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from(WHOLE_FRAMES)))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    answers(bytes(whole))
    answers(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


WHOLE_FRAMES = [
    b'{"type":"message","content":"a \\ud83d\\ude00 b","session_id":"s","metadata":{"a":[1e3]}}',
    b'{"type":"attach","sessions":[{"session_id":"s","cursor":"e.1.0","history":5,"create":true}],"ref":"r"}',
    '{"type":"detach","session_ids":["s"],"ref":"é😀"}'.encode(),
]


@pytest.mark.parametrize("nested", [10, 900, 1_000, 10_000, 100_000])
@pytest.mark.parametrize("brackets", ["[]", '{"a":}'])
@pytest.mark.parametrize("around", ['{"type":"ping","x":%s}', '{"type":"nope","x":%s}', "%s"])
def test_no_depth_brings_the_decoder_down(nested: int, brackets: str, around: str) -> None:
    answers(around % (brackets[:-1] * nested + "1" + brackets[-1] * nested))


@pytest.mark.parametrize(
    "number", ["9" * 5_000, "-" + "9" * 5_000, "1e999", "-1e999", "1e-999", "NaN", "Infinity"]
)
@pytest.mark.parametrize(
    "around",
    [
        '{"type":"message","content":"x","metadata":{"n":%s}}',
        '{"type":"attach","sessions":[{"session_id":"s","history":%s}]}',
        '{"type":"nope","type":"message","content":"x","metadata":{"n":%s}}',
        '{"type":%s}',
    ],
)
def test_no_number_brings_the_decoder_down(number: str, around: str) -> None:
    answers(around % number)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "-1e999", '"\\ud800"'])
@pytest.mark.parametrize("kind", ['"type":"message"', '"type":"nope","type":"message"'])
def test_what_other_parsers_would_not_take_is_refused(value: str, kind: str) -> None:
    data = f'{{{kind},"content":"x","metadata":{{"n":{value}}}}}'
    assert refusal(data).code == "bad_frame"
    assert refusal(data, lenient=True).code == "bad_frame"


def test_of_duplicate_keys_the_last_wins() -> None:
    assert decode_client_frame('{"type":"ping","ref":"a","ref":"b"}', LIMITS) == frames.Ping("b")
    assert decode_client_frame('{"type":"nope","type":"ping"}', LIMITS) == frames.Ping()
    assert refusal('{"type":"ping","type":"nope"}').code == "unknown_type"


def test_fields_that_are_not_known_are_ignored() -> None:
    assert decode_client_frame('{"type":"ping","mood":{"a":[null]},"protocol":9}', LIMITS) == frames.Ping()


# ── Limits ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("letter", ["a", "é", "名", "\U0001f600"])
def test_a_frame_may_have_its_limit_in_bytes_and_not_one_more(letter: str) -> None:
    text = '{"type":"hello","client":"%s"}' % (letter * 50)
    size = len(text.encode())
    for data in (text, text.encode()):
        decode_client_frame(data, Limits(frame_bytes=size))
        refused = refusal(data, Limits(frame_bytes=size - 1))
        assert (refused.code, refused.details) == ("frame_too_large", {"limit": size - 1})


def test_content_is_limited_in_characters() -> None:
    fits, too_large = ('{"type":"message","content":"%s","ref":"r"}' % ("😀" * n) for n in (10, 11))
    limits = Limits(content_chars=10)
    assert isinstance(decode_client_frame(fits, limits), frames.Send)
    refused = refusal(too_large, limits)
    assert (refused.code, refused.ref, refused.details) == ("message_too_large", "r", {"limit": 10})
    assert "10" in refused.content
    assert "11" in refused.content


def test_metadata_is_limited_in_bytes() -> None:
    limits = Limits(metadata_bytes=30)
    assert check_metadata({"a": "x" * 22}, limits) is None
    assert "30 bytes" in str(check_metadata({"a": "x" * 23}, limits))
    refused = refusal('{"type":"message","content":"","metadata":{"a":"%s"},"ref":"r"}' % ("x" * 23), limits)
    assert (refused.code, refused.ref) == ("bad_frame", "r")


@pytest.mark.parametrize("level", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_metadata_is_limited_in_depth(level: Callable[[Any], Any]) -> None:
    metadata: Any = 1
    for _ in range(15):
        metadata = level(metadata)
    assert check_metadata({"a": metadata}, LIMITS) is None
    assert "16 deep" in str(check_metadata({"a": level(metadata)}, LIMITS))


@pytest.mark.parametrize("history", [-1, 201, 10**18])
def test_history_is_limited(history: int) -> None:
    refused = refusal(encode(frames.Attach([frames.Target("s", history=history)], ref="r")))
    assert (refused.code, refused.session_id, refused.ref) == ("bad_frame", "s", "r")
    assert "sessions[0].history" in refused.content


@pytest.mark.parametrize("history", [0, 200])
def test_history_may_be_all_or_nothing_of_its_limit(history: int) -> None:
    decode_client_frame(encode(frames.Attach([frames.Target("s", history=history)])), LIMITS)


def test_a_turn_id_needs_a_session() -> None:
    refused = refusal('{"type":"message","content":"x","turn_id":"t","ref":"r"}')
    assert (refused.code, refused.turn_id, refused.ref) == ("bad_frame", "t", "r")


# ── The agent-bound socket ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["hi", " hi ", "3 apples", "null and void", '"quoted" words', "ää 😀"])
def test_bare_text_is_a_message_on_a_lenient_line_only(text: str) -> None:
    assert decode_client_frame(text, LIMITS, lenient=True) == frames.Send(text)
    assert decode_client_frame(text.encode(), LIMITS, lenient=True) == frames.Send(text)
    assert refusal(text).code == "bad_frame"


@pytest.mark.parametrize(
    "text", ["", "  ", "{hi", "[hi", ' {"type":"ping"', "\ud800", b"\xff", "3", "null", '"hi"']
)
def test_what_is_json_or_looks_like_it_is_no_bare_text(text: str | bytes) -> None:
    assert refusal(text, lenient=True).code == "bad_frame"


def test_an_object_with_content_and_no_type_is_a_message_on_a_lenient_line_only() -> None:
    data = '{"content":"hi","session_id":"s"}'
    assert decode_client_frame(data, LIMITS, lenient=True) == frames.Send("hi", session_id="s")
    assert refusal(data).code == "bad_frame"


def test_bare_text_has_the_limits_of_a_message() -> None:
    assert refusal("x" * 11, Limits(content_chars=10), lenient=True).code == "message_too_large"


# ── What goes out ───────────────────────────────────────────────────────────────────────────────────────────


@given(content=TEXT, metadata=st.dictionaries(TEXT, JSON, max_size=3))
def test_no_byte_below_a_space_ever_leaves(content: str, metadata: dict[str, Any]) -> None:
    frame = frames.Message("e.1.0", "s", "t", content, 1.0, metadata=metadata)
    data = encode(frame)
    assert min(data) >= 0x20
    assert decode_server_frame(data) == frame


@given(st.lists(TEXT, min_size=1, max_size=5))
def test_a_batch_is_its_frames(contents: list[str]) -> None:
    sent = [frames.ThoughtDelta("s", "t", content) for content in contents]
    data = b"\n".join(encode(frame) for frame in sent)
    assert list(decode_batch(data)) == sent
    assert list(decode_batch(data.decode())) == sent


@pytest.mark.parametrize("struct", SERVER)
def test_the_head_tells_type_and_cursor(struct: type[Any], sample: Callable[..., Any]) -> None:
    frame = sample(struct)
    assert head(encode(frame)) == (struct.__struct_config__.tag, getattr(frame, "cursor", None))


def test_the_head_takes_no_deeper_cursor_for_the_frames_own() -> None:
    use = frames.HistoryMessage(
        "user", "t", "hi", 1.0, metadata={"cursor": "e.9.9", "x": {"a": 1, "cursor": "e.9.9"}}
    )
    attached = frames.Attached("e.1.0", "s", "a", "snapshot", "idle", [], messages=[use])
    assert head(encode(attached)) == ("attached", "e.1.0")
    assert head(b'{"type":"typing","x":{"a":1,"cursor":"e.9.9"}}') == ("typing", None)


def test_the_head_of_a_refusal_has_no_cursor() -> None:
    refused = frames.Error(content=',"cursor":"e.1.0"', code="bad_frame", retryable=False)
    assert head(encode(refused)) == ("error", None)


@pytest.mark.parametrize("struct", RECORDS)
def test_a_shared_record_is_what_plain_encoding_would_be(
    struct: type[Any], sample: Callable[..., Any]
) -> None:
    record = sample(struct)
    shared = Shared(record, "s-1")
    for epoch, seq, offset in (("e1", 17, 0), ("k3f9a1", 10**9, 512)):
        cursor = f"{epoch}.{seq}.{offset}"
        data = shared.at(epoch, seq, offset)
        frame = frame_of(record, "s-1", cursor)
        if frame is None:
            assert data is None
        else:
            assert data is not None
            assert decode_server_frame(data) == frame
            assert head(data) == (frame.__struct_config__.tag, cursor)


@given(content=TEXT | st.just(',"cursor":"'), session_id=TEXT, turn_id=TEXT)
def test_a_spliced_delta_is_what_plain_encoding_would_be(content: str, session_id: str, turn_id: str) -> None:
    delta = Delta("e1", session_id, turn_id)
    text, thought = delta.text(17, 512, content), delta.thought(content)
    assert text == encode(frames.TextDelta("e1.17.512", session_id, turn_id, content))
    assert thought == encode(frames.ThoughtDelta(session_id, turn_id, content))
    assert head(text) == ("text_delta", "e1.17.512")
    assert head(thought) == ("thought_delta", None)


def test_a_refusal_is_told_with_all_that_is_known_of_it() -> None:
    refused = Refused("session_closed", "It is closed.", session_id="s", ref="r", turn_id="t", expires_at=5.0)
    assert error_frame(refused) == frames.Error(
        content="It is closed.",
        code="session_closed",
        retryable=False,
        session_id="s",
        turn_id="t",
        ref="r",
        expires_at=5.0,
    )
    assert error_frame(Refused("queue_full", "Wait.", limit=16)) == frames.Error(
        content="Wait.",
        code="queue_full",
        retryable=True,
        retry_after_ms=TABLE["queue_full"].retry_after_ms,
        limit=16,
    )


@pytest.mark.parametrize("data", ["", "{}", '{"type":"poem"}', '{"type":"ok"}\n{"type":"ok"}', "[]"])
def test_a_client_tells_what_is_no_frame(data: str) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_server_frame(data)
