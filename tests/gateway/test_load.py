"""A spec becomes an agent, or a sentence that says why not."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.agents.echo import EchoAgent
from gateway.agents.function import FunctionAgent
from gateway.interfaces import Agent, Limits, SessionRef, Turn
from gateway.load import BadSpec, load_agent, load_agents, load_authenticator
from gateway.runtime import Runtime
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore

MODULE = '''
import os

async def agent(turn):
    yield "async"

def plain(turn):
    return "plain"

class Made:
    """Made with options."""

    def __init__(self, text: str = "made", *, times: int = 1, loud: bool = False, odd: bytes = b""):
        if times < 1:
            raise ValueError(f"times is {times}; allowed are 1 and more")
        self.text = (text.upper() if loud else text) * times

    async def __call__(self, turn):
        yield self.text

class Complete(Made):
    history = 7

    async def check(self):
        return "ready"

    async def aclose(self):
        pass

class Needy:
    def __init__(self, *, secret: str):
        os.environ[secret]

    def __call__(self, turn):
        yield "needy"

made, complete, number = Made("object"), Complete("complete"), 7

async def authenticate(token, headers):
    return token

def not_async(token, headers):
    return token

async def too_few(token):
    return token

class Door:
    async def __call__(self, token, headers):
        return token
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working directory of the user's, with modules in it, that is not on Python's path."""
    (tmp_path / "mine_own.py").write_text(MODULE)
    (tmp_path / "mine_broken.py").write_text("raise RuntimeError('no licence')")
    (tmp_path / "mine_lacking.py").write_text("import not_installed_anywhere")
    (tmp_path / "mine_misspelt.py").write_text("def agent(turn:\n")
    (tmp_path / "mine_empty.py").write_text("")
    monkeypatch.chdir(tmp_path)
    path = sys.path.copy()
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith("mine_")]:
        del sys.modules[name]


async def _said(agent: Agent) -> str:
    turn = Turn("t1", "one two", SessionRef("me", "user", "s1"))
    async with asyncio.timeout(5):
        return "".join([str(piece) async for piece in agent(turn)])


@pytest.mark.parametrize(
    "spec", ["echo", "echo?pace_ms=0", "eliza?pace_ms=0", "metronome", "http?url=http://localhost:1/"]
)
def test_a_built_in_agent_is_found_by_its_name(spec: str) -> None:
    agent = load_agent(spec)
    assert type(agent).__name__.lower() == spec.partition("?")[0] + "agent"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("mine_own:agent", "async"),
        ("mine_own:plain", "plain"),
        ("mine_own:made", "object"),
        ("mine_own:complete", "complete"),
        ("mine_own:Made", "made"),
        ("mine_own:Made?text=hi&times=3&loud=true", "HIHIHI"),
        ("mine_own:Made?text=a%26b+c", "a&b c"),
        ("mine_own:Complete?times=2", "mademade"),
        ("mine_own:made.__call__", "object"),
    ],
)
async def test_the_users_own_is_found_in_the_working_directory(spec: str, said: str) -> None:
    assert await _said(load_agent(spec)) == said


def test_a_function_takes_the_options_of_the_agent_around_it() -> None:
    agent = load_agent("mine_own:plain?history=3&threads=2")
    assert isinstance(agent, FunctionAgent)
    assert agent.history == 3


def test_what_is_an_agent_already_is_taken_as_it_is() -> None:
    agent = load_agent("mine_own:complete")
    assert agent is sys.modules["mine_own"].complete
    assert agent.history == 7


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("", "none of echo, eliza, http, metronome, openai, and not module:attribute"),
        ("echoo", "none of echo, eliza"),
        ("mine_own", "not module:attribute"),
        ("mine_own:", "not module:attribute"),
        (":agent", "not module:attribute"),
        ("echo?volume=11", "there is no option volume; there is pace_ms, first_output, silence, turn"),
        ("metronome?deltas=3", "there is no option deltas; there is first_output, silence, turn"),
        ("metronome?clock=3", "there is no option clock"),
        ("echo?pace_ms=fast", "the option pace_ms is 'fast'; it must be a number"),
        ("echo?pace_ms=-1", "allowed are 0 to 10,000"),
        ("echo?pace_ms", "options are written .name=value&name=value"),
        ("echo?pace_ms=1&pace_ms=2", "given twice"),
        ("nowhere_to_be_found:agent", "there is no module nowhere_to_be_found, neither in "),
        ("mine_own.deeper:agent", "there is no module mine_own.deeper"),
        ("mine_own:agnet", "mine_own has no agnet; it has agent, plain, Made, Complete"),
        ("mine_empty:agent", "it has nothing that could be called"),
        ("mine_broken:agent", r"the import of mine_broken failed: no licence \(mine_broken.py, line 1\)"),
        ("mine_lacking:agent", "No module named 'not_installed_anywhere'"),
        ("mine_misspelt:agent", r"the import of mine_misspelt failed: .*\(mine_misspelt.py, line 1\)"),
        ("mine_own:number", "7 is no agent: an agent is a function of one argument"),
        ("mine_own:authenticate", "cannot be called with a turn"),
        ("mine_own:Made?times=many", "the option times is 'many'; it must be a whole number"),
        ("mine_own:Made?loud=very", "it must be true or false"),
        ("mine_own:Made?times=0", "times is 0; allowed are 1 and more"),
        ("mine_own:Made?odd=x", "there is no option odd; there is text, times, loud"),
        ("mine_own:complete?times=2", "an object already made, and takes no options"),
        ("mine_own:Needy", "it needs the option secret"),
        (
            "mine_own:Needy?secret=NOT_SET_ANYWHERE",
            r"there is no 'NOT_SET_ANYWHERE' \(mine_own.py, line 32\)",
        ),
        (
            "mine_own:plain?thread=2",
            "there is no option thread; there is history, threads, grace, first_output, silence",
        ),
        (
            "echo?silence=0",
            "the option silence is '0.0'; allowed is a number of seconds from 0.001 to 86,400",
        ),
        ("mine_own:agent?turn=long", "the option turn is 'long'; allowed is a number of seconds"),
    ],
)
def test_a_bad_spec_says_which_and_why(spec: str, why: str) -> None:
    with pytest.raises(BadSpec, match=why) as caught:
        load_agent(spec)
    assert str(caught.value).startswith(f"{spec}: ")
    assert not re.search(r"[A-Z][a-z]+(Error|Exception)\b", str(caught.value)), "a class's name says nothing"


def test_agents_have_the_names_they_are_given_in_that_order() -> None:
    agents = load_agents(["b=echo?pace_ms=3", "a=mine_own:agent"])
    assert list(agents) == ["b", "a"]
    assert isinstance(agents["b"], EchoAgent)


def test_without_any_there_are_three_to_play_with() -> None:
    assert list(load_agents([])) == ["eliza", "echo", "metronome"]


def own() -> Any:
    load_agent("mine_own:agent")
    return sys.modules["mine_own"]


BUILT_IN_SPECS = (
    "echo",
    "eliza?pace_ms=0",
    "metronome",
    "http?url=http://localhost:1/",
    "openai?model=m&key_env=&base_url=http://localhost:1/v1",
)


@pytest.mark.parametrize(
    "spec", [*BUILT_IN_SPECS, "mine_own:agent", "mine_own:plain", "mine_own:Complete", "mine_own:complete"]
)
def test_every_agent_takes_limits_of_its_own(spec: str) -> None:
    separator = "&" if "?" in spec else "?"
    agents = load_agents([f"slow={spec}{separator}first_output=300&turn=3600", f"usual={spec}"])
    settings = Settings(silence_timeout=20, turn_timeout=40)
    runtime = Runtime(settings, agents, MemoryStore())
    assert runtime.limits("slow") == (300, 20, 3_600)
    assert runtime.limits("usual") == (60, 20, 40)
    assert agents["slow"].history == agents["usual"].history


async def test_an_agent_with_limits_is_otherwise_as_it_was() -> None:
    limited = load_agent("mine_own:complete?silence=7")
    assert (await _said(limited), await limited.check(), limited.history) == ("complete", "ready", 7)
    await limited.aclose()
    assert not hasattr(sys.modules["mine_own"].complete, "limits")


def test_limits_of_a_function_or_of_what_is_called_like_one_count() -> None:
    module = own()
    module.agent.limits = Limits(turn=5)
    module.made.limits = Limits(turn=6)
    agents = load_agents(["a=mine_own:agent", "b=mine_own:made", "c=mine_own:agent?turn=7"])
    runtime = Runtime(Settings(), agents, MemoryStore())
    assert [runtime.limits(name).turn for name in agents] == [5, 6, 7]


def test_a_spec_changes_those_limits_of_an_agent_that_it_names() -> None:
    own().complete.limits = Limits(first_output=5, silence=6)
    runtime = Runtime(Settings(), load_agents(["a=mine_own:complete?silence=7"]), MemoryStore())
    assert runtime.limits("a") == (5, 7, 600)


@pytest.mark.parametrize(
    ("specs", "why"),
    [
        (["echo"], "given as name=spec"),
        (["echo="], "given as name=spec"),
        (["=echo"], "'' cannot be its name"),
        (["a b=echo"], "'a b' cannot be its name: .*1–64 of A–Z"),
        (["openai?model=gpt"], "'openai\\?model' cannot be its name"),
        (["a=echo", "a=eliza"], "there is an agent 'a' already"),
        (["a=nothing"], "nothing: it is none of"),
    ],
)
def test_a_bad_list_of_agents_says_which_and_why(specs: list[str], why: str) -> None:
    with pytest.raises(BadSpec, match=why):
        load_agents(specs)


@pytest.mark.parametrize("spec", ["mine_own:authenticate", "mine_own:Door"])
async def test_an_authenticator_is_found(spec: str) -> None:
    authenticate: Any = load_authenticator(spec)
    assert await authenticate("token", {}) == "token"


@pytest.mark.parametrize("name", ["not_async", "too_few", "number", "plain", "made"])
def test_what_could_not_authenticate_is_refused_with_what_could(name: str) -> None:
    with pytest.raises(BadSpec, match=r"`async def authenticate\(token, headers\)`"):
        load_authenticator(f"mine_own:{name}")
