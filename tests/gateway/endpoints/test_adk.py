"""ADK's sessions, at `/` and under `/api`. The numbers are those of `gateway/endpoints/adk.md`."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urljoin

import pytest

from gateway.auth import Identity
from gateway.interfaces import Caller, Info, Key
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from protocol.errors import Refused
from protocol.lifetime import DEFAULTS, begin
from protocol.records import encode_record

S = "/apps/bot/users/ann/sessions"
SESSION = {"id", "appName", "userId", "state", "events", "lastUpdateTime"}
ACTIONS = {"stateDelta", "artifactDelta", "requestedAuthConfigs", "requestedToolConfirmations"}


def a_run(app: str = "echo", session_id: str = "s", text: str = "hi", **fields: Any) -> dict[str, Any]:
    """The body of a run."""
    message = {"role": "user", "parts": [{"text": text}]}
    return {"appName": app, "userId": "ann", "sessionId": session_id, "newMessage": message, **fields}


def said(author: str, text: str, **fields: Any) -> dict[str, Any]:
    """An event."""
    return {"author": author, "content": {"parts": [{"text": text}]}, **fields}


def texts(session: dict[str, Any]) -> list[str]:
    """What is said in a session."""
    return [part["text"] for event in session["events"] for part in event["content"]["parts"]]


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_1_it_is_served_at_the_root_and_under_api(in_memory: Any, prefix: str) -> None:
    async with in_memory() as rig:
        all_of = f"{prefix}/apps/echo/users/ann/sessions"
        for method, path, body in (
            ("POST", all_of, {"sessionId": "s"}),
            ("POST", f"{all_of}/t", {}),
            ("GET", all_of, None),
            ("GET", f"{all_of}/s", None),
            ("PATCH", f"{all_of}/s", {"stateDelta": {}}),
            ("GET", f"{all_of}/s/artifacts", None),
            ("POST", f"{prefix}/run", a_run()),
            ("POST", f"{prefix}/run_sse", a_run()),
            ("DELETE", f"{all_of}/s", None),
            ("GET", f"{prefix}/list-apps?relative_path=./", None),
            ("GET", f"{prefix}/version", None),
            ("GET", f"{prefix}/health", None),
            ("GET", f"{prefix}/config/telemetry", None),
        ):
            answer = await rig.http.request(method, path, json=body)
            assert answer.status_code == 200, (method, path, answer.text)
        for path in ("/run_live", "/dev/apps/echo/build_graph", "/apps/echo/users/ann/memory"):
            assert (await rig.http.get(prefix + path)).status_code == 404


async def test_1_what_there_is_is_listed(in_memory: Any) -> None:
    async with in_memory() as rig:
        assert (await rig.http.get("/list-apps")).json() == ["bot", "echo"]
        detailed = (await rig.http.get("/list-apps?detailed=true")).json()["apps"]
        assert [app["name"] for app in detailed] == ["bot", "echo"]
        assert detailed[0] == {
            "name": "bot",
            "rootAgentName": "bot",
            "description": "",
            "language": "python",
            "isComputerUse": False,
        }
        assert (await rig.http.get("/config/telemetry")).json() == {"telemetry": False}
        await rig.http.post(S, json={"sessionId": "s"})
        assert (await rig.http.get(f"{S}/s/artifacts")).json() == []


async def test_1_only_the_apps_that_the_caller_may_use_are_listed(in_memory: Any) -> None:
    async def known(_: str | None, __: Any) -> Caller:
        return Caller("ann", agents=frozenset({"echo"}), sessions=frozenset({"mine"}))

    async with in_memory(authenticator=known) as rig:
        assert (await rig.http.get("/list-apps")).json() == ["echo"]
        assert (await rig.http.get(S)).status_code == 404
        other, mine = "/apps/echo/users/ann/sessions/other", "/apps/echo/users/ann/sessions/mine"
        assert (await rig.http.post(other)).status_code == 404
        assert (await rig.http.post(mine)).status_code == 200
        assert (await rig.http.get(other)).status_code == 404
        assert (await rig.http.delete(other)).status_code == 200
        assert (await rig.http.get("/apps/echo/users/bob/sessions")).status_code == 403


async def test_2_a_session_has_these_keys_and_no_other(in_memory: Any) -> None:
    async with in_memory() as rig:
        made = (await rig.http.post(S, json={"state": {"a": 1}, "events": [said("user", "x")]})).json()
        assert made.keys() == SESSION
        assert (made["appName"], made["userId"], made["state"]) == ("bot", "ann", {"a": 1})
        assert isinstance(made["lastUpdateTime"], float)
        assert (await rig.http.get(f"{S}/{made['id']}")).json() == made
        listed = (await rig.http.get(S)).json()
        assert listed == [made | {"events": []}]
        patched = (await rig.http.patch(f"{S}/{made['id']}", json={"stateDelta": {"b": 2}})).json()
        assert patched.keys() == SESSION
        for event in patched["events"]:
            assert event["actions"].keys() == ACTIONS
            assert all(isinstance(value, dict) for value in event["actions"].values())


async def test_2_under_api_it_has_the_names_of_the_go_server_too(in_memory: Any) -> None:
    async with in_memory() as rig:
        made = (await rig.http.post(f"/api{S}", json={"sessionId": "s"})).json()
        assert made.keys() == SESSION | {"sessionID", "userID"}
        assert (made["sessionID"], made["userID"]) == ("s", "ann")
        (listed,) = (await rig.http.get(f"/api{S}")).json()
        assert listed == made == (await rig.http.get(f"/api{S}/s")).json()
        assert (await rig.http.get(f"{S}/s")).json().keys() == SESSION


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_3_what_is_refused_says_why_in_detail(in_memory: Any, prefix: str) -> None:
    async with in_memory(Settings(max_body_bytes=200, max_import_bytes=400, drain_timeout=0.01)) as rig:
        await rig.http.post(S, json={"sessionId": "s"})
        bad = {"content": b'{"a":', "headers": {"Content-Type": "application/json"}}
        for status, method, path, sent in (
            (404, "GET", f"{S}/none", {}),
            (404, "PATCH", f"{S}/none", {"json": {"stateDelta": {}}}),
            (404, "GET", f"{S}/none/artifacts", {}),
            (404, "GET", "/apps/none/users/ann/sessions", {}),
            (404, "POST", "/apps/none/users/ann/sessions", {}),
            (404, "POST", "/run", {"json": a_run("none")}),
            (404, "POST", "/run_sse", {"json": a_run("bot", "none")}),
            (404, "GET", "/apps/bot", {}),
            (405, "PUT", S, {}),
            (405, "GET", "/run", {}),
            (409, "POST", S, {"json": {"sessionId": "s"}}),
            (409, "POST", f"{S}/s", {}),
            (400, "POST", S, bad),
            (400, "POST", S, {"json": []}),
            (400, "POST", S, {"json": {"sessionId": "a/b"}}),
            (400, "POST", S, {"json": {"sessionId": 5}}),
            (400, "POST", f"{S}/{'x' * 129}", {}),
            (400, "GET", "/apps/bot/users/a%00b/sessions", {}),
            (400, "GET", f"{S}?limit=0", {}),
            (400, "GET", f"{S}?cursor=x", {}),
            (400, "GET", f"{S}/s?limit=x", {}),
            (400, "GET", f"{S}/s?before=x", {}),
            (400, "PATCH", f"{S}/s", {"json": {}}),
            (400, "PATCH", f"{S}/s", {"json": {"stateDelta": None}}),
            (400, "POST", "/run", {"json": {"appName": "bot", "userId": "ann", "sessionId": "s"}}),
            (400, "POST", "/run_sse", {"json": a_run("bot") | {"newMessage": {"parts": []}}}),
            (400, "POST", "/run", {"json": a_run("bot") | {"newMessage": {"parts": [5]}}}),
            (413, "POST", S, {"json": {"state": {"a": "x" * 400}}}),
            (413, "PATCH", f"{S}/s", {"json": {"stateDelta": {"a": "x" * 200}}}),
            (413, "POST", "/run", {"json": a_run("bot", text="x" * 200)}),
            (415, "POST", S, {"content": b"x"}),
            (415, "POST", "/run", {}),
        ):
            answer = await rig.http.request(method, prefix + path, **sent)
            assert answer.status_code == status, (method, path, answer.text)
            assert [*answer.json()] == ["detail"]
            assert isinstance(answer.json()["detail"], str)


async def test_3_what_is_refused_for_lack_of_rights_looks_so_too(in_memory: Any) -> None:
    async def nobody(_: str | None, __: Any) -> Caller:
        raise refused

    refused = Refused("unauthenticated", "Who are you?")
    async with in_memory(authenticator=nobody) as rig:
        for method, path in (
            ("GET", S),
            ("POST", "/run"),
            ("GET", "/api/list-apps"),
            ("GET", "/config/telemetry"),
        ):
            answer = await rig.http.request(method, path)
            assert (answer.status_code, answer.json()) == (401, {"detail": "Who are you?"})


async def test_3_what_expired_is_gone_and_is_not_listed(in_memory: Any) -> None:
    store = MemoryStore()
    async with in_memory(store=store) as rig:
        for session_id in ("s", "t"):
            info = Info(Key("bot", "ann", session_id), 0.0, 0.0, life=begin(DEFAULTS, 0.0, 0.0))
            await store.create(info, "tag")
        assert (await rig.http.get(S)).json() == []
        for answer in (
            await rig.http.get(f"{S}/s"),
            await rig.http.get(f"{S}/s"),
            await rig.http.patch(f"{S}/s", json={"stateDelta": {}}),
            await rig.http.post("/run", json=a_run("bot")),
            await rig.http.post("/run", json=a_run("bot", "t")),
        ):
            assert (answer.status_code, [*answer.json()]) == (410, ["detail"])
        assert (await rig.http.delete(f"{S}/s")).status_code == 200
        assert (await rig.http.post(f"{S}/s")).status_code == 200


async def test_3_a_refused_create_leaves_nothing(in_memory: Any) -> None:
    async with in_memory() as rig:
        events = [said("user", "x"), said("bot", "y", longRunningToolIds=["c"])]
        body = {"sessionId": "s", "state": {"user:a": 1, "app:b": 1}, "events": events}
        answer = await rig.http.post(S, json=body)
        reason = "Session initialization event 1 cannot include long-running tool IDs."
        assert (answer.status_code, answer.json()) == (400, {"detail": reason})
        assert (await rig.http.get(f"{S}/s")).status_code == 404
        assert (await rig.http.get(S)).json() == []
        assert (await rig.http.post(S)).json()["state"] == {}


@pytest.mark.parametrize("name", ["sessionId", "session_id"])
async def test_4_a_new_session_may_be_given_an_id(in_memory: Any, name: str) -> None:
    async with in_memory() as rig:
        made = await rig.http.post(S, json={name: " mine ", "state": {"a_b": None}, "options": {"x": 1}})
        assert (made.json()["id"], made.json()["state"]) == ("mine", {"a_b": None})
        again = await rig.http.post(S, json={name: "mine"})
        assert again.json() == {"detail": "Session already exists: mine"}


@pytest.mark.parametrize(
    "sent",
    [{}, {"json": {}}, {"json": None, "content": b"null"}, {"json": {"sessionId": ""}}, {"content": b""}],
)
async def test_4_without_a_body_it_has_an_id_of_its_own(in_memory: Any, sent: dict[str, Any]) -> None:
    async with in_memory() as rig:
        if "content" in sent:
            sent = {"content": sent["content"], "headers": {"Content-Type": "application/json"}}
        made = (await rig.http.post(S, **sent)).json()
        assert made["id"]
        assert (made["state"], made["events"]) == ({}, [])


async def test_4_a_body_may_be_announced_and_not_come(served: Any) -> None:
    async def nothing() -> Any:
        for chunk in ():
            yield chunk

    async with served() as rig:
        assert (await rig.http.post(S, content=nothing())).status_code == 200


async def test_4_to_its_own_path_the_state_comes_raw_or_wrapped(in_memory: Any) -> None:
    async with in_memory() as rig:
        wrapper = {"state": {"a": 1}, "events": [said("user", "x")]}
        for session_id, body, state, events in (
            ("raw", {"a": 1}, {"a": 1}, 0),
            ("both", {"state": {"a": 1}, "b": 2}, {"state": {"a": 1}, "b": 2}, 0),
            ("wrapped", wrapper, {"a": 1}, 1),
            ("empty", {}, {}, 0),
            ("null", {"state": None}, {}, 0),
        ):
            made = (await rig.http.post(f"{S}/{session_id}", json=body)).json()
            assert (made["id"], made["state"], len(made["events"])) == (session_id, state, events)


async def test_5_a_list_is_sorted_by_the_last_update_and_has_no_events(in_memory: Any) -> None:
    async with in_memory() as rig:
        assert (await rig.http.get(S)).json() == []
        for session_id in ("b", "a", "c"):
            await rig.http.post(S, json={"sessionId": session_id, "events": [said("user", "x", timestamp=5)]})
        await rig.http.patch(f"{S}/b", json={"stateDelta": {"user:x": 1}})
        await rig.http.post("/apps/bot/users/bob/sessions")
        await rig.http.post("/apps/echo/users/ann/sessions")
        listed = (await rig.http.get(S)).json()
        assert [session["id"] for session in listed] == ["a", "c", "b"]
        assert [session["lastUpdateTime"] for session in listed[:2]] == [5.0, 5.0]
        assert all(session["events"] == [] for session in listed)
        assert all(session["state"] == {"user:x": 1} for session in listed)


async def test_5_a_list_may_come_in_pages(in_memory: Any) -> None:
    async with in_memory() as rig:
        for number in range(5):
            await rig.http.post(S, json={"sessionId": f"s{number}"})
        path, found, pages = f"{S}?limit=2", [], 0
        while path:
            page = await rig.http.get(path)
            found += [session["id"] for session in page.json()]
            following = page.links.get("next", {}).get("url")
            path = urljoin(str(page.url), following) if following else ""
            pages += 1
        assert (found, pages) == ([f"s{number}" for number in range(5)], 3)


async def test_5_without_a_limit_all_are_listed(in_memory: Any) -> None:
    async with in_memory() as rig:
        supervisor = rig.app.supervisor
        for number in range(2100):
            await supervisor.make(Identity("ann"), "bot", f"s{number}")
        listed = await rig.http.get(S)
        assert len({session["id"] for session in listed.json()}) == 2100
        assert listed.links == {}


async def test_6_the_newest_events_or_those_before_one(in_memory: Any) -> None:
    async with in_memory() as rig:
        history = [said("user" if n % 2 == 0 else "bot", f"old {n}", id=f"e{n}") for n in range(4)]
        path = "/apps/echo/users/ann/sessions"
        await rig.http.post(path, json={"sessionId": "s", "events": history})
        for n in range(2):
            await rig.http.post("/run", json=a_run(text=f"new {n}"))
        whole = (await rig.http.get(f"{path}/s")).json()["events"]
        assert len(whole) == 8
        assert (await rig.http.get(f"{path}/s?limit=3")).json()["events"] == whole[-3:]
        assert (await rig.http.get(f"{path}/s?limit=0")).json()["events"] == []
        assert (await rig.http.get(f"{path}/s?limit=99")).json()["events"] == whole
        for place in (1, 3, 5, 7):
            query = {"limit": 2, "before": whole[place]["id"]}
            events = (await rig.http.get(f"{path}/s", params=query)).json()["events"]
            assert events == whole[max(0, place - 2) : place]


async def test_7_names_may_be_in_either_case_and_unknown_ones_are_ignored(in_memory: Any) -> None:
    async with in_memory() as rig:
        event = {"author": "user", "invocation_id": "i1", "content": {"parts": [{"text": "x"}]}, "mood": 1}
        made = (await rig.http.post(S, json={"session_id": "s", "events": [event], "colour": "red"})).json()
        assert (made["events"][0]["invocationId"], made["events"][0]["mood"]) == ("i1", 1)
        patched = await rig.http.patch(f"{S}/s", json={"state_delta": {"my_key": 1}, "colour": "red"})
        assert patched.json()["state"] == {"my_key": 1}
        run = {
            **{"app_name": "echo", "user_id": "ann", "session_id": "t", "colour": "red"},
            **{"new_message": {"parts": [{"text": "x"}]}, "function_call_event_id": "e"},
        }
        await rig.http.post("/apps/echo/users/ann/sessions/t")
        assert (await rig.http.post("/run", json=run)).status_code == 200


async def test_8_state_is_shared_by_its_prefix(in_memory: Any) -> None:
    async with in_memory() as rig:
        state = {"own": 1, "user:mine": 2, "app:ours": 3, "temp:none": 4}
        made = (await rig.http.post(S, json={"sessionId": "s", "state": state})).json()
        kept = {"own": 1, "user:mine": 2, "app:ours": 3}
        assert made["state"] == (await rig.http.get(f"{S}/s")).json()["state"] == kept
        assert (await rig.http.post(S)).json()["state"] == {"user:mine": 2, "app:ours": 3}
        bobs = await rig.http.post("/apps/bot/users/bob/sessions")
        assert bobs.json()["state"] == {"app:ours": 3}
        other = await rig.http.post("/apps/echo/users/ann/sessions")
        assert other.json()["state"] == {}


async def test_8_a_patch_is_an_event_of_the_users(in_memory: Any) -> None:
    async with in_memory() as rig:
        made = (await rig.http.post(S, json={"sessionId": "s", "state": {"a": {"deep": 1}}})).json()
        delta = {"a": {"other": 2}, "b": None, "user:c": 3, "temp:d": 4}
        patched = (await rig.http.patch(f"{S}/s", json={"stateDelta": delta})).json()
        kept = {name: value for name, value in delta.items() if name != "temp:d"}
        assert patched["state"] == delta
        (event,) = patched["events"]
        assert event["author"] == "user"
        assert event["invocationId"].startswith("p-")
        assert event["actions"]["stateDelta"] == kept
        read = (await rig.http.get(f"{S}/s")).json()
        assert read["state"] == kept
        assert read["events"] == [event]
        assert read["lastUpdateTime"] == event["timestamp"] >= made["lastUpdateTime"]


async def test_8_what_an_agent_sets_is_in_its_event(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        await rig.http.post(S, json={"sessionId": "s", "state": {"a": 1, "user:b": 1}})
        asking = group.create_task(
            rig.http.post("/run", json=a_run("bot", stateDelta={"c": 1, "app:d": 1, "temp:e": 1}))
        )
        await rig.until(lambda: rig.bot.turns)
        turn = rig.bot.turns[0].turn
        assert turn.state == {"a": 1, "user:b": 1, "c": 1, "app:d": 1}
        turn.state |= {"a": 2, "user:b": 2, "temp:f": 2}
        rig.bot.turns[0].say("done")
        rig.bot.turns[0].end()
        (event,) = (await asking).json()
        assert event["actions"]["stateDelta"] == {"a": 2, "user:b": 2}
        read = (await rig.http.get(f"{S}/s")).json()
        assert read["state"] == {"a": 2, "user:b": 2, "c": 1, "app:d": 1}
        assert read["events"][0]["actions"]["stateDelta"] == {"c": 1, "app:d": 1}
        log = await rig.app.supervisor.runtime.store.read(Key("bot", "ann", "s"), 0, 100, 1 << 20)
        assert b"temp:" not in b"".join(encode_record(record) for _, record in log)


async def test_10_what_was_imported_comes_back_as_it_was_sent(in_memory: Any) -> None:
    actions: dict[str, Any] = {name: {} for name in ACTIONS}
    sent = [
        said("user", "hi", id="e1", timestamp=12.5, invocationId="i1", actions=actions),
        said("someone", "Hello.", id="e2", timestamp=13.5, invocationId="i1", actions=actions, branch="b"),
    ]
    async with in_memory() as rig:
        made = (await rig.http.post(S, json={"sessionId": "s", "events": sent})).json()
        for event, given in zip(made["events"], sent, strict=True):
            assert {name: event[name] for name in given} == given
        assert made["lastUpdateTime"] == 13.5
        assert (await rig.http.get(f"{S}/s")).json()["events"] == made["events"]
        again = (await rig.http.post(S, json={"sessionId": "t", "events": made["events"]})).json()
        assert again["events"] == made["events"]


async def test_10_what_was_imported_is_a_conversation_to_everybody(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        events = [said("user", "hi"), said("bot", "Hel", partial=True), said("bot", "Hello.")]
        await rig.http.post(S, json={"sessionId": "s", "events": events})
        page = await rig.http.get("/api/sessions/s/messages?user_id=ann")
        assert [(one["role"], one["content"]) for one in page.json()["messages"]] == [
            ("user", "hi"),
            ("agent", "Hello."),
        ]
        asking = group.create_task(rig.http.post("/run", json=a_run("bot", text="and?")))
        await rig.until(lambda: rig.bot.turns)
        assert [past.content for past in rig.bot.turns[0].turn.history] == ["hi", "Hello."]
        rig.bot.turns[0].say("So.")
        rig.bot.turns[0].end()
        await asking
        assert texts((await rig.http.get(f"{S}/s")).json()) == ["hi", "Hello.", "and?", "So."]


async def test_10_a_history_may_be_longer_than_other_bodies(in_memory: Any) -> None:
    settings = Settings(max_body_bytes=1000, max_import_bytes=4000, drain_timeout=0.01)
    events = [said("user", "x" * 200) for _ in range(10)]
    async with in_memory(settings) as rig:
        assert (await rig.http.post(S, json={"events": events})).status_code == 200
        assert (await rig.http.post(f"{S}/s", json={"events": events})).status_code == 200
        assert (await rig.http.post(S, json={"events": events * 3})).status_code == 413


async def test_10_while_a_long_history_is_read_the_others_go_on(in_memory: Any) -> None:
    events = [said("user", "x" * 200, id=f"e{number}") for number in range(2000)]

    async def passes_while(history: list[Any]) -> int:
        """How often the loop turns while it is read, and refused for its last event."""
        refused = group.create_task(rig.http.post(S, json={"events": [*history, {"author": 5}]}))
        passes = 0
        while not refused.done():
            await asyncio.sleep(0)
            passes += 1
        assert (await refused).status_code == 400
        return passes

    async with in_memory() as rig, asyncio.TaskGroup() as group:
        assert await passes_while(events) > await passes_while(events[:1])
        made = (await rig.http.post(S, json={"sessionId": "s", "events": events})).json()
        assert [event["id"] for event in made["events"]] == [event["id"] for event in events]


@pytest.mark.parametrize(("prefix", "body"), [("", None), ("/api", {})])
async def test_11_deleting_is_answered_alike_whatever_was_there(
    in_memory: Any, prefix: str, body: Any
) -> None:
    async with in_memory() as rig:
        await rig.http.post(S, json={"sessionId": "s"})
        for _ in range(2):
            answer = await rig.http.delete(f"{prefix}{S}/s")
            assert (answer.status_code, answer.json()) == (200, body)
        assert (await rig.http.delete(f"{prefix}{S}/never")).status_code == 200
        assert (await rig.http.get(f"{prefix}{S}/s")).status_code == 404
        assert (await rig.http.post("/run", json=a_run("bot"))).status_code == 404
        assert (await rig.http.post(S, json={"sessionId": "s"})).status_code == 200
