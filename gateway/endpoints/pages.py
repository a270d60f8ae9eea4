"""The page at `/`, the client library, the widget, the console: files of `gateway/web`, as they are."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePath
from typing import Annotated

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http import Api, Endpoint, described, retry_headers, route
from protocol.errors import Refused

__all__ = ["refusal_page", "routes", "wants_page"]

_PAGES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/wire.js": ("wire.js", "text/javascript"),
    "/widget.js": ("widget.js", "text/javascript"),
    "/client.js": ("client.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/console": ("console.html", "text/html"),
    "/console.css": ("console.css", "text/css"),
    "/console.js": ("console.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_FOLDERS = ("client", "widget", "console", "vendor")
"""Served with all that is in them; `vendor` is empty where nobody fetched third-party scripts."""
_KINDS = {".js": "text/javascript", ".css": "text/css"}
FileName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_.-]*$")]
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
_OPEN = {**_HEADERS, "Access-Control-Allow-Origin": "*"}
"""Any page may load scripts and styles: the library then tells its people why the gateway refuses them."""


def routes(_: Api) -> list[Route]:
    """`/` and what it needs. Everything in it is addressed relatively, so that it works under any prefix."""
    web = files("gateway") / "web"
    return [
        *(
            route(path, GET=_page(web.joinpath(name).read_bytes(), name, kind))
            for path, (name, kind) in _PAGES.items()
        ),
        *(route(f"/{folder}/{{name}}", GET=_folder(web / folder, folder)) for folder in _FOLDERS),
    ]


def _page(body: bytes, name: str, kind: str) -> Endpoint:
    @described(f"The file `{name}` of the page.", answer=str, media=kind, public=True)
    async def page(_: Request) -> Response:
        return Response(body, headers=_HEADERS if kind == "text/html" else _OPEN, media_type=kind)

    return page


def _folder(folder: Traversable, title: str) -> Endpoint:
    found = [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
    held = {file.name: file.read_bytes() for file in found if PurePath(file.name).suffix in _KINDS}

    @described(
        f"A script or style sheet of `{title}`.",
        answer=str,
        media="text/javascript",
        public=True,
        errors=("not_found",),
        path={"name": FileName},
    )
    async def page(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in held:
            raise Refused("not_found", f"There is no such file in {title}.")
        return Response(held[name], headers=_OPEN, media_type=_KINDS[PurePath(name).suffix])

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
        {**_HEADERS, **retry_headers(refusal), "Cache-Control": "no-store"},
        "text/html",
    )
