"""The native routes of agents."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any, ClassVar

from gateway.interfaces import Key
from gateway.opening import Open
from protocol.session import Send


class Watched(Key):
    """A key that notes whose agent or user is asked for."""

    asked: ClassVar[list[str]] = []

    def __getattribute__(self, name: str) -> Any:
        if name in ("agent", "user"):
            self.asked.append(self.session_id)
        return super().__getattribute__(name)


async def test_agents_are_those_that_the_gateway_was_started_with(in_memory: Any) -> None:
    async with in_memory() as rig:
        listed = (await rig.http.get("/api/agents")).json()
        assert [agent["id"] for agent in listed] == ["bot", "echo"]
        for agent in listed:
            assert agent["name"] == agent["id"]
            assert (agent["state"], agent["ready"], agent["is_inferencing"]) == ("Running", True, False)
            assert datetime.fromisoformat(agent["created_at"]).tzinfo is not None
            assert set(agent) == {
                "id", "name", "state", "mode", "created_at", "last_active", "model_provider", "model_name",
                "model_tier", "auth_status", "ready", "is_inferencing", "profile", "identity",
            }  # fmt: skip


async def test_an_agent_that_answers_the_caller_says_so(in_memory: Any) -> None:
    async with in_memory() as rig:
        frame = {"type": "message", "session_id": "s", "content": "x", "turn_id": "t"}
        await rig.http.post("/frames", json=frame)
        await rig.bot.given("t")
        assert [agent["is_inferencing"] for agent in (await rig.http.get("/api/agents")).json()] == [
            True,
            False,
        ]
        others = await rig.http.get("/api/agents", headers={"X-User-Id": "bob"})
        assert not any(agent["is_inferencing"] for agent in others.json())


async def test_to_list_agents_no_session_is_looked_at_but_those_that_answer_the_caller(
    in_memory: Any,
) -> None:
    async with in_memory() as rig, AsyncExitStack() as stack:

        async def live(user: str, session_id: str) -> Any:
            key = Watched("bot", user, session_id)
            session = await stack.enter_async_context(rig.app.supervisor.held(key))
            await session.asked(Open("new"))
            return session

        for number in range(20):
            await live("user", f"idle {number}")
            busy = await live("bob", f"busy {number}")
            await busy.asked(Send(f"t{number}", "x"))
            await rig.bot.given(f"t{number}")
        await (await live("user", "mine")).asked(Send("t", "x"))
        await rig.bot.given("t")
        Watched.asked.clear()
        listed = (await rig.http.get("/api/agents")).json()
        assert [agent["is_inferencing"] for agent in listed] == [True, False]
        assert {*Watched.asked} == {"mine"}


async def test_one_agent_names_the_session_that_is_active(in_memory: Any) -> None:
    async with in_memory() as rig:
        agent = (await rig.http.get("/api/agents/echo")).json()
        assert (agent["id"], agent["session_id"]) == ("echo", None)
        assert agent["model"] == {"provider": "trunkline", "model": "echo"}
        answer = (await rig.http.post("/api/agents/echo/message", json={"message": "x"})).json()
        assert (await rig.http.get("/api/agents/echo")).json()["session_id"] == answer["session_id"]
        bobs = await rig.http.get("/api/agents/echo", headers={"X-User-Id": "bob"})
        assert bobs.json()["session_id"] is None


async def test_an_unknown_agent_is_none_and_a_malformed_one_is_told(in_memory: Any) -> None:
    async with in_memory() as rig:
        for path, status, code in (
            ("/api/agents/nobody", 404, "agent_not_found"),
            ("/api/agents/a%20b", 400, "bad_id"),
            ("/api/agents/nobody/sessions", 404, "agent_not_found"),
        ):
            response = await rig.http.get(path)
            assert (response.status_code, response.json()["code"]) == (status, code)


async def test_agents_cannot_be_made_over_http(in_memory: Any) -> None:
    async with in_memory() as rig:
        for method, path in (("POST", "/api/agents"), ("DELETE", "/api/agents/echo")):
            response = await rig.http.request(method, path)
            assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
            assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}
