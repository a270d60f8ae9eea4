"""The baseline for memory: a raw ASGI app that accepts a WebSocket and waits for its end."""

from __future__ import annotations

from typing import Any

from tests.bench.servers.run import run


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


if __name__ == "__main__":
    run(app)
