"""For operators: is it alive, is it ready, what is it, what are its numbers."""

from __future__ import annotations

import platform
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import __version__
from gateway.http import Api, json_response, route
from gateway.interfaces import StoreError

__all__ = ["routes"]


def routes(api: Api) -> list[Route]:
    """`/healthz`, `/readyz`, `/metrics`, and what OpenFang's clients ask first."""
    return [
        route("/healthz", GET=healthz),
        route("/readyz", GET=partial(readyz, api)),
        route("/metrics", GET=partial(metrics, api)),
        route("/api/health", GET=partial(health, api)),
        route("/api/status", GET=partial(status, api, api.runtime.now())),
        route("/api/version", GET=version),
    ]


async def healthz(_: Request) -> Response:
    """It is alive."""
    return json_response({"status": "ok"})


async def readyz(api: Api, _: Request) -> Response:
    """Whether it takes messages: the store answers, and it does not stop."""
    if api.runtime.draining:
        return json_response({"status": "draining"}, 503)
    try:
        await api.runtime.store.find("readyz", None)
    except StoreError:
        return json_response({"status": "store unavailable"}, 503)
    return json_response({"status": "ok"})


async def metrics(api: Api, _: Request) -> Response:
    """Its numbers, as Prometheus reads them."""
    return Response(api.runtime.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def health(api: Api, _: Request) -> Response:
    """Whether all is well, as far as is known without asking the store."""
    well = api.supervisor.store_reachable and not api.runtime.draining
    return json_response({"status": "ok" if well else "degraded", "version": __version__})


async def status(api: Api, started: float, _: Request) -> Response:
    """What runs here."""
    names = [*api.runtime.agents]
    return json_response(
        {
            "status": "draining" if api.runtime.draining else "running",
            "version": __version__,
            "agent_count": len(names),
            "default_provider": "trunkline",
            "default_model": api.supervisor.default_agent,
            "uptime_seconds": max(0, int(api.runtime.now() - started)),
            "agents": [{"id": name, "name": name, "state": "Running"} for name in names],
        }
    )


async def version(_: Request) -> Response:
    """Which version of what."""
    return json_response(
        {
            "name": "trunkline",
            "version": __version__,
            "platform": platform.system().lower(),
            "arch": platform.machine(),
            "python_version": platform.python_version(),
        }
    )
