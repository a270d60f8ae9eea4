"""The page at `/`, and its script and style: files of `gateway/web`, served as they are."""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http import Api, Endpoint, described, route

__all__ = ["routes"]

_PAGES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/chat.js": ("chat.js", "text/javascript"),
    "/line.js": ("line.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def routes(_: Api) -> list[Route]:
    """`/` and what it needs. Everything in it is addressed relatively, so that it works under any prefix."""
    web = files("gateway") / "web"
    return [
        route(path, GET=_page(web.joinpath(name).read_bytes(), name, kind))
        for path, (name, kind) in _PAGES.items()
    ]


def _page(body: bytes, name: str, kind: str) -> Endpoint:
    @described(f"The file `{name}` of the page.", answer=str, media=kind, public=True)
    async def page(_: Request) -> Response:
        return Response(body, headers=_HEADERS, media_type=kind)

    return page
