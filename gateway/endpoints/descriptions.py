"""What there is to ask for: `/openapi.json`, `/asyncapi.json`, and the first for people, at `/docs`."""

from __future__ import annotations

from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.docs import page
from gateway.http import Api, described, json_response, route
from gateway.static import PAGE_HEADERS, Static, held_files, versioned
from protocol.schema import asyncapi

__all__ = ["routes"]


def routes(_: Api) -> list[Route]:
    """The page addresses what it needs relatively, so that it works under any prefix."""
    return [
        route("/openapi.json", GET=http),
        route("/asyncapi.json", GET=websocket),
        route("/docs", GET=docs),
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
    state = request.app.state
    if not hasattr(state, "docs"):
        body = versioned(page(state.openapi()).encode(), held_files())
        state.docs = Static(body, "text/html", PAGE_HEADERS)
    return cast(Static, state.docs).answer(request)
