"""Whoever may not touch a session can neither see it nor change it, by any surface and any sequence of deeds.

Three worlds are compared: one where everything happens, one without the sessions that an observer has no right to,
and one without the observer. The observer must see the same, byte for byte, in the first two: so somebody else's
session looks like none. What is hidden from it must be the same in the first and the last.

More histories: `HISTORIES=2000 make test ARGS=tests/gateway/test_rights.py`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.interfaces import Caller, Key
from tests.gateway.asgi import Exchange, played
from tests.gateway.worlds import AGENTS, Ask, Deed, Frame, Open, World, anything

HERON, OTTER, RAVEN = AGENTS
USERS = ("ann", "bob")
IDS = ("s", "t")
KEYS = [Key(agent, user, session_id) for session_id in IDS for user in USERS for agent in AGENTS]
SECRETS = {key: f"secret{number:02}" for number, key in enumerate(KEYS)}
"""What was said in a session, and only there."""

OWNERS = {user: Caller(user) for user in USERS}
OBSERVERS = {
    "eve": Caller("eve"),
    "bob": Caller("bob"),
    "bob of one agent": Caller("bob", agents=frozenset({OTTER})),
    "bob of the last agent": Caller("bob", agents=frozenset({RAVEN})),
    "bob of one session": Caller("bob", sessions=frozenset({"s"})),
    "bob of nothing": Caller("bob", agents=frozenset()),
    "service of one agent": Caller(service=True, agents=frozenset({OTTER})),
    "anybody of one session": Caller(agents=frozenset({RAVEN}), sessions=frozenset({"s"})),
}
NARROWER = {"bob": ("bob of one agent", "bob of one session"), "bob of one agent": ("bob of nothing",)}


def may_touch(caller: Caller, key: Key) -> bool:
    """The rule, once more."""
    return (
        caller.user in (None, key.user)
        and (caller.agents is None or key.agent in caller.agents)
        and (caller.sessions is None or key.session_id in caller.sessions)
    )


# ── What owners do with their sessions ──────────────────────────────────────────────────────────────────────


class Own(NamedTuple):
    """Somebody does something with a session of theirs."""

    key: Key
    deed: str


def own(step: int, key: Key, deed: str) -> Ask:
    """It, as a request. All of them name the agent: no other session can be meant."""
    agent, user, session_id = key
    secret = SECRETS[key]
    of_agent, by_id = f"/api/agents/{agent}/sessions", f"/api/sessions/{session_id}"
    said = {
        "message": secret if deed == "say" else f"{deed} {secret}",
        "turn_id": f"{secret}-{step}",
        "sender_name": secret,
        "create": True,
    }
    frame = {"session_id": session_id, "agent": agent}
    query = f"agent={agent}"
    match deed:
        case "say" | "share" | "hold":
            return Ask(user, "POST", f"{of_agent}/{session_id}/message", body=said)
        case "make":
            return Ask(user, "POST", of_agent, body={"session_id": session_id, "label": secret})
        case "switch" | "stop":
            return Ask(user, "POST", f"{of_agent}/{session_id}/{deed}")
        case "label":
            return Ask(user, "PUT", f"{by_id}/label", query, {"label": "work"})
        case "delete":
            return Ask(user, "DELETE", by_id, query)
        case "type":
            return Ask(user, "POST", "/frames", body={"type": "typing", "state": "start", **frame})
        case "listen":
            return Ask(
                user, "POST", "/events", body={"type": "attach", "sessions": [{**frame, "create": True}]}
            )
        case "patch":
            path = f"/apps/{agent}/users/{user}/sessions/{session_id}"
            return Ask(user, "PATCH", path, body={"stateDelta": {secret: secret}})
    raise AssertionError(deed)


OWN_DEEDS = ("say", "hold", "label", "stop", "delete", "type", "listen", "patch")
ACTIVATING = ("make", "switch", "share")
"""A user's active session with an agent, and what its sessions share, are one for all its tokens: one that is
narrowed to sessions may see that they changed."""


def own_deeds(observer: str) -> st.SearchStrategy[Own]:
    deeds = OWN_DEEDS if OBSERVERS[observer].sessions else OWN_DEEDS + ACTIVATING
    return st.builds(Own, st.sampled_from(KEYS), st.sampled_from(deeds))


# ── What an observer tries ──────────────────────────────────────────────────────────────────────────────────

ROUTES = [
    (method, route.path)
    for route in World({}).app.routes
    for method in sorted(getattr(route, "endpoints", ()))
    if getattr(route, "param_convertors", ()) or route.path.startswith(("/api", "/frames", "/events", "/run"))  # type: ignore[attr-defined]
]
"""Every method of every path that names something or belongs to somebody."""
VALUES = {
    "agent": AGENTS,
    "app_name": AGENTS,
    "user_id": USERS,
    "session_id": IDS,
    "conversation_id": IDS,
    "label": ("work", "other"),
}


def body(agent: str, user: str, session_id: str, cursor: str, kind: str) -> dict[str, Any]:
    """What any surface's request may hold, of one session."""
    target = {"session_id": session_id, "agent": agent, "create": cursor == "", "cursor": cursor or None}
    return anything(agent, user, session_id, "hello") | {
        "type": kind,
        "state": "start" if kind == "typing" else {"k": 1},
        "sessions": [target],
    }


KINDS = ("message", "cancel", "typing", "renew", "attach", "detach", "command")
CURSORS = ("", "MINE", "STOLEN", "nonsense")
"""None, the last one that was given, one of a hidden session's, and what is none."""


@st.composite
def frames(draw: st.DrawFn, observer: str) -> dict[str, Any]:
    """A frame as a socket may send it."""
    if draw(st.integers(0, 9)) == 0:
        token = draw(st.sampled_from((*NARROWER.get(observer, ()), "ann", "none")))
        return {"type": "hello", "token": token, "ref": token}
    given = body(
        draw(st.sampled_from(AGENTS)),
        draw(st.sampled_from(USERS)),
        draw(st.sampled_from(IDS)),
        draw(st.sampled_from(CURSORS)),
        draw(st.sampled_from(KINDS)),
    )
    left_out = draw(LEFT_OUT)
    return {name: value for name, value in given.items() if name not in left_out}


LEFT_OUT = st.sets(
    st.sampled_from(("session_id", "sessionId", "agent", "label", "sessions", "state", "userId")), max_size=2
)


@st.composite
def asks(draw: st.DrawFn, observer: str) -> Ask:
    """A request to any route."""
    method, path = draw(st.sampled_from(ROUTES))
    path = re.sub(r"{(\w+)(:\w+)?}", lambda found: draw(st.sampled_from(VALUES.get(found[1], ("x",)))), path)
    query = draw(
        st.fixed_dictionaries(
            {"stream": st.just("false")},
            optional={
                "agent": st.sampled_from(AGENTS),
                "user_id": st.sampled_from(USERS),
                "limit": st.sampled_from(("1", "2", "100")),
                "cursor": st.sampled_from(("0-0", *CURSORS)),
                "create": st.just("true"),
            },
        )
    )
    given = None
    if method not in ("GET", "DELETE"):
        given = draw(frames(observer))
    return Ask(
        observer,
        method,
        path,
        "&".join(f"{name}={value}" for name, value in query.items()),
        given,
        draw(st.sampled_from(((), (("x-user-id", "ann"),), (("x-user-id", "bob"),)))),
        draw(st.none() | st.integers(0, 3)),
    )


def sockets(observer: str) -> st.SearchStrategy[Deed]:
    paths = st.sampled_from(("/ws", *(f"/api/agents/{agent}/ws" for agent in AGENTS)))
    return st.builds(Open, st.just(observer), paths, st.booleans()) | st.builds(
        Frame, st.just(observer), st.integers(0, 3), frames(observer)
    )


# ── What becomes of it ──────────────────────────────────────────────────────────────────────────────────────


class Outcome(NamedTuple):
    """A world, when all is over."""

    exchanges: Mapping[int, Exchange]
    denied: frozenset[int]
    """Deeds that were answered by Potpie's documented 403."""
    kept: Mapping[Key, Any]
    """Every session, as the store has it."""


History = Sequence[Own | Deed]


async def world(
    name: str,
    history: History,
    hidden: Sequence[Key],
    stolen: dict[int, str],
    left_out: Set[int] = frozenset(),
) -> Outcome:
    """What becomes of a history without some of its deeds. `stolen` is filled with a cursor for each deed, if that
    is not known yet: of a session that is hidden."""
    this = World({**OWNERS, **OBSERVERS}, name)
    denied = set()
    async with this.running():
        for step, deed in enumerate(history):
            if step in left_out:
                await this.pass_time()
                continue
            there = await _keys(this)
            if step not in stolen and (seen := [key for key in there if key in hidden]):
                head = (await this.store.load(seen[step % len(seen)])).head
                stolen[step] = f"{head.epoch}.{head.seq // 2}.0"
            asked = own(step, *deed) if isinstance(deed, Own) else deed
            await this.do(step, asked, stolen.get(step, "none"))
            if isinstance(deed, Ask) and is_denied(deed, this.exchanges[step], there):
                denied.add(step)
    kept = {key: await _kept(this, key) for key in await _keys(this)}
    return Outcome(this.exchanges, frozenset(denied), kept)


async def _keys(this: World) -> list[Key]:
    return [summary.info.key for summary in await this.store.sessions(None, None, 1000)]


async def _kept(this: World, key: Key) -> Any:
    info = (await this.store.summary(key)).info
    records = [entry.record for entry in await this.store.read(key, 0, 1000, 1 << 30) or ()]
    return info.label, info.state, info.metadata, records


def is_denied(ask: Ask, answer: Exchange, there: list[Key]) -> bool:
    """Was this told to be somebody else's, as only Potpie's clients are told?"""
    found = re.fullmatch(r"/api/v[12]/conversations/([^/]+)/.*", ask.path)
    others = found and any(key.session_id == found[1] for key in there)
    return bool(others) and (answer.status, answer.body) == (
        403,
        b'{"detail":"Access denied to conversation"}',
    )


def seen(exchange: Exchange) -> Any:
    """What its caller got to see, signs of life left out. An epoch counts the sessions there ever were; a run's
    estimate is made of all runs of its agent."""
    text = "\n".join((exchange.body.decode(), *exchange.frames))
    text = re.sub(r'^(:\n|{"type":"pong"})\n?', "", text, flags=re.MULTILINE)
    text = re.sub(r"world[abc]x\d+", "EPOCH", text)
    text = re.sub(r'"estimatedCompletion":\d+|"timestamp":"[^"]*"', "", text)
    headers = [(name, value) for name, value in exchange.headers if name != "content-length"]
    return exchange.status, headers, text, exchange.close_code


def check_told(caller: Caller, deed: Deed, exchange: Exchange) -> None:
    """Raises if an answer holds anything of a session that its caller has no right to, or names an agent that it
    may not use and did not name itself. On a socket, `hello` changes who the caller is."""
    told = f"{exchange.headers}{exchange.body.decode()}"
    for frame in (told, *exchange.frames):
        if frame.startswith('{"type":"connected"'):
            caller = OBSERVERS.get(json.loads(frame).get("ref"), caller)
        for key, secret in SECRETS.items():
            assert may_touch(caller, key) or secret not in frame, (deed, key, frame)
    for agent in AGENTS:
        allowed = caller.agents is None or agent in caller.agents
        assert allowed or agent in repr(deed) or agent not in told, (deed, told)


def compare(observer: str, history: History) -> None:
    """Raises if the observer saw or changed what it has no right to."""
    caller = OBSERVERS[observer]
    hidden = [key for key in KEYS if not may_touch(caller, key)]
    unseen = {step for step, deed in enumerate(history) if isinstance(deed, Own) and deed.key in hidden}
    stolen: dict[int, str] = {}
    whole = played(world("worlda", history, hidden, stolen))
    for step, exchange in whole.exchanges.items():
        if not isinstance(deed := history[step], Own):
            check_told(caller, deed, exchange)
    without_hidden = played(world("worldb", history, hidden, stolen, unseen | whole.denied))
    for step, exchange in without_hidden.exchanges.items():
        if not isinstance(history[step], Own):
            assert seen(whole.exchanges[step]) == seen(exchange), (step, history[step])
    observed = {step for step, deed in enumerate(history) if not isinstance(deed, Own)}
    without_observer = played(world("worldc", history, hidden, stolen, observed))
    for step in unseen:
        assert seen(whole.exchanges[step]) == seen(without_observer.exchanges[step]), (step, history[step])
    for key in hidden:
        assert whole.kept.get(key) == without_observer.kept.get(key), key


FURNISHED = [Own(key, deed) for key in KEYS for deed in ("say", "label")]
"""Everybody has a session with everybody under every id."""


@pytest.mark.parametrize("observer", OBSERVERS)
def test_every_route_answers_of_somebody_elses_session_as_of_none(observer: str) -> None:
    asked = []
    for method, path in ROUTES:
        for session_id in IDS:
            for agent in (RAVEN, OTTER):
                values = {
                    "agent": agent,
                    "app_name": agent,
                    "user_id": "ann",
                    "label": "work",
                    "session_id": session_id,
                }
                values["conversation_id"] = session_id
                filled = re.sub(r"{(\w+)(:\w+)?}", lambda found: values.get(found[1], "x"), path)
                kind = "attach" if path == "/events" else "cancel"
                given = (
                    None if method in ("GET", "DELETE") else body(agent, "ann", session_id, "STOLEN", kind)
                )
                asked.append(Ask(observer, method, filled, "stream=false", given))
    compare(observer, [*FURNISHED, *asked])


@st.composite
def histories(draw: st.DrawFn) -> tuple[str, History]:
    observer = draw(st.sampled_from([*OBSERVERS]))
    said = draw(st.sets(st.sampled_from(KEYS)))
    deeds = st.one_of(own_deeds(observer), asks(observer), asks(observer), sockets(observer))
    return observer, [*(Own(key, "say") for key in sorted(said)), *draw(st.lists(deeds, max_size=30))]


@settings(
    max_examples=int(os.environ.get("HISTORIES", "40")),
    derandomize="HISTORIES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(histories())
def test_nobody_sees_or_changes_what_they_have_no_right_to(case: tuple[str, History]) -> None:
    compare(*case)
