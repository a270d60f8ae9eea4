"""Which proxy the environment names for an address: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`,
in capitals or not. Pure: the environment is passed in.

This machine's own addresses are called directly, whatever the environment says. Like curl, and unlike httpx,
`NO_PROXY` takes IPv6 addresses (with brackets or without) and networks, and a variable that concerns other
addresses only does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

from .addresses import is_loopback

__all__ = ["Proxy", "proxy_for"]


class Proxy(NamedTuple):
    """A proxy, and who says that it be used."""

    url: str
    """`http://…`, `https://…`, `socks5://…`, `socks5h://…`, or what is none of these. May hold a password."""
    variable: str
    """The environment variable that names it."""


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy through which `scheme://host:port` is called; None: directly. An IPv6 `host` is without
    brackets."""
    host = host.lower().rstrip(".")
    if is_loopback(host) or _is_exempt(host, port, _value("no_proxy", environ)[1]):
        return None
    for name in (f"{scheme}_proxy", "all_proxy"):
        variable, url = _value(name, environ)
        if url:
            return Proxy(url if "://" in url else f"http://{url}", variable)
    return None


def _value(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """A variable and its value. As everywhere else, the name in small letters counts first."""
    for variable in (name, name.upper()):
        if value := environ.get(variable, "").strip():
            return variable, value
    return name, ""


def _is_exempt(host: str, port: int, no_proxy: str) -> bool:
    return any(_matches(entry, host, port) for entry in no_proxy.lower().replace(",", " ").split())


def _matches(entry: str, host: str, port: int) -> bool:
    """Is it `*`, the host's name or that of a domain it is in, its address, or a network it is in?"""
    entry = entry.rpartition("://")[2]
    name, wanted = _split_port(entry)
    if wanted not in ("", str(port)):
        return False
    address = _address(host)
    if name == "*":
        return True
    if address is None:
        name = name.removeprefix("*").strip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
    try:
        return address in ip_network(name, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, str]:
    """`name:port`, `[address]:port`, or an address whose colons are no port's."""
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        return name + (port if port.startswith("/") else ""), port[1:] if port.startswith(":") else ""
    name, colon, port = entry.rpartition(":")
    return (name, port) if colon and ":" not in name else (entry, "")


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
