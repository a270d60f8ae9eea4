"""What owners do with their sessions, and what observers try on everybody's: by every route, frame and way of
naming a session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hypothesis import strategies as st

from gateway.http import Path, operation_of
from gateway.interfaces import Caller, Key
from tests.gateway.worlds import AGENTS, Ask, Deed, Frame, Open, World, anything, filled

__all__ = [
    "CALLERS",
    "KEYS",
    "OBSERVERS",
    "SECRETS",
    "Own",
    "asks",
    "by_every_route",
    "frames",
    "may_touch",
    "own",
    "owns",
    "sockets",
]

HERON, OTTER, RAVEN = AGENTS
USERS = ("ann", "bob")
IDS = ("s", "t")
KEYS = [Key(agent, user, session_id) for session_id in IDS for user in USERS for agent in AGENTS]
SECRETS = {key: f"secret{number:02}" for number, key in enumerate(KEYS)}
"""What is said in a session, and nowhere else."""

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
CALLERS = OBSERVERS | {user: Caller(user) for user in USERS}


def may_touch(caller: Caller, key: Key) -> bool:
    """The rule, once more."""
    return (
        caller.user in (None, key.user)
        and (caller.agents is None or key.agent in caller.agents)
        and (caller.sessions is None or key.session_id in caller.sessions)
    )


# ── Owners ──────────────────────────────────────────────────────────────────────────────────────────────────


class Own(NamedTuple):
    """Somebody does something with a session of theirs."""

    key: Key
    deed: str


DEEDS = ("say", "hold", "label", "stop", "delete", "type", "listen", "patch", "limit")
OF_ALL = ("make", "switch", "share")
"""Which session is active, and what a user's sessions share, is one thing for all tokens of that user: who
may see one of the sessions may see that it changed."""


def owns(observer: str) -> st.SearchStrategy[Own]:
    """What owners may do without the observer seeing it by right, if it may not touch the session."""
    deeds = DEEDS if OBSERVERS[observer].sessions else DEEDS + OF_ALL
    return st.builds(Own, st.sampled_from(KEYS), st.sampled_from(deeds))


def own(step: int, key: Key, deed: str) -> Ask:
    """It, as a request that can mean no other session."""
    agent, user, session_id = key
    secret, frame = SECRETS[key], {"session_id": session_id, "agent": agent}
    of_agent, by_id = f"/api/agents/{agent}/sessions", f"/api/sessions/{session_id}"
    elsewhere = f"/api/messaging/sessions/{session_id}"
    match deed:
        case "say" | "share" | "hold":
            words = secret if deed == "say" else f"{deed} {secret}"
            said = {"message": words, "turn_id": f"{secret}-{step}", "sender_name": secret, "create": True}
            return Ask(user, "POST", f"{of_agent}/{session_id}/message", body=said)
        case "make":
            return Ask(user, "POST", of_agent, body={"session_id": session_id, "label": secret})
        case "switch" | "stop":
            return Ask(user, "POST", f"{of_agent}/{session_id}/{deed}")
        case "label":
            return Ask(user, "PUT", f"{by_id}/label", f"agent={agent}", {"label": "work"})
        case "delete":
            return Ask(user, "DELETE", by_id, f"agent={agent}")
        case "type":
            return Ask(user, "POST", "/frames", body={"type": "typing", "state": "start", **frame})
        case "listen":
            targets = [{**frame, "create": True}]
            return Ask(user, "POST", "/events", body={"type": "attach", "sessions": targets})
        case "patch":
            path = f"/apps/{agent}/users/{user}/sessions/{session_id}"
            return Ask(user, "PATCH", path, body={"stateDelta": {secret: secret}})
        case "limit":
            body = {"timeoutMinutes": 5, "autoRenew": False}
            return Ask(user, "PATCH", f"{elsewhere}/timeout", f"agent={agent}", body)
    raise AssertionError(deed)


# ── Observers ───────────────────────────────────────────────────────────────────────────────────────────────

ROUTES = [
    (method, route.path)
    for route in World({}).app.routes
    if isinstance(route, Path)
    for method, endpoint in route.endpoints.items()
    if (told := operation_of(endpoint)) is not None and not told.public
]
"""Every method of every path that is not for everybody."""
VALUES = {
    "agent": AGENTS,
    "app_name": AGENTS,
    "session_id": IDS,
    "conversation_id": IDS,
    "label": ("work", "other"),
}
KINDS = ("message", "cancel", "typing", "renew", "attach", "detach", "command")
CURSORS = ("", "MINE", "STOLEN", "nonsense")
"""None, the last one that was given, one of a hidden session, and what is none."""
NAMES = ("session_id", "sessionId", "agent", "label", "sessions", "state", "userId")


def body(agent: str, user: str, session_id: str, cursor: str, kind: str) -> dict[str, Any]:
    """What any surface's request, or a frame of that kind, may hold of one session."""
    target = {"session_id": session_id, "agent": agent, "create": cursor == "", "cursor": cursor or None}
    return anything(agent, user, session_id, "hello") | {
        "type": kind,
        "state": "start" if kind == "typing" else {"k": 1},
        "sessions": [target],
    }


def users(observer: str) -> st.SearchStrategy[str]:
    """Whom it names: mostly itself, if it may name nobody else."""
    user = OBSERVERS[observer].user
    return st.sampled_from(USERS if user is None else (user, user, user, "ann"))


def by_every_route(observer: str) -> list[Deed]:
    """Every method of every path, of sessions of Ann's."""
    asked: list[Deed] = []
    for method, path in ROUTES:
        for agent, user, session_id in ((OTTER, "ann", "s"), (RAVEN, "ann", "s"), (RAVEN, "ann", "t")):
            values = dict.fromkeys(("agent", "app_name"), agent) | {"user_id": user, "label": "work"}
            path_of_it = filled(path, values | dict.fromkeys(("session_id", "conversation_id"), session_id))
            kind = "attach" if path == "/events" else "cancel"
            given = None if method in ("GET", "DELETE") else body(agent, user, session_id, "STOLEN", kind)
            asked.append(Ask(observer, method, path_of_it, "stream=false", given))
    return asked


@st.composite
def frames(draw: st.DrawFn, observer: str) -> Mapping[str, Any]:
    """A frame, or the body of a request."""
    if draw(st.integers(0, 9)) == 0:
        token = draw(st.sampled_from((*NARROWER.get(observer, ()), "ann", "none")))
        return {"type": "hello", "token": token, "ref": token}
    agent, _, session_id = draw(st.sampled_from(KEYS))
    user = draw(users(observer))
    given = body(agent, user, session_id, draw(st.sampled_from(CURSORS)), draw(st.sampled_from(KINDS)))
    left_out = draw(st.sets(st.sampled_from(NAMES), max_size=2))
    return {name: value for name, value in given.items() if name not in left_out}


QUERY = {
    "agent": st.sampled_from(AGENTS),
    "limit": st.sampled_from(("1", "2", "100")),
    "cursor": st.sampled_from(("0-0", *CURSORS)),
    "create": st.just("true"),
}


@st.composite
def asks(draw: st.DrawFn, observer: str) -> Ask:
    """A request, whichever there is."""
    method, path = draw(st.sampled_from(ROUTES))
    values = {name: draw(st.sampled_from(values)) for name, values in VALUES.items() if name in path}
    values["user_id"] = draw(users(observer))
    optional = QUERY | {"user_id": users(observer)}
    query = draw(st.fixed_dictionaries({"stream": st.just("false")}, optional=optional))
    named = draw(st.none() | users(observer))
    return Ask(
        observer,
        method,
        filled(path, values),
        "&".join(f"{name}={value}" for name, value in query.items()),
        None if method in ("GET", "DELETE") else draw(frames(observer)),
        () if named is None else (("x-user-id", named),),
        draw(st.none() | st.integers(0, 3)),
    )


def sockets(observer: str) -> st.SearchStrategy[Deed]:
    """A socket, or a frame up one."""
    paths = st.sampled_from(("/ws", *(f"/api/agents/{agent}/ws" for agent in AGENTS)))
    opens = st.builds(Open, st.just(observer), paths, st.booleans())
    return opens | st.builds(Frame, st.just(observer), st.integers(0, 3), frames(observer))
