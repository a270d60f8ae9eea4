"""The grammar of every id that crosses the wire, once, as types that msgspec and the schemas both read."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias, get_args

from msgspec import Meta

from .errors import Refused

__all__ = [
    "GUEST",
    "AgentName",
    "Label",
    "Ref",
    "SessionId",
    "TurnId",
    "UserId",
    "check_agent_name",
    "check_session_id",
    "check_turn_id",
    "check_user_id",
    "is_guest",
]

# `$(?!\n)`: Python's `$` alone would let a trailing newline pass; with it the pattern means the same in ECMA.
_NAME = r"^(?!\.{1,2}$)[A-Za-z0-9._:@-]+$(?!\n)"
_NO_CONTROL = r"^[^\x00-\x1f\x7f-\x9f]+$(?!\n)"
_NO_CONTROL_OR_SLASH = r"^[^\x00-\x1f\x7f-\x9f/]+$(?!\n)"

SessionId: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=_NAME,
        description="1–128 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone)",
    ),
]
AgentName: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=_NAME,
        description="1–64 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone)",
    ),
]
UserId: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        pattern=_NO_CONTROL_OR_SLASH,
        description="1–256 characters, no control characters, no /",
    ),
]
TurnId: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=_NO_CONTROL,
        description="1–128 characters, no control characters",
    ),
]
Ref: TypeAlias = TurnId
Label: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=r"^(?=.*\S)[^\x00-\x1f\x7f-\x9f/]+$(?!\n)",
        description="1–128 characters, not only spaces, no control characters, no /",
    ),
]
"""The name that its user gave a session."""


def _checker(name: str, grammar: Any) -> Any:
    meta: Meta = get_args(grammar)[1]
    pattern = re.compile(meta.pattern or "")

    def check(value: str) -> str:
        if not 1 <= len(value) <= (meta.max_length or 0) or not pattern.search(value):
            raise Refused("bad_id", f"{name} must be {meta.description}.")
        return value

    check.__doc__ = f"`value` if it is a good {name}; else raises `Refused('bad_id')`."
    return check


check_session_id = _checker("session_id", SessionId)
check_agent_name = _checker("agent", AgentName)
check_user_id = _checker("user_id", UserId)
check_turn_id = _checker("turn_id", TurnId)

GUEST = "guest-"
"""How the user ids of guests begin, and where guests are let in no others."""


def is_guest(user: str) -> bool:
    """Is it a guest's, where guests are let in?"""
    return user.startswith(GUEST)
