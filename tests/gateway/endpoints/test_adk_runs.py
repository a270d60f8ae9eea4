"""ADK's runs: whole, and as events. The numbers are those of `gateway/endpoints/adk.md`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.adk_log import AdkLog
from gateway.adk_reply import Run, Streamed, Whole
from gateway.endpoints.adk import error_response
from gateway.interfaces import AgentError, Key, Note, Thought, ToolCall, ToolResult, Usage
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from protocol import codec, frames
from tests.harness import WAIT, Said

S = "/apps/bot/users/ann/sessions/s"


def a_run(*parts: Any, **fields: Any) -> dict[str, Any]:
    """The body of a run."""
    message = {"parts": [{"text": part} if isinstance(part, str) else part for part in parts or ("hi",)]}
    return {"appName": "bot", "userId": "ann", "sessionId": "s", "newMessage": message, **fields}


async def given(rig: Any, number: int = 0) -> Said:
    """That turn, as soon as the agent has it."""
    await rig.until(lambda: len(rig.bot.turns) > number)
    said: Said = rig.bot.turns[number]
    return said


async def shown(rig: Any) -> list[Any]:
    """The events of the session."""
    events: list[Any] = (await rig.http.get(S)).json()["events"]
    return events


def texts(events: list[Any]) -> list[str]:
    return [part["text"] for event in events for part in event["content"]["parts"]]


def work(said: Said) -> None:
    """Everything that an agent can do."""
    for piece in (
        *(Thought("hm"), "It is ", ToolCall("c", "add", {"a": 1}), ToolResult("c", 2), "two"),
        *(Usage(3, 4), Note({"m": 1})),
    ):
        said.say(piece)
    said.end()


async def next_data(reader: Any) -> Any:
    """The next event of a stream; None at its end."""
    while (block := await reader.block()) is not None:
        if block != ":":
            assert block.startswith("data: ")
            assert "\n" not in block
            return json.loads(block.removeprefix("data: "))
    return None


async def rest(reader: Any) -> list[Any]:
    """The events up to the end of the stream."""
    events = []
    while (event := await next_data(reader)) is not None:
        events.append(event)
    return events


async def test_9_a_run_is_answered_with_what_the_agent_did(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        await rig.http.post(S)
        asking = group.create_task(rig.http.post("/run", json=a_run("add", customMetadata={"a": 1})))
        said = await given(rig)
        assert (said.turn.content, said.turn.metadata) == ("add", {"a": 1})
        work(said)
        answer = await asking
        stored = await shown(rig)
        assert answer.status_code == 200
        assert answer.json() == stored[1:]
        call, result, final = stored[1:]
        assert call["content"]["parts"] == [{"functionCall": {"id": "c", "name": "add", "args": {"a": 1}}}]
        assert result["content"]["parts"][0]["functionResponse"]["response"] == {"result": 2}
        assert final["content"]["parts"] == [{"text": "hm", "thought": True}, {"text": "It is two"}]
        assert final["usageMetadata"]["totalTokenCount"] == 7
        assert (stored[0]["customMetadata"], final["customMetadata"]) == ({"a": 1}, {"m": 1})
        assert rig.app.supervisor.lines == {}


async def test_9_a_stream_says_what_is_stored(served: Any) -> None:
    async with served() as rig:
        await rig.http.post(S)
        async with rig.stream("POST", "/run_sse", json=a_run()) as reader:
            work(await given(rig))
            events = await rest(reader)
            kind = reader.response.headers["content-type"]
        assert kind == "text/event-stream; charset=utf-8"
        assert events == (await shown(rig))[1:]
        assert b"\r" not in reader.raw
        assert b"event:" not in reader.raw
        assert b"id:" not in reader.raw.replace(b'"id:', b"")


async def test_9_streaming_it_says_the_text_as_it_grows_and_then_whole(served: Any) -> None:
    async with served() as rig:
        await rig.http.post(S)
        async with rig.stream("POST", "/run_sse", json=a_run(streaming=True)) as reader:
            said = await given(rig)
            for piece in (Thought("hm"), "It is ", "two"):
                said.say(piece)
                event = await next_data(reader)
                assert event["partial"] is True
                thinks = {"thought": True} if isinstance(piece, Thought) else {}
                assert event["content"]["parts"] == [{"text": piece, **thinks}]
                assert event["author"] == "bot"
            said.say(ToolCall("c", "add", {}))
            assert "functionCall" in (await next_data(reader))["content"]["parts"][0]
            said.end()
            (final,) = await rest(reader)
        assert "partial" not in final
        assert texts([final]) == ["hm", "It is two"]
        stored = await shown(rig)
        assert stored[-1] == final
        assert not any("partial" in event for event in stored)
        assert {event["invocationId"] for event in stored} == {event["invocationId"]}


async def test_9_a_run_on_a_busy_session_waits_its_turn(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        await rig.http.post(S)
        first = group.create_task(rig.http.post("/run", json=a_run("one")))
        said = await given(rig)
        second = group.create_task(rig.http.post("/run_sse", json=a_run("two")))
        await rig.until(lambda: rig.app.supervisor.sessions[Key("bot", "ann", "s")].state.waiting)
        assert texts(await shown(rig)) == ["one"]
        said.say("1")
        said.end()
        said = await given(rig, 1)
        said.say("2")
        said.end()
        assert texts((await first).json()) == ["1"]
        assert "2" in (await second).text
        assert texts(await shown(rig)) == ["one", "1", "two", "2"]


async def test_9_dropping_the_stream_does_not_stop_the_run(served: Any) -> None:
    async with served() as rig:
        await rig.http.post(S)
        async with rig.stream("POST", "/run_sse", json=a_run(streaming=True)) as reader:
            said = await given(rig)
            said.say("So f")
            assert texts([await next_data(reader)]) == ["So f"]
        await rig.until(lambda: not rig.app.supervisor.lines)
        said.say("ar")
        said.end()
        await rig.until(lambda: not rig.app.supervisor.sessions)
        assert texts(await shown(rig)) == ["hi", "So far"]


async def test_9_a_failure_is_an_error_to_who_waits_and_a_last_line_to_who_listens(served: Any) -> None:
    async with served() as rig, asyncio.TaskGroup() as group:
        await rig.http.post(S)
        asking = group.create_task(rig.http.post("/run", json=a_run()))
        said = await given(rig)
        said.say("So f")
        said.fail(AgentError("No luck.", "agent_timeout"))
        answer = await asking
        assert (answer.status_code, answer.json()) == (504, {"detail": "No luck."})
        async with rig.stream("POST", "/run_sse", json=a_run()) as reader:
            said = await given(rig, 1)
            said.say(ToolCall("c", "add", {}))
            said.fail(ValueError("secret"))
            call, failure = await rest(reader)
        assert "functionCall" in call["content"]["parts"][0]
        assert [*failure] == ["error"]
        assert "secret" not in failure["error"]
        failed = (await shown(rig))[1]
        assert (failed["errorCode"], failed["errorMessage"]) == ("agent_timeout", "No luck.")
        assert texts([failed]) == ["So f"]


async def test_9_a_run_that_is_stopped_is_interrupted(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        await rig.http.post(S)
        asking = group.create_task(rig.http.post("/run", json=a_run()))
        (await given(rig)).say("So f")
        await rig.until(lambda: rig.app.supervisor.sessions[Key("bot", "ann", "s")].log.text.length)
        await rig.http.post("/api/sessions/s/cancel?user_id=ann")
        (event,) = (await asking).json()
        assert event["interrupted"] is True
        assert texts([event]) == ["So f"]


async def test_9_a_run_that_was_taken_back_before_it_began_leaves_what_was_said(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        await rig.http.post(S)
        group.create_task(rig.http.post("/run", json=a_run("one")))
        said = await given(rig)
        waits = group.create_task(rig.http.post("/run", json=a_run("two")))
        state = rig.app.supervisor.sessions[Key("bot", "ann", "s")]
        await rig.until(lambda: state.state.waiting)
        turn_id = state.state.waiting[0].turn_id
        await rig.http.post("/api/sessions/s/cancel?user_id=ann", json={"turn_id": turn_id})
        assert (await waits).json() == []
        said.say("1")
        said.end()
        await rig.until(lambda: not rig.app.supervisor.sessions)
        assert texts(await shown(rig)) == ["one", "two", "1"]


@pytest.mark.parametrize("path", ["/run", "/run_sse"])
async def test_9_a_session_that_is_deleted_ends_its_run(served: Any, path: str) -> None:
    async with served() as rig, asyncio.TaskGroup() as group:
        await rig.http.post(S)
        asking = group.create_task(rig.http.post(path, json=a_run()))
        await given(rig)
        await rig.until(lambda: rig.app.supervisor.lines)
        assert (await rig.http.delete(S)).status_code == 200
        answer = await asking
        expected = {"detail" if path == "/run" else "error": "Session not found: s"}
        assert answer.status_code == (404 if path == "/run" else 200)
        assert json.loads(answer.text.removeprefix(":\n\n").removeprefix("data: ")) == expected


class Written:
    """What is written of a run that no gateway holds."""

    def __init__(self, kind: type[Run], **options: Any) -> None:
        self.messages: list[Any] = []
        log = AdkLog(MemoryStore(), Key("bot", "ann", "s"), 1000)
        self.run = kind(self.note, "s", "t", "bot", log, error_response, **options)

    async def note(self, message: Any) -> None:
        self.messages.append(message)


async def test_9_a_line_that_is_silent_is_kept_alive_by_comments() -> None:
    written = Written(Streamed, pieces=True, now=lambda: 0.0)
    await written.run.send([codec.encode(frames.Pong())])
    assert [message["body"] for message in written.messages[1:]] == [b":\n\n"]


async def test_9_who_waits_longer_than_the_gateway_lives_is_told_to_come_again() -> None:
    written = Written(Whole)
    await written.run.send([codec.encode(frames.Pong())])
    assert written.messages == []
    await written.run.close(1001, "The gateway stops.")
    start, body = written.messages
    assert start["status"] == 503
    assert [*json.loads(body["body"])] == ["detail"]


async def test_9_each_event_is_written_by_itself(served: Any) -> None:
    writes: list[bytes] = []

    def watched(app: Any) -> Any:
        async def wrapped(scope: Any, receive: Any, send: Any) -> None:
            async def noted(message: Any) -> None:
                if scope["type"] == "http" and scope["path"] == "/run_sse" and message.get("body"):
                    writes.append(message["body"])
                await send(message)

            await app(scope, receive, noted)

        return wrapped

    async with served(wrap=watched) as rig:
        await rig.http.post(S)
        async with rig.stream("POST", "/run_sse", json=a_run(streaming=True)) as reader:
            work(await given(rig))
            assert len(await rest(reader)) > 3
    events = [write for write in writes if write != b":\n\n"]
    assert all(write.startswith(b"data: ") and write.count(b"\n\n") == 1 for write in events)
    assert all(write.endswith(b"\n\n") for write in events)


async def test_9_what_is_refused_before_a_stream_begins_is_an_http_error(in_memory: Any) -> None:
    async with in_memory(Settings(max_waiting=0, drain_timeout=0.01)) as rig, asyncio.TaskGroup() as group:
        await rig.http.post(S)
        asking = group.create_task(rig.http.post("/run", json=a_run()))
        said = await given(rig)
        refused = await rig.http.post("/run_sse", json=a_run())
        assert (refused.status_code, [*refused.json()]) == (429, ["detail"])
        assert refused.headers["retry-after"]
        said.end()
        await asking
        too_long = await rig.http.post("/run", json=a_run("x" * 65_537))
        assert too_long.status_code == 413
        deep = await rig.http.post("/run", json=a_run(customMetadata={"a": "x" * 20_000}))
        assert deep.status_code == 400


async def test_9_a_gateway_that_stops_says_so_to_who_waits(served: Any) -> None:
    async with served() as rig, asyncio.TaskGroup() as group:
        await rig.http.post(S)
        whole = group.create_task(rig.http.post("/run", json=a_run()))
        await given(rig)
        async with rig.stream("POST", "/run_sse", json=a_run("two")) as reader:
            await rig.app.drain()
            async with asyncio.timeout(WAIT):
                assert (await whole).status_code == 503
            await rest(reader)


async def test_10_an_invocation_is_the_users_event_the_tools_and_the_end(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        await rig.http.post(S)
        for number in range(2):
            asking = group.create_task(rig.http.post("/run", json=a_run()))
            work(await given(rig, number))
            await asking
        events = await shown(rig)
        assert [event["author"] for event in events] == ["user", "bot", "bot", "bot"] * 2
        assert len({event["id"] for event in events}) == 8
        first, second = ({event["invocationId"] for event in half} for half in (events[:4], events[4:]))
        assert len(first) == len(second) == 1
        assert first != second
        assert all(invocation.startswith("e-") for invocation in first | second)
        times = [event["timestamp"] for event in events if "text" in event["content"]["parts"][0]]
        assert times == sorted(times)


async def test_10_what_was_replaced_is_left_out(in_memory: Any) -> None:
    async with in_memory() as rig:
        path = "/api/agents/echo/sessions/s/message?user_id=ann"
        await rig.http.post(path, json={"message": "one", "turn_id": "t1"})
        await rig.http.post(path, json={"message": "two", "turn_id": "t2", "replaces": "t1"})
        events = (await rig.http.get("/apps/echo/users/ann/sessions/s")).json()["events"]
        assert texts(events) == ["two", "two"]
        assert {event["invocationId"] for event in events} == {"t2"}


async def test_12_parts_that_are_not_text_are_kept_and_given_to_the_agent(in_memory: Any) -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
    answer = {"functionResponse": {"id": "c", "name": "ask", "response": {"a_b": 1}}}
    for number, parts in enumerate(
        ([picture, {"text": "what"}, {"text": "is it?"}], [answer], [{"text": "x"}, picture])
    ):
        async with in_memory() as rig, asyncio.TaskGroup() as group:
            await rig.http.post(S)
            asking = group.create_task(rig.http.post("/run", json=a_run(*parts)))
            said = await given(rig)
            assert said.turn.content == ("what\nis it?", "", "x")[number]
            assert said.turn.parts == [part for part in parts if "text" not in part]
            said.end()
            await asking
            user = (await shown(rig))[0]
            assert user["content"] == {"role": "user", "parts": parts}


async def test_12_parts_are_limited_in_size(in_memory: Any) -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "a" * 2000}}
    async with in_memory(Settings(max_body_bytes=1000, drain_timeout=0.01)) as rig:
        await rig.http.post(S)
        assert (await rig.http.post("/run", json=a_run(picture))).status_code == 413
        assert await shown(rig) == []
