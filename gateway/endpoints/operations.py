"""For operators: is it alive, is it ready, what are its numbers."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http import Api, json_response
from gateway.interfaces import StoreError

__all__ = ["routes"]


def routes(api: Api) -> list[Route]:
    """`/healthz`, `/readyz`, `/metrics`."""

    async def healthz(_: Request) -> Response:
        return json_response({"status": "ok"})

    async def readyz(_: Request) -> Response:
        if api.runtime.draining:
            return json_response({"status": "draining"}, 503)
        try:
            await api.runtime.store.find("readyz", None)
        except StoreError:
            return json_response({"status": "store unavailable"}, 503)
        return json_response({"status": "ok"})

    async def metrics(_: Request) -> Response:
        return Response(api.runtime.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
