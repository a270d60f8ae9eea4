"""What an operator's page asks, and what it is not shown."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from protocol import console, frames
from protocol.codec import encode
from protocol.errors import Refused
from protocol.records import Timing

WHERE = {"agent": "bot", "user": "ann", "session_id": "s"}


def test_a_command_is_read() -> None:
    assert console.decode('{"type":"list","search":"a"}', 100) == console.List("a")
    watch = console.decode(json.dumps({"type": "watch", **WHERE, "ref": "1"}), 100)
    assert watch == console.Watch(**WHERE, ref="1")
    assert console.decode(b'{"type":"hello","token":"k"}', 100) == frames.Hello("k")


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        ("{", "bad_frame", "not JSON"),
        (b"\xff", "bad_frame", "not JSON"),
        ('{"type":"message","content":"x"}', "bad_frame", "message"),
        ('{"type":"list","limit":1000}', "bad_frame", "limit"),
        ('{"type":"watch","agent":"a","user":"u"}', "bad_frame", "session_id is missing"),
        ('{"type":"list","search":"' + "x" * 300 + '"}', "frame_too_large", "300"),
        ("[" * 100 * 3, "bad_frame", ""),
    ],
)
def test_what_is_no_command_is_refused_with_a_reason(data: str | bytes, code: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        console.decode(data, 300)
    assert refused.value.code == code
    assert said in refused.value.content


@pytest.mark.parametrize(
    ("field", "bad", "words"),
    [
        ("session_id", "a b", "1–128 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone)"),
        ("session_id", "x" * 129, "1–128 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone)"),
        ("agent", "..", "1–64 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone)"),
        ("user", "a/b", "1–256 characters, no control characters, no /"),
        ("turn_id", "a\n", "1–128 characters, no control characters"),
    ],
)
def test_a_bad_id_is_told_as_on_every_line(field: str, bad: str, words: str) -> None:
    frame = {"type": "cancel", **WHERE, "turn_id": "t", "ref": "7", field: bad}
    with pytest.raises(Refused) as refused:
        console.decode(json.dumps(frame), 1000)
    assert (refused.value.code, refused.value.content) == ("bad_id", f"{field}: expected {words}.")
    assert refused.value.ref == "7"


SECRET = "the secret"
TOLD = [
    frames.Message("c", "s", "t", SECRET, 1.0, metadata={"why": SECRET}),
    frames.TextDelta("c", "s", "t", SECRET),
    frames.ThoughtDelta("s", "t", SECRET),
    frames.ToolCall("c", "s", "t", 3, "call", "add", {"of": SECRET}),
    frames.ToolResult("c", "s", "t", 3, "call", [SECRET], False),
    frames.Response("c", "s", "t", SECRET, "completed", 1, 2, Timing(0, 1, 2), 1.0, SECRET, {"a": SECRET}),
    frames.Error(
        cursor="c", content=SECRET, code="agent_failed", retryable=True, turn_id="t", partial=SECRET
    ),
    frames.Attached(
        cursor="c",
        session_id="s",
        agent="bot",
        mode="snapshot",
        status="idle",
        queued=[],
        messages=[
            frames.HistoryMessage(
                role="agent",
                turn_id="t",
                content=SECRET,
                created_at=1.0,
                tools=[frames.ToolUse("call", "add", {"of": SECRET}, SECRET, False, 0)],
            )
        ],
    ),
]


@pytest.mark.parametrize("frame", TOLD, ids=lambda frame: type(frame).__name__)
def test_nothing_that_was_said_is_in_a_redacted_frame_and_all_else_is(frame: frames.ServerFrame) -> None:
    whole = json.loads(encode(frame))
    shown = console.redacted(whole)
    assert SECRET not in json.dumps(shown)
    assert shown.keys() == whole.keys()
    assert [one["turn_id"] for one in shown.get("messages", ())] == ["t"] * ("messages" in whole)
    assert {name: shown[name] for name in ("type", "turn_id") if name in whole} == {
        name: whole[name] for name in ("type", "turn_id") if name in whole
    }


def test_of_what_is_hidden_the_size_is_told() -> None:
    shown = console.redacted({"type": "x", "content": "häh", "input": {"a": 1}, "partial": None, "new": True})
    assert shown == {
        "type": "x",
        "content": {"hidden": 3},
        "input": {"hidden": 7},
        "partial": None,
        "new": {"hidden": 4},
    }


def test_every_field_of_a_sessions_frame_is_either_shown_or_known_to_be_contents() -> None:
    contents = {"content", "metadata", "input", "thought", "partial", "messages", "tool", "result", "id"}
    for frame in get_args(frames.ServerFrame):
        if "session_id" in frame.__struct_fields__ and frame not in (frames.Ok, frames.CommandResult):
            shown = {name for name in frame.__struct_fields__ if console.redacted({name: 1}) == {name: 1}}
            assert set(frame.__struct_fields__) - shown <= contents, frame
            assert not shown & contents, frame
