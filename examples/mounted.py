"""A gateway inside your own FastAPI app, under a prefix: one process, one port.

    uvicorn examples.mounted:app

`/chat/ws` is then the gateway's WebSocket, `/chat/api/…` are its REST routes, and all the rest is yours.
"""

from __future__ import annotations

from fastapi import FastAPI

from gateway.app import gateway_app
from gateway.load import load_agents
from gateway.stores.memory import MemoryStore

gateway = gateway_app(agents=load_agents(["me=examples.own_agent:agent"]), store=MemoryStore())
app = FastAPI(lifespan=gateway.lifespan)  # the gateway lives as long as the app does


@app.get("/")
async def home() -> dict[str, str]:
    """A page of yours."""
    return {"chat": "/chat/ws"}


app.mount("/chat", gateway)
