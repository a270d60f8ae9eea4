"""An OpenAI-compatible server in a few lines, to try the `openai` agent without a key: it repeats its user.

    python examples/openai_upstream.py 8090
    gateway serve --agent "parrot=openai?model=parrot&base_url=http://127.0.0.1:8090/v1"

A real one takes the same place, and its key from the environment:

    OPENAI_API_KEY=… gateway serve --agent "gpt=openai?model=gpt-4o-mini&system=Be+brief."
    gateway serve --agent "local=openai?model=llama3.2&base_url=http://127.0.0.1:11434/v1"
    OPENROUTER_KEY=… gateway serve --agent \\
        "any=openai?model=openrouter/auto&base_url=https://openrouter.ai/api/v1&key_env=OPENROUTER_KEY"
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route


def event(**fields: Any) -> str:
    return f"data: {json.dumps(fields)}\n\n"


async def chunks(messages: list[dict[str, str]]) -> AsyncIterator[str]:
    words = messages[-1]["content"].split()
    for word in words:
        yield event(choices=[{"index": 0, "delta": {"content": f"{word} "}}])
        await asyncio.sleep(0.04)
    yield event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    read = sum(len(message["content"].split()) for message in messages)
    yield event(choices=[], usage={"prompt_tokens": read, "completion_tokens": len(words)})
    yield "data: [DONE]\n\n"


async def complete(request: Request) -> StreamingResponse:
    return StreamingResponse(chunks((await request.json())["messages"]), media_type="text/event-stream")


async def models(_: Request) -> JSONResponse:
    return JSONResponse({"object": "list", "data": [{"id": "parrot", "object": "model"}]})


app = Starlette(
    routes=[Route("/v1/chat/completions", complete, methods=["POST"]), Route("/v1/models", models)]
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8090)
