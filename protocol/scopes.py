"""Scopes of state: a session's own, what all sessions of a user with an agent share, what everybody's share.

In one dict the prefix of a key says which: `user:` and `app:`, and `temp:` for what is never kept. The rule
and the prefixes are ADK's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

__all__ = ["Split", "applied", "changes", "merged", "scope_of_app", "scope_of_user", "split"]

_USER, _APP, _TEMP = "user:", "app:", "temp:"


class Split(NamedTuple):
    """A dict of state, by scope; keys without their prefix."""

    session: dict[str, Any]
    user: dict[str, Any]
    app: dict[str, Any]


def split(state: Mapping[str, Any]) -> Split:
    """What belongs where; `temp:` is dropped."""
    parts = Split({}, {}, {})
    for name, value in state.items():
        if name.startswith(_USER):
            parts.user[name.removeprefix(_USER)] = value
        elif name.startswith(_APP):
            parts.app[name.removeprefix(_APP)] = value
        elif not name.startswith(_TEMP):
            parts.session[name] = value
    return parts


def merged(session: Mapping[str, Any], user: Mapping[str, Any], app: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse: one dict, with the prefixes put back."""
    return {
        **{_APP + name: value for name, value in app.items()},
        **{_USER + name: value for name, value in user.items()},
        **session,
    }


def applied(state: Mapping[str, Any], delta: Mapping[str, Any], gone: Collection[str] = ()) -> dict[str, Any]:
    """A scope's state after `delta`, without the keys of it that are `gone`."""
    return {name: value for name, value in {**state, **delta}.items() if name not in gone}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What must be set for `before` to become `after`; a key that is gone is set to None, for a scope knows
    no taking away."""
    changed = {name: value for name, value in after.items() if name not in before or before[name] != value}
    return changed | {name: None for name in before if name not in after}


def scope_of_user(agent: str, user: str) -> str:
    """The name of what a user's sessions with that agent share."""
    return f"{agent}/{user}"  # an agent's name holds no slash


def scope_of_app(agent: str) -> str:
    """The name of what all sessions with that agent share."""
    return agent
