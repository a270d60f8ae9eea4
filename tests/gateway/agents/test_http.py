from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from gateway.agents.http import HttpAgent
from gateway.interfaces import (
    AgentError,
    Alive,
    Note,
    Past,
    Piece,
    SessionRef,
    Thought,
    ToolCall,
    ToolResult,
    Turn,
    Usage,
)
from protocol import records

WAIT = 30.0
NDJSON = "application/x-ndjson"
DONE = {"done": True}


@asynccontextmanager
async def agent_at(server: Any, **options: Any) -> AsyncIterator[HttpAgent]:
    agent = HttpAgent(f"{server.url}/agent?v=1", **options)
    try:
        yield agent
    finally:
        await agent.aclose()


def turn(**fields: Any) -> Turn:
    return Turn("t1", "hi", SessionRef("mine", "ann", "s1"), **fields)


def ndjson(*lines: Any) -> str:
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def streaming(*chunks: str | bytes, media_type: str = NDJSON) -> Callable[[Any], Awaitable[None]]:
    """An agent that answers every turn with these chunks, and an orderly end."""

    async def answer(exchange: Any) -> None:
        await exchange.begin(media_type)
        await exchange.send(*chunks)
        await exchange.end()

    return answer


async def collect(agent: HttpAgent, asked: Turn | None = None) -> list[Piece]:
    async with asyncio.timeout(WAIT), aclosing(agent(asked or turn())) as pieces:
        return [piece async for piece in pieces if not isinstance(piece, Alive)]


async def fail(agent: HttpAgent) -> tuple[list[Piece], AgentError]:
    """What came before the failure, and the failure."""
    pieces: list[Piece] = []
    try:
        async with asyncio.timeout(WAIT), aclosing(agent(turn())) as answer:
            async for piece in answer:
                if not isinstance(piece, Alive):
                    pieces.append(piece)
    except AgentError as error:
        return pieces, error
    pytest.fail(f"answered {pieces}")


async def test_the_turn_comes_as_json(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    asked = turn(
        metadata={"lang": "de"},
        parts=[{"image": 1}],
        history=[
            Past("user", "before", "t0", 1.5, metadata={"a": 1}),
            Past(
                "agent",
                "answer",
                "t0",
                2.5,
                "completed",
                [
                    records.ToolCall("t0", 3, "c1", "now", {}, 2.0),
                    records.ToolResult("t0", 3, "c1", 7, False, 2.25),
                ],
            ),
        ],
        state={"n": 1},
        request_id="r-7",
        replaces="t-1",
    )
    async with serving(streaming(ndjson(DONE))) as server, agent_at(server, key_env="MY_KEY") as agent:
        await collect(agent, asked)
        request = server.only
        assert (request.method, request.path) == ("POST", "/agent?v=1")
        assert request.headers["content-type"] == "application/json"
        assert request.headers["authorization"] == "Bearer secret"
        assert request.headers["x-request-id"] == "r-7"
        assert request.json == {
            "turn_id": "t1",
            "content": "hi",
            "session": {"agent": "mine", "user": "ann", "session_id": "s1"},
            "metadata": {"lang": "de"},
            "parts": [{"image": 1}],
            "history": [
                {
                    "role": "user",
                    "content": "before",
                    "turn_id": "t0",
                    "created_at": 1.5,
                    "metadata": {"a": 1},
                },
                {
                    "role": "agent",
                    "content": "answer",
                    "turn_id": "t0",
                    "created_at": 2.5,
                    "status": "completed",
                    "tools": [
                        {
                            "type": "tool_call",
                            "turn_id": "t0",
                            "at": 3,
                            "tool_call_id": "c1",
                            "name": "now",
                            "input": {},
                            "created_at": 2.0,
                        },
                        {
                            "type": "tool_result",
                            "turn_id": "t0",
                            "at": 3,
                            "tool_call_id": "c1",
                            "content": 7,
                            "is_error": False,
                            "created_at": 2.25,
                        },
                    ],
                },
            ],
            "state": {"n": 1},
            "replaces": "t-1",
        }


async def test_every_kind_of_line_has_its_piece(serving: Any) -> None:
    lines = [
        {"thought": "hm"},
        {"text": "a"},
        {},
        {"tool_call": {"tool_call_id": "c1", "name": "now", "input": [1]}},
        {"tool_result": {"tool_call_id": "c1", "content": {"t": 1}, "is_error": True}},
        {"text": "b", "thought": "first"},
        {"usage": {"input_tokens": 1, "output_tokens": 2}},
        {"metadata": {"model": "m"}},
        {"text": "c", "done": True},
        {"text": "after the end"},
    ]
    async with serving(streaming(ndjson(*lines))) as server, agent_at(server) as agent:
        pieces = await collect(agent)
    assert pieces == [
        "hm",
        "a",
        ToolCall("c1", "now", [1]),
        ToolResult("c1", {"t": 1}, True),
        "first",
        "b",
        Usage(1, 2),
        Note({"model": "m"}),
        "c",
    ]
    assert [type(pieces[0]), type(pieces[4]), type(pieces[5])] == [Thought, Thought, str]


async def test_state_replaces_the_sessions_state(serving: Any) -> None:
    asked = turn(state={"old": 1})
    async with serving(streaming(ndjson({"state": {"new": 2}}, DONE))) as server, agent_at(server) as agent:
        assert await collect(agent, asked) == []
    assert asked.state == {"new": 2}


async def test_any_cut_and_line_end_reads_the_same(serving: Any) -> None:
    data = '\r\n{"text": "zwölf 🎈\u2028"}\r\n\n{"text": "\\ud83c"}\n{"done": true}'.encode()
    for size in (1, 7, len(data)):
        chunks = [data[i : i + size] for i in range(0, len(data), size)]
        async with serving(streaming(*chunks)) as server, agent_at(server) as agent:
            assert await collect(agent) == ["zwölf 🎈\u2028", "\ud83c"]


@pytest.mark.parametrize("sign", ["\n", "\r\n", "{}\n", " "])
async def test_an_agent_that_has_nothing_to_say_yet_may_show_that_it_is_alive(
    serving: Any, sign: str
) -> None:
    go_on = asyncio.Event()

    async def answer(exchange: Any) -> None:
        await exchange.begin(NDJSON)
        await exchange.send(sign)
        await go_on.wait()
        await exchange.send(ndjson({"text": "a"}, DONE))
        await exchange.end()

    async with serving(answer) as server, agent_at(server) as agent, aclosing(agent(turn())) as pieces:
        async with asyncio.timeout(WAIT):
            assert await anext(pieces) == Alive()
            go_on.set()
            assert [piece async for piece in pieces] == ["a"]


@pytest.mark.parametrize(
    ("media_type", "body"),
    [(NDJSON, ndjson({"text": "a"}, DONE)), ("text/plain", "a"), ("application/json", '{"text": "a"}')],
)
async def test_a_byte_order_mark_is_no_part_of_the_answer(serving: Any, media_type: str, body: str) -> None:
    data = f"\ufeff{body}".encode()
    for chunks in ([data], [bytes([byte]) for byte in data]):
        async with serving(streaming(*chunks, media_type=media_type)) as server, agent_at(server) as agent:
            assert "".join(map(str, await collect(agent))) == "a"


async def test_text_arrives_while_the_agent_is_still_writing(serving: Any) -> None:
    go_on = asyncio.Event()

    async def answer(exchange: Any) -> None:
        await exchange.begin(NDJSON)
        await exchange.send(ndjson({"text": "first"}))
        await go_on.wait()
        await exchange.send(ndjson({"text": "second"}, DONE))
        await exchange.end()

    async with serving(answer) as server, agent_at(server) as agent, aclosing(agent(turn())) as pieces:
        async with asyncio.timeout(WAIT):
            assert await anext(pieces) == "first"
            go_on.set()
            assert [piece async for piece in pieces] == ["second"]


async def test_plain_text_is_the_text(serving: Any) -> None:
    chunks = ["zwölf ".encode(), *(bytes([byte]) for byte in "🎈".encode())]
    answer = streaming(*chunks, media_type="text/plain; charset=utf-8")
    async with serving(answer) as server, agent_at(server) as agent:
        assert "".join(map(str, await collect(agent))) == "zwölf 🎈"


async def test_one_json_object_is_an_answer(serving: Any) -> None:
    body = json.dumps({"text": "a", "usage": {"output_tokens": 1}, "state": {"n": 2}})
    asked = turn()
    async with serving(streaming(body, media_type="application/json")) as server, agent_at(server) as agent:
        assert await collect(agent, asked) == ["a", Usage(0, 1)]
    assert asked.state == {"n": 2}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"content": "No."}, ("No.", "agent_failed", None, None)),
        ({"content": "No.", "retryable": False}, ("No.", "agent_failed", False, None)),
        (
            {"content": "Later.", "code": "agent_unavailable", "retry_after_ms": 5},
            ("Later.", "agent_unavailable", None, 5),
        ),
        ({"content": "No.", "code": "session_busy"}, ("No.", "agent_failed", None, None)),
        ({"content": "a\ud83c"}, ("a\ufffd", "agent_failed", None, None)),
        ({"content": "x" * 5_000}, ("x" * 2_000, "agent_failed", None, None)),
    ],
)
async def test_an_agent_fails_in_its_own_words(serving: Any, error: Any, expected: Any) -> None:
    lines = ndjson({"text": "a"}, {"error": error}, {"text": "b"}, DONE)
    async with serving(streaming(lines)) as server, agent_at(server) as agent:
        pieces, failure = await fail(agent)
        assert pieces == ["a"]
        assert (failure.content, failure.code, failure.retryable, failure.retry_after_ms) == expected


@pytest.mark.parametrize("tail", ["", '{"text": "b"}', '{"done": tr', '{"done": false}\n'])
async def test_without_done_the_answer_is_truncated(serving: Any, tail: str) -> None:
    async with serving(streaming(ndjson({"text": "a"}) + tail)) as server, agent_at(server) as agent:
        pieces, error = await fail(agent)
        assert pieces[0] == "a"
        assert error.code == "upstream_truncated"


@pytest.mark.parametrize(
    ("media_type", "chunk"),
    [(NDJSON, '{"text": "a"}\n'), ("text/plain", "a"), ("application/json", '{"text": "a"}')],
)
async def test_a_lost_connection_is_truncation(serving: Any, media_type: str, chunk: str) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.begin(media_type)
        await exchange.send(chunk)
        exchange.drop()

    async with serving(answer) as server, agent_at(server) as agent:
        _, error = await fail(agent)
        assert error.code == "upstream_truncated"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nonsense", "Expecting value"),
        ("[1]", "Expected `object`"),
        ('{"txt": "a"}', "unknown field `txt`"),
        ('{"text": 1}', r"got `int` - at `$.text`"),
        ('{"text": null}', "got `null`"),
        ('{"tool_call": {"name": "x"}}', "missing required field `tool_call_id`"),
        ('{"usage": {"input_tokens": -1}}', ">= 0"),
    ],
)
async def test_a_line_that_breaks_the_contract_says_where(serving: Any, line: str, why: str) -> None:
    lines = f"{ndjson({'text': 'a'})}{line}\n{ndjson(DONE)}"
    async with serving(streaming(lines)) as server, agent_at(server) as agent:
        pieces, error = await fail(agent)
        assert (pieces, error.code, error.retryable) == (["a"], "agent_failed", False)
        assert why in error.content


async def test_a_line_without_end_fails_the_turn(serving: Any) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.begin(NDJSON)
        while True:
            await exchange.send(b"x" * 65_536)

    async with serving(answer) as server, agent_at(server) as agent:
        _, error = await fail(agent)
        assert error.code == "agent_failed"
        assert "1,048,576 bytes" in error.content


@pytest.mark.parametrize("media_type", ["", "text/html"])
async def test_another_content_type_fails_the_turn(serving: Any, media_type: str) -> None:
    async with serving(streaming("x", media_type=media_type)) as server, agent_at(server) as agent:
        _, error = await fail(agent)
        assert error.code == "agent_failed"
        assert "not application/x-ndjson or text/plain or application/json" in error.content


@pytest.mark.parametrize(
    ("status", "code", "retry_after_ms"),
    [(404, "agent_failed", None), (503, "agent_unavailable", 2_000), (429, "agent_unavailable", 2_000)],
)
async def test_a_status_means_a_code(
    serving: Any, status: int, code: str, retry_after_ms: int | None
) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.reply("private", "text/plain", status, Retry_After="2")

    async with serving(answer) as server, agent_at(server) as agent:
        _, error = await fail(agent)
        assert (error.code, error.retry_after_ms) == (code, retry_after_ms)
        assert "private" not in error.content


async def test_cancelling_closes_the_connection(serving: Any) -> None:
    waiting, gone = asyncio.Event(), asyncio.Event()

    async def answer(exchange: Any) -> None:
        await exchange.begin(NDJSON)
        waiting.set()
        await exchange.gone()
        gone.set()

    async with serving(answer) as server, agent_at(server) as agent:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(collect(agent))
            async with asyncio.timeout(WAIT):
                await waiting.wait()
                task.cancel()
                await gone.wait()
        assert task.cancelled()


async def test_turns_share_a_line(serving: Any) -> None:
    async with serving(streaming(ndjson(DONE))) as server, agent_at(server) as agent:
        for _ in range(3):
            await collect(agent)
        assert (server.connections, len(server.requests)) == (1, 3)


@pytest.mark.parametrize("status", [200, 404, 405])
async def test_check_wants_any_answer(serving: Any, status: int) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.reply("", status=status)

    async with serving(answer) as server, agent_at(server) as agent:
        assert await agent.check() == f"{server.url}/agent is there"
        assert server.only.method == "GET"


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_check_fails_where_a_turn_would(serving: Any, status: int) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.reply("", status=status)

    async with serving(answer) as server, agent_at(server) as agent:
        with pytest.raises(AgentError, match=f"/agent answers {status}"):
            await agent.check()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"url": "nowhere"}, "expected http://"),
        ({"url": "http://x", "key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set"),
        ({"url": "http://x", "history": 1001}, "must be from 0 to 1000"),
    ],
)
def test_a_wrong_option_is_refused_at_once(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        HttpAgent(**options)
