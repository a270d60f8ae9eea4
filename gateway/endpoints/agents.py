"""The native routes of agents: those that the gateway was started with, in OpenFang's shape."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http import Api, described, json_response, route
from protocol import about
from protocol.native import date

__all__ = ["routes"]


def routes(api: Api) -> list[Route]:
    """All agents, and one."""
    started = date(api.runtime.now())
    return [
        route("/api/agents", GET=partial(agents, api, started)),
        route("/api/agents/{agent}", GET=partial(agent, api, started)),
    ]


@described(answer=list[about.ListedAgent])
async def agents(api: Api, started: str, request: Request) -> Response:
    """The agents that the caller may use; the first is the default one."""
    identity = await api.caller(request)
    seen = filter(identity.may_touch, (session.key for session in api.supervisor.busy_of(identity.user)))
    busy = {key.agent for key in seen}
    used = filter(identity.may_use, api.runtime.agents)
    return json_response([_listed(name, started, is_busy=name in busy) for name in used])


@described(answer=about.Agent)
async def agent(api: Api, started: str, request: Request) -> Response:
    """One agent, and which session of the caller's is active with it."""
    identity = await api.caller(request)
    name = api.agent(request.path_params["agent"], identity)
    active = await api.active(identity, name)
    return json_response(
        about.Agent(
            id=name,
            name=name,
            created_at=started,
            session_id=None if active is None else active.session_id,
            model=about.Model(name),
        )
    )


def _listed(name: str, started: str, *, is_busy: bool) -> about.ListedAgent:
    return about.ListedAgent(
        id=name,
        name=name,
        created_at=started,
        last_active=started,
        model_name=name,
        is_inferencing=is_busy,
    )
