"""`gateway check`: what is set, where each setting came from, and whether keys, store and agents would do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import time
from typing import Protocol, runtime_checkable

from protocol.lifetime import Terms, tiers

from .interfaces import AgentError, StoreError
from .load import BadSpec, load_agents, sentence
from .parts import CannotStart, load_door, load_store, say_bad_spec
from .runtime import new_id
from .settings import OPTIONS, Settings

__all__ = ["check"]

_PATIENCE = 15.0
"""Seconds that an agent, or whoever has the keys, may take to say whether it is well."""


async def check(
    settings: Settings, origins: Mapping[str, str], environ: Mapping[str, str], say: Callable[[str], None]
) -> bool:
    """Say all of it line by line, without secrets. Is everything well?"""
    for line in _table(settings, origins):
        say(line)
    for name in sorted(environ.keys() - _VARIABLES):
        if name.startswith("GATEWAY_"):
            say(f"{name} is none of these settings, and does nothing.")
    say("")
    door_is_well = await _check_door(settings, say)
    store_is_well = await _check_store(settings, say)
    return await _check_agents(settings, environ, say) and store_is_well and door_is_well


_VARIABLES = {option.variable for option in OPTIONS.values()} | {"GATEWAY_TOKEN"}


def _table(settings: Settings, origins: Mapping[str, str]) -> list[str]:
    shown = {name: option.show(getattr(settings, name)) or "–" for name, option in OPTIONS.items()}
    wide = max(map(len, shown))
    wider = min(40, max(map(len, shown.values())))
    return [f"{name:{wide}}  {value:{wider}}  {origins[name]}" for name, value in shown.items()]


async def _check_door(settings: Settings, say: Callable[[str], None]) -> bool:
    """Could callers be told from one another?"""
    try:
        door = load_door(settings)
    except CannotStart as error:
        say(str(error))
        return False
    if settings.guests:
        say(f"guests: visitors without an account, each for {settings.guest_days:g} days at a time")
    if door is None:
        if not settings.guests:
            say("callers: everybody who can reach the address")
        return True
    if not isinstance(door, Part):
        say(f"callers: whom {settings.authenticator} lets in")
        return True
    return await _check_part("callers", door, say)


async def _check_store(settings: Settings, say: Callable[[str], None]) -> bool:
    where = OPTIONS["store"].show(settings.store)
    try:
        store = load_store(settings)
        async with store.open(new_id(), time()):
            say(f"store {where}: well; what it acknowledged survives: {_SURVIVES[store.durability]}")
    except (CannotStart, StoreError) as error:
        say(f"store {where}: not well: {error}")
        return False
    return True


_SURVIVES = {
    "memory": "nothing",
    "process": "a crash of the gateway",
    "disk": "a loss of power",
    "replicated": "the loss of a machine",
}


async def _check_agents(settings: Settings, environ: Mapping[str, str], say: Callable[[str], None]) -> bool:
    try:
        agents = load_agents(settings.agents)
    except BadSpec as error:
        say(say_bad_spec(error))
        return False
    lifetimes = tiers(environ, agents)
    for name in agents:
        say(f"sessions with {name} live {_life(lifetimes.terms(name, None))}")
    return all([await _check_part(f"agent {name}", agent, say) for name, agent in agents.items()])


def _life(terms: Terms | None) -> str:
    """How long, if nobody says otherwise."""
    if terms is None:
        return "for ever"
    since = "their last activity" if terms.auto_renew else "their beginning"
    return f"{terms.timeout_minutes:g} min from {since}, {terms.max_duration_minutes:g} min at the most"


@runtime_checkable
class Part(Protocol):
    """What can say how it is."""

    async def check(self) -> str: ...

    async def aclose(self) -> None: ...


async def _check_part(name: str, part: Part, say: Callable[[str], None]) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE):
            answer = await part.check()
    except TimeoutError:
        answer, well = f"no answer within {_PATIENCE:g} s", False
    except AgentError as error:
        answer, well = error.content, False
    except Exception as error:
        answer, well = sentence(error), False
    else:
        well = True
    finally:
        await part.aclose()
    say(f"{name}: {'well' if well else 'not well'}: {answer}")
    return well
