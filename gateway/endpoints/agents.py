"""The native routes of agents: those that the gateway was started with, in OpenFang's shape.

The gateway knows their names and nothing of their models: what it does not know is there and empty, for
clients that read it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.auth import Identity
from gateway.http import Api, json_response, route

__all__ = ["routes"]

PROVIDER = "trunkline"


def routes(api: Api) -> list[Route]:
    """All agents, and one."""
    started = datetime.fromtimestamp(api.runtime.now(), UTC).isoformat(timespec="milliseconds")
    return [
        route("/api/agents", GET=partial(agents, api, started)),
        route("/api/agents/{agent}", GET=partial(agent, api, started)),
    ]


async def agents(api: Api, started: str, request: Request) -> Response:
    """All agents; the first is the default one."""
    identity = await api.caller(request)
    return json_response([_listed(api, name, started, identity) for name in api.runtime.agents])


async def agent(api: Api, started: str, request: Request) -> Response:
    """One agent, and which session of the caller's is active with it."""
    identity, name = await api.caller(request), api.agent(request.path_params["agent"])
    active = await api.runtime.store.active(name, identity.user)
    return json_response(
        {
            **_named(name, started),
            "session_id": None if active is None else active.session_id,
            "model": {"provider": PROVIDER, "model": name},
            "capabilities": {"tools": [], "network": []},
            "description": "",
            "system_prompt": "",
            "tags": [],
            "skills": [],
            "skills_mode": "all",
            "mcp_servers": [],
            "mcp_servers_mode": "all",
            "fallback_models": [],
        }
    )


def _listed(api: Api, name: str, started: str, identity: Identity) -> dict[str, Any]:
    live = api.supervisor.sessions.items()
    return {
        **_named(name, started),
        "last_active": started,
        "model_provider": PROVIDER,
        "model_name": name,
        "model_tier": "unknown",
        "auth_status": "unknown",
        "ready": True,
        "is_inferencing": any(
            session.answer is not None for key, session in live if key[:2] == (name, identity.user)
        ),
    }


def _named(name: str, started: str) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "state": "Running",
        "mode": "full",
        "profile": None,
        "created_at": started,
        "identity": {"emoji": None, "avatar_url": None, "color": None},
    }
