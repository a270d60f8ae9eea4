"""One reader's place in one log: what it is sent next, within a budget."""

from __future__ import annotations

from collections import deque

from gateway.log import Log
from gateway.reader import Reader
from protocol import codec, frames
from protocol.records import Entry, Message, Response, Started, ToolCall, ToolResult

TAIL = 1 << 20


def running(*said: str) -> tuple[Log, Reader]:
    """A log in which a turn runs, and a reader at its beginning."""
    log = Log("s", "bot")
    log.start("e", 0)
    reader = Reader(log, None, 0)
    log.readers.append(reader)
    log.append(Message("t", "hi", 1.0), TAIL)
    log.append(Started("t", "n", 1.0), TAIL)
    for piece in said:
        log.extend(piece)
    return log, reader


def read(reader: Reader, budget: int = 1 << 20, max_delta: int = 1 << 14) -> list[frames.ServerFrame]:
    out: list[bytes] = []
    spent = reader.read(out, budget, max_delta)
    assert spent == sum(map(len, out))
    return [codec.decode_server_frame(data) for data in out]


def texts(told: list[frames.ServerFrame]) -> list[str]:
    return [frame.content for frame in told if isinstance(frame, frames.TextDelta)]


def test_what_was_written_since_comes_as_one_delta() -> None:
    log, reader = running("a", "b")
    assert texts(read(reader)) == ["ab"]
    log.extend("c")
    log.extend("d")
    assert texts(read(reader)) == ["cd"]
    assert read(reader) == []
    assert reader.cursor == "e.2.4"


def test_a_long_text_is_cut_and_a_budget_ends_the_turn_of_a_reader() -> None:
    _, reader = running("x" * 250)
    assert [len(text) for text in texts(read(reader, max_delta=100))] == [100, 100, 50]
    log, reader = running("x" * 250)
    first = read(reader, budget=1, max_delta=100)
    assert [type(frame) for frame in first] == [frames.Message]
    told = read(reader, budget=1, max_delta=100)
    assert texts(told) == ["x" * 100]
    assert reader.offset == 100 < log.text.length  # type: ignore[union-attr]


def test_a_tool_record_comes_right_after_the_text_before_it() -> None:
    log, reader = running("before ")
    log.append(ToolCall("t", 7, "c", "look", {}, 1.0), TAIL)
    log.extend("after")
    log.append(ToolResult("t", 12, "c", "found", False, 1.0), TAIL)
    kinds = [frame.content if isinstance(frame, frames.TextDelta) else type(frame).__name__
             for frame in read(reader)]  # fmt: skip
    assert kinds == ["Message", "before ", "ToolCall", "after", "ToolResult", "Typing"]


def test_one_who_kept_up_is_sent_the_rest_before_the_end_and_typing_ends() -> None:
    log, reader = running("a")
    read(reader)
    log.extend("b")
    log.append(Response("t", "ab", "completed", 2.0), TAIL)
    assert [type(frame) for frame in read(reader)] == [frames.TextDelta, frames.Typing, frames.Response]
    assert reader.cursor == "e.3.0"


def test_one_who_lagged_is_sent_the_end_alone() -> None:
    log, reader = running("a")
    read(reader)
    log.extend("b")
    log.append(Response("t", "ab", "completed", 2.0), TAIL)
    reader.owed = None  # as the log does for a congested one
    assert [type(frame) for frame in read(reader)] == [frames.Typing, frames.Response]


def test_what_is_in_the_store_only_is_wanted_as_a_page() -> None:
    log, reader = running("a")
    log.readers.clear()
    log.append(Response("t", "a", "completed", 2.0), TAIL)
    assert reader.lags
    assert read(reader) == []
    reader.page = deque([
        Entry(1, Message("t", "hi", 1.0)), Entry(2, Started("t", "n", 1.0)),
        Entry(3, Response("t", "a", "completed", 2.0)),
    ])  # fmt: skip
    assert [type(frame) for frame in read(reader)] == [frames.Message, frames.Response]
    assert not reader.lags


def test_an_offset_beyond_the_text_known_here_waits_until_the_text_passes_it() -> None:
    log, _ = running("abc")
    ahead = Reader(log, None, 2, 5)
    log.readers.append(ahead)
    assert texts(read(ahead)) == []
    log.extend("de")
    assert texts(read(ahead)) == []
    log.extend("fg")
    assert texts(read(ahead)) == ["fg"]


def test_the_user_at_the_readers_own_line_is_not_told_to_be_typing() -> None:
    log = Log("s", "bot")
    log.start("e", 0)
    mine, other = Reader(log, "me", 0), Reader(log, "other", 0)
    log.readers += [mine, other]
    log.set_typing("me", 10.0)
    assert read(mine) == []
    assert read(other) == [frames.Typing("s", "start", "user")]
    log.set_typing("me", None)
    assert read(other) == [frames.Typing("s", "stop", "user")]


def test_the_end_of_the_session_is_told_once_and_last() -> None:
    log, reader = running("a")
    log.append(Response("t", "a", "cancelled", 2.0), TAIL)
    log.end("closed", codec.encode(frames.Session("s", "closed", 0)))
    told = read(reader)
    assert isinstance(told[-1], frames.Session)
    assert told[-1].status == "closed"
    assert reader.told_end
    assert read(reader) == []
