"""Loading: what a command line names becomes an object: `eliza?pace_ms=20`, `module:attribute`.

A spec is a built-in agent or the path of something of the user's own, and options like a URL's query.
A function becomes a `FunctionAgent` (the options are that one's), a class is made with the options as keyword
arguments, any other object is taken as it is. An option is converted to what its parameter is annotated with.

Every agent takes the options `first_output`, `silence` and `turn`, too: how many seconds it may take, where
what the settings allow all agents does not suit it.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from functools import partial, reduce
from inspect import Parameter
from operator import or_
from pathlib import Path
from traceback import extract_tb
from types import UnionType
from typing import Any, TypeGuard, Union, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
from msgspec.structs import replace

from protocol.errors import Refused
from protocol.ids import check_agent_name

from .agents.function import FunctionAgent, callee
from .interfaces import Agent, AgentError, Authenticator, Limits, Piece, Turn
from .settings import OPTIONS, BadSetting

__all__ = ["BUILT_IN", "DEFAULT", "BadSpec", "load_agent", "load_agents", "load_authenticator", "sentence"]

BUILT_IN = {
    "echo": "gateway.agents.echo:EchoAgent",
    "eliza": "gateway.agents.eliza:ElizaAgent",
    "http": "gateway.agents.http:HttpAgent",
    "metronome": "gateway.agents.metronome:MetronomeAgent",
    "openai": "gateway.agents.openai:OpenAIAgent",
}
"""What needs no colon. Imported when asked for: who only echoes does not pay for an HTTP client."""

DEFAULT = ("eliza=eliza", "echo=echo?pace_ms=40", "metronome=metronome")
"""The agents of a gateway that was given none."""


class BadSpec(ValueError):
    """A spec that means nothing: says which, what is wrong with it, and what is allowed."""

    def __init__(self, spec: str, why: str) -> None:
        super().__init__(f"{spec}: {why}")
        self.spec = spec
        self.why = why


def load_agents(specs: Iterable[str]) -> dict[str, Agent]:
    """`name=spec` each, to agents by name, in that order; none at all means `DEFAULT`. Raises `BadSpec`."""
    agents: dict[str, Agent] = {}
    for text in list(specs) or DEFAULT:
        name, equals, spec = text.partition("=")
        if not equals or not spec:
            raise BadSpec(text, "an agent is given as name=spec, for example me=mine:agent or eliza=eliza")
        try:
            check_agent_name(name)
        except Refused as error:
            raise BadSpec(text, f"{name!r} cannot be its name: {error.content}") from None
        if name in agents:
            raise BadSpec(text, f"there is an agent {name!r} already")
        agents[name] = load_agent(spec)
    return agents


def load_agent(spec: str) -> Agent:
    """The agent that `spec` means. Raises `BadSpec`."""
    target, _, query = spec.partition("?")
    options = _options(spec, query)
    limits = _limits(spec, {name: options.pop(name) for name in _LIMITS if name in options})
    agent = _agent(spec, target, options)
    return _Limited(agent, limits) if limits else agent


def _agent(spec: str, target: str, options: dict[str, str]) -> Agent:
    found = _find(spec, BUILT_IN[target]) if target in BUILT_IN else _find_own(spec, target)
    if isinstance(found, type):
        found, options = _make(spec, found, options), {}
    if not _is_agent(found):
        return _make(spec, partial(FunctionAgent, found), options)  # type: ignore[no-any-return]
    if options:
        raise BadSpec(spec, f"it is an object already made, and takes no options but {', '.join(_LIMITS)}")
    return found


def load_authenticator(spec: str) -> Authenticator:
    """The authenticator at `module:attribute`: an async function of token and headers. Raises `BadSpec`."""
    found = _find_own(spec, spec)
    if isinstance(found, type):
        found = _make(spec, found, {})
    if not callable(found) or not inspect.iscoroutinefunction(callee(found)) or not _takes(found, 2):
        raise BadSpec(
            spec,
            "what is there is no authenticator: it must be an "
            "`async def authenticate(token, headers)`, or an object whose __call__ is one",
        )
    return found  # type: ignore[no-any-return]


class _Limited:
    """An agent whose limits were given where it was named. The object itself stays as it is: it may be named
    twice."""

    def __init__(self, agent: Agent, limits: dict[str, float]) -> None:
        self._agent = agent
        self.history = agent.history
        self.limits: Limits = replace(getattr(agent, "limits", None) or Limits(), **limits)

    @property
    def hung(self) -> int:
        return getattr(self._agent, "hung", 0)

    def __call__(self, turn: Turn) -> AsyncGenerator[Piece, None]:
        return self._agent(turn)

    async def check(self) -> str:
        return await self._agent.check()

    async def aclose(self) -> None:
        await self._agent.aclose()


_LIMITS = {name: OPTIONS[f"{name}_timeout"] for name in Limits.__struct_fields__}


def _limits(spec: str, given: dict[str, str]) -> dict[str, float]:
    try:
        return {name: _LIMITS[name].read(text, f"the option {name}") for name, text in given.items()}
    except BadSetting as error:
        raise BadSpec(spec, str(error).removesuffix(".")) from None


def _options(spec: str, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError as error:
        raise BadSpec(spec, f"options are written ?name=value&name=value ({error})") from None
    options = dict(pairs)
    if len(options) < len(pairs):
        raise BadSpec(spec, "an option is given twice")
    return options


def _find_own(spec: str, path: str) -> Any:
    """What a user's path leads to, looked up from the working directory first."""
    if os.getcwd() not in sys.path:  # a console script does not look there
        sys.path.insert(0, os.getcwd())
    return _find(spec, path)


def _find(spec: str, path: str) -> Any:
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise BadSpec(spec, f"it is none of {', '.join(BUILT_IN)}, and not module:attribute")
    found = _import(spec, module_name)
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise BadSpec(spec, f"{module_name} has no {attribute}; it has {_offer(module_name)}")
        found = getattr(found, name)
    return found


def _import(spec: str, module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not error.name or not f"{module_name}.".startswith(f"{error.name}."):
            raise BadSpec(spec, f"the import of {module_name} failed: {error}") from error
        why = f"there is no module {error.name}, neither in {os.getcwd()} nor installed"
        raise BadSpec(spec, why) from None
    except Exception as error:
        raise BadSpec(spec, f"the import of {module_name} failed: {sentence(error)}") from error


def _offer(module_name: str) -> str:
    """The names in a module that could have been meant."""
    own = [
        name
        for name, value in vars(sys.modules[module_name]).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module_name
    ]
    return ", ".join(own) or "nothing that could be called"


def _make(spec: str, factory: Callable[..., Any], options: dict[str, str]) -> Any:
    try:
        parameters = inspect.signature(factory, eval_str=True).parameters.values()
    except (TypeError, ValueError, NameError) as error:
        raise BadSpec(spec, f"cannot tell what options it takes: {error}") from None
    named = {p.name: _kinds(p.annotation) for p in parameters if p.kind in _BY_NAME and _kinds(p.annotation)}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for name in options.keys() - named.keys():
            raise BadSpec(spec, f"there is no option {name}; there is {', '.join([*named, *_LIMITS])}")
    for parameter in parameters:
        if parameter.name in named and parameter.default is parameter.empty and parameter.name not in options:
            raise BadSpec(spec, f"it needs the option {parameter.name}")
    given = {name: _convert(spec, name, value, named.get(name, ())) for name, value in options.items()}
    try:
        return factory(**given)
    except Exception as error:
        raise BadSpec(spec, sentence(error)) from error


_BY_NAME = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _kinds(annotation: Any) -> tuple[type, ...]:
    """The kinds of value that text can be made into for a parameter; none if it is not for a command line."""
    if annotation is Parameter.empty or annotation is Any:
        return (str,)
    union = get_origin(annotation) in (Union, UnionType)
    return tuple(kind for kind in _KINDS if kind in (get_args(annotation) if union else (annotation,)))


def _convert(spec: str, name: str, value: str, kinds: tuple[type, ...]) -> Any:
    if not kinds or str in kinds:
        return value
    try:
        return msgspec.convert(value, reduce(or_, kinds), strict=False)
    except msgspec.ValidationError:
        expected = " or ".join(_KINDS[kind] for kind in kinds)
        raise BadSpec(spec, f"the option {name} is {value!r}; it must be {expected}") from None


def _is_agent(found: object) -> TypeGuard[Agent]:
    return callable(found) and all(hasattr(found, name) for name in ("history", "check", "aclose"))


def _takes(found: Any, count: int) -> bool:
    try:
        inspect.signature(found).bind(*[None] * count)
    except (TypeError, ValueError):
        return False
    return True


def sentence(error: Exception) -> str:
    """What somebody's own code raised, for people; and where, if it was not raised for them to read."""
    match error:
        case AgentError() | SyntaxError():
            return str(error)  # that of the latter says where
        case TypeError() | ValueError() if str(error):
            return str(error)
        case KeyError():
            why = f"there is no {error}"
        case _:
            why = str(error) or "it does not say why"
    own = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_OWN)]
    return f"{why} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else why


_NOT_OWN = ("<", str(Path(os.__file__).parent), str(Path(__file__).parent))
"""How names of files begin that are Python's, or the gateway's."""
