"""Whoever may not touch a session can neither see it nor change it, by any surface and any sequence of deeds.

Three worlds are compared: one in which everything happens, one without the sessions and agents that an
observer has no right to, and one without the observer. The observer must be told the same in the first two,
byte for byte: so somebody else's session looks like none. What is hidden from it must be the same in the
first and the last.

More histories: `HISTORIES=3000 make test ARGS="-o faulthandler_timeout=0 tests/gateway/test_rights.py"`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple, TypeAlias

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.interfaces import Caller, Key
from tests.gateway.asgi import Exchange, played
from tests.gateway.attempts import (
    CALLERS,
    KEYS,
    OBSERVERS,
    SECRETS,
    Own,
    asks,
    by_every_route,
    may_touch,
    own,
    owns,
    sockets,
)
from tests.gateway.worlds import AGENTS, Ask, Deed, Frame, Open, World, line_of

History: TypeAlias = Sequence[Own | Deed]
MINUTE = 60.0


class Outcome(NamedTuple):
    """A world, when all is over."""

    exchanges: Mapping[int, Exchange]
    """By the number of the deed."""
    denied: Set[int]
    """Deeds that were answered by the documented 403 of Potpie's surface."""
    kept: Mapping[Key, Any]
    """What the store holds of every session."""


async def outcome(
    world: World, history: History, hidden: Sequence[Key], stolen: dict[int, str], left_out: Set[int]
) -> Outcome:
    """What becomes of a history without some of its deeds. `stolen` are cursors of hidden sessions, by the
    number of the deed; those that are not there yet are put there."""
    denied = set()
    async with world.running():
        for step, deed in enumerate(history):
            if step in left_out:
                await world.leave_out(step)
                continue
            there = await keys_of(world)
            if step not in stolen and (seen := [key for key in there if key in hidden]):
                head = (await world.store.load(seen[step % len(seen)])).head
                stolen[step] = f"{head.epoch}.{head.seq // 2}.0"
            asked = own(step, *deed) if isinstance(deed, Own) else deed
            await world.do(step, asked, stolen.get(step, "none"))
            if isinstance(deed, Ask) and is_denied(deed, world.exchanges[step], there):
                denied.add(step)
    kept = {key: await kept_of(world, key) for key in await keys_of(world)}
    return Outcome(world.exchanges, denied, kept)


async def keys_of(world: World) -> list[Key]:
    return [summary.info.key for summary in await world.store.sessions(None, None, 1000)]


async def kept_of(world: World, key: Key) -> Any:
    info = (await world.store.summary(key)).info
    entries = await world.store.read(key, 0, 10_000, 1 << 30)
    return info.label, info.state, info.metadata, info.life, entries


def is_denied(ask: Ask, answer: Exchange, there: list[Key]) -> bool:
    """Was this told to be somebody else's, as only Potpie's clients are told, and is it?"""
    found = re.fullmatch(r"/api/v[12]/conversations/([^/]+)/.*", ask.path)
    same_id = [key for key in there if found is not None and key.session_id == found[1]]
    others = any(key.user != CALLERS[ask.token].user for key in same_id)
    return others and (answer.status, answer.body) == (403, b'{"detail":"Access denied to conversation"}')


def told(exchange: Exchange) -> Any:
    """What its caller was told, signs of life left out. An epoch counts the sessions there ever were, an
    estimate is made of all runs of an agent, and the time of an error is another clock's."""
    text = "\n".join((exchange.body.decode(), *exchange.frames))
    text = re.sub(r'^(:\n|{"type":"pong"})\n?', "", text, flags=re.MULTILINE)
    text = re.sub(r'\bworld[abc]x\d+|"estimatedCompletion":\d+|"timestamp":"[^"]*"', "", text)
    headers = [(name, value) for name, value in exchange.headers if name != "content-length"]
    return exchange.status, headers, text, exchange.close_code


def check_told(caller: Caller, deed: Deed, exchange: Exchange) -> None:
    """Raises if an answer holds anything of a session that its caller has no right to. On a socket `hello`
    changes who that is."""
    for frame in (f"{exchange.headers}{exchange.body.decode()}", *exchange.frames):
        if frame.startswith('{"type":"connected"'):
            caller = OBSERVERS.get(json.loads(frame).get("ref"), caller)
        for key, secret in SECRETS.items():
            assert may_touch(caller, key) or secret not in frame, (deed, key, frame)


def check(observer: str, history: History, pace: float) -> None:
    """Raises if the observer saw or changed what it has no right to."""
    caller = OBSERVERS[observer]
    hidden = [key for key in KEYS if not may_touch(caller, key)]
    stolen: dict[int, str] = {}

    def without(name: str, left_out: Set[int] = frozenset(), agents: Sequence[str] = AGENTS) -> Outcome:
        return played(outcome(World(CALLERS, name, agents, pace), history, hidden, stolen, left_out))

    of_hidden = {step for step, deed in enumerate(history) if isinstance(deed, Own) and deed.key in hidden}
    observed = {step for step, deed in enumerate(history) if not isinstance(deed, Own)}
    whole = without("worlda")
    for step in observed & whole.exchanges.keys():
        deed = history[step]
        assert not isinstance(deed, Own)
        check_told(caller, deed, whole.exchanges[step])
    usable = [agent for agent in AGENTS if caller.agents is None or agent in caller.agents]
    without_hidden = without("worldb", of_hidden | whole.denied, usable or ["unknown"])
    for step in observed & without_hidden.exchanges.keys():
        assert told(whole.exchanges[step]) == told(without_hidden.exchanges[step]), (step, history[step])
    without_observer = without("worldc", observed)
    for step in of_hidden:
        assert told(whole.exchanges[step]) == told(without_observer.exchanges[step]), (step, history[step])
    for key in hidden:
        assert whole.kept.get(key) == without_observer.kept.get(key), key


@pytest.mark.parametrize("observer", OBSERVERS)
def test_every_route_tells_of_somebody_elses_session_as_of_none(observer: str) -> None:
    furnished = [Own(key, deed) for key in KEYS for deed in ("say", "label")]
    check(observer, [*furnished, *by_every_route(observer)], pace=1.0)


def attach(session_id: str, cursor: str) -> Frame:
    targets = [{"session_id": session_id, "agent": AGENTS[0], "cursor": cursor, "create": True}]
    return Frame("bob", 0, {"type": "attach", "sessions": targets})


NARROWED: History = (
    Open("bob", "/ws", False),
    attach("t", "STOLEN"),
    Frame("bob", 0, {"type": "hello", "token": "bob of one session", "ref": "bob of one session"}),
    Ask("bob", "POST", "/frames", body={"type": "message", "session_id": "t", "content": "hello"}, line=0),
    Own(Key(AGENTS[0], "bob", "t"), "say"),
    attach("t", "MINE"),
)
"""A line hears no more of what its new token does not cover, also if its user has better ones."""
SHARED: History = (
    Own(Key(AGENTS[0], "ann", "s"), "share"),
    Ask("bob", "POST", f"/apps/{AGENTS[0]}/users/bob/sessions/s", body={"state": {}}),
    Ask("bob", "GET", f"/apps/{AGENTS[0]}/users/bob/sessions/s"),
)
"""What sessions of one user share, they do not share with another's."""
LENT: History = (
    Own(Key(AGENTS[0], "ann", "s"), "listen"),
    Ask(
        "eve",
        "POST",
        "/frames",
        body={"type": "message", "session_id": "s", "content": "hello"},
        headers=(("x-connection-id", line_of(0)),),
    ),
)
"""Nobody uses a line of somebody else's, though they know its name."""


@st.composite
def histories(draw: st.DrawFn) -> tuple[str, History]:
    observer = draw(st.sampled_from([*OBSERVERS]))
    absent = draw(st.sets(st.sampled_from(KEYS)))
    furnished = [Own(key, "say") for key in KEYS if key not in absent]
    deeds = st.one_of(owns(observer), asks(observer), asks(observer), sockets(observer))
    return observer, [*furnished, *draw(st.lists(deeds, max_size=30))]


@settings(
    max_examples=int(os.environ.get("HISTORIES", "150")),
    derandomize="HISTORIES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(histories())
@example(("bob", NARROWED))
@example(("bob", SHARED))
@example(("eve", LENT))
def test_nobody_sees_or_changes_what_they_have_no_right_to(case: tuple[str, History]) -> None:
    check(*case, pace=MINUTE)
