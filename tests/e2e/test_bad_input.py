"""Whatever comes in: an `error` or the right close code, and never a word of another session lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus

from protocol import frames
from tests.e2e.line import Line, opened
from tests.e2e.process import Process, gateway_runner, serving

PACE = {"deltas": 30, "interval_ms": 1}
TEXT = "".join(f"{number:07d} " for number in range(30))
REFUSALS = {
    "bad_frame", "bad_id", "unknown_type", "frame_too_large", "message_too_large", "agent_not_found",
    "session_not_found", "session_conflict", "turn_not_found", "turn_conflict", "forbidden", "queue_full",
}  # fmt: skip
"""What a client may be told that sends nonsense. Not `internal`: that would be a bug."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving(gateway_runner(), tmp_path_factory.mktemp("open") / "log") as process:
        yield process
        assert "Traceback" not in process.log


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server that wants to know who is calling, and soon."""
    arguments = gateway_runner(auth=True, settings={"hello_timeout": 0.5})
    with serving(arguments, tmp_path_factory.mktemp("guarded") / "log") as process:
        yield process
        assert "Traceback" not in process.log


@asynccontextmanager
async def talking(server: Process) -> AsyncIterator[Line]:
    """A line on which a session streams, undisturbed by whatever else is sent on it."""
    async with opened(f"{server.ws}/ws") as line:
        await line.put(
            "message", session_id="steady", content="play", metadata=PACE, create=True, ref="steady"
        )
        turn_id = (await line.answer("steady")).turn_id
        yield line
        assert (await line.terminal(turn_id)).content == TEXT
        assert line.transcripts["steady"].turns[-1].text == TEXT


async def lives(line: Line) -> list[frames.Error]:
    """See that the line is alive; what it was refused meanwhile."""
    line.frames.clear()
    await line.put("ping", ref="alive")
    await line.answer("alive")
    refusals = [frame for frame in line.frames if isinstance(frame, frames.Error) and frame.cursor is None]
    assert {refusal.code for refusal in refusals} <= REFUSALS
    return refusals


# ── Nonsense ────────────────────────────────────────────────────────────────────────────────────────────────

FRAMES: dict[str, dict[str, Any]] = {
    "hello": {"token": "t", "user_id": "user", "batch": False, "client": "test"},
    "attach": {"sessions": [{"session_id": "x"}]},
    "detach": {"session_ids": ["x"]},
    "message": {
        "content": "hi", "session_id": "x", "agent": "echo", "turn_id": "t", "on_busy": "enqueue",
        "replaces": "t0", "metadata": {}, "create": True,
    },
    "cancel": {"session_id": "x", "turn_id": "t", "agent": "echo"},
    "typing": {"session_id": "x", "state": "start", "agent": "echo"},
    "renew": {"session_id": "x", "agent": "echo"},
    "ping": {},
    "command": {"command": "new", "session_id": "x"},
}  # fmt: skip
DEEP: Any = [[]]
for _ in range(200):
    DEEP = [DEEP]
WRONG: list[Any] = [
    None, True, -1, 1 << 70, 1.5, "", "x" * 2000, "\x00", "\ud800", "a/b", [], ["x", 1], {}, {"x": 1},
    [{"session_id": "x", "history": 1000}], [{"session_id": "x", "cursor": 7}], [{}], DEEP,
]  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(sorted({name for fields in FRAMES.values() for name in fields} | {"ref", "type"}))
frame_like = st.builds(
    lambda type, fields: json.dumps({**fields, "type": type}),  # noqa: A006
    st.sampled_from(sorted(FRAMES)) | st.text(max_size=10),
    st.dictionaries(names, json_values, max_size=6),
)
texts = st.text(max_size=200) | json_values.map(json.dumps) | frame_like


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(garbage=st.lists(texts, min_size=1, max_size=8))
async def test_garbage_is_refused_and_disturbs_nobody(server: Process, garbage: list[str]) -> None:
    async with talking(server) as line:
        for text in garbage:
            await line.socket.send(text.encode("utf-8", "replace"), text=True)
        await lives(line)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(garbage=st.binary(max_size=200))
async def test_bytes_that_are_text_are_a_frame_and_others_close_the_line(
    server: Process, garbage: bytes
) -> None:
    async with opened(f"{server.ws}/ws") as line:
        await line.socket.send(garbage, text=True)
        try:
            garbage.decode()
        except UnicodeDecodeError:
            assert await line.closed() == 1007
        else:
            await lives(line)


@pytest.mark.parametrize("kind", sorted(FRAMES))
async def test_every_field_may_be_missing_or_wrong_and_the_line_lives(server: Process, kind: str) -> None:
    async with talking(server) as line:
        for name in FRAMES[kind]:
            rest = {other: value for other, value in FRAMES[kind].items() if other != name}
            await line.socket.send(json.dumps({"type": kind, **rest}))
            for wrong in WRONG:
                await line.socket.send(json.dumps({"type": kind, "ref": "wrong", **rest, name: wrong}))
            await lives(line)
        for wrong in WRONG:
            await line.socket.send(json.dumps({"type": kind, **FRAMES[kind], "ref": wrong}))
            await line.socket.send(json.dumps({"type": wrong, **FRAMES[kind]}))
        await lives(line)


async def test_a_refusal_names_the_field_what_was_expected_and_what_came(server: Process) -> None:
    async with opened(f"{server.ws}/ws") as line:
        await line.put("message", session_id="s", content=7, ref="1")
        error = await line.answer("1")
        assert (error.code, error.session_id, error.retryable) == ("bad_frame", "s", False)
        assert "content" in error.content
        assert "expected" in error.content
        await line.put("message", session_id="a b", content="hi", ref="2")
        assert (await line.answer("2")).code == "bad_id"
        await line.put("nonsense", ref="3")
        assert (await line.answer("3")).code == "unknown_type"


# ── Size and kind ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_frame_that_is_too_large_is_refused_and_the_line_lives(server: Process) -> None:
    async with talking(server) as line:
        await line.socket.send('{"type":"ping"' + " " * (300 << 10) + "}")
        [error] = await lives(line)
        assert (error.code, error.limit) == ("frame_too_large", 256 << 10)
        await line.put("message", session_id="x", content="x" * 65_537, ref="1")
        assert (await line.answer("1")).code == "message_too_large"
        await line.socket.send('{"type":"ping","x":' + "[" * 100_000 + "]" * 100_000 + "}")
        [error] = await lives(line)
        assert error.code == "bad_frame"


async def test_a_message_over_the_hard_limit_closes_with_1009(server: Process) -> None:
    async with opened(f"{server.ws}/ws") as line:
        await line.socket.send("x" * ((1 << 20) + 1))
        assert await line.closed() == 1009


async def test_a_binary_message_closes_with_1003_and_says_why(server: Process) -> None:
    async with opened(f"{server.ws}/ws") as line:
        await line.socket.send(b'{"type":"ping"}')
        assert await line.closed() == 1003
        assert [frame.code for frame in line.frames if isinstance(frame, frames.Error)] == ["bad_frame"]


# ── Before hello ────────────────────────────────────────────────────────────────────────────────────────────


async def test_nothing_is_said_before_hello_and_without_it_the_line_closes_with_4408(
    guarded: Process,
) -> None:
    async with opened(f"{guarded.ws}/ws") as line:
        assert await line.closed() == 4408
        assert [type(frame) for frame in line.frames] == [frames.Error]


HELLO = {"type": "hello", "token": "user:ann"}
BEFORE_HELLO = [
    pytest.param(json.dumps({**HELLO, "client": "x" * 9000}), 4400, "frame_too_large", id="more than 8 KiB"),
    pytest.param(json.dumps({"type": "ping"}), 4400, "unauthenticated", id="another frame"),
    pytest.param("{", 4400, "bad_frame", id="no JSON"),
    pytest.param(json.dumps({"type": "hello", "batch": 7}), 4400, "bad_frame", id="a bad hello"),
    pytest.param(json.dumps({"type": "hello"}), 4401, "unauthenticated", id="no token"),
    pytest.param(json.dumps({**HELLO, "token": "no"}), 4401, "unauthenticated", id="a bad token"),
    pytest.param(json.dumps({**HELLO, "user_id": "bob"}), 4403, "forbidden", id="another's token"),
    pytest.param(json.dumps({**HELLO, "user_id": "a/b"}), 4400, "bad_id", id="a bad user id"),
]


@pytest.mark.parametrize(("first", "close_code", "code"), BEFORE_HELLO)
async def test_a_line_that_does_not_say_hello_properly_is_told_why_and_closed(
    guarded: Process, first: str, close_code: int, code: str
) -> None:
    async with opened(f"{guarded.ws}/ws") as line:
        await line.socket.send(first)
        assert await line.closed() == close_code
        assert [getattr(frame, "code", None) for frame in line.frames] == [code]


async def test_a_line_that_dribbles_is_not_waited_for(guarded: Process) -> None:
    """The time to say hello is absolute: a byte now and then does not prolong it."""
    async with opened(f"{guarded.ws}/ws") as line, asyncio.TaskGroup() as group:

        async def dribble() -> AsyncIterator[str]:
            while True:
                yield " "
                await asyncio.sleep(0.05)

        async def send() -> None:
            with suppress(ConnectionClosed):
                await line.socket.send(dribble())

        sending = group.create_task(send())
        try:
            assert await line.closed() == 4408
        finally:
            sending.cancel()


async def test_a_good_hello_opens_the_line_for_its_user(guarded: Process) -> None:
    async with opened(f"{guarded.ws}/ws") as line:
        await line.socket.send(json.dumps({**HELLO, "ref": "hi"}))
        assert (await line.answer("hi")).user_id == "ann"
        await line.put("hello", token="user:bob", ref="other")
        assert (await line.answer("other")).code == "forbidden"
        await line.put("message", session_id="s", agent="echo", content="x" * 20_000, ref="big")
        assert (await line.answer("big")).status == "started"


# ── Who may knock ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headers", "status", "close_code", "code"),
    [
        pytest.param({"Authorization": "Bearer no"}, 401, 4401, "unauthenticated", id="bad token"),
        pytest.param({"Host": "evil.example"}, 403, 4403, "forbidden", id="rebound name"),
    ],
)
async def test_what_is_refused_at_the_door_is_an_http_status_and_for_browsers_a_close_code(
    guarded: Process, headers: dict[str, str], status: int, close_code: int, code: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with opened(f"{guarded.ws}/ws", additional_headers=headers):
            pass
    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body)["code"] == code
    origin = guarded.url if "Host" not in headers else f"http://{headers['Host']}"
    async with opened(f"{guarded.ws}/ws", additional_headers=headers, origin=origin) as line:
        assert await line.closed() == close_code
        assert [getattr(frame, "code", None) for frame in line.frames] == [code]


async def test_pages_of_another_origin_are_told_so_and_closed(server: Process) -> None:
    async with opened(f"{server.ws}/ws", origin="http://evil.example") as line:
        assert await line.closed() == 4403
        assert [getattr(frame, "code", None) for frame in line.frames] == ["forbidden"]


async def test_an_agent_that_is_not_there_is_404_and_for_browsers_4404(server: Process) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with opened(f"{server.ws}/api/agents/nobody/ws"):
            pass
    assert refused.value.response.status_code == 404
    async with opened(f"{server.ws}/api/agents/nobody/ws", origin=server.url) as line:
        assert await line.closed() == 4404
        assert [getattr(frame, "code", None) for frame in line.frames] == ["agent_not_found"]
