"""The baseline for SSE: sse-starlette, one stream per session, one event per delta."""

from __future__ import annotations

from collections.abc import AsyncIterator

from msgspec import json
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from tests.bench.servers.agents import answer
from tests.bench.servers.run import run

encode = json.Encoder().encode


async def stream(request: Request) -> EventSourceResponse:
    head = {"session_id": request.path_params["session"], "turn_id": "turn-1"}

    async def events() -> AsyncIterator[ServerSentEvent]:
        number = 0
        async for piece in answer({"deltas": request.query_params["deltas"]}):
            number += 1
            data = encode({"type": "text_delta", **head, "content": piece}).decode()
            yield ServerSentEvent(data, event="text_delta", id=f"e.1.{number}", sep="\n")
        data = encode({"type": "response", **head}).decode()
        yield ServerSentEvent(data, event="response", sep="\n")

    return EventSourceResponse(events(), sep="\n")


if __name__ == "__main__":
    run(Starlette(routes=[Route("/sessions/{session}/events", stream)]))
