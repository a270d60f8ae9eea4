"""`gateway check`: what is set, where each setting came from, and whether store and agents would work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import time

from .interfaces import Agent, AgentError, StoreError
from .load import DEFAULT as DEFAULT_AGENTS
from .load import BadSpec, load_agents
from .run import CannotStart, load_store, say_bad_spec
from .runtime import new_id
from .settings import DEFAULT, OPTIONS, Settings

__all__ = ["check"]

_PATIENCE = 15.0
"""Seconds that an agent may take to say whether it is well."""


async def check(
    settings: Settings, origins: Mapping[str, str], environ: Mapping[str, str], say: Callable[[str], None]
) -> bool:
    """Say all of it line by line, without secrets. Is everything well?"""
    for line in _table(settings, origins):
        say(line)
    for name in sorted(environ):
        if name.startswith("GATEWAY_") and name not in _VARIABLES:
            say(f"{name} is none of these, and does nothing.")
    say("")
    well = await _check_store(settings, say)
    for spec in settings.agents or DEFAULT_AGENTS:
        well = await _check_agent(spec, say) and well
    return well


_VARIABLES = {option.variable for option in OPTIONS.values()} | {"GATEWAY_TOKEN"}


def _table(settings: Settings, origins: Mapping[str, str]) -> list[str]:
    shown = {name: option.show(getattr(settings, name)) or "–" for name, option in OPTIONS.items()}
    wide, wider = max(map(len, shown)), min(40, max(map(len, shown.values())))
    return [
        f"{name:{wide}}  {value:{wider}}  {_origin(name, origins[name])}" for name, value in shown.items()
    ]


def _origin(name: str, origin: str) -> str:
    """Where it came from; of a default also how it could be set."""
    return f"{DEFAULT}, {OPTIONS[name].variable}" if origin == DEFAULT else origin
