"""The files of `gateway/web` over HTTP: compressed once, and sent again only where they changed.

They address each other with their versions, so that a browser that has them asks for nothing but the page.
`web/npm/fetch.py` makes one file each of `/widget.js`, `/client.js` and the pages' scripts; the modules that
these are made of are served beside them, and instead of them where there is no bundle.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePath

import msgspec
from starlette.requests import Request
from starlette.responses import Response

__all__ = ["PAGE_HEADERS", "Static", "held_files", "load", "versioned"]

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
_OPEN = {**PAGE_HEADERS, "Access-Control-Allow-Origin": "*"}
"""Any page may load scripts and styles: the library then tells its people why the gateway refuses them."""
_UNCHANGING = "public, max-age=31536000, immutable"
_FOLDERS = ("client", "widget", "console", "vendor")
"""`vendor` is empty where nobody fetched third-party scripts."""
_KINDS = {".css": "text/css", ".svg": "image/svg+xml", ".js": "text/javascript", ".html": "text/html"}
"""In the order in which they may address each other with a version: only those before."""
_REFERENCE = re.compile(r'"([a-z/]+\.(?:css|svg|js))"')


class Static:
    """One file. Its `version` is a hash of its content. At an address that ends with `?v=` and that version
    caches keep it and never ask; at any other address they ask each time whether it changed."""

    def __init__(self, body: bytes, media: str, headers: Mapping[str, str]) -> None:
        self.version = sha256(body).hexdigest()[:16]
        compressed = gzip.compress(body, 9, mtime=0)
        self.body = body
        self._compressed = compressed if len(compressed) < len(body) else None
        self.media = media
        # Weak: it is the same for both encodings.
        self._tag = f'W/"{self.version}"'
        self._headers = {**headers, "ETag": self._tag, "Vary": "Accept-Encoding"}

    def answer(self, request: Request) -> Response:
        """The file; 304, where the client has it already."""
        unchanging = request.query_params.get("v") == self.version
        headers = {**self._headers, "Cache-Control": _UNCHANGING if unchanging else "no-cache"}
        if _names(request.headers.get("if-none-match", ""), self._tag):
            return Response(status_code=304, headers=headers)
        if self._compressed is not None and _takes_gzip(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
            return Response(self._compressed, headers=headers, media_type=self.media)
        return Response(self.body, headers=headers, media_type=self.media)


def _names(if_none_match: str, tag: str) -> bool:
    """Is this tag in that list? Compared weakly: https://www.rfc-editor.org/rfc/rfc9110#name-if-none-match"""
    opaque = tag.removeprefix("W/")
    return if_none_match.strip() == "*" or opaque in re.findall(r'"[^"]*"', if_none_match)


def _takes_gzip(accept_encoding: str) -> bool:
    """Is gzip acceptable? `*` means whatever is not named; a weight of 0 means not acceptable."""
    weights: dict[str, str] = {}
    for part in accept_encoding.lower().split(","):
        coding, _, weight = part.replace(" ", "").replace("\t", "").partition(";q=")
        weights[coding] = weight
    weight = weights.get("gzip", weights.get("*", "0"))
    return re.fullmatch(r"0(\.0*)?", weight) is None


# ── What there is ───────────────────────────────────────────────────────────────────────────────────────────


@cache
def held_files() -> dict[str, Static]:
    """Read once, however many gateways a process has. Each is named as in `gateway/web`: `widget/dom.js`."""
    return load(files("gateway") / "web")


def load(web: Traversable) -> dict[str, Static]:
    """The files in that folder."""
    bodies = _read(web, "") | _bundle(web)
    for folder in _FOLDERS:
        bodies |= _read(web / folder, f"{folder}/")
    held: dict[str, Static] = {}
    for suffix, media in _KINDS.items():
        of_kind = {name: body for name, body in bodies.items() if PurePath(name).suffix == suffix}
        headers = PAGE_HEADERS if suffix == ".html" else _OPEN
        held |= {name: Static(versioned(body, held), media, headers) for name, body in of_kind.items()}
    return held


def versioned(body: bytes, held: Mapping[str, Static]) -> bytes:
    """That text with the version of each file behind its name, where it stands in quotes."""

    def version(found: re.Match[str]) -> str:
        name = found[1]
        return f'"{name}?v={held[name].version}"' if name in held else found[0]

    return _REFERENCE.sub(version, body.decode()).encode()


def _read(folder: Traversable, prefix: str) -> dict[str, bytes]:
    if not folder.is_dir():
        return {}
    found = [file for file in folder.iterdir() if PurePath(file.name).suffix in _KINDS]
    return {prefix + file.name: file.read_bytes() for file in found}


def _bundle(web: Traversable) -> dict[str, bytes]:
    """The bundled scripts. None if there are none, or if they were made of other modules than these."""
    try:
        text = (web / "bundle/made_of.json").read_bytes()
        for name, digest in msgspec.json.decode(text, type=dict[str, dict[str, str]])["modules"].items():
            if sha256((web / name).read_bytes()).hexdigest() != digest:
                return {}
    except FileNotFoundError:
        return {}
    return _read(web / "bundle", "")
