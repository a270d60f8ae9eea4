"""What proxies say of who called: `X-Forwarded-For`, `-Proto`, `-Host`, and `Forwarded` (RFC 7239).

Anybody can write these, so they are read from the right: each proxy adds what it saw, and what it saw is
believed as long as whoever said so is trusted. Where any of the first three is there, `Forwarded` does not
count: a proxy that writes those lets a client's own `Forwarded` pass.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any, NamedTuple, TypeAlias

from protocol.errors import Refused

from .addresses import Address, Networks, read_address

__all__ = ["Scope", "believed", "peer_of", "proxy_sign"]

Scope: TypeAlias = MutableMapping[str, Any]
"""What an ASGI server says of a request."""

_SECURE = {"http": {"http": "http", "https": "https"}, "websocket": {"http": "ws", "https": "wss"}}
_PAIR = re.compile(
    r"""[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s";,]+))?[ \t]*(;|,|$)""", re.ASCII
)


_OF_PROXIES = {b"forwarded": "Forwarded", b"via": "Via", b"x-real-ip": "X-Real-IP"}
"""Headers that proxies write and nobody else, beside X-Forwarded-*."""


def proxy_sign(scope: Scope) -> str | None:
    """What shows that a proxy passed this request on, trusted or not: a header's name or `HTTP/1.0`; None if
    nothing does, which proves nothing."""
    for name, _ in scope["headers"]:
        if name in _OF_PROXIES:
            return _OF_PROXIES[name]
        if name.startswith(b"x-forwarded-"):
            return str(name.decode("latin-1").title())
    # Until 1.29.7 nginx spoke it to the servers behind it unless told otherwise, and added no header.
    return "HTTP/1.0" if scope.get("http_version") == "1.0" else None


class Said(NamedTuple):
    """What was said of the way, from the client on: a list for each thing, longer or shorter."""

    addresses: list[str]
    schemes: list[str]
    hosts: list[str]


def peer_of(scope: Scope) -> Address | None:
    """The address at the other end; None if it has none, as on a Unix socket."""
    client = scope.get("client")
    return None if client is None else read_address(client[0])


def believed(scope: Scope, proxies: Networks) -> Scope:
    """The ASGI scope as the client caused it: with its address, scheme and host, as far as `proxies` tell
    them; the same one if they tell nothing. Raises `Refused` for a header that cannot be read, rather than
    take its client for the proxy."""
    if not proxies or (peer := peer_of(scope)) not in proxies:
        return scope
    said = _said(scope)
    if not any(said):
        return scope
    address, hops = _way(said.addresses, peer, proxies)
    scheme = _SECURE[scope["type"]].get(_of_hop(said.schemes, hops).lower(), scope.get("scheme"))
    headers = scope["headers"]
    if host := _of_hop(said.hosts, hops):
        headers = [(name, value) for name, value in headers if name != b"host"]
        headers.append((b"host", host.encode("latin-1")))
    client = None if address is None else (str(address), 0)
    return {**scope, "client": client, "scheme": scheme, "headers": headers}


def _way(said: list[str], peer: Address | None, proxies: Networks) -> tuple[Address | None, int]:
    """The client, and how many proxies that are trusted it came through. One that is hidden or unknown counts
    as the proxy that says so."""
    address, hops = peer, 0
    while hops < len(said) and address in proxies:
        hops += 1
        found = read_address(said[-hops])
        if found is None:
            break
        address = found
    return address, max(hops, 1)


def _of_hop(said: list[str], hops: int) -> str:
    """What the proxy said that is that many hops away; the first, if others wrote over it."""
    return said[-min(hops, len(said))] if said else ""


def _said(scope: Scope) -> Said:
    said = Said(
        _words(scope, b"x-forwarded-for"),
        _words(scope, b"x-forwarded-proto"),
        _words(scope, b"x-forwarded-host"),
    )
    if any(said):
        return said
    elements = _elements(_text(scope, b"forwarded"))
    return Said(*([element.get(name, "") for element in elements] for name in ("for", "proto", "host")))


def _text(scope: Scope, name: bytes) -> str:
    return b",".join(value for found, value in scope["headers"] if found == name).decode("latin-1")


def _words(scope: Scope, name: bytes) -> list[str]:
    text = _text(scope, name)
    return [word.strip() for word in text.split(",")] if text else []


def _elements(text: str) -> list[dict[str, str]]:
    """The elements of a `Forwarded` header. Raises `Refused`."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None:
            raise Refused("bad_request", "The Forwarded header cannot be read.")
        if pair[1]:
            elements[-1][pair[1].lower()] = _unquoted(pair[2])
        if pair[3] == ",":
            elements.append({})
        at = pair.end()
    return elements if text else []


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
