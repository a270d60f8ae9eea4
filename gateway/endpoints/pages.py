"""The page at `/`, the client library, the widget, the console: files of `gateway/web`."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http import Api, Endpoint, described, retry_headers, route
from gateway.static import PAGE_HEADERS, Static, held_files
from protocol.errors import Refused

__all__ = ["refusal_page", "routes", "wants_page"]

_PAGES = {
    "/": "index.html",
    "/page.js": "page.js",
    "/wire.js": "wire.js",
    "/widget.js": "widget.js",
    "/client.js": "client.js",
    "/page.css": "page.css",
    "/console": "console.html",
    "/console.css": "console.css",
    "/console.js": "console.js",
    "/docs.css": "docs.css",
    "/docs.js": "docs.js",
    "/icon.svg": "icon.svg",
}
_FOLDERS = ("client", "widget", "console", "vendor")
FileName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_.-]*$")]


def routes(_: Api) -> list[Route]:
    """`/` and what it needs. Everything in it is addressed relatively, so that it works under any prefix."""
    held = held_files()
    return [
        *(route(path, GET=_page(held[name], name)) for path, name in _PAGES.items()),
        *(route(f"/{folder}/{{name}}", GET=_folder(held, folder)) for folder in _FOLDERS),
    ]


def _page(file: Static, name: str) -> Endpoint:
    @described(f"The file `{name}` of the page.", answer=str, media=file.media, public=True)
    async def page(request: Request) -> Response:
        return file.answer(request)

    return page


def _folder(held: Mapping[str, Static], folder: str) -> Endpoint:
    @described(
        f"A script or style sheet of `{folder}`.",
        answer=str,
        media="text/javascript",
        public=True,
        errors=("not_found",),
        path={"name": FileName},
    )
    async def page(request: Request) -> Response:
        file = held.get(f"{folder}/{request.path_params['name']}")
        if file is None:
            raise Refused("not_found", f"There is no such file in {folder}.")
        return file.answer(request)

    return page


_REFUSAL = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>Trunkline</title>
  </head>
  <body>
    <h1>Not let in</h1>
    <p>{content}</p>
  </body>
</html>
"""


def wants_page(method: str, headers: Mapping[str, str]) -> bool:
    """Does a person ask, with a browser, to be shown what is at this address?"""
    return method in ("GET", "HEAD") and "text/html" in headers.get("accept", "")


def refusal_page(refusal: Refused) -> Response:
    """Why a person is not let in, to be read in a browser."""
    return Response(
        _REFUSAL.format(content=escape(refusal.content)),
        refusal.status,
        {**PAGE_HEADERS, **retry_headers(refusal), "Cache-Control": "no-store"},
        "text/html",
    )
