"""Internet addresses: which are this machine, which are in a network, which count as one caller."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

__all__ = ["UNIX", "Address", "Networks", "caller_at", "is_loopback", "is_network", "read_address"]

Address: TypeAlias = IPv4Address | IPv6Address

UNIX = "unix"
"""Stands for all who come by a Unix socket, where there are no addresses."""

_WITH_PORT = re.compile(r"\[([^\]]*)\](?::[0-9A-Za-z._-]+)?|([^:]*)(?::[0-9A-Za-z._-]+)")
"""An address with a port, or in brackets; RFC 7239 lets the port be a word of a proxy's own."""


def read_address(text: str) -> Address | None:
    """The address in a text that may also hold a port; None if there is none. IPv4 within IPv6 is IPv4."""
    match = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address((match[1] or match[2] or "") if match else text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_loopback(name: str) -> bool:
    """Does this name or address mean the machine itself?"""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def is_network(text: str) -> bool:
    """Is it an address, a network, or `UNIX`?"""
    try:
        Networks((text,))
    except ValueError:
        return False
    return True


class Networks:
    """A set of addresses."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """`names` are addresses, networks, and `UNIX`. Raises `ValueError`."""
        self._networks = [ip_network(name, strict=False) for name in names if name != UNIX]
        self._unix = UNIX in names

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def __contains__(self, address: Address | None) -> bool:
        """None is whoever comes by a Unix socket."""
        return self._unix if address is None else any(address in network for network in self._networks)


def caller_at(address: Address | None) -> str | None:
    """As whom an address counts: of IPv6 its /64, for within that a caller takes whatever address it likes.
    None: it does not count, for it is this machine's own, and behind it may be everybody."""
    if address is None or address.is_loopback:
        return None
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), 64), strict=False))
    return str(address)
