"""Who may do what, over HTTP and sockets: credentials, users, and tokens that are narrowed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.agents.echo import EchoAgent
from gateway.interfaces import Caller
from gateway.settings import Settings
from protocol.errors import Refused
from tests.harness import settle

NOON = 1_000_000.0
CALLERS = {
    "ann": Caller("ann"),
    "ann-minute": Caller("ann", NOON + 60),
    "ann-echo": Caller("ann", agents=frozenset({"echo"})),
    "ann-odd": Caller("ann", sessions=frozenset(f"s{number}" for number in range(1, 30, 2))),
    "ann-s1": Caller("ann", agents=frozenset({"echo"}), sessions=frozenset({"s1"})),
    "bob": Caller("bob"),
    "key": Caller(service=True),
}
OPEN = {
    "/", "/page.js", "/wire.js", "/widget.js", "/client.js", "/page.css", "/icon.svg", "/healthz", "/readyz",
    "/console", "/console.css", "/console.js", "/client/x", "/widget/x", "/console/x", "/vendor/x",
    "/health", "/version", "/api/health", "/api/version", "/openapi.json", "/docs", "/docs.css", "/docs.js",
    "/asyncapi.json", "/guest",
}  # fmt: skip
MISSING = {"/guest"}
"""Of these: what this gateway, which lets no guests in, has not got."""


async def authenticator(token: str | None, _: Mapping[str, str]) -> Caller:
    if token not in CALLERS:
        raise Refused("unauthenticated", "This is no token.")
    return CALLERS[token]


def by(token: str, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **{name.replace("_", "-"): headers[name] for name in headers}}


def operations(rig: Any, **names: str) -> Iterator[tuple[str, str]]:
    """Every method and path that the app answers, with these names in it."""
    for route in rig.app._http.routes:
        path = route.path
        for parameter in route.param_convertors:
            path = path.replace(f"{{{parameter}}}", names.get(parameter, "x"))
        for method in sorted(route.methods - {"HEAD", "OPTIONS"}):
            yield method, path


# ── Credentials ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_without_credentials_nothing_is_open_but_what_tells_nothing_of_anybody(in_memory: Any) -> None:
    async with in_memory(authenticator=authenticator) as rig:
        opened = set()
        for method, path in operations(rig, agent="echo"):
            response = await rig.http.request(method, path)
            if response.status_code == 401:
                assert response.headers["www-authenticate"] == "Bearer"
            else:
                assert response.status_code == (404 if path.endswith("/x") or path in MISSING else 200), (
                    method,
                    path,
                )
                opened.add(path)
        assert opened <= OPEN
        assert {"/", "/healthz", "/readyz", "/health", "/version", "/api/health", "/api/version"} <= opened


async def test_what_operators_ask_is_answered_to_services_only(in_memory: Any) -> None:
    async with in_memory(authenticator=authenticator) as rig:
        for path in ("/metrics", "/api/status"):
            assert (await rig.http.get(path)).status_code == 401
            refused = await rig.http.get(path, headers=by("ann"))
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
            assert (await rig.http.get(path, headers=by("key"))).status_code == 200


async def test_a_service_acts_for_whom_it_names_and_a_user_for_itself(in_memory: Any) -> None:
    async with in_memory(authenticator=authenticator) as rig:
        made = await rig.http.post("/api/agents/echo/sessions", headers=by("key", X_User_Id="ann"))
        session_id = made.json()["session_id"]
        for path, headers, seen in (
            ("/api/sessions", by("ann"), True),
            ("/api/sessions", by("bob"), False),
            ("/api/sessions?user_id=ann", by("key"), True),
            ("/api/sessions?user_id=ann", {"X-API-Key": "key"}, True),
            ("/api/sessions?user_id=bob", by("key"), False),
        ):
            listed = (await rig.http.get(path, headers=headers)).json()["sessions"]
            assert ([one["session_id"] for one in listed] == [session_id]) is seen
        for path, headers in (
            ("/api/sessions?user_id=ann", by("bob")),
            ("/api/sessions", by("bob", X_User_Id="ann")),
        ):
            refused = await rig.http.get(path, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        found = await rig.http.get(f"/api/sessions/{session_id}", headers=by("key"))
        assert found.status_code == 200  # who names nobody looks among all


# ── Somebody else's, and what a token does not cover ────────────────────────────────────────────────────────


def told(response: Any, *names: str) -> tuple[int, Any]:
    """What an answer gives away, ids left out."""
    text = re.sub(r'"timestamp":"[^"]*"', '"timestamp":""', response.text)
    for name in names:
        text = text.replace(name, "ID")
    body = json.loads(text) if response.headers["content-type"] == "application/json" else text[:20]
    return response.status_code, body.get("error") if isinstance(body, dict) else body


@pytest.mark.parametrize("token", ["bob", "ann-s1"])
async def test_a_session_that_one_may_not_touch_looks_like_none_on_every_route(
    in_memory: Any, token: str
) -> None:
    agents = {"bot": EchoAgent(), "echo": EchoAgent()}
    async with in_memory(authenticator=authenticator, agents=agents) as rig:
        say = {
            "message": "a secret of Ann's",
            "content": "x",
            "turn_id": "t1",
            "type": "cancel",
            "label": "l",
        }
        for agent in ("echo", "bot"):
            path = f"/api/agents/{agent}/sessions"
            await rig.http.post(path, json={"session_id": f"anns-{agent}", "label": "l"}, headers=by("ann"))
        await rig.http.post("/api/agents/echo/sessions/anns-echo/message", json=say, headers=by("ann"))
        compared = 0
        for agent in ("echo", "bot"):
            there, nowhere = f"anns-{agent}", f"none-{agent}"
            for method, path in operations(rig, agent=agent, session_id="SESSION", label="l"):
                if "SESSION" not in path:
                    continue
                answers = []
                for session_id in (there, nowhere):
                    body = {**say, "session_id": session_id}
                    kwargs = {"json": body} if method in ("POST", "PUT", "PATCH") else {}
                    url = path.replace("SESSION", session_id)
                    answers.append(await rig.http.request(method, url, headers=by(token), **kwargs))
                    assert "secret" not in answers[-1].text or answers[-1].status_code == 200
                assert told(answers[0], there) == told(answers[1], nowhere), (method, path)
                compared += 1
        assert compared > 10
        kept = await rig.http.get("/api/sessions/anns-echo/messages", headers=by("ann"))
        assert [message["role"] for message in kept.json()["messages"]] == ["user", "agent"]


async def test_a_list_holds_what_a_token_covers_and_its_pages_are_whole(in_memory: Any) -> None:
    async with in_memory(authenticator=authenticator) as rig:
        for number in range(30):
            path = f"/api/agents/{('bot', 'echo')[number % 3 == 0]}/sessions"
            await rig.http.post(path, json={"session_id": f"s{number}"}, headers=by("ann"))
        every = [f"s{number}" for number in range(29, -1, -1)]
        for token, covered in (
            ("ann", every),
            ("ann-odd", [name for name in every if int(name[1:]) % 2]),
            ("ann-echo", [name for name in every if int(name[1:]) % 3 == 0]),
            ("ann-s1", []),
            ("bob", []),
        ):
            for limit in (1, 4, 30):
                listed: list[str] = []
                query = {"limit": str(limit)}
                while True:
                    page = await rig.http.get("/api/sessions", params=query, headers=by(token))
                    listed += [one["session_id"] for one in page.json()["sessions"]]
                    assert len(page.json()["sessions"]) <= limit
                    if "next_cursor" not in page.json():
                        break
                    assert len(page.json()["sessions"]) == limit
                    query["cursor"] = page.json()["next_cursor"]
                assert listed == covered, (token, limit)


async def test_the_active_and_the_named_session_are_none_if_a_token_does_not_cover_them(
    in_memory: Any,
) -> None:
    async with in_memory(authenticator=authenticator) as rig:
        body = {"session_id": "s2", "label": "work"}
        await rig.http.post("/api/agents/echo/sessions", json=body, headers=by("ann"))
        narrow = by("ann-s1")
        assert (await rig.http.get("/api/agents/echo", headers=by("ann"))).json()["session_id"] == "s2"
        assert (await rig.http.get("/api/agents/echo", headers=narrow)).json()["session_id"] is None
        shown = (await rig.http.get("/api/agents/echo/session", headers=narrow)).json()
        assert (shown["session_id"], shown["messages"]) == (None, [])
        labelled = await rig.http.get("/api/agents/echo/sessions/by-label/work", headers=narrow)
        assert labelled.status_code == 404
        stopped = await rig.http.post("/api/agents/echo/stop", headers=narrow)
        assert (stopped.json()["stopped"], stopped.json()["session_id"]) == (False, None)
        for path in ("message", "session/reset", "sessions"):
            refused = await rig.http.post(f"/api/agents/echo/{path}", json={"message": "x"}, headers=narrow)
            assert (refused.status_code, refused.json()["code"]) == (404, "session_not_found")
        made = await rig.http.post("/api/agents/echo/sessions", json={"session_id": "s1"}, headers=narrow)
        assert made.json()["session_id"] == "s1"


async def test_agents_are_those_that_the_caller_may_use(in_memory: Any) -> None:
    async with in_memory(authenticator=authenticator) as rig:
        for token, names in (("ann", ["bot", "echo"]), ("ann-echo", ["echo"]), ("key", ["bot", "echo"])):
            listed = (await rig.http.get("/api/agents", headers=by(token))).json()
            assert [agent["id"] for agent in listed] == names
        for method, path in operations(rig, agent="AGENT", session_id="s", label="l"):
            if not path.startswith("/api/agents/AGENT"):
                continue
            kwargs = {"json": {"message": "x"}} if method == "POST" else {}
            answers = [
                await rig.http.request(method, path.replace("AGENT", name), headers=by("ann-echo"), **kwargs)
                for name in ("bot", "nobody")
            ]
            assert told(answers[0], "bot") == told(answers[1], "nobody"), (method, path)
            assert answers[0].json()["code"] == "agent_not_found"
        frame = {"type": "message", "content": "x", "agent": "bot"}
        for named in ({}, {"session_id": "s"}):
            refused = await rig.http.post("/frames", json={**frame, **named}, headers=by("ann-echo"))
            assert (refused.status_code, refused.json()["code"]) == (404, "agent_not_found")
        taken = await rig.http.post(
            "/frames", json={"type": "message", "content": "x", "session_id": "s"}, headers=by("ann-echo")
        )
        assert taken.status_code == 200
        assert (await rig.http.get("/api/sessions/s", headers=by("ann"))).json()["agent_id"] == "echo"


async def test_a_line_lends_its_rights_to_nobody(served: Any) -> None:
    attach = {"type": "attach", "sessions": [{"session_id": "s2", "agent": "echo", "create": True}]}
    async with (
        served(authenticator=authenticator) as rig,
        rig.stream("POST", "/events", json=attach, headers=by("ann")) as wide,
        rig.stream("POST", "/events", json={**attach, "sessions": []}, headers=by("ann-s1")) as narrow,
    ):
        [connected, _] = await wide.until("attached")
        lines = {"wide": connected.data["connection_id"]}
        [connected] = await narrow.until("connected")
        lines["narrow"] = connected.data["connection_id"]
        frame = {"type": "message", "content": "x", "session_id": "s2", "agent": "echo"}
        headers = by("ann-s1", X_Connection_Id=lines["wide"])
        refused = await rig.http.post("/frames", json=frame, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (404, "session_not_found")
        headers = by("ann", X_Connection_Id=lines["narrow"])
        taken = await rig.http.post("/frames", json=frame, headers=headers)
        assert taken.json()["type"] == "ok"
        assert "attached" not in taken.json()
        await wide.until("response")
        assert b"attached" not in narrow.raw


# ── Lines ───────────────────────────────────────────────────────────────────────────────────────────────────


async def opens(rig: Any, path: str, token: str | None = None) -> str | int:
    """What comes of an upgrade: the type or code of the first frame, or the status of a refusal."""
    url = str(rig.http.base_url).replace("http", "ws", 1).rstrip("/") + path
    try:
        async with connect(url, additional_headers=by(token) if token else None) as line:
            if token is None and "token=" not in path:
                await line.send(json.dumps({"type": "hello", "token": "ann-echo"}))
            frame = json.loads(await line.recv())
            return str(frame.get("code", frame["type"]))
    except InvalidStatus as refused:
        return refused.response.status_code


async def test_an_agents_socket_is_for_who_may_use_it_and_tells_nobody_else_that_it_is_there(
    served: Any,
) -> None:
    async with served(authenticator=authenticator) as rig:
        assert await opens(rig, "/api/agents/echo/ws", "ann-echo") == "connected"
        assert await opens(rig, "/api/agents/echo/ws") == "connected"
        for agent in ("bot", "nobody"):
            assert await opens(rig, f"/api/agents/{agent}/ws", "ann-echo") == 404
            assert await opens(rig, f"/api/agents/{agent}/ws") == "agent_not_found"
            assert await opens(rig, f"/api/agents/{agent}/ws", "wrong") == 401


async def test_tokens_of_the_query_count_where_they_are_allowed_and_on_lines_only(served: Any) -> None:
    for allowed in (True, False):
        settings = Settings(allow_query_token=allowed, drain_timeout=0.01, hello_timeout=0.05)
        async with served(settings, authenticator=authenticator) as rig:
            assert await opens(rig, "/ws?token=ann") == ("connected" if allowed else "unauthenticated")
            assert await opens(rig, "/ws?token=wrong") == (401 if allowed else "unauthenticated")
            assert await opens(rig, "/ws?token=wrong", "ann") == "connected"
            path = "/api/sessions/s/events?create=true&token=ann"
            assert (await rig.http.head(path)).status_code == (200 if allowed else 401)
            for method, path in (("GET", "/api/sessions"), ("POST", "/events"), ("POST", "/frames")):
                assert (await rig.http.request(method, f"{path}?token=ann")).status_code == 401


async def test_an_event_stream_ends_with_its_token_and_an_answer_with_its_turn(served: Any) -> None:
    time = NOON
    async with served(authenticator=authenticator, now=lambda: time) as rig:
        headers = by("ann-minute")
        ask = {"message": "hi", "turn_id": "t"}
        async with (
            rig.stream("GET", "/api/sessions/s/events?create=true&agent=bot", headers=headers) as watching,
            rig.stream(
                "POST", "/api/agents/bot/sessions/s/message/stream", json=ask, headers=headers
            ) as asking,
        ):
            said = await rig.bot.given("t")
            assert (await watching.until("token"))[-1].data == {"type": "token", "expires_at": NOON + 60}
            time = NOON + 60
            [*_, error] = await watching.until("error")
            assert (error.data["code"], error.id) == ("token_expired", None)
            assert await watching.rest() == []
            await settle()
            said.say("the whole answer")
            said.end()
            assert (await asking.rest())[-1].kind == "done"
        refused = await rig.http.get("/api/sessions/s", headers=by("nobody"))
        assert refused.status_code == 401
