"""How deep JSON is nested.

A decoder goes down with the stack, which is deeper at one place than at another: so what is nested too deep
is refused before it is kept.
"""

from __future__ import annotations

from typing import Any

from msgspec import json

__all__ = ["deeper_than", "json_deeper_than"]


def deeper_than(value: Any, depth: int) -> bool:
    """Are lists and objects nested deeper than that in a JSON value?"""
    if not isinstance(value, dict | list):
        return False
    if depth == 0:
        return True
    return any(
        deeper_than(item, depth - 1) for item in (value.values() if isinstance(value, dict) else value)
    )


def json_deeper_than(data: bytes, depth: int) -> bool:
    """The same of JSON that is encoded. Quick for what has few brackets, which is nearly everything."""
    return data.count(b"{") + data.count(b"[") > depth and deeper_than(json.decode(data), depth)
