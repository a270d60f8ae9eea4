"""How a conversation's run stands, and what was said, as Potpie's clients ask it. The numbers are those of
`conversations.md`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.agents.echo import EchoAgent
from gateway.interfaces import (
    AgentError,
    Caller,
    Key,
    Loaded,
    Note,
    Page,
    Thought,
    ToolCall,
    ToolResult,
    Unavailable,
)
from gateway.stores.memory import MemoryStore
from protocol.errors import Refused
from protocol.lifetime import Tiers

C = "/api/v1/conversations/c1"
EVERYTHING = [
    ("GET", "active-session"), ("GET", "task-status"), ("POST", "message"), ("POST", "regenerate"),
    ("POST", "stop"), ("POST", "resume/r1"), ("GET", "messages"), ("GET", "info"),
]  # fmt: skip


async def by_name(token: str | None, _: Mapping[str, str]) -> Caller:
    match token:
        case None:
            raise Refused("unauthenticated", "Who are you?")
        case "service":
            return Caller(service=True)
        case "narrow":
            return Caller("ann", sessions=frozenset({"another"}))
        case name:
            return Caller(name)


def ann(**more: Any) -> dict[str, Any]:
    return {"headers": {"Authorization": "Bearer ann"}, **more}


def asks(rig: Any, run: str, content: str = "x", **query: Any) -> Any:
    """Say something under that run id; the answer, all at once."""
    params = {"stream": "false", "session_id": run, **query}
    return rig.http.post(f"{C}/message", params=params, data={"content": content})


async def get(rig: Any, path: str, **options: Any) -> Any:
    response = await rig.http.get(f"{C}/{path}", **options)
    assert response.status_code == 200, response.text
    return response.json()


# ── How a run stands ────────────────────────────────────────────────────────────────────────────────────────


async def test_1_everything_is_served_with_and_without_a_slash(in_memory: Any) -> None:
    async with in_memory(agents={"echo": EchoAgent()}) as rig:
        await asks(rig, "r1")
        for slash in ("", "/"):
            for method, path in EVERYTHING:
                body = {"data": {"content": "x"}} if path == "message" else {}
                response = await rig.http.request(method, f"{C}/{path}{slash}", **body)
                assert response.status_code == 200, (path, response.text)
                other = await rig.http.request("PUT", f"{C}/{path}{slash}")
                assert (other.status_code, [*other.json()]) == (405, ["detail"])
        assert (await rig.http.get(f"{C}/resume/r1")).status_code == 405
        for slash in ("", "/"):
            path = f"/api/v2/conversations/c1/message{slash}?stream=false"
            assert (await rig.http.post(path, json={"content": "two"})).json()["message"] == "two"
            assert (await rig.http.post(f"/api/v2/conversations/c1/stop{slash}")).json()["stopped"] is False


async def test_2_a_run_was_accepted_when_it_was_and_last_active_when_it_was(in_memory: Any) -> None:
    clock = [1_000.0]
    async with in_memory(now=lambda: clock[0]) as rig, asyncio.TaskGroup() as group:
        asking = group.create_task(asks(rig, "r1"))
        said = await rig.bot.given("r1")
        told = await get(rig, "active-session")
        assert (told["startedAt"], told["conversationId"]) == (1_000_000, "c1")
        clock[0] = 1_007.0
        said.say(ToolCall("c", "look"))
        log = rig.app.supervisor.sessions[("bot", "user", "c1")].log
        await rig.until(lambda: log.seq == 3)
        told = await get(rig, "active-session")
        assert (told["startedAt"], told["lastActivity"]) == (1_000_000, 1_007_000)
        clock[0] = 1_009.5
        said.end()
        await asking
        told = await get(rig, "active-session")
        assert (told["startedAt"], told["lastActivity"]) == (1_000_000, 1_009_500)


async def test_2_text_is_activity_too(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        asking = group.create_task(asks(rig, "r1"))
        said = await rig.bot.given("r1")
        answer = rig.app.supervisor.sessions[("bot", "user", "c1")].answer
        await rig.until(lambda: answer.started_at is not None)
        await rig.until(lambda: said.say(".") or answer.active_at > answer.started_at + 0.005)
        told = await get(rig, "active-session")
        assert told["lastActivity"] > told["startedAt"] + 4
        said.end()
        await asking


async def test_2_completion_is_estimated_from_what_runs_took(in_memory: Any) -> None:
    clock = [1_000.0]
    async with in_memory(now=lambda: clock[0]) as rig, asyncio.TaskGroup() as group:
        asking = group.create_task(asks(rig, "r1"))
        said = await rig.bot.given("r1")
        told = await get(rig, "task-status")
        assert told == {
            "isActive": True, "sessionId": "r1", "estimatedCompletion": 1_600_000, "conversationId": "c1",
        }  # fmt: skip
        rig.app.supervisor.runtime.durations["bot"] = deque([5.0, 20.0, 500.0])
        assert (await get(rig, "task-status"))["estimatedCompletion"] == 1_020_000
        clock[0] = 1_030.0
        assert (await get(rig, "task-status"))["estimatedCompletion"] == 1_030_000
        said.end()
        await asking
        clock[0] = 2_000.0
        told = await get(rig, "task-status")
        assert (told["isActive"], told["estimatedCompletion"]) == (False, 1_030_000)


async def test_2_what_a_completed_run_took_counts(in_memory: Any) -> None:
    async with in_memory(agents={"echo": EchoAgent()}) as rig:
        await asks(rig, "r1")
        assert len(rig.app.supervisor.runtime.durations["echo"]) == 1


async def test_3_what_runs_or_waits_is_active_and_what_is_over_is_completed_or_idle(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        for run, end, status in (
            ("r1", None, "completed"),
            ("r2", AgentError("No."), "idle"),
            ("r3", "stop", "idle"),
        ):
            asking = group.create_task(asks(rig, run))
            said = await rig.bot.given(run)
            assert (await get(rig, "active-session"))["status"] == "active"
            assert (await get(rig, "task-status"))["isActive"] is True
            if end == "stop":
                await rig.http.post(f"{C}/stop")
            elif end is None:
                said.end()
            else:
                said.fail(end)
            await asking
            told = await get(rig, "active-session")
            assert (told["sessionId"], told["status"]) == (run, status)
            assert (await get(rig, "task-status"))["isActive"] is False


async def test_4_a_run_that_goes_on_wins_and_else_the_newest(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        for run in ("r1", "r2"):
            group.create_task(asks(rig, run))
        first = await rig.bot.given("r1")
        await rig.until(lambda: rig.app.supervisor.sessions[("bot", "user", "c1")].state.waiting)
        assert (await get(rig, "active-session"))["sessionId"] == "r1"
        first.end()
        second = await rig.bot.given("r2")
        assert (await get(rig, "active-session"))["sessionId"] == "r2"
        second.end()
        await rig.until(lambda: not rig.app.supervisor.sessions)
        assert (await get(rig, "task-status"))["sessionId"] == "r2"


async def test_4_nothing_is_looked_up_by_a_pattern(in_memory: Any) -> None:
    async with in_memory() as rig:
        for pattern in ("*", "c?", "c%25", "%5Bc%5D1"):
            response = await rig.http.get(f"/api/v1/conversations/{pattern}/active-session")
            assert response.status_code == (404 if pattern == "c?" else 400)


# ── Refusing ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_5_what_is_not_there_is_told_flatly(in_memory: Any) -> None:
    async with in_memory() as rig:
        for path, sentence in (
            ("active-session", "No active session found"),
            ("task-status", "No background task found"),
            ("messages", "Conversation not found"),
            ("info", "Conversation not found"),
        ):
            response = await rig.http.get(f"{C}/{path}")
            assert response.status_code == 404
            assert response.json() == {"error": sentence, "conversationId": "c1"}
        await rig.http.post("/api/agents/bot/sessions", json={"session_id": "c1"})
        assert (await rig.http.get(f"{C}/active-session")).status_code == 404  # it has no run yet
        assert await get(rig, "messages") == []


async def test_5_who_may_not_is_told_so(in_memory: Any) -> None:
    async with in_memory(authenticator=by_name) as rig:
        made = await rig.http.post("/api/agents/bot/sessions", json={"session_id": "c1"}, **ann())
        assert made.status_code == 200
        for method, path in EVERYTHING:
            body = {"data": {"content": "x"}} if path == "message" else {}
            response = await rig.http.request(method, f"{C}/{path}", **body)
            assert (response.status_code, response.json()) == (401, {"detail": "Who are you?"})
            assert response.headers["www-authenticate"] == "Bearer"
            for token in ("bob", "narrow"):
                headers = {"Authorization": f"Bearer {token}"}
                response = await rig.http.request(method, f"{C}/{path}", headers=headers, **body)
                assert response.status_code == 403, (method, path)
                assert response.json() == {"detail": "Access denied to conversation"}
        service = await rig.http.get(f"{C}/info", headers={"X-API-Key": "service"})
        assert (service.status_code, service.json()["creator_id"]) == (200, "ann")


async def test_5_an_id_that_nobody_uses_any_more_is_free_and_ones_own_wins(in_memory: Any) -> None:
    async with in_memory(authenticator=by_name, agents={"echo": EchoAgent()}) as rig:
        bob = {"headers": {"Authorization": "Bearer bob"}, "data": {"content": "bob's"}}
        await rig.http.post("/api/agents/echo/sessions", json={"session_id": "c1"}, **ann())
        assert (await rig.http.post(f"{C}/message", **bob)).status_code == 403
        await rig.http.delete("/api/sessions/c1", **ann())
        assert (await rig.http.get(f"{C}/info", headers=bob["headers"])).status_code == 404
        assert (await rig.http.post(f"{C}/message", **bob)).status_code == 200
        await rig.http.post("/api/agents/echo/sessions", json={"session_id": "c1"}, **ann())
        assert (await rig.http.get(f"{C}/info", **ann())).json()["creator_id"] == "ann"
        assert (await rig.http.get(f"{C}/info", headers=bob["headers"])).json()["total_messages"] == 2


async def test_5_an_outage_is_never_a_404(in_memory: Any) -> None:
    class Away(MemoryStore):
        away = False

        async def load(self, key: Key) -> Loaded:
            if self.away:
                raise Unavailable
            return await super().load(key)

        async def find(self, *which: Any, **more: Any) -> list[Key]:
            if self.away:
                raise Unavailable
            return await super().find(*which, **more)

    store = Away()
    async with in_memory(store=store, agents={"echo": EchoAgent()}) as rig:
        await asks(rig, "r1")
        store.away = True
        for method, path in EVERYTHING:
            body = {"data": {"content": "x"}} if path == "message" else {}
            response = await rig.http.request(method, f"{C}/{path}", **body)
            assert (response.status_code, [*response.json()]) == (503, ["detail"]), path
            assert response.headers["retry-after"] == "1"


async def test_5_what_expired_is_told_so(in_memory: Any) -> None:
    clock = [1_000.0]
    async with in_memory(
        now=lambda: clock[0], tiers=Tiers(explicit=True), agents={"echo": EchoAgent()}
    ) as rig:
        await asks(rig, "r1")
        clock[0] += 86_400.0
        for _ in range(2):  # the first request ends it, the second finds it ended
            for method, path in EVERYTHING:
                body = {"data": {"content": "x"}} if path == "message" else {}
                response = await rig.http.request(method, f"{C}/{path}", **body)
                assert (response.status_code, [*response.json()]) == (410, ["detail"]), path


async def test_5_everything_below_these_paths_is_refused_in_these_words(in_memory: Any) -> None:
    async with in_memory() as rig:
        for path, status in (
            ("/api/v1/nothing", 404),
            ("/api/v2/conversations/c1/active-session", 404),
            ("/api/v1/conversations/a%20b/info", 400),
            (f"{C}/info?agent=nobody", 404),
            (f"{C}/messages?start=-1", 400),
            (f"{C}/messages?limit=0", 400),
        ):
            response = await rig.http.get(path)
            assert (response.status_code, [*response.json()]) == (status, ["detail"]), path
        elsewhere = await rig.http.get(f"{C}/info", headers={"Host": "evil.example"})
        assert (elsewhere.status_code, [*elsewhere.json()]) == (403, ["detail"])


async def test_9_while_it_is_active_the_answer_is_rebuilt_from_its_start_and_then_from_its_end(
    in_memory: Any,
) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        asking = group.create_task(asks(rig, "r1"))
        said = await rig.bot.given("r1")
        said.say("So far")
        assert (await get(rig, "active-session"))["cursor"] == "0-0"
        said.end()
        await asking
        over = (await get(rig, "active-session"))["cursor"]
        streamed = (await rig.http.post(f"{C}/resume/r1?cursor=0-0")).text
        assert streamed.rstrip().split("\n")[-3:-1] == [f"id: {over}", "event: end"]
        assert '"message":"So far"' in streamed


# ── What was said ───────────────────────────────────────────────────────────────────────────────────────────


async def test_messages_are_counted_from_the_oldest(in_memory: Any) -> None:
    async with in_memory(agents={"echo": EchoAgent()}) as rig:
        for number in range(7):
            await asks(rig, f"r{number}", f"say {number}")
        everything = await get(rig, "messages?limit=1000")
        assert [one["content"] for one in everything] == [
            content for number in range(7) for content in (f"say {number}", f"say {number}")
        ]
        assert await get(rig, "messages") == everything[:10]
        for start in range(16):
            for limit in (1, 3, 20):
                page = await get(rig, f"messages?start={start}&limit={limit}")
                assert page == everything[start : start + limit], (start, limit)


async def test_messages_are_counted_from_the_nearer_end(in_memory: Any) -> None:
    class Counting(MemoryStore):
        told = 0

        async def history(self, key: Key, limit: int, **where: Any) -> Page:
            page = await super().history(key, limit, **where)
            self.told += len(page.messages)
            return page

    store = Counting()
    async with in_memory(store=store, agents={"echo": EchoAgent()}) as rig:
        for number in range(20):
            await asks(rig, f"r{number}")
        for start, most in ((0, 3), (35, 5), (19, 21)):
            store.told = 0
            assert len(await get(rig, f"messages?start={start}&limit=3")) == 3
            assert store.told <= most


async def test_messages_are_counted_in_the_log_as_it_was_at_one_moment(in_memory: Any) -> None:
    class Busy(MemoryStore):
        meanwhile: Any = None

        async def load(self, key: Key) -> Loaded:
            loaded = await super().load(key)
            if self.meanwhile is not None:
                said, self.meanwhile = self.meanwhile, None
                await said()
            return loaded

    store = Busy()
    async with in_memory(store=store, agents={"echo": EchoAgent()}) as rig:
        for run in ("r0", "r1"):
            await asks(rig, run, run)
        store.meanwhile = lambda: asks(rig, "r2", "r2")
        [last] = await get(rig, "messages?start=3&limit=1")
        assert last["content"] == "r1"


async def test_a_message_has_what_its_reader_asks_for(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        asking = group.create_task(asks(rig, "r1", "Well?"))
        said = await rig.bot.given("r1")
        for piece in (
            Thought("Hm."),
            ToolCall("c", "look"),
            ToolResult("c", "seen"),
            "So.",
            Note({"citations": ["f.py"]}),
        ):
            said.say(piece)
        said.end()
        assert (await asking).status_code == 200
        human, agent = await get(rig, "messages")
        assert human.pop("created_at") <= agent.pop("created_at")
        same = {
            "conversation_id": "c1", "status": "ACTIVE", "reason": None, "has_attachments": False,
            "attachments": [],
        }  # fmt: skip
        assert human == {
            "id": "r1", "content": "Well?", "type": "HUMAN", "sender_id": "user", "citations": [],
            "tool_calls": [], "thinking": None, **same,
        }  # fmt: skip
        assert [call["event_type"] for call in agent.pop("tool_calls")] == ["call", "result"]
        assert agent == {
            "id": "r1:answer", "content": "So.", "type": "AI_GENERATED", "sender_id": None,
            "citations": ["f.py"], "thinking": "Hm.", **same,
        }  # fmt: skip


async def test_a_conversation_is_told_of(in_memory: Any) -> None:
    async with in_memory() as rig:
        await rig.http.post("/api/agents/echo/sessions", json={"session_id": "c1", "label": "Trip"})
        told = await get(rig, "info")
        assert told.pop("created_at") == told.pop("updated_at")
        assert told == {
            "id": "c1", "title": "Trip", "status": "active", "project_ids": [], "total_messages": 0,
            "agent_ids": ["echo"], "access_type": "write", "is_creator": True, "creator_id": "user",
            "visibility": "private",
        }  # fmt: skip


@pytest.mark.parametrize("agent", ["bot", "echo"])
async def test_of_several_with_one_id_the_agent_says_which(in_memory: Any, agent: str) -> None:
    async with in_memory() as rig:
        for name in ("bot", "echo"):
            await rig.http.post(f"/api/agents/{name}/sessions", json={"session_id": "c1"})
        response = await rig.http.get(f"{C}/info")
        assert (response.status_code, [*response.json()]) == (409, ["detail"])
        assert (await get(rig, f"info?agent={agent}"))["agent_ids"] == [agent]
