"""What there is to ask for: `/openapi.json`, `/asyncapi.json`, and the first for people, at `/docs`."""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.docs import page
from gateway.http import Api, described, json_response, route
from protocol.schema import asyncapi

__all__ = ["routes"]

_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def routes(_: Api) -> list[Route]:
    """The page addresses what it needs relatively, so that it works under any prefix."""
    return [
        route("/openapi.json", GET=http),
        route("/asyncapi.json", GET=websocket),
        route("/docs", GET=docs),
        route("/docs.css", GET=partial(style, (files("gateway") / "web/docs.css").read_bytes())),
    ]


@described(answer=dict[str, Any], public=True)
async def http(request: Request) -> Response:
    """This API as an OpenAPI 3.1 document."""
    # Where it is found is for the request to say: a proxy's prefix, or where an app has mounted it.
    servers = [{"url": request.scope.get("root_path", "") or "/"}]
    return json_response(request.app.state.openapi() | {"servers": servers})


@described(answer=dict[str, Any], public=True)
async def websocket(_: Request) -> Response:
    """The WebSockets and their frames as an AsyncAPI 3.0 document."""
    return json_response(asyncapi())


@described(answer=str, media="text/html", public=True)
async def docs(request: Request) -> Response:
    """This API as a page for people."""
    return Response(page(request.app.state.openapi()), headers=_HEADERS, media_type="text/html")


@described(answer=str, media="text/css", public=True)
async def style(body: bytes, _: Request) -> Response:
    """The style of that page."""
    return Response(body, headers=_HEADERS, media_type="text/css")
