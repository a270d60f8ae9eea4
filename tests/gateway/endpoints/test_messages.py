"""Saying something to an agent over plain HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.endpoints.messages import Chunks
from gateway.interfaces import AgentError, ToolCall, ToolResult, Usage
from gateway.settings import Settings
from protocol import codec, frames
from protocol.errors import Refused
from protocol.records import Timing
from tests.harness import WAIT

NAMED = "/api/agents/bot/sessions/s/message"


async def test_the_answer_comes_whole_and_says_of_which_session(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        asking = group.create_task(
            rig.http.post(
                NAMED,
                json={"message": "add", "turn_id": "t", "metadata": {"a": 1}},
                headers={"X-Request-Id": "trace-7"},
            )
        )
        said = await rig.bot.given("t")
        assert (said.turn.content, said.turn.metadata) == ("add", {"a": 1})
        assert said.turn.request_id == "trace-7"
        for piece in ("It is ", ToolCall("c", "add", {"a": 1}), ToolResult("c", 2), "two", Usage(3, 4)):
            said.say(piece)
        said.end()
        response = await asking
        assert response.status_code == 200
        assert response.json() == {
            "response": "It is two",
            "content": "It is two",
            "input_tokens": 3,
            "output_tokens": 4,
            "iterations": 1,
            "status": "completed",
            "session_id": "s",
            "turn_id": "t",
        }
        assert rig.app.supervisor.lines == {}


async def test_without_a_session_it_is_the_active_one_which_a_named_one_does_not_become(
    in_memory: Any,
) -> None:
    async with in_memory() as rig:
        said = [
            (await rig.http.post(f"/api/agents/echo/{path}", json={"message": "x"})).json()["session_id"]
            for path in ("message", "sessions/named/message", "message")
        ]
        assert said[0] == said[2] != said[1] == "named"


async def test_a_turn_that_fails_is_an_error_with_what_it_had_said(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        for turn_id, error, status, retryable in (
            ("t1", AgentError("No.", retryable=False), 502, False),
            ("t2", AgentError("Late.", "agent_timeout"), 504, True),
            ("t3", ValueError("secret"), 502, True),
        ):
            asking = group.create_task(rig.http.post(NAMED, json={"message": "x", "turn_id": turn_id}))
            said = await rig.bot.given(turn_id)
            said.say("So f")
            said.fail(error)
            response = await asking
            body = response.json()
            assert (response.status_code, body["retryable"]) == (status, retryable)
            assert (body["session_id"], body["turn_id"], body["partial"]) == ("s", turn_id, "So f")
            assert body["error"] == body["content"]
            assert "secret" not in response.text


async def test_a_turn_that_is_stopped_is_answered_with_what_it_had_said(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        asking = group.create_task(rig.http.post(NAMED, json={"message": "x", "turn_id": "t"}))
        said = await rig.bot.given("t")
        said.say("So f")
        await rig.until(lambda: rig.app.supervisor.sessions[("bot", "user", "s")].log.text.length == 4)
        await rig.http.post("/api/agents/bot/sessions/s/stop")
        answer = (await asking).json()
        assert (answer["status"], answer["response"]) == ("cancelled", "So f")


async def test_a_session_deleted_meanwhile_ends_the_wait(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        asking = group.create_task(rig.http.post(NAMED, json={"message": "x", "turn_id": "t"}))
        await rig.bot.given("t")
        await rig.http.delete("/api/sessions/s")
        assert (await asking).json()["status"] == "cancelled"
        late = await rig.http.post(NAMED, json={"message": "x"})
        assert (late.status_code, late.json()["code"]) == (410, "session_closed")
        again = await rig.http.post(
            "/api/agents/echo/sessions/s/message", json={"message": "x", "create": True}
        )
        assert again.status_code == 200


async def test_sent_again_it_is_answered_again_and_runs_once(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        body = {"message": "x", "turn_id": "t"}
        first = group.create_task(rig.http.post(NAMED, json=body))
        said = await rig.bot.given("t")
        second = group.create_task(rig.http.post(NAMED, json=body))
        await rig.until(lambda: len(rig.app.supervisor.lines) == 2)
        said.say("once")
        said.end()
        answers = [(await asking).json() for asking in (first, second)]
        third = await rig.http.post(NAMED, json=body)
        streamed = await rig.http.post(f"{NAMED}/stream", json=body)
        assert [*answers, third.json()] == [answers[0]] * 3
        assert '"content":"once"' in streamed.text
        assert len(rig.bot.turns) == 1


async def test_turns_that_wait_get_their_own_answers(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        first = group.create_task(rig.http.post(NAMED, json={"message": "x", "turn_id": "t1"}))
        said = await rig.bot.given("t1")
        second = group.create_task(rig.http.post(NAMED, json={"message": "x", "turn_id": "t2"}))
        await rig.until(lambda: rig.app.supervisor.sessions[("bot", "user", "s")].state.waiting)
        said.say("answer to t1")
        said.end()
        said = await rig.bot.given("t2")
        said.say("answer to t2")
        said.end()
        assert (await first).json()["response"] == "answer to t1"
        assert (await second).json()["response"] == "answer to t2"


async def test_a_gateway_that_stops_answers_who_waits_for_a_turn_that_waits(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        asking = [
            group.create_task(rig.http.post(NAMED, json={"message": "x", "turn_id": turn_id}))
            for turn_id in ("t1", "t2")
        ]
        supervisor = rig.app.supervisor
        await rig.until(
            lambda: len(supervisor.lines) == 2 and supervisor.sessions[("bot", "user", "s")].state.waiting
        )
        await rig.app.drain()
        codes = [(await one).json()["code"] for one in asking]
        assert codes == ["turn_interrupted", "draining"]
        assert [(await one).status_code for one in asking] == [503, 503]


async def test_what_is_wrong_is_refused_before_anything_runs(in_memory: Any) -> None:
    async with in_memory(Settings(max_waiting=0, drain_timeout=0.01)) as rig:
        await rig.http.post("/frames", json={"type": "message", "session_id": "s", "content": "x"})
        for path, body, status, code in (
            (NAMED, {}, 400, "bad_request"),
            (NAMED, {"message": 7}, 400, "bad_request"),
            (NAMED, {"message": "x", "attachments": [{"file_id": "f"}]}, 400, "bad_request"),
            (NAMED, {"message": "x", "on_busy": "push"}, 400, "bad_request"),
            (NAMED, {"message": "x", "metadata": 7}, 400, "bad_request"),
            (NAMED, {"message": "x" * 65_537}, 413, "message_too_large"),
            (NAMED, {"message": "x"}, 429, "queue_full"),
            ("/api/agents/bot/message", {"message": "x", "turn_id": "t"}, 400, "bad_frame"),
            ("/api/agents/nobody/message", {"message": "x"}, 404, "agent_not_found"),
            ("/api/agents/a%20b/message", {"message": "x"}, 400, "bad_id"),
            ("/api/agents/bot/sessions/a%20b/message", {"message": "x"}, 400, "bad_id"),
        ):
            for way in ("", "/stream"):
                response = await rig.http.post(path + way, json=body)
                assert (response.status_code, response.json()["code"]) == (status, code), (path + way, body)


async def test_who_sent_it_goes_with_the_message(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        body = {"message": "x", "turn_id": "t", "sender_id": "7", "sender_name": "Ann"}
        asking = group.create_task(rig.http.post(NAMED, json=body))
        said = await rig.bot.given("t")
        assert said.turn.metadata == {"sender_id": "7", "sender_name": "Ann"}
        said.end()
        assert (await asking).json()["response"] == ""


async def test_a_client_that_goes_leaves_the_turn_running(served: Any) -> None:
    async with served() as rig:
        async with rig.stream("POST", f"{NAMED}/stream", json={"message": "x", "turn_id": "t"}) as events:
            said = await rig.bot.given("t")
            said.say("Hel")
            await events.until("chunk")
        await rig.until(lambda: not rig.app.supervisor.lines)
        said.say("lo")
        said.end()
        async with asyncio.timeout(WAIT):
            answer = await rig.http.post(NAMED, json={"message": "x", "turn_id": "t"})
        assert answer.json()["response"] == "Hello"


async def test_the_answer_comes_in_chunks_as_openfang_names_them(served: Any) -> None:
    async with served() as rig:
        body = {"message": "x", "turn_id": "t"}
        async with rig.stream("POST", f"{NAMED}/stream", json=body) as events:
            assert events.response.headers["content-type"].startswith("text/event-stream")
            said = await rig.bot.given("t")
            said.say("It is ")
            whose = {"session_id": "s", "turn_id": "t"}
            assert (await events.event()).data == {
                "content": "It is ", "done": False, "type": "text_delta", "delta": "It is ", **whose,
            }  # fmt: skip
            for piece in (ToolCall("c", "add", {"a": 1}), ToolResult("c", 2, True), "two", Usage(3, 4)):
                said.say(piece)
            said.end()
            told = await events.rest()
            assert [event.kind for event in told] == ["tool_use", "tool_result", "chunk", "done"]
            assert told[0].data == {"id": "c", "tool": "add", "input": {"a": 1}, **whose}
            assert told[1].data == {**told[0].data, "result": 2, "is_error": True}
            assert told[3].data == {
                "done": True,
                "type": "done",
                "usage": {"input_tokens": 3, "output_tokens": 4},
                "status": "completed",
                **whose,
            }


async def test_a_turn_that_fails_ends_its_stream_with_an_error(served: Any) -> None:
    body = {"message": "x", "turn_id": "t"}
    async with served() as rig, rig.stream("POST", f"{NAMED}/stream", json=body) as events:
        said = await rig.bot.given("t")
        said.fail(AgentError("No.", retryable=False))
        [error] = await events.rest()
        assert error.kind == "error"
        assert (error.data["code"], error.data["retryable"]) == ("agent_failed", False)
        assert (error.data["session_id"], error.data["error"], error.data["done"]) == ("s", "No.", True)


async def test_what_is_refused_after_the_stream_began_ends_it_with_an_error() -> None:
    async def send(message: Any) -> None:
        written.append(message)

    written: list[Any] = []
    stream = Chunks(send, "s", "t")
    refusal = codec.error_frame(Refused("store_unavailable", "It is away."))
    await stream.send([codec.encode(frames.Pong())])
    await stream.send([codec.encode(refusal)])
    body = written[-1]["body"].decode()
    assert body.startswith("event: error\n")
    assert '"code":"store_unavailable"' in body
    assert written[-1]["more_body"] is False


async def test_one_who_lagged_gets_the_rest_of_the_text_in_a_last_chunk() -> None:
    async def send(message: Any) -> None:
        written.append(message)

    written: list[Any] = []
    stream = Chunks(send, "s", "t")
    end = frames.Response("e.3.0", "s", "t", "Hello", "completed", 0, 0, Timing(), 0.0)
    delta = frames.TextDelta("e.2.3", "s", "t", "Hel")
    other = frames.TextDelta("e.2.3", "s", "another", "xxx")
    await stream.send([codec.encode(frame) for frame in (delta, other, end, delta)])
    body = written[1]["body"].decode()
    assert [body.count(text) for text in ('"Hel"', '"lo"', "xxx", "event: done")] == [2, 2, 0, 1]
    assert written[1]["more_body"] is False
