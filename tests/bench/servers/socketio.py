"""The baseline that many would reach for: python-socketio, one `emit` per delta."""

from __future__ import annotations

from typing import Any

import socketio

from tests.bench.servers.agents import answer
from tests.bench.servers.run import run

server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"], cors_allowed_origins="*")


@server.on("message")
async def message(sid: str, data: dict[str, Any]) -> None:
    """Each event handler already runs in a task of its own."""
    head = {"session_id": data["session_id"], "turn_id": "turn-1"}
    async for piece in answer(data["metadata"]):
        await server.emit("text_delta", {**head, "content": piece}, to=sid)
    await server.emit("response", head, to=sid)


if __name__ == "__main__":
    run(socketio.ASGIApp(server))
