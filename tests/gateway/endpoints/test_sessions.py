"""The native routes of sessions."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.interfaces import ToolCall, ToolResult
from gateway.settings import Settings
from gateway.stores.sqlite import SqliteStore
from tests.harness import Script

BOB = {"X-User-Id": "bob"}


async def say(rig: Any, session_id: str, content: str, agent: str = "echo", **headers: str) -> None:
    path = f"/api/agents/{agent}/sessions/{session_id}/message"
    response = await rig.http.post(path, json={"message": content}, headers=headers)
    assert response.status_code == 200, response.text


def ids(response: Any) -> list[str]:
    return [session["session_id"] for session in response.json()["sessions"]]


async def test_lists_are_newest_first_and_the_callers_own(in_memory: Any) -> None:
    async with in_memory() as rig:
        for name in ("a", "b", "c"):
            await say(rig, name, "x")
        await rig.http.post("/api/agents/bot/sessions", json={"session_id": "d"})
        assert ids(await rig.http.get("/api/sessions")) == ["d", "c", "b", "a"]
        assert ids(await rig.http.get("/api/sessions?agent=echo")) == ["c", "b", "a"]
        assert ids(await rig.http.get("/api/agents/echo/sessions")) == ["c", "b", "a"]
        assert ids(await rig.http.get("/api/sessions", headers=BOB)) == []
        session = (await rig.http.get("/api/sessions?agent=echo")).json()["sessions"][0]
        assert datetime.fromisoformat(session.pop("created_at")).tzinfo is not None
        assert session == {"session_id": "c", "agent_id": "echo", "message_count": 2, "label": None}


async def test_lists_come_in_pages(in_memory: Any) -> None:
    async with in_memory() as rig:
        for number in range(5):
            await say(rig, f"s{number}", "x")
        seen, cursor = [], ""
        while True:
            response = await rig.http.get(f"/api/agents/echo/sessions?limit=2{cursor}")
            seen.append(ids(response))
            if "next_cursor" not in response.json():
                break
            cursor = f"&cursor={response.json()['next_cursor']}"
        assert seen == [["s4", "s3"], ["s2", "s1"], ["s0"]]
        for query in ("limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=W10"):
            response = await rig.http.get(f"/api/sessions?{query}")
            assert (response.status_code, response.json()["code"]) == (400, "bad_request"), query


async def test_a_session_that_is_made_becomes_the_active_one(in_memory: Any) -> None:
    async with in_memory() as rig:
        path = "/api/agents/echo/sessions"
        first = (await rig.http.post(path)).json()
        second = (await rig.http.post(path, json={"label": " my talk ", "session_id": "mine"})).json()
        assert second == {"session_id": "mine", "label": "my talk", "agent_id": "echo"}
        listed = (await rig.http.get(path)).json()["sessions"]
        assert [(session["session_id"], session["active"]) for session in listed] == [
            ("mine", True),
            (first["session_id"], False),
        ]
        for body, status, code in (
            ({"session_id": "mine"}, 409, "session_exists"),
            ({"session_id": "a b"}, 400, "bad_id"),
            ({"session_id": 7}, 400, "bad_request"),
            ({"label": ""}, 400, "bad_request"),
            ({"label": "x" * 129}, 400, "bad_request"),
            ({"label": "a/b"}, 400, "bad_request"),
            ({"label": "a\nb"}, 400, "bad_request"),
        ):
            response = await rig.http.post(path, json=body)
            assert (response.status_code, response.json()["code"]) == (status, code), body


async def test_one_can_switch_to_ones_own_sessions_only(in_memory: Any) -> None:
    async with in_memory() as rig:
        await say(rig, "a", "x")
        await rig.http.post("/api/agents/echo/sessions")
        switched = await rig.http.post("/api/agents/echo/sessions/a/switch")
        assert switched.json() == {"status": "ok", "message": "Session switched", "session_id": "a"}
        assert (await rig.http.get("/api/agents/echo")).json()["session_id"] == "a"
        for path, headers in (("none", {}), ("a", BOB)):
            response = await rig.http.post(f"/api/agents/echo/sessions/{path}/switch", headers=headers)
            assert (response.status_code, response.json()["code"]) == (404, "session_not_found")


async def test_a_conversation_is_shown_in_openfangs_shape(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        path = "/api/agents/bot/sessions/s/message"
        asking = group.create_task(rig.http.post(path, json={"message": "hi", "turn_id": "t"}))
        said = await rig.bot.given("t")
        for piece in ("Hello", ToolCall("c", "add", {"a": 1}), ToolResult("c", {"sum": 2})):
            said.say(piece)
        said.end()
        await asking
        shown = (await rig.http.get("/api/sessions/s")).json()
        assert (shown["session_id"], shown["agent_id"], shown["message_count"]) == ("s", "bot", 2)
        assert {"raw_message_count", "context_window_tokens", "label", "created_at"} < set(shown)
        assert shown["messages"] == [
            {"role": "User", "content": "hi", "turn_id": "t"},
            {
                "role": "Assistant",
                "content": "Hello",
                "turn_id": "t",
                "status": "completed",
                "tools": [
                    {
                        "name": "add",
                        "input": {"a": 1},
                        "running": False,
                        "expanded": False,
                        "result": '{"sum":2}',
                        "is_error": False,
                    }
                ],
            },
        ]


async def test_the_active_conversation_is_empty_until_there_is_one(in_memory: Any) -> None:
    async with in_memory() as rig:
        empty = (await rig.http.get("/api/agents/echo/session")).json()
        assert (empty["session_id"], empty["messages"], empty["message_count"]) == (None, [], 0)
        assert ids(await rig.http.get("/api/sessions")) == []
        await rig.http.post("/api/agents/echo/message", json={"message": "x"})
        shown = (await rig.http.get("/api/agents/echo/session")).json()
        assert [message["content"] for message in shown["messages"]] == ["x", "x"]


async def test_conversations_come_in_pages_from_the_newest_message_back(in_memory: Any) -> None:
    async with in_memory() as rig:
        for content in ("1", "2", "3"):
            await say(rig, "s", content)
        for path, name, more in (
            ("/api/sessions/s", "cursor", "next_cursor"),
            ("/api/sessions/s/messages", "before", "before"),
        ):
            pages, cursor = [], ""
            while True:
                page = (await rig.http.get(f"{path}?limit=4{cursor}")).json()
                pages.append([message["content"] for message in page["messages"]])
                if more not in page:
                    break
                cursor = f"&{name}={page[more]}"
            assert pages == [["2", "2", "3", "3"], ["1", "1"]]
            for query in ("limit=0", f"{name}=x", f"{name}=Wy0xXQ", f"{name}=WzFlMzBd"):
                response = await rig.http.get(f"{path}?{query}")
                assert (response.status_code, response.json()["code"]) == (400, "bad_request"), query


async def test_messages_are_the_protocols_and_leave_out_what_was_replaced(in_memory: Any) -> None:
    async with in_memory() as rig:
        for body in ({"turn_id": "t1", "message": "a"}, {"turn_id": "t2", "message": "b", "replaces": "t1"}):
            await rig.http.post("/api/agents/echo/sessions/s/message", json=body)
        page = (await rig.http.get("/api/sessions/s/messages")).json()
        assert page["has_more"] is False
        user, agent = page["messages"]
        assert (user["role"], user["turn_id"], user["content"]) == ("user", "t2", "b")
        assert (agent["role"], agent["status"], agent["content"]) == ("agent", "completed", "b")
        assert user["created_at"] <= agent["created_at"]


async def test_stopping_says_whether_anything_ran(in_memory: Any) -> None:
    async with in_memory() as rig:
        nothing = {"status": "ok", "message": "No active run", "stopped": False}
        assert (await rig.http.post("/api/agents/bot/stop")).json() == {**nothing, "session_id": None}
        frame = {"type": "message", "content": "x", "agent": "bot"}
        sent = (await rig.http.post("/frames", json=frame)).json()
        said = await rig.bot.given(sent["turn_id"])
        stopped = {"status": "ok", "message": "Run cancelled", "stopped": True}
        whose = {"session_id": sent["session_id"]}
        assert (await rig.http.post("/api/agents/bot/stop")).json() == {**stopped, **whose}
        await said.closed.wait()
        path = f"/api/agents/bot/sessions/{sent['session_id']}/stop"
        assert (await rig.http.post(path)).json()["status"] == "ok"
        unknown = await rig.http.post("/api/agents/bot/sessions/none/stop")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "session_not_found")


async def test_reset_deletes_the_active_session_and_makes_another(in_memory: Any) -> None:
    async with in_memory() as rig:
        old = (await rig.http.post("/api/agents/echo/message", json={"message": "x"})).json()["session_id"]
        new = (await rig.http.post("/api/agents/echo/session/reset")).json()
        assert (new["status"], new["message"]) == ("ok", "Session reset")
        assert (await rig.http.get("/api/agents/echo")).json()["session_id"] == new["session_id"] != old
        assert (await rig.http.get(f"/api/sessions/{old}")).status_code == 404


async def test_first_messages_at_once_by_every_route_are_said_in_one_session(
    in_memory: Any, tmp_path: Path
) -> None:
    frame = {"type": "message", "content": "x", "agent": "echo"}
    async with in_memory(store=SqliteStore(tmp_path / "test.db")) as rig:
        said = [rig.http.post("/api/agents/echo/message", json={"message": "x"}) for _ in range(3)]
        left = [rig.http.post("/frames", json=frame) for _ in range(3)]
        told = {answer.json()["session_id"] for answer in await asyncio.gather(*said, *left)}
        assert ids(await rig.http.get("/api/sessions")) == [*told]


async def test_reset_works_for_a_user_who_has_as_many_sessions_as_one_may_have(
    in_memory: Any, tmp_path: Path
) -> None:
    settings = Settings(drain_timeout=0.01, max_sessions_per_user=2)
    async with in_memory(settings, store=SqliteStore(tmp_path / "test.db")) as rig:
        await rig.http.post("/api/agents/echo/sessions", json={"session_id": "other"})
        await rig.http.post("/api/agents/echo/sessions", json={"session_id": "old"})
        reset = "/api/agents/echo/session/reset"
        answers = await asyncio.gather(*(rig.http.post(reset) for _ in range(4)))
        assert [answer.status_code for answer in answers] == [200] * 4
        active = (await rig.http.get("/api/agents/echo")).json()["session_id"]
        assert ids(await rig.http.get("/api/sessions")) == [active, "other"]


async def test_deleting_ends_turns_and_what_is_deleted_is_none(in_memory: Any) -> None:
    async with in_memory() as rig:
        frame = {"type": "message", "session_id": "s", "content": "x", "turn_id": "t"}
        await rig.http.post("/frames", json=frame)
        said = await rig.bot.given("t")
        deleted = await rig.http.delete("/api/sessions/s")
        assert deleted.json() == {"status": "deleted", "session_id": "s"}
        await said.closed.wait()
        for method, path in (
            ("GET", "/api/sessions/s"),
            ("GET", "/api/sessions/s/messages"),
            ("DELETE", "/api/sessions/s"),
            ("PUT", "/api/sessions/s/label"),
            ("POST", "/api/agents/bot/sessions/s/switch"),
            ("POST", "/api/agents/bot/sessions/s/stop"),
        ):
            response = await rig.http.request(method, path, json={"label": None})
            assert (response.status_code, response.json()["code"]) == (404, "session_not_found"), path
        made = await rig.http.post("/api/agents/bot/sessions", json={"session_id": "s"})
        assert made.status_code == 200
        assert (await rig.http.get("/api/sessions/s")).json()["messages"] == []


async def test_a_label_names_a_session_also_while_it_runs(in_memory: Any) -> None:
    class Remembering(Script):
        async def __call__(self, turn):  # type: ignore[no-untyped-def, override]
            async for piece in super().__call__(turn):
                yield piece
            turn.state["said"] = turn.content  # which is saved with the response

    bot = Remembering()
    async with in_memory(agents={"bot": bot}) as rig, asyncio.TaskGroup() as group:
        asking = group.create_task(
            rig.http.post("/api/agents/bot/sessions/s/message", json={"message": "x", "turn_id": "t"})
        )
        said = await bot.given("t")
        named = await rig.http.put("/api/sessions/s/label", json={"label": "Größe 1"})
        assert named.json() == {"status": "updated", "session_id": "s", "label": "Größe 1"}
        said.end()
        await asking
        found = (await rig.http.get("/api/agents/bot/sessions/by-label/Größe 1")).json()
        assert (found["session_id"], found["agent_id"], found["message_count"]) == ("s", "bot", 2)
        assert found["label"] == "Größe 1"
        taken = await rig.http.put("/api/sessions/s/label", json={"label": None})
        assert taken.json()["label"] is None
        assert (await rig.http.get("/api/agents/bot/sessions/by-label/Größe 1")).status_code == 404
        missing = await rig.http.put("/api/sessions/s/label", json={})
        assert (missing.status_code, missing.json()["code"]) == (400, "bad_request")


async def test_somebody_elses_sessions_look_like_none(in_memory: Any) -> None:
    async with in_memory() as rig:
        await say(rig, "s", "secret", **{"X-User-Id": "ann"})
        for method, path in (
            ("GET", "/api/sessions/s"),
            ("GET", "/api/sessions/s/messages"),
            ("DELETE", "/api/sessions/s"),
            ("PUT", "/api/sessions/s/label"),
            ("POST", "/api/sessions/s/cancel"),
            ("GET", "/api/agents/echo/sessions/by-label/x"),
        ):
            response = await rig.http.request(method, path, json={"label": None}, headers=BOB)
            assert (response.status_code, response.json()["code"]) == (404, "session_not_found"), path
        await say(rig, "s", "mine", **BOB)
        for user, content in (("ann", "secret"), ("bob", "mine")):
            shown = (await rig.http.get("/api/sessions/s", headers={"X-User-Id": user})).json()
            assert shown["messages"][0]["content"] == content


async def test_an_id_that_means_two_sessions_wants_the_agent(in_memory: Any) -> None:
    async with in_memory() as rig:
        for agent in ("echo", "bot"):
            await rig.http.post(f"/api/agents/{agent}/sessions", json={"session_id": "s"})
        both = await rig.http.get("/api/sessions/s")
        assert (both.status_code, both.json()["code"]) == (409, "session_ambiguous")
        for agent in ("echo", "bot"):
            assert (await rig.http.get(f"/api/sessions/s?agent={agent}")).json()["agent_id"] == agent
