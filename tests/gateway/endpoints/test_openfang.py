"""OpenFang's surface, by the numbers of `openfang.md`: what its SDKs and its dashboard rely on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from websockets.asyncio.client import connect

from gateway.agents.echo import EchoAgent
from gateway.interfaces import AgentError, Caller, ToolCall, ToolResult, Usage
from gateway.settings import Settings
from tests.harness import WAIT

BOT = "/api/agents/bot"
SAYS = {"json": {"message": "x"}}


class Socket:
    """The socket of the agent `bot`, as a client of OpenFang's uses it."""

    def __init__(self, rig: Any) -> None:
        self.url = str(rig.http.base_url).replace("http", "ws", 1).rstrip("/") + f"{BOT}/ws"

    async def __aenter__(self) -> Socket:
        self.socket = await connect(self.url).__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.socket.close()

    async def send(self, type: str, **fields: Any) -> None:  # noqa: A002
        await self.socket.send(json.dumps({"type": type, **fields}))

    async def until(self, kind: str, session_id: str | None = None) -> list[dict[str, Any]]:
        """The frames up to the next one of that kind (of that session)."""
        frames: list[dict[str, Any]] = []
        while True:
            async with asyncio.timeout(WAIT):
                frames.append(json.loads(await self.socket.recv()))
            if frames[-1]["type"] == kind and session_id in (None, frames[-1].get("session_id")):
                return frames


def data_of(stream: str) -> list[dict[str, Any]]:
    """What the events of a stream hold."""
    return [json.loads(line[6:]) for line in stream.split("\n") if line.startswith("data: ")]


async def by_name(token: str | None, _: Mapping[str, str]) -> Caller:
    return Caller(token or "nobody")


async def test_1_whatever_belongs_to_a_session_says_so(served: Any) -> None:
    async with served() as rig, Socket(rig) as line, asyncio.TaskGroup() as group:
        await line.send("message", session_id="s", turn_id="t1", content="x")
        (await rig.bot.given("t1")).fail(AgentError("No."))
        failed = await line.until("error")
        await line.send("message", session_id="s", turn_id="t1", content="another")
        refused = await line.until("error")
        for frame in [*failed, *refused]:
            assert frame["type"] == "connected" or frame["session_id"] == "s"
        body = {"message": "x", "turn_id": "t2"}
        asking = group.create_task(rig.http.post(f"{BOT}/sessions/s/message/stream", json=body))
        said = await rig.bot.given("t2")
        said.say("So")
        said.end()
        events = [
            json.loads(line[6:]) for line in (await asking).text.split("\n") if line.startswith("data: ")
        ]
        assert [event["session_id"] for event in events] == ["s", "s"]


async def test_2_a_slow_turn_delays_nothing_of_another_session(served: Any) -> None:
    async with served() as rig, Socket(rig) as line:
        await line.send("message", session_id="slow", turn_id="slow", content="x")
        slow = await rig.bot.given("slow")
        await line.send("message", session_id="quick", turn_id="quick", content="x")
        quick = await rig.bot.given("quick")
        quick.say("at once")
        quick.end()
        assert (await line.until("response"))[-1]["content"] == "at once"
        await line.send("ping")
        await line.until("pong")
        slow.say("So f")
        await line.until("text_delta", "slow")
        await line.send("command", command="stop", session_id="slow")
        told = await line.until("command_result")
        told += [] if any(one["type"] == "response" for one in told) else await line.until("response")
        [ended] = [frame for frame in told if frame["type"] == "response"]
        assert (ended["status"], ended["content"]) == ("cancelled", "So f")


async def test_3_an_id_need_not_be_a_uuid_and_a_malformed_one_is_no_other(served: Any) -> None:
    async with served(agents={"bot": EchoAgent()}) as rig, Socket(rig) as line:
        good = await rig.http.post(f"{BOT}/sessions/Trip.to:Rome@7/message", **SAYS)
        assert (good.status_code, good.json()["session_id"]) == (200, "Trip.to:Rome@7")
        bad = await rig.http.post(f"{BOT}/sessions/a%20b/message", **SAYS)
        assert (bad.status_code, bad.json()["code"]) == (400, "bad_id")
        for session_id in ("a b", 7):
            await line.send("message", session_id=session_id, content="x")
            assert (await line.until("error"))[-1]["code"] in ("bad_id", "bad_frame")
        assert len((await rig.http.get("/api/sessions")).json()["sessions"]) == 1


async def test_4_somebody_elses_session_is_out_of_reach(in_memory: Any) -> None:
    async with in_memory(authenticator=by_name, agents={"bot": EchoAgent()}) as rig:
        ann, bob = ({"Authorization": f"Bearer {name}"} for name in ("ann", "bob"))
        await rig.http.post(f"{BOT}/sessions/s/message", json={"message": "secret"}, headers=ann)
        for method, path in (
            ("GET", "/api/sessions/s"),
            ("DELETE", "/api/sessions/s"),
            ("POST", f"{BOT}/sessions/s/switch"),
            ("POST", f"{BOT}/sessions/s/stop"),
        ):
            assert (await rig.http.request(method, path, headers=bob)).status_code == 404
        await rig.http.post(f"{BOT}/sessions/s/message", json={"message": "mine"}, headers=bob)
        own = (await rig.http.get("/api/sessions/s", headers=ann)).json()
        assert [one["content"] for one in own["messages"]] == ["secret", "secret"]


async def test_5_a_message_makes_its_session_or_finds_the_active_one(served: Any) -> None:
    async with served(agents={"bot": EchoAgent()}) as rig, Socket(rig) as line:
        assert (await rig.http.post(f"{BOT}/sessions/new/message", **SAYS)).json()["session_id"] == "new"
        active = (await rig.http.post(f"{BOT}/message", **SAYS)).json()["session_id"]
        assert active != "new"
        await line.send("message", content="x")
        assert (await line.until("response"))[-1]["session_id"] == active


async def test_6_making_and_switching_activate_and_messages_do_not(in_memory: Any) -> None:
    async with in_memory(agents={"bot": EchoAgent()}) as rig:

        async def active() -> str:
            return str((await rig.http.get(BOT)).json()["session_id"])

        made = (await rig.http.post(f"{BOT}/sessions", json={})).json()["session_id"]
        assert await active() == made
        await rig.http.post(f"{BOT}/sessions/other/message", **SAYS)
        assert await active() == made
        await rig.http.post(f"{BOT}/sessions/other/switch")
        assert await active() == "other"


async def test_7_agents_are_those_of_the_start(in_memory: Any) -> None:
    async with in_memory() as rig:
        assert [agent["id"] for agent in (await rig.http.get("/api/agents")).json()] == ["bot", "echo"]
        for method, path in (("POST", "/api/agents"), ("DELETE", BOT)):
            refused = await rig.http.request(method, path, json={})
            assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")


async def test_8_every_reader_finds_the_names_it_knows(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        made = (await rig.http.post(f"{BOT}/sessions", json={"label": "Trip"})).json()
        assert {"session_id", "label", "agent_id"} <= made.keys()
        asking = group.create_task(
            rig.http.post(f"{BOT}/sessions/s/message", json={"message": "x", "turn_id": "t1"})
        )
        said = await rig.bot.given("t1")
        for piece in ("So", Usage(3, 4)):
            said.say(piece)
        said.end()
        whole = (await asking).json()
        assert (whole["response"], whole["content"]) == ("So", "So")
        assert (whole["input_tokens"], whole["output_tokens"], whole["iterations"]) == (3, 4, 1)
        for turn_id, fails in (("t2", False), ("t3", True)):
            body = {"message": "x", "turn_id": turn_id}
            asking = group.create_task(rig.http.post(f"{BOT}/sessions/s/message/stream", json=body))
            said = await rig.bot.given(turn_id)
            for piece in ("So", Usage(3, 4)):
                said.say(piece)
            said.fail(AgentError("No.")) if fails else said.end()
            streamed = (await asking).text
            kinds = [line[7:] for line in streamed.split("\n") if line.startswith("event: ")]
            data = data_of(streamed)
            assert kinds == ["chunk", "error" if fails else "done"]
            assert (data[0]["content"], data[0]["delta"], data[0]["type"]) == ("So", "So", "text_delta")
            assert (data[0]["done"], data[1]["done"]) == (False, True)
            if not fails:
                assert (data[1]["type"], data[1]["usage"]) == (
                    "done",
                    {"input_tokens": 3, "output_tokens": 4},
                )


async def test_9_errors_have_text_and_code_and_limits_say_when_to_come_back(in_memory: Any) -> None:
    async with in_memory(Settings(max_waiting=0, drain_timeout=0.01)) as rig:
        large = await rig.http.post(f"{BOT}/message", json={"message": "x" * 65_537})
        assert (large.status_code, large.json()["code"]) == (413, "message_too_large")
        assert large.json()["error"] == large.json()["content"]
        assert large.json()["retryable"] is False
        await rig.http.post("/frames", json={"type": "message", "session_id": "s", "content": "x"})
        many = await rig.http.post(f"{BOT}/sessions/s/message", **SAYS)
        assert (many.status_code, many.json()["code"], many.json()["retryable"]) == (429, "queue_full", True)
        assert int(many.headers["retry-after"]) >= 1


async def test_10_commands_are_stop_and_new_and_no_other(served: Any) -> None:
    async with served() as rig, Socket(rig) as line:
        await line.send("message", content="x", turn_id=None)
        session_id = (await line.until("ok"))[-1]["session_id"]
        for expected in ("Run cancelled.", "No active run to cancel."):
            await line.send("command", command="STOP")
            told = (await line.until("command_result"))[-1]
            assert (told["message"], told["session_id"]) == (expected, session_id)
        await line.send("command", command="New")
        fresh = (await line.until("command_result"))[-1]["session_id"]
        assert fresh != session_id
        assert (await rig.http.get(BOT)).json()["session_id"] == fresh
        await line.send("command", command="compact")
        unknown = (await line.until("error"))[-1]
        assert "compact" in unknown["content"]
        assert "new, stop" in unknown["content"]


async def test_11_every_route_is_there(in_memory: Any) -> None:
    async with in_memory(agents={"bot": EchoAgent()}) as rig:
        await rig.http.post(f"{BOT}/sessions", json={"session_id": "s", "label": "Trip"})
        for method, path, body in (
            ("GET", "/api/agents", None),
            ("GET", BOT, None),
            ("POST", f"{BOT}/message", {"message": "x"}),
            ("POST", f"{BOT}/message/stream", {"message": "x"}),
            ("GET", f"{BOT}/session", None),
            ("GET", f"{BOT}/sessions", None),
            ("GET", f"{BOT}/sessions/by-label/Trip", None),
            ("POST", f"{BOT}/sessions/s/switch", None),
            ("POST", f"{BOT}/sessions/s/message", {"message": "x"}),
            ("POST", f"{BOT}/sessions/s/message/stream", {"message": "x"}),
            ("POST", f"{BOT}/sessions/s/stop", None),
            ("POST", f"{BOT}/stop", None),
            ("GET", "/api/sessions", None),
            ("GET", "/api/sessions/s", None),
            ("PUT", "/api/sessions/s/label", {"label": "Rome"}),
            ("DELETE", "/api/sessions/s", None),
            ("POST", f"{BOT}/session/reset", None),
            ("GET", "/api/health", None),
            ("GET", "/api/status", None),
            ("GET", "/api/version", None),
        ):
            response = await rig.http.request(method, path, json=body)
            assert response.status_code == 200, (method, path, response.text)


async def test_12_tools_are_told_in_openfangs_words_and_every_turn_has_one_end(served: Any) -> None:
    async with served() as rig, Socket(rig) as line:
        await line.send("message", session_id="s", turn_id="t1", content="x")
        said = await rig.bot.given("t1")
        for piece in ("So ", ToolCall("c", "add", {"a": 1}), ToolResult("c", {"sum": 2}), "two"):
            said.say(piece)
        said.end()
        told = [frame for frame in await line.until("response") if "tool" in str(frame)]
        assert [frame["type"] for frame in told] == [
            "typing", "tool_start", "tool_end", "tool_call", "tool_result",
        ]  # fmt: skip
        typing, start, end, _, result = told
        assert (typing["state"], typing["tool"]) == ("tool", "add")
        assert (start["id"], start["tool"]) == (end["id"], end["tool"]) == ("c", "add")
        assert json.loads(end["input"]) == {"a": 1}
        assert (result["id"], result["tool"], result["result"]) == ("c", "add", '{"sum":2}')
        assert result["is_error"] is False
        await line.send("message", session_id="s", turn_id="t2", content="x")
        (await rig.bot.given("t2")).end()
        empty = await line.until("response")
        assert empty[-1]["content"] == ""
        assert [frame["type"] for frame in empty].count("response") == 1


async def test_13_a_session_is_shown_in_both_words(in_memory: Any) -> None:
    async with in_memory(agents={"bot": EchoAgent()}) as rig:
        await rig.http.post(f"{BOT}/sessions/s/message", **SAYS)
        theirs = (await rig.http.get("/api/sessions/s")).json()
        ours = (await rig.http.get("/api/sessions/s/messages")).json()
        assert [one["role"] for one in theirs["messages"]] == ["User", "Assistant"]
        assert [one["role"] for one in ours["messages"]] == ["user", "agent"]
        assert {"session_id", "agent_id", "message_count", "context_window_tokens", "label"} <= theirs.keys()
