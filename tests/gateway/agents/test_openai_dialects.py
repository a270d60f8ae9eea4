"""Servers that speak `/v1/chat/completions`, each in its dialect: what they write, and what is read.

The streams are shortened: of each kind of chunk there is one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, NamedTuple

import pytest

from gateway.agents.openai import OpenAIAgent
from gateway.interfaces import AgentError, Alive, Note, Piece, SessionRef, Thought, ToolCall, Turn, Usage
from gateway.stores.memory import MemoryStore
from protocol import frames
from tests.harness import Client, gateway

WAIT = 30.0
SSE = "text/event-stream"
JSON = "application/json"


class Failure(NamedTuple):
    """How the answer ends that fails."""

    code: str
    retryable: bool | None
    part: str
    """Part of the sentence."""


class Read(NamedTuple):
    """What is read of an answer: neighbouring texts as one, neighbouring thoughts likewise."""

    pieces: list[Piece]
    failure: Failure | None = None


def chunk(delta: Any = None, finish_reason: Any = None, **fields: Any) -> str:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish_reason}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps(head | {'choices': [choice]} | fields)}\n\n"


def call(index: int | None, call_id: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}


DONE = "data: [DONE]\n\n"
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
HELLO = ["Hello you", Usage(12, 3)]

DIALECTS: dict[str, tuple[str, str, Read]] = {
    # ── vLLM ──
    "vLLM: reasoning, text, usage in a chunk without choices": (
        f"{SSE}; charset=utf-8",
        chunk({"role": "assistant", "content": ""})
        + chunk({"reasoning_content": "Let me think."})
        + chunk({"reasoning": " Yes."})
        + chunk({"content": "Hello "})
        + chunk({"content": "you"}, "stop", stop_reason=None)
        + chunk(choices=[], usage=USAGE)
        + DONE,
        Read([Thought("Let me think. Yes."), *HELLO]),
    ),
    "vLLM: a tool call in pieces": (
        SSE,
        chunk(call(0, "chatcmpl-tool-1", "add", ""))
        + chunk(call(0, None, None, '{"a": '))
        + chunk(call(0, None, None, "1}"))
        + chunk({}, "tool_calls")
        + DONE,
        Read([ToolCall("chatcmpl-tool-1", "add", {"a": 1})]),
    ),
    "vLLM: an error in the stream": (
        SSE,
        'data: {"object": "error", "message": "The model is overloaded", "type": "ServiceUnavailableError", '
        '"param": null, "code": 503}\n\n' + DONE,
        Read([], Failure("agent_unavailable", None, "The model is overloaded")),
    ),
    "vLLM: aborted": (
        SSE,
        chunk({"content": "Hel"}) + chunk({"content": ""}, "abort") + DONE,
        Read(["Hel"], Failure("upstream_truncated", None, "abort")),
    ),
    # ── Ollama ──
    "Ollama: reasoning and text": (
        SSE,
        chunk({"role": "assistant", "content": "", "reasoning": "Hm."})
        + chunk({"role": "assistant", "content": "Hello you"})
        + chunk({"role": "assistant", "content": ""}, "stop")
        + chunk(choices=[], usage=USAGE)
        + DONE,
        Read([Thought("Hm."), *HELLO]),
    ),
    "Ollama: an error as a line of JSON": (
        SSE,
        chunk({"content": "Hel"}) + '{"error":"model runner has unexpectedly stopped"}\n',
        Read(["Hel"], Failure("agent_failed", False, "model runner has unexpectedly stopped")),
    ),
    "Ollama: an error as lines of JSON": (
        "application/x-ndjson",
        '{"error":"llama runner process no longer running"}\n',
        Read([], Failure("agent_failed", False, "no longer running")),
    ),
    "Ollama: a tool call whose arguments are an object": (
        SSE,
        chunk(call(0, "call_1", "add", {"a": 1, "b": "\ud83c\udf88"})) + chunk({}, "tool_calls") + DONE,
        Read([ToolCall("call_1", "add", {"a": 1, "b": "🎈"})]),
    ),
    # ── llama.cpp ──
    "llama.cpp: text with timings": (
        SSE,
        chunk({"role": "assistant", "content": None})
        + chunk({"content": "Hello you"})
        + chunk({}, "stop", timings={"prompt_n": 12.5})
        + chunk(choices=[], usage=USAGE, timings={"predicted_n": 3})
        + DONE,
        Read(HELLO),
    ),
    "llama.cpp: a field error": (
        SSE,
        'error: {"code":400,"message":"the request exceeds the available context size",'
        '"type":"invalid_request_error"}\n\n' + DONE,
        Read([], Failure("agent_failed", False, "the request exceeds the available context size")),
    ),
    "llama.cpp: a field error after some text": (
        SSE,
        chunk({"content": "Hel"}) + 'error: {"code":500,"message":"decode failed","type":"server_error"}\n\n',
        Read(["Hel"], Failure("agent_unavailable", None, "decode failed")),
    ),
    # ── LiteLLM ──
    "LiteLLM: thinking beside reasoning_content": (
        SSE,
        chunk({"reasoning_content": "Hm.", "thinking_blocks": [{"type": "thinking", "thinking": "Hm."}]})
        + chunk({"content": "Hello you"}, "stop", usage=USAGE)
        + DONE,
        Read([Thought("Hm."), *HELLO]),
    ),
    "LiteLLM: an error in the stream, its code a text": (
        SSE,
        chunk({"content": "Hel"})
        + 'data: {"error": {"message": "litellm.RateLimitError: slow down", "type": "None", "param": "None", '
        '"code": "429"}}\n\n',
        Read(["Hel"], Failure("agent_unavailable", None, "slow down")),
    ),
    # ── Azure ──
    "Azure: the first chunk has no choices": (
        SSE,
        'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":'
        '[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}\n\n'
        + chunk({"role": "assistant", "content": "", "refusal": None}, content_filter_results={})
        + chunk({"content": "Hello you"}, None, usage=None)
        + chunk({}, "stop")
        + chunk(choices=[], usage=USAGE)
        + DONE,
        Read(HELLO),
    ),
    "Azure: filtered": (
        SSE,
        chunk({"content": "Hel"}) + chunk({}, "content_filter") + DONE,
        Read(["Hel", Note({"finish_reason": "content_filter"})]),
    ),
    # ── OpenRouter ──
    "OpenRouter: comments while it works": (
        SSE,
        ": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n"
        + chunk({"role": "assistant", "content": "", "reasoning": "Hm.", "reasoning_details": []})
        + chunk({"role": "assistant", "content": "Hello you"}, native_finish_reason=None)
        + chunk({"role": "assistant", "content": ""}, "stop", usage=USAGE | {"cost": 0.01})
        + DONE,
        Read([Thought("Hm."), *HELLO]),
    ),
    "OpenRouter: an error in a chunk": (
        SSE,
        chunk({"content": "Hel"})
        + chunk(
            {"content": ""},
            "error",
            provider="P",
            error={"code": "server_error", "message": "Provider disconnected unexpectedly"},
        ),
        Read(["Hel"], Failure("agent_unavailable", None, "Provider disconnected unexpectedly")),
    ),
    "OpenRouter: an error in a choice": (
        JSON,
        json.dumps(
            {"choices": [{"error": {"code": 502, "message": "Provider returned error"}, "message": None}]}
        ),
        Read([], Failure("agent_unavailable", None, "Provider returned error")),
    ),
    # ── DeepSeek ──
    "DeepSeek: keep-alives": (
        SSE,
        ": keep-alive\n\n" * 3
        + chunk({"role": "assistant", "content": None, "reasoning_content": "Hm."})
        + ": keep-alive\n\n"
        + chunk({"content": "Hello you", "reasoning_content": None})
        + chunk({"content": ""}, "stop", usage=USAGE | {"prompt_cache_hit_tokens": 0})
        + DONE,
        Read([Thought("Hm."), *HELLO]),
    ),
    "DeepSeek: empty lines before a whole answer": (
        JSON,
        "\n\n\n"
        + json.dumps(
            {"choices": [{"message": {"content": "Hello you"}, "finish_reason": "stop"}], "usage": USAGE}
        ),
        Read(HELLO),
    ),
    "DeepSeek: out of resources": (
        SSE,
        chunk({"content": "Hel"}) + chunk({}, "insufficient_system_resource") + DONE,
        Read(["Hel"], Failure("upstream_truncated", None, "insufficient_system_resource")),
    ),
    # ── Mistral ──
    "Mistral: content in a list": (
        SSE,
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Let me think."}]}]})
        + chunk({"content": [{"type": "text", "text": "It is "}]})
        + chunk({"content": [{"type": "reference", "reference_ids": ["doc"]}, {"type": "text", "text": "f"}]})
        + chunk({"content": "our."})
        + chunk({"content": ""}, "stop")
        + DONE,
        Read([Thought("Let me think."), "It is four."]),
    ),
    "Mistral: content in a list, whole": (
        JSON,
        json.dumps(
            {
                "choices": [
                    {
                        "message": {
                            "content": [
                                {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                                {"type": "text", "text": "Four."},
                            ]
                        },
                        "finish_reason": "stop",
                    }
                ]
            }
        ),
        Read([Thought("Hm."), "Four."]),
    ),
    "Mistral: too long for the model": (
        SSE,
        chunk({"content": "Hel"}) + chunk({"content": ""}, "model_length") + DONE,
        Read(["Hel", Note({"finish_reason": "length"})]),
    ),
    "Mistral: a failure": (
        SSE,
        chunk({"content": "Hel"}) + chunk({"content": ""}, "error") + DONE,
        Read(["Hel"], Failure("upstream_truncated", None, "error")),
    ),
    # ── Gemini's endpoint ──
    "Gemini: lines end in CRLF, and a tool call comes whole": (
        SSE,
        (
            chunk({"role": "assistant", "content": "Hello you"})
            + chunk(call(0, "", "add", '{"a":1}'), "tool_calls", usage=USAGE)
            + DONE
        ).replace("\n", "\r\n"),
        Read(["Hello you", ToolCall("call_0", "add", {"a": 1}), Usage(12, 3)]),
    ),
    "Gemini: filtered, in its own word": (
        SSE,
        chunk({"content": "Hel"}, "content_filter: RECITATION") + DONE,
        Read(["Hel", Note({"finish_reason": "content_filter"})]),
    ),
    "Gemini: a tool call that it cannot write": (
        SSE,
        chunk({}, "function_call_filter: MALFORMED_FUNCTION_CALL") + DONE,
        Read([], Failure("upstream_truncated", None, "malformed_function_call")),
    ),
    "Gemini: an error in a list": (
        JSON,
        '[{\n  "error": {\n    "code": 503,\n    "message": "The model is overloaded.",\n'
        '    "status": "UNAVAILABLE"\n  }\n}\n]\n',
        Read([], Failure("agent_unavailable", None, "The model is overloaded.")),
    ),
    "Gemini: an error in a list, in the middle of a stream": (
        SSE,
        chunk({"content": "Hel"})
        + '[{\n  "error": {\n    "code": 400,\n    "message": "Please reduce the length.",\n'
        '    "status": "INVALID_ARGUMENT"\n  }\n}\n]\n',
        Read(["Hel"], Failure("agent_failed", False, "Please reduce the length.")),
    ),
    # ── Others, and gateways before them ──
    "an event named error": (
        SSE,
        chunk({"content": "Hel"}) + "event: error\ndata: upstream connect error\n\n",
        Read(["Hel"], Failure("agent_failed", False, "upstream connect error")),
    ),
    "an event named error, of JSON": (
        SSE,
        'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}\n\n',
        Read([], Failure("agent_unavailable", None, "Busy")),
    ),
    "events that are no chunks": (
        SSE,
        "event: ping\ndata: 17:03\n\ndata:\n\n" + chunk({"content": "Hello you"}, "stop", usage=USAGE) + DONE,
        Read(HELLO),
    ),
    "a byte order mark": (
        SSE,
        "\ufeff" + chunk({"content": "Hello "}) + chunk({"content": "you"}, "stop", usage=USAGE),
        Read(HELLO),
    ),
    "a byte order mark before JSON": (
        JSON,
        '\ufeff{"choices": [{"message": {"content": "Hi"}}]}',
        Read(["Hi"]),
    ),
    "the last event without its empty line": (
        SSE,
        chunk({"content": "Hello you"}) + chunk({}, "stop", usage=USAGE).rstrip("\n"),
        Read(HELLO),
    ),
    "the last event cut in two": (
        SSE,
        chunk({"content": "Hel"}) + chunk({"content": "lo"}, "stop")[:40],
        Read(["Hel"], Failure("upstream_truncated", None, "broke off")),
    ),
    "MiniMax: the whole once more at the end": (
        SSE,
        chunk({"content": "Hello "})
        + chunk({"content": "you"})
        + 'data: {"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":'
        '{"role":"assistant","content":"Hello you"}}],"usage":{"prompt_tokens":12,"completion_tokens":3}}\n\n'
        + DONE,
        Read(HELLO),
    ),
    "the whole at the end only": (
        SSE,
        chunk({"role": "assistant"})
        + 'data: {"choices":[{"delta":{},"finish_reason":"stop","message":{"content":"Hello you"}}]}\n\n'
        + DONE,
        Read(["Hello you"]),
    ),
    "the whole at the end, of which the text had not been said": (
        SSE,
        chunk({"reasoning_content": "Hm."})
        + 'data: {"choices":[{"message":{"reasoning_content":"Hm.","content":"Hello you"},'
        '"finish_reason":"stop"}]}\n\n' + DONE,
        Read([Thought("Hm."), "Hello you"]),
    ),
    "nulls and numbers where others have lists and names": (
        SSE,
        'data: {"choices":[null,{"index":null,"delta":{"content":"Hi","tool_calls":[null,{"index":0,"id":7,'
        '"function":{"name":"f","arguments":null}}],"reasoning":3}}],"usage":"none"}\n\n'
        + chunk(None, "stop")
        + DONE,
        Read(["Hi", ToolCall("7", "f", {})]),
    ),
    "parts of other kinds": (
        SSE,
        chunk({"content": [{"type": "refusal", "refusal": "No."}, {"type": "audio", "text": "x"}, 7, None]})
        + chunk({"content": {"type": "reasoning", "text": "Hm."}})
        + chunk({"content": ["plain"]}, "stop"),
        Read(["No.", Thought("Hm."), "plain"]),
    ),
    "PHP: objects with nothing in them are lists": (
        SSE,
        'data: {"choices":[{"index":"0","delta":{"content":"Hi"},"message":[]}],"error":[]}\n\n'
        'data: {"choices":[{"delta":[],"finish_reason":"stop"}],"usage":[]}\n\n' + DONE,
        Read(["Hi"]),
    ),
    "no chunk after the reason to finish": (
        SSE,
        chunk({"content": "Hi"}, "stop") + 'data: "[DONE]"\n\ndata: bye\n\ndata: {',
        Read(["Hi"]),
    ),
    "lines of JSON": (
        "application/x-ndjson",
        (chunk({"content": "Hello "}) + chunk({"content": "you"}, "stop", usage=USAGE)).replace("data: ", ""),
        Read(HELLO),
    ),
    "the whole answer, called a stream": (
        SSE,
        json.dumps(
            {"choices": [{"message": {"content": "Hello you"}, "finish_reason": "stop"}], "usage": USAGE},
            indent=1,
        ),
        Read(HELLO),
    ),
    # ── Failures at status 200, and answers that are none ──
    "FastAPI: a detail": (
        JSON,
        '{"detail":"n > 1 is not supported"}',
        Read([], Failure("agent_failed", False, "n > 1 is not supported")),
    ),
    "an empty object": (JSON, "{}", Read([], Failure("agent_failed", None, "nothing in it"))),
    "an empty body": (JSON, "", Read([], Failure("agent_failed", None, "nothing in it"))),
    "a stream that only ends": (SSE, DONE, Read([], Failure("agent_failed", None, "nothing in it"))),
    "a stream of nothing": (
        SSE,
        chunk({"role": "assistant", "content": ""}) + chunk(choices=[], usage=USAGE) + DONE,
        Read([], Failure("agent_failed", None, "nothing in it")),
    ),
    "nothing to say, and a reason to finish": (SSE, chunk({}, "stop", usage=USAGE), Read([Usage(12, 3)])),
}


def joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of one kind as one: how a text is cut does not matter."""
    together: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and together and type(together[-1]) is type(piece):
            together[-1] = type(piece)(together[-1] + piece)
        else:
            together.append(piece)
    return together


def answering(media_type: str, chunks: list[bytes]) -> Callable[[Any], Awaitable[None]]:
    async def answer(exchange: Any) -> None:
        await exchange.begin(media_type)
        await exchange.send(*chunks)
        await exchange.end()

    return answer


async def read(server: Any) -> Read:
    agent = OpenAIAgent("parrot", f"{server.url}/v1", key_env="")
    turn, pieces, failure = Turn("t1", "hi", SessionRef("gpt", "ann", "s1")), [], None
    try:
        async with asyncio.timeout(WAIT), aclosing(agent(turn)) as answer:
            async for piece in answer:
                if not isinstance(piece, Alive):
                    pieces.append(piece)
    except AgentError as error:
        failure = Failure(error.code, error.retryable, error.content)
    finally:
        await agent.aclose()
    return Read(joined(pieces), failure)


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """The body as one, in pieces that cut its lines and characters, and byte by byte."""
    for size in (len(data) or 1, 7, 1):
        yield [data[at : at + size] for at in range(0, len(data), size)]


def matches(found: Read, expected: Read) -> None:
    assert found.pieces == expected.pieces
    assert [type(piece) for piece in found.pieces] == [type(piece) for piece in expected.pieces]
    if expected.failure is None or found.failure is None:
        assert found.failure == expected.failure
    else:
        assert found.failure[:2] == expected.failure[:2]
        assert expected.failure.part in found.failure.part


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_every_dialect_is_read_right_however_it_is_cut(serving: Any, dialect: str) -> None:
    media_type, body, expected = DIALECTS[dialect]
    for chunks in cuts(body.encode()):
        async with serving(answering(media_type, chunks)) as server:
            matches(await read(server), expected)


@pytest.mark.parametrize("media_type", [JSON, "text/plain; charset=utf-8", "application/octet-stream", ""])
@pytest.mark.parametrize("begin", ["", ": hello\n\n", "event: message\n", "\ufeff", "\r\n"])
async def test_a_stream_is_read_as_one_under_any_media_type(
    serving: Any, media_type: str, begin: str
) -> None:
    body = begin + chunk({"content": "Hello you"}, "stop", usage=USAGE) + DONE
    for chunks in cuts(body.encode()):
        async with serving(answering(media_type, chunks)) as server:
            matches(await read(server), Read(HELLO))


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 12.0, "completion_tokens": 3.5}, [Usage(12, 4)]),
        ({"prompt_tokens": "12", "completion_tokens": "3"}, [Usage(12, 3)]),
        ({"prompt_tokens": True, "completion_tokens": 3}, [Usage(0, 3)]),
        ({"prompt_tokens": -12, "completion_tokens": -1}, []),
        ({"prompt_tokens": "many", "completion_tokens": None}, []),
        ({"prompt_tokens": [1], "completion_tokens": {}}, []),
        ({"prompt_tokens": 10**30, "completion_tokens": 3}, [Usage(0, 3)]),
        ("none", []),
        ([], []),
        (7, []),
    ],
)
async def test_odd_counts_of_tokens_cost_no_answer(serving: Any, usage: Any, counted: list[Piece]) -> None:
    body = chunk({"content": "Hi"}, "stop") + chunk(choices=[], usage=usage) + DONE
    async with serving(answering(SSE, [body.encode()])) as server:
        matches(await read(server), Read(["Hi", *counted]))


@pytest.mark.parametrize(
    "dialect", [name for name, (_, _, expected) in DIALECTS.items() if expected.failure is not None]
)
async def test_a_failure_at_status_200_ends_the_turn_as_an_error_with_what_was_said(
    serving: Any, dialect: str
) -> None:
    media_type, body, (pieces, failure) = DIALECTS[dialect]
    async with serving(answering(media_type, [body.encode()])) as server:
        agent = OpenAIAgent("parrot", f"{server.url}/v1", key_env="")
        async with gateway({"bot": agent}, MemoryStore()) as g:
            client = Client(g)
            client.put("message", session_id="s", turn_id="t", content="hi")
            end = await client.terminal("t")
        await agent.aclose()
    assert failure is not None
    assert isinstance(end, frames.Error)
    assert (end.code, end.partial) == (failure.code, "".join(map(str, pieces)))
    assert failure.part in end.content
    assert end.retryable is (failure.retryable is not False)
