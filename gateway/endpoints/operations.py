"""For operators: is it alive, is it ready, what is it, what are its numbers."""

from __future__ import annotations

import platform
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import __version__
from gateway.auth import require_service
from gateway.http import Api, described, json_response, route
from gateway.interfaces import StoreError
from protocol import about

__all__ = ["routes"]


def routes(api: Api) -> list[Route]:
    """For probes, what ADK's and OpenFang's clients ask first, and for operators: these must say who they
    are."""
    return [
        route("/healthz", GET=healthz),
        route("/readyz", GET=partial(readyz, api)),
        route("/health", GET=partial(health, api)),
        route("/version", GET=version),
        route("/api/health", GET=partial(health, api)),
        route("/api/version", GET=version),
        route("/api/status", GET=partial(status, api, api.runtime.now())),
        route("/metrics", GET=partial(metrics, api)),
    ]


@described(answer=about.Readiness, public=True)
async def healthz(_: Request) -> Response:
    """It is alive."""
    return json_response(about.Readiness())


@described(answer=about.Readiness, also={503: about.Readiness}, public=True)
async def readyz(api: Api, _: Request) -> Response:
    """Whether it takes messages: the store answers, and it does not stop."""
    if api.runtime.draining:
        return json_response(about.Readiness("draining"), 503)
    try:
        await api.runtime.store.find("readyz", None)
    except StoreError:
        return json_response(about.Readiness("store unavailable"), 503)
    return json_response(about.Readiness())


@described(answer=str, media="text/plain")
async def metrics(api: Api, request: Request) -> Response:
    """Its numbers, as Prometheus reads them."""
    require_service(await api.caller(request))
    return Response(api.runtime.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@described(answer=about.Health, public=True)
async def health(api: Api, _: Request) -> Response:
    """Whether all is well, as far as is known without asking the store."""
    well = api.supervisor.store_reachable and not api.runtime.draining
    return json_response(about.Health("ok" if well else "degraded", __version__))


@described(answer=about.Status)
async def status(api: Api, started: float, request: Request) -> Response:
    """What runs here."""
    require_service(await api.caller(request))
    names = [*api.runtime.agents]
    return json_response(
        about.Status(
            status="draining" if api.runtime.draining else "running",
            version=__version__,
            agent_count=len(names),
            default_model=api.supervisor.default_agent,
            uptime_seconds=max(0, int(api.runtime.now() - started)),
            agents=[about.Running(name, name) for name in names],
        )
    )


@described(answer=about.Version, public=True)
async def version(_: Request) -> Response:
    """Which version of what, in the words of ADK's and OpenFang's clients."""
    return json_response(
        about.Version(
            version=__version__,
            language_version=platform.python_version(),
            platform=platform.system().lower(),
            arch=platform.machine(),
        )
    )
