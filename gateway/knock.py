"""Who may knock: by which name, from which web pages, and what browsers are told about that (CORS).

A browser is a caller that does what strange pages tell it to. It cannot be made to lie about `Origin`, and
that is what all of this rests on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from protocol.errors import Refused

from .addresses import Networks, is_loopback
from .forwarded import Scope, believed, proxy_sign
from .settings import Settings

__all__ = ["Knock", "host_name"]

_ANY = "*"
_PROBES = ("/healthz", "/readyz")
"""Answered to everybody, by whatever name and way they come."""

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": (
        "Content-Type, Authorization, X-API-KEY, X-User-Id, X-Connection-Id, X-Request-Id, Last-Event-ID"
    ),
    "Access-Control-Max-Age": "86400",
}
_EXPOSED = (b"access-control-expose-headers", b"X-Request-Id, X-Session-Id, Link, Retry-After")


class Knock:
    """The rules of one gateway."""

    def __init__(self, settings: Settings, *, authenticated: bool) -> None:
        """`authenticated`: callers have to say who they are."""
        self._this_machine_only = not (authenticated or settings.allow_anonymous)
        self._hosts = frozenset(name.lower() for name in settings.allow_hosts)
        self._origins = frozenset(origin.lower() for origin in settings.allow_origins)
        self._proxies = Networks(settings.trusted_proxies)

    def arrived(self, scope: Scope) -> Scope:
        """A request's scope as the client caused it, whatever trusted proxies it came through. Raises
        `Refused` if it calls this gateway by a name that it does not answer to, or comes from elsewhere
        where nobody has to say who they are."""
        if scope["path"].removeprefix(scope.get("root_path", "")) in _PROBES:
            return believed(scope, self._proxies)
        if self._this_machine_only:
            _check_this_machine(scope)
        self._check_host(scope)
        as_caused = believed(scope, self._proxies)
        # Both names: a page that was rebound to this machine may come from a trusted address, too.
        self._check_host(as_caused)
        return as_caused

    def _check_host(self, scope: Scope) -> None:
        """`Host` must be loopback or allowed: a page whose name was rebound to 127.0.0.1 names itself."""
        name = _host_of(scope)
        if not (is_loopback(name) or name in self._hosts or _ANY in self._hosts):
            raise Refused(
                "forbidden", f"This gateway does not answer to the host {name[:80]!r}; see --allow-host."
            )

    def check_origin(self, headers: Mapping[str, str], *, changes: bool) -> None:
        """No web page may talk to a gateway that does not expect it. What changes something, and every line,
        needs an origin that is allowed, the gateway's own, or none, whatever its body is: browsers send forms
        and texts without asking. Raises `Refused`."""
        origin = headers.get("origin")
        if not changes or _ANY in self._origins or (origin or "").lower() in self._origins:
            return
        own = origin is None or _is_own(origin, headers.get("host", ""))
        # A picture or a link of another page's is fetched without an Origin.
        if not own or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            whose = "another origin" if own or origin is None else origin[:80]
            raise Refused("forbidden", f"Pages of {whose} may not talk to this gateway; see --allow-origin.")

    def cors(self, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        """What an answer to this request says, whatever it is, so that the page that asked may read it."""
        if _ANY in self._origins:
            return [(b"access-control-allow-origin", b"*"), _EXPOSED]
        if not self._origins:
            return []
        vary, origin = (b"vary", b"Origin"), headers.get("origin", "")
        if origin.lower() not in self._origins:
            return [vary]
        return [(b"access-control-allow-origin", origin.encode("latin-1")), _EXPOSED, vary]

    def preflight(self, method: str, headers: Mapping[str, str]) -> Mapping[str, str] | None:
        """What a browser is told that asks whether it may ask, beside `cors`; None if this is something else.
        Raises `Refused`."""
        if method != "OPTIONS" or not {"origin", "access-control-request-method"} <= headers.keys():
            return None
        self.check_origin(headers, changes=True)
        return _PREFLIGHT


def _check_this_machine(scope: Scope) -> None:
    """Where nobody has to say who they are, everybody is the same user: a proxy would publish every
    conversation. Raises `Refused` for what came through one."""
    sign, name = proxy_sign(scope), _host_of(scope)
    if sign is None and is_loopback(name):
        return
    why = f"was sent to the host {name[:80]!r}" if sign is None else f"came through a proxy ({sign})"
    raise Refused(
        "forbidden",
        f"This gateway does not ask who calls, so it only serves the machine it runs on, and this request "
        f"{why}. Whoever runs the gateway can let others in: with keys (GATEWAY_JWT_SECRET for users, "
        f"GATEWAY_API_KEYS for services), with --guests (each visitor sees only their own conversations), or "
        f"with --allow-anonymous (everybody sees everything).",
    )


def _host_of(scope: Scope) -> str:
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    return host_name(hosts[-1].decode("latin-1")) if hosts else ""


def host_name(host: str) -> str:
    """The name in a `Host` header, without its port, in lower case."""
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:[0-9]*)?", host.strip().lower())
    return match[1].strip("[]") if match else ""


def _is_own(origin: str, host: str) -> bool:
    """Is it the origin of the gateway's own pages? By either scheme: TLS may end before the gateway."""
    scheme, _, name = origin.partition("://")
    return scheme.lower() in ("http", "https") and _bare(name) == _bare(host)


def _bare(host: str) -> str:
    """Name and port, without a port that goes without saying: browsers leave it out, some proxies do not."""
    return re.sub(r":(80|443)$", "", host.lower())
