from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.agents.openai import OpenAIAgent
from gateway.interfaces import (
    AgentError,
    Alive,
    Note,
    Past,
    Piece,
    SessionRef,
    Thought,
    ToolCall,
    Turn,
    Usage,
)

WAIT = 30.0
SSE = "text/event-stream"
DONE = "data: [DONE]\n\n"
KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def no_key_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@asynccontextmanager
async def agent_at(server: Any, **options: Any) -> AsyncIterator[OpenAIAgent]:
    agent = OpenAIAgent("parrot", f"{server.url}/v1", **options)
    try:
        yield agent
    finally:
        await agent.aclose()


def turn(content: str = "hi", **fields: Any) -> Turn:
    return Turn("t1", content, SessionRef("gpt", "ann", "s1"), **fields)


def event(**fields: Any) -> str:
    return f"data: {json.dumps(fields)}\n\n"


def said(finish_reason: str | None = None, **delta: Any) -> str:
    return event(choices=[{"index": 0, "delta": delta, "finish_reason": finish_reason}])


END = said("stop") + DONE


def streaming(*chunks: str | bytes) -> Callable[[Any], Awaitable[None]]:
    """A server that answers every request with these chunks, and an orderly end."""

    async def answer(exchange: Any) -> None:
        await exchange.begin(SSE)
        await exchange.send(*chunks)
        await exchange.end()

    return answer


async def collect(agent: OpenAIAgent, asked: Turn | None = None) -> list[Piece]:
    async with asyncio.timeout(WAIT), aclosing(agent(asked or turn())) as pieces:
        return [piece async for piece in pieces if not isinstance(piece, Alive)]


async def fail(agent: OpenAIAgent) -> tuple[list[Piece], AgentError]:
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


# ── What goes up ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_turn_is_one_streamed_chat_completion(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    async with (
        serving(streaming(said(content="hi"), DONE)) as server,
        agent_at(server, key_env="MY_KEY", system="Be kind.") as agent,
    ):
        await collect(agent, turn("hello", metadata={"private": 1}, parts=[{"x": 1}], request_id="r-7"))
        request = server.only
        assert (request.method, request.path) == ("POST", "/v1/chat/completions")
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["x-request-id"] == "r-7"
        assert request.json == {
            "model": "parrot",
            "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }


async def test_history_goes_up_strictly_in_turns_and_without_failed_answers(serving: Any) -> None:
    history = [
        Past("agent", "cut off from its question", "t0", 0.0, "completed"),
        Past("user", "one", "t1", 1.0, metadata={"private": 1}),
        Past("agent", "half an an", "t1", 2.0, "failed"),
        Past("user", "two", "t2", 3.0),
        Past("agent", "stopped", "t2", 4.0, "cancelled"),
        Past("user", "three", "t3", 5.0),
        Past("agent", "", "t3", 6.0, "completed"),
    ]
    async with serving(streaming(END)) as server, agent_at(server) as agent:
        await collect(agent, turn("four", history=history))
        assert server.only.json["messages"] == [
            {"role": "user", "content": "one\n\ntwo"},
            {"role": "assistant", "content": "stopped"},
            {"role": "user", "content": "three\n\nfour"},
        ]


async def test_options_shape_the_request(serving: Any) -> None:
    extra = '{"top_p": 0.5, "stream_options": null, "max_tokens": 9}'
    async with (
        serving(streaming(END)) as server,
        agent_at(server, temperature=0.2, max_tokens=5, extra=extra, history=7) as agent,
    ):
        await collect(agent)
        body = server.only.json
        assert (body["temperature"], body["max_tokens"], body["top_p"]) == (0.2, 9, 0.5)
        assert "stream_options" not in body
        assert agent.history == 7


async def test_without_a_key_nothing_is_sent_as_one(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    async with serving(streaming(END)) as server, agent_at(server, key_env="") as agent:
        await collect(agent)
        assert "authorization" not in server.only.headers


async def test_the_usual_variable_is_used_if_it_is_set(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(streaming(END)) as server:
        async with agent_at(server) as agent:
            await collect(agent)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        async with agent_at(server) as agent:
            await collect(agent)
        keys = [request.headers.get("authorization") for request in server.requests]
        assert keys == [None, f"Bearer {KEY}"]


async def test_a_request_id_that_is_no_header_stays_here(serving: Any) -> None:
    async with serving(streaming(END)) as server, agent_at(server) as agent:
        await collect(agent, turn(request_id="ä\r\nX-Evil: 1"))
        assert "x-request-id" not in server.only.headers
        assert "x-evil" not in server.only.headers


async def test_a_query_of_the_address_is_kept(serving: Any) -> None:
    async with serving(streaming(END)) as server:
        agent = OpenAIAgent("parrot", f"{server.url}/v1/?api-version=3")
        await collect(agent)
        await agent.aclose()
        assert server.only.path == "/v1/chat/completions?api-version=3"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"base_url": "ftp://x/v1"}, "expected http://"),
        ({"base_url": "localhost:11434/v1"}, "expected http://"),
        ({"base_url": "http://"}, "expected http://"),
        ({"key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set"),
        ({"key_env": "ODD_KEY"}, "beyond ASCII"),
        ({"history": -1}, "history is -1; it must be from 0 to 1000"),
        ({"connect_timeout": float("nan")}, "connect_timeout is nan"),
        ({"extra": "[1]"}, "extra='\\[1\\]': expected a JSON object"),
    ],
)
def test_a_wrong_option_is_refused_at_once(
    options: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD_KEY", "sk-ä")
    with pytest.raises(ValueError, match=why) as caught:
        OpenAIAgent("parrot", **options)
    assert "sk-" not in str(caught.value)


# ── What comes back ─────────────────────────────────────────────────────────────────────────────────────────


async def test_text_thoughts_and_usage_come_as_pieces(serving: Any) -> None:
    stream = [
        said(role="assistant", content="", tool_calls=None),
        said(reasoning_content="let me ", reasoning="let me "),
        said(reasoning="see"),
        said(content="Hel"),
        said(content="lo"),
        said(refusal=", no."),
        event(choices=[], usage={"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 13}),
        event(choices=None, usage={"prompt_tokens": 12, "completion_tokens": 3}),
        said("stop"),
        DONE,
    ]
    async with serving(streaming(*stream)) as server, agent_at(server) as agent:
        pieces = await collect(agent)
    assert pieces == ["let me ", "see", "Hel", "lo", ", no.", Usage(12, 3)]
    assert [type(piece) for piece in pieces[:3]] == [Thought, Thought, str]


async def test_text_arrives_while_the_server_is_still_writing(serving: Any) -> None:
    go_on = asyncio.Event()

    async def answer(exchange: Any) -> None:
        await exchange.begin(SSE)
        await exchange.send(said(content="first"))
        await go_on.wait()
        await exchange.send(said("stop", content="second"), DONE)
        await exchange.end()

    async with serving(answer) as server, agent_at(server) as agent, aclosing(agent(turn())) as pieces:
        async with asyncio.timeout(WAIT):
            assert await anext(pieces) == "first"
            go_on.set()
            assert [piece async for piece in pieces if piece != Alive()] == ["second"]


async def test_any_cut_any_line_end_and_noise_read_the_same(serving: Any) -> None:
    text = "zwölf 🎈"
    stream = (
        f": keep-alive\r\n\r\nretry: 3\r\nnonsense\r\n{said(content=text).strip()}\r\n\r\n"
        + 'data: {"choices":\r\ndata: [{"delta": {"content": "é"}}]}\r\n\r\n'
        + DONE
    )
    assert "\\ud83c" in stream
    stream = stream.replace("\\ud83c\\udf88", "🎈").replace("\\u00f6", "ö")
    data = stream.encode()
    for size in (1, 7, len(data)):
        chunks = [data[i : i + size] for i in range(0, len(data), size)]
        async with serving(streaming(*chunks)) as server, agent_at(server) as agent:
            assert await collect(agent) == [text, "é"]


async def test_half_a_character_per_delta_gets_through(serving: Any) -> None:
    halves = said(content="\ud83c"), said(content="\udf88")
    async with serving(streaming(*halves, DONE)) as server, agent_at(server) as agent:
        assert await collect(agent) == ["\ud83c", "\udf88"]


def call(index: int | None, call_id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    piece = {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}
    return {field: value for field, value in piece.items() if value is not None}


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        (
            [
                [call(0, "c1", "add", "")],
                [call(0, None, None, '{"a": "\ud83c')],
                [call(1, "c2", "now", None), call(0, "", None, '\udf88"}')],
                [call(1, None, None, "not json")],
            ],
            [ToolCall("c1", "add", {"a": "🎈"}), ToolCall("c2", "now", "not json")],
        ),
        (
            [[call(0, "c1", "a", "[1]"), call(0, "c2", "b", "")], [call(0, "c3", "c", "3")]],
            [ToolCall("c1", "a", [1]), ToolCall("c2", "b", {}), ToolCall("c3", "c", 3)],
        ),
        (
            [[call(None, "c1", "a", '{"x"')], [call(None, "c1", "a", ": 1}")]],
            [ToolCall("c1", "a", {"x": 1})],
        ),
        (
            [[call(None, "c1", "a", "1"), call(None, "c2", "b", "2")], [call(None, None, None, "3")]],
            [ToolCall("c1", "a", 1), ToolCall("c2", "b", 23)],
        ),
        (
            [[call(0, None, "a", None)], [call(1, None, "b", None)]],
            [ToolCall("call_0", "a", {}), ToolCall("call_1", "b", {})],
        ),
    ],
    ids=[
        "in pieces, interleaved",
        "whole, all numbered 0",
        "not numbered, id repeated",
        "not numbered, id once",
        "without ids",
    ],
)
async def test_tool_calls_are_put_together(serving: Any, deltas: list[Any], calls: list[ToolCall]) -> None:
    stream = [said(tool_calls=delta) for delta in deltas]
    async with serving(streaming(*stream, said("tool_calls"), DONE)) as server, agent_at(server) as agent:
        assert await collect(agent) == calls


async def test_a_tool_call_without_end_is_refused(serving: Any) -> None:
    stream = [said(tool_calls=[call(0, "c1", "a", "x" * 500_000)])] * 3
    async with serving(streaming(*stream)) as server, agent_at(server) as agent:
        _, error = await fail(agent)
        assert error.code == "answer_too_large"


@pytest.mark.parametrize(
    "calls",
    [
        [[call(number, f"c{number}", "a", "x" * 300_000)] for number in range(4)],
        [[call(number, f"c{number}", "a", "") for number in range(1_001)]],
    ],
    ids=["large ones", "many"],
)
async def test_tool_calls_without_end_are_refused(serving: Any, calls: list[Any]) -> None:
    stream = [said(tool_calls=deltas) for deltas in calls]
    async with serving(streaming(*stream, said("tool_calls"), DONE)) as server, agent_at(server) as agent:
        _, error = await fail(agent)
        assert error.code == "answer_too_large"


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_a_cut_answer_is_noted(serving: Any, reason: str) -> None:
    async with serving(streaming(said(content="a"), said(reason), DONE)) as server, agent_at(server) as agent:
        assert await collect(agent) == ["a", Note({"finish_reason": reason})]


async def test_a_finished_answer_needs_no_done(serving: Any) -> None:
    async with serving(streaming(said("stop", content="a"))) as server, agent_at(server) as agent:
        assert await collect(agent) == ["a"]


async def test_a_server_that_does_not_stream_is_understood(serving: Any) -> None:
    message = {"role": "assistant", "content": "a", "tool_calls": [call(None, "c1", "now", "{}")]}
    whole = {
        "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }

    async def answer(exchange: Any) -> None:
        await exchange.reply(json.dumps(whole), "application/json; charset=utf-8")

    async with serving(answer) as server, agent_at(server) as agent:
        assert await collect(agent) == [
            "a",
            ToolCall("c1", "now", {}),
            Note({"finish_reason": "length"}),
            Usage(1, 2),
        ]


async def test_only_the_first_of_several_choices_counts(serving: Any) -> None:
    both = event(choices=[{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}])
    async with serving(streaming(both, DONE)) as server, agent_at(server) as agent:
        assert await collect(agent) == ["a"]


# ── Failures ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "agent_failed", False),
        (401, "agent_failed", False),
        (403, "agent_failed", False),
        (404, "agent_failed", False),
        (408, "agent_unavailable", None),
        (429, "agent_unavailable", None),
        (500, "agent_unavailable", None),
        (503, "agent_unavailable", None),
    ],
)
async def test_a_status_means_a_code(serving: Any, status: int, code: str, retryable: bool | None) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.reply("<h1>private details</h1>", "text/html", status)

    async with serving(answer) as server, agent_at(server) as agent:
        _, error = await fail(agent)
        assert (error.code, error.retryable) == (code, retryable)
        assert str(status) in error.content
        assert "private" not in error.content


@pytest.mark.parametrize(
    ("headers", "milliseconds"),
    [
        ({"Retry_After": "7"}, 7_000),
        ({"Retry_After": "0.25"}, 250),
        (
            {"Retry_After": "Wed, 21 Oct 2015 07:28:09 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"},
            9_000,
        ),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"Retry_After": "1e999"}, 86_400_000),
        ({"Retry_After": "-1"}, None),
        ({"Retry_After": "nan"}, None),
        ({"Retry_After": "soon"}, None),
        ({}, None),
    ],
)
async def test_retry_after_is_passed_on(
    serving: Any, headers: dict[str, str], milliseconds: int | None
) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.reply("", status=429, **headers)

    async with serving(answer) as server, agent_at(server) as agent:
        _, error = await fail(agent)
        assert (error.code, error.retry_after_ms) == ("agent_unavailable", milliseconds)


async def test_a_redirect_is_named_not_followed(serving: Any) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.reply("", status=307, Location="/v1/chat/completions")

    async with serving(answer) as server, agent_at(server) as agent:
        _, error = await fail(agent)
        assert error.content == "The model's server has another address (307)."
        assert len(server.requests) == 1


async def test_a_refused_request_says_why_in_short_and_without_the_key(
    serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    message = f"No model\x00\n'parrot' for {KEY}. " + "x" * 1000

    async def answer(exchange: Any) -> None:
        await exchange.reply(json.dumps({"error": {"message": message}}), "application/json", 404)

    async with serving(answer) as server, agent_at(server, key_env="MY_KEY") as agent:
        _, error = await fail(agent)
        assert "(404): No model 'parrot' for …. xxx" in error.content
        assert KEY not in error.content
        assert len(error.content) < 300


async def test_what_a_server_says_of_a_key_is_not_repeated(
    serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)

    async def answer(exchange: Any) -> None:
        await exchange.reply('{"error": {"message": "Bad key sk-v***"}}', "application/json", 401)

    async with serving(answer) as server:
        async with agent_at(server, key_env="MY_KEY") as agent:
            _, error = await fail(agent)
            assert error.content == "The model's server refuses the gateway's key (401)."
        async with agent_at(server) as agent:
            _, error = await fail(agent)
            assert "the gateway has none" in error.content


@pytest.mark.parametrize(
    ("error", "code", "content"),
    [
        ({"message": "slow down", "code": "rate_limit_exceeded"}, "agent_unavailable", "too much to do"),
        ({"message": "oops", "type": "server_error", "code": None}, "agent_unavailable", "out of order"),
        ({"message": "bad gateway", "code": 502}, "agent_unavailable", "(502)"),
        ({"message": "too long", "type": "invalid_request_error"}, "agent_failed", "too long"),
        ("out of memory", "agent_failed", "out of memory"),
        ({"strange": True}, "agent_failed", "refused"),
    ],
)
async def test_an_error_in_the_stream_fails_the_turn_after_what_was_said(
    serving: Any, error: Any, code: str, content: str
) -> None:
    # One chunk: what stands before the error must not be lost with it.
    stream = said(content="a") + event(error=error) + said("stop", content="b") + DONE
    async with serving(streaming(stream)) as server, agent_at(server) as agent:
        pieces, failure = await fail(agent)
        assert pieces == ["a"]
        assert failure.code == code
        assert content in failure.content


async def test_a_stream_that_just_ends_is_truncated(serving: Any) -> None:
    async with serving(streaming(said(content="a"))) as server, agent_at(server) as agent:
        pieces, error = await fail(agent)
        assert (pieces, error.code) == (["a"], "upstream_truncated")


@pytest.mark.parametrize(
    ("media_type", "chunk"), [(SSE, said(content="a")), ("application/json", '{"choices": [')]
)
async def test_a_lost_connection_is_truncation(serving: Any, media_type: str, chunk: str) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.begin(media_type)
        await exchange.send(chunk)
        exchange.drop()

    async with serving(answer) as server, agent_at(server) as agent:
        _, error = await fail(agent)
        assert error.code == "upstream_truncated"


async def test_a_connection_lost_after_the_finish_costs_nothing(serving: Any) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.begin(SSE)
        await exchange.send(said("stop", content="a"))
        exchange.drop()

    async with serving(answer) as server, agent_at(server) as agent:
        assert await collect(agent) == ["a"]


@pytest.mark.parametrize("data", ["{not json", "[1]", '{"choices": [{"delta": {"content": 1}}]}'])
async def test_garbage_fails_the_turn(serving: Any, data: str) -> None:
    async with (
        serving(streaming(said(content="a"), f"data: {data}\n\n")) as server,
        agent_at(server) as agent,
    ):
        pieces, error = await fail(agent)
        assert (pieces, error.code) == (["a"], "agent_failed")
        assert "cannot be read" in error.content


async def test_a_line_without_end_fails_the_turn(serving: Any) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.begin(SSE)
        await exchange.send("data: ")
        while True:
            await exchange.send(b"x" * 65_536)

    async with serving(answer) as server, agent_at(server) as agent:
        _, error = await fail(agent)
        assert error.code == "agent_failed"
        assert "1,048,576 bytes" in error.content


async def test_another_content_type_fails_the_turn(serving: Any) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.reply("<h1>Log in</h1>", "text/html")

    async with serving(answer) as server, agent_at(server) as agent:
        _, error = await fail(agent)
        assert error.content == (
            "The model's server answered text/html, not text/event-stream or application/json."
        )


async def test_nobody_there_is_unavailable(serving: Any) -> None:
    async with serving(streaming()) as server:
        pass
    async with agent_at(server) as agent:
        _, error = await fail(agent)
        assert (error.code, error.content) == ("agent_unavailable", "The model's server cannot be reached.")


async def test_a_server_that_hangs_up_without_a_word_is_unavailable(serving: Any) -> None:
    async def answer(exchange: Any) -> None:
        exchange.drop()

    async with serving(answer) as server, agent_at(server) as agent:
        _, error = await fail(agent)
        assert error.code == "agent_unavailable"


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (
            400,
            [{"error": {"code": 400, "message": "Unknown name web_search_options: Cannot find field."}}],
            "refused the request (400): Unknown name web_search_options: Cannot find field.",
        ),
        (
            400,
            {
                "object": "error",
                "message": "This model's maximum context length is 4096 tokens.",
                "code": 400,
            },
            "refused the request (400): This model's maximum context length is 4096 tokens.",
        ),
        (
            404,
            {"detail": "Model fake not found on this server"},
            "refused the request (404): Model fake not found on this server",
        ),
        (
            422,
            {"detail": [{"loc": ["body", "temperature"], "msg": "must be below 2"}]},
            "refused the request (422): must be below 2",
        ),
        (
            422,
            {"detail": [{"msg": "too long", "input": "what the user wrote, " * 20_000}]},
            "refused the request (422): too long",
        ),
        (
            500,
            {"error": {"message": "model requires more system memory"}},
            "is out of order (500): try again later. It says: model requires more system memory",
        ),
        (
            429,
            {"error": "slow down"},
            "has too much to do, or its quota is used up (429): try again later. It says: slow down",
        ),
    ],
)
async def test_the_reason_of_a_refusal_is_told_in_whatever_shape_it_comes(
    serving: Any, status: int, body: Any, says: str
) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.reply(f"\ufeff{json.dumps(body)}", "application/json", status)

    async with serving(answer) as server, agent_at(server) as agent:
        _, error = await fail(agent)
        assert error.content == f"The model's server {says}"


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("status", [200, 400])
async def test_a_refusal_is_logged_and_its_text_only_where_texts_of_exceptions_are(
    serving: Any, logged: Any, status: int, text: bool
) -> None:
    async def answer(exchange: Any) -> None:
        error = {"message": "Cannot answer: what the user wrote", "code": "too_long", "status": 400}
        await exchange.reply(json.dumps({"error": error}), "application/json", status)

    logs = logged(exception_text=text)
    async with serving(answer) as server, agent_at(server) as agent:
        await fail(agent)
        lines = [json.loads(line) for line in logs.getvalue().splitlines()]
        [line] = [line for line in lines if line["event"] == "upstream refused"]
    assert (line["status"], line["code"], line["url"]) == (400, "too_long", f"{server.url}/v1")
    assert ("what the user wrote" in logs.getvalue()) is text


# ── Signs of life ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("media_type", "sign"),
    [
        (SSE, ": keep-alive\n\n"),
        (SSE, ":"),
        (SSE, event(choices=[])),
        (SSE, said(role="assistant", content="")),
        (SSE, said(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "["}}])),
        ("application/json", "\n"),
    ],
)
async def test_whatever_a_server_sends_while_it_says_nothing_is_a_sign_of_life(
    serving: Any, media_type: str, sign: str
) -> None:
    go_on = asyncio.Event()

    async def answer(exchange: Any) -> None:
        await exchange.begin(media_type)
        for _ in range(3):
            await exchange.send(sign)
            await go_on.wait()
            go_on.clear()
        await exchange.end()

    async with serving(answer) as server, agent_at(server) as agent, aclosing(agent(turn())) as pieces:
        async with asyncio.timeout(WAIT):
            for _ in range(3):
                assert await anext(pieces) == Alive()
                go_on.set()


# ── What the environment says ───────────────────────────────────────────────────────────────────────────────

HTTPS = "https://model.example/v1"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`environment(NAME="value")`: from here on these variables say how servers are called, and no others."""

    def set_to(**variables: str) -> None:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_to


@pytest.mark.parametrize(
    "variables",
    [
        {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "localhost,127.0.0.1,::1,[::1]"},
        {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "localhost,fd07:b51a:cc66:f0::/64"},
        {"ALL_PROXY": "socks5://127.0.0.1:1089", "NO_PROXY": "127.0.0.1"},
        {"ALL_PROXY": "socks5://127.0.0.1:1089"},
        {"HTTP_PROXY": "http://127.0.0.1:9"},
        {"HTTP_PROXY": "gopher://[nonsense", "HTTPS_PROXY": "socks5://x", "ALL_PROXY": "?"},
        {"SSL_CERT_FILE": "/nowhere/ca.pem", "SSL_CERT_DIR": "/nowhere"},
    ],
)
async def test_a_server_on_this_machine_is_called_directly_whatever_the_environment_says(
    serving: Any, environment: Callable[..., None], variables: dict[str, str]
) -> None:
    environment(**variables)
    async with serving(streaming(said("stop", content="a"), DONE)) as server, agent_at(server) as agent:
        assert await collect(agent) == ["a"]
        assert "parrot" in await agent.check()


async def test_any_other_server_is_called_through_the_proxy_that_is_named(
    serving: Any, environment: Callable[..., None]
) -> None:
    async with serving(streaming(said("stop", content="a"), DONE)) as proxy:
        environment(HTTP_PROXY=proxy.url.replace("//", "//ann:geheim@"), NO_PROXY="other.example,[::1]")
        agent = OpenAIAgent("parrot", "http://model.example/v1")
        assert await collect(agent) == ["a"]
        await agent.aclose()
        assert proxy.only.path == "http://model.example/v1/chat/completions"
        assert proxy.only.headers["proxy-authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("variable", "address"), [("HTTP_PROXY", "http://model.example/v1"), ("ALL_PROXY", HTTPS)]
)
async def test_of_a_proxy_that_is_not_there_the_variable_is_named(
    serving: Any, environment: Callable[..., None], variable: str, address: str
) -> None:
    async with serving(streaming()) as proxy:
        pass
    environment(**{variable: proxy.url})
    agent = OpenAIAgent("parrot", address)
    _, error = await fail(agent)
    assert error.code == "agent_unavailable"
    assert f"cannot be reached: the proxy that {variable} names is not there" in error.content
    with pytest.raises(AgentError, match=f"{address} cannot be reached: the proxy that {variable} names"):
        await agent.check()
    await agent.aclose()


async def test_a_proxy_that_refuses_is_named(serving: Any, environment: Callable[..., None]) -> None:
    async def answer(exchange: Any) -> None:
        assert (exchange.method, exchange.path) == ("CONNECT", "model.example:443")
        await exchange.raw("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    async with serving(answer) as proxy:
        environment(HTTPS_PROXY=proxy.url)
        agent = OpenAIAgent("parrot", HTTPS)
        _, error = await fail(agent)
        await agent.aclose()
    assert "the proxy that HTTPS_PROXY names is not there, or refuses" in error.content


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"HTTPS_PROXY": "socks5://ann:geheim@proxy.example:1080"}, "HTTPS_PROXY names a SOCKS proxy"),
        ({"ALL_PROXY": "gopher://ann:geheim@proxy.example"}, "ALL_PROXY names no proxy"),
        ({"https_proxy": "http://ann:geheim@proxy.example:x"}, "https_proxy names no proxy"),
        (
            {"SSL_CERT_FILE": "/nowhere/ca.pem"},
            "SSL_CERT_FILE is '/nowhere/ca.pem': No such file or directory",
        ),
        ({"SSL_CERT_FILE": __file__}, "SSL_CERT_FILE is .*: there are no certificates in it"),
        ({"SSL_CERT_DIR": "/nowhere"}, "SSL_CERT_DIR is '/nowhere': No such file or directory"),
    ],
)
def test_what_an_agent_cannot_do_without_is_named_by_its_variable_and_without_secrets(
    environment: Callable[..., None], variables: dict[str, str], why: str
) -> None:
    environment(**variables)
    with pytest.raises(ValueError, match=why) as caught:
        OpenAIAgent("parrot", HTTPS)
    assert "geheim" not in str(caught.value)


async def test_a_certificate_that_is_not_trusted_is_named_and_the_environment_may_name_its_authority(
    serving: Any, environment: Callable[..., None], tmp_path: Path
) -> None:
    certificate, key = self_signed(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with serving(streaming(said("stop", content="a"), DONE), ssl=tls) as server:
        environment()
        async with agent_at(server) as agent:
            _, error = await fail(agent)
            assert error.code == "agent_unavailable"
            assert "cannot be trusted: self-signed certificate; SSL_CERT_FILE may name" in error.content
        environment(SSL_CERT_FILE=str(certificate))
        async with agent_at(server) as agent:
            assert await collect(agent) == ["a"]


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate of this machine that nobody else vouches for, and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(private, SHA256())
    )
    files = folder / "server.pem", folder / "server.key"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


# ── Cancelling, and the line ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("begun", [False, True])
async def test_cancelling_a_silent_server_closes_its_connection(serving: Any, begun: bool) -> None:
    waiting, gone = asyncio.Event(), asyncio.Event()

    async def answer(exchange: Any) -> None:
        if begun:
            await exchange.begin(SSE)
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


async def test_closing_between_pieces_closes_the_connection(serving: Any) -> None:
    gone = asyncio.Event()

    async def answer(exchange: Any) -> None:
        await exchange.begin(SSE)
        await exchange.send(said(content="a"))
        await exchange.gone()
        gone.set()

    async with serving(answer) as server, agent_at(server) as agent, asyncio.timeout(WAIT):
        async with aclosing(agent(turn())) as pieces:
            assert await anext(pieces) == "a"
        await gone.wait()


async def test_closing_the_agent_does_not_wait_for_a_server_that_hangs(serving: Any) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.begin(SSE)
        await exchange.send(said(content="a"))
        await exchange.gone()

    async with serving(answer) as server, agent_at(server) as agent, asyncio.timeout(WAIT):
        async with aclosing(agent(turn())) as pieces:
            assert await anext(pieces) == "a"
            await agent.aclose()
            with pytest.raises(AgentError) as caught:
                await anext(pieces)
        assert caught.value.code == "upstream_truncated"


async def test_turns_share_a_line_but_no_cookies(serving: Any) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.begin(SSE, Set_Cookie="user=ann")
        await exchange.send(said("stop", content="a"), DONE)
        await exchange.end()

    async with serving(answer) as server, agent_at(server) as agent:
        for _ in range(3):
            await collect(agent)
        assert (server.connections, len(server.requests)) == (1, 3)
        assert "cookie" not in server.requests[-1].headers


async def test_a_server_that_stays_on_the_line_after_done_holds_nobody_up(serving: Any) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.begin(SSE)
        await exchange.send(said("stop", content="a"), DONE)
        await exchange.gone()

    async with serving(answer) as server, agent_at(server) as agent:
        assert await collect(agent) == ["a"]


async def test_many_turns_run_at_once(serving: Any) -> None:
    everyone = asyncio.Barrier(120)

    async def answer(exchange: Any) -> None:
        async with asyncio.timeout(WAIT):
            await everyone.wait()
        await streaming(said("stop", content=exchange.json["messages"][0]["content"]), DONE)(exchange)

    async with serving(answer) as server, agent_at(server) as agent, asyncio.TaskGroup() as group:
        answers = [group.create_task(collect(agent, turn(str(i)))) for i in range(120)]
    assert [answer.result() for answer in answers] == [[str(i)] for i in range(120)]


# ── Checking ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, {"data": [{"id": "other"}, {"id": "parrot"}]}, "offers parrot"),
        (200, {"data": [{"id": "other"}]}, "does not list parrot"),
        (404, {}, "does not list parrot"),
    ],
)
async def test_check_asks_for_the_models(serving: Any, status: int, body: Any, says: str) -> None:
    async def answer(exchange: Any) -> None:
        assert (exchange.method, exchange.path) == ("GET", "/v1/models")
        await exchange.reply(json.dumps(body), "application/json", status)

    async with serving(answer) as server, agent_at(server) as agent:
        sentence = await agent.check()
        assert says in sentence
        assert server.url in sentence


@pytest.mark.parametrize(("status", "says"), [(401, "wants a key"), (500, "out of order")])
async def test_check_fails_where_a_turn_would(serving: Any, status: int, says: str) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.reply("", status=status)

    async with serving(answer) as server, agent_at(server) as agent:
        with pytest.raises(AgentError, match=says):
            await agent.check()


async def test_check_names_the_variable_of_a_bad_key(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)

    async def answer(exchange: Any) -> None:
        await exchange.reply("", status=401)

    async with serving(answer) as server, agent_at(server, key_env="MY_KEY") as agent:
        with pytest.raises(AgentError, match="refuses the key in MY_KEY") as caught:
            await agent.check()
        assert KEY not in caught.value.content


async def test_check_says_where_nobody_is(serving: Any) -> None:
    async with serving(streaming()) as server:
        pass
    async with agent_at(server) as agent:
        with pytest.raises(AgentError, match=f"{server.url}/v1 cannot be reached: .+"):
            await agent.check()
