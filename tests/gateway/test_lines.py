from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct, json

from gateway.interfaces import AgentError
from gateway.lines import BODY_LIMIT, LINE_LIMIT, Events, Lines, PlainText, Whole, decode, mend


def every_cut(data: bytes) -> Iterator[list[bytes]]:
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for i in range(1, len(data)):
        yield [data[:i], data[i:]]


def read(reader: Any, chunks: list[bytes]) -> list[Any]:
    return [item for chunk in chunks for item in reader.feed(chunk)]


def test_lines_end_at_lf_or_crlf_however_the_body_is_cut() -> None:
    for chunks in every_cut("a\r\n\nzwölf 🎈\nrest".encode()):
        lines = Lines()
        assert read(lines, chunks) == [b"a", b"", "zwölf 🎈".encode()]
        assert lines.rest() == b"rest"


def test_characters_that_python_takes_for_line_ends_do_not_end_a_line() -> None:
    line = "a\u2028b\u0085c\x0bd\re".encode()
    assert read(Lines(), [line + b"\n"]) == [line]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_beyond_the_limit_is_refused_finished_or_not(end: bytes) -> None:
    assert len(read(Lines(), [b"x" * LINE_LIMIT + b"\n"])) == 1
    with pytest.raises(AgentError, match="1,048,576 bytes") as caught:
        read(Lines(), [b"x" * LINE_LIMIT, b"x" + end])
    assert caught.value.code == "agent_failed"


def test_events_are_their_data_however_the_stream_is_cut() -> None:
    stream = ': hello\r\nevent: x\r\ndata: {"a":\r\ndata:"é"}\r\nid: 7\r\n\r\n\r\ndata: [DONE]\n\ndata: cut'
    for end in ("\r\n", "\n", "\r"):
        for chunks in every_cut(stream.replace("\r\n", end).encode()):
            events = Events()
            assert read(events, chunks) == [("x", '{"a":\n"é"}'.encode()), ("", b"[DONE]")]
            assert [*events.end()] == [("", b"cut")]


def test_what_servers_write_beside_the_standard_are_events_too() -> None:
    stream = (
        '\ufeffdata: 1\n\nerror: {"code":400}\n\nevent: error\ndata: no\n\n{"error":"a"}\n'
        'data: 2\n{"error":"b"}\n[{\n  "error": "data: c"\n}]\n\ndata: 3\n\n{\n  "error": "d"'
    )
    for chunks in every_cut(stream.encode()):
        events = Events()
        assert [*read(events, chunks), *events.end()] == [
            ("", b"1"),
            ("error", b'{"code":400}'),
            ("error", b"no"),
            ("", b'{"error":"a"}'),
            ("", b"2"),
            ("", b'{"error":"b"}'),
            ("", b'[{\n  "error": "data: c"\n}]'),
            ("", b"3"),
            ("", b'{\n  "error": "d"'),
        ]


SCRAPS = st.sampled_from(
    [
        "data:",
        "data: ",
        "event: x",
        "error: ",
        ":",
        "{",
        "}",
        "[",
        "]",
        "\n",
        "\n",
        "\r",
        "\r\n",
        "a",
        "é",
        "\ufeff",
    ]
)


@given(st.lists(SCRAPS, max_size=30), st.lists(st.integers(1, 4), min_size=1))
def test_how_a_stream_of_events_is_cut_changes_nothing(scraps: list[str], sizes: list[int]) -> None:
    data = "".join(scraps).encode()
    chunks, at = [], 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            break
        chunks.append(data[at : at + size])
        at += size
    whole, cut = Events(), Events()
    assert [*read(cut, chunks), *cut.end()] == [*read(whole, [data]), *whole.end()]


def test_characters_that_python_takes_for_line_ends_do_not_end_a_line_of_an_event() -> None:
    line = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1eg".encode()
    for chunks in every_cut(b"data: " + line + b"\r\r"):
        assert read(Events(), chunks) == [("", line)]


def test_a_byte_order_mark_is_dropped_before_the_first_line_only() -> None:
    for chunks in every_cut("\ufeffa\n\ufeffb\n".encode()):
        assert read(Lines(), chunks) == [b"a", "\ufeffb".encode()]
    for chunks in every_cut("\ufeffa".encode()):
        lines, text, whole = Lines(), PlainText(), Whole(lambda body: iter([body.decode()]))
        assert (read(lines, chunks), lines.rest()) == ([], b"a")
        assert "".join([*read(text, chunks), *text.end()]) == "a"
        assert [*read(whole, chunks), *whole.end()] == ["a"]


def test_an_event_of_too_many_lines_is_refused() -> None:
    line = b"data: " + b"x" * 1000 + b"\n"
    with pytest.raises(AgentError, match="1,048,576 bytes"):
        read(Events(), [line] * 1100)
    with pytest.raises(AgentError, match="1,048,576 bytes"):
        read(Events(), [b"{\n", *[line] * 1100])


def test_the_limit_is_that_of_each_event_not_of_all() -> None:
    event = b"data: " + b"x" * 600_000 + b"\n\n"
    assert len(read(Events(), [event] * 3)) == 3


def test_plain_text_keeps_characters_whole_and_mends_broken_ones() -> None:
    for chunks in every_cut("zwölf 🎈".encode() + b"\xff"):
        reader = PlainText()
        assert "".join([*read(reader, chunks), *reader.end()]) == "zwölf 🎈\ufffd"
    reader = PlainText()
    assert "".join([*read(reader, ["🎈".encode()[:2]]), *reader.end()]) == "\ufffd"


def test_a_whole_body_is_taken_at_its_end_and_bounded() -> None:
    whole = Whole(lambda body: iter([body.decode()]))
    assert read(whole, [b"a", b"b"]) == []
    assert list(whole.end()) == ["ab"]
    with pytest.raises(AgentError, match="4,194,304 bytes"):
        read(Whole(lambda _: iter(())), [b"x" * BODY_LIMIT, b"x"])


class Said(Struct):
    text: str


SAID: json.Decoder[Said] = json.Decoder(Said)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"text": "a"}', "a"),
        (b'{"text": "\\ud83c"}', "\ud83c"),
        (b'{"text": "a\xf0\x9f"}', "a\ufffd"),
        (b'{"text": "\\ud83c\\udf88"}', "🎈"),
    ],
)
def test_half_a_character_is_read(data: bytes, text: str) -> None:
    assert decode(SAID, data).text == text


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cannot be read"),
        (b"nonsense", "cannot be read"),
        (b'{"text": 1}', r"Expected `str`, got `int` - at `\$.text`"),
        (b'{"text": 1, "\\ud83c": 0}', r"Expected `str`, got `int` - at `\$.text`"),
        (b'{"x": ' + b"[" * 100_000, "recursion"),
        (b'{"text": ' + b"1" * 5_000 + b"}", "cannot be read"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, why: str) -> None:
    with pytest.raises(AgentError, match=why) as caught:
        decode(SAID, data)
    assert (caught.value.code, caught.value.retryable) == ("agent_failed", False)


def test_halves_of_a_pair_are_joined_and_lonely_ones_replaced() -> None:
    assert mend("a\ud83c\udf88\ud83c") == "a🎈\ufffd"
