"""Saying something, and hearing it answered, as Potpie's front end does. The numbers are those of
`conversations.md`."""

from __future__ import annotations

import asyncio
import json
import re
from time import time
from typing import Any

import pytest

from gateway.agents.echo import EchoAgent
from gateway.interfaces import AgentError, Key, Note, Thought, ToolCall, ToolResult
from gateway.stores.memory import MemoryStore
from protocol.session import KnownTurn, Send
from tests.harness import WAIT, settle

C = "/api/v1/conversations/c1"
SAID = {"data": {"content": "x"}}


def front_end(data: str) -> dict[str, Any]:
    """What the original front end makes of a stream: it looks for balanced braces anywhere in it, follows
    strings while it does, and folds the objects that it finds."""
    shown: dict[str, Any] = {"message": "", "thinking": "", "tool_calls": [], "citations": []}
    depth = start = 0
    string = escaped = False
    for at, character in enumerate(data):
        if string:
            string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            string = True
        elif character == "{":
            start, depth = (at if depth == 0 else start), depth + 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                _fold(shown, json.loads(data[start : at + 1]))
    assert not string
    assert depth == 0
    return shown


def _fold(shown: dict[str, Any], found: dict[str, Any]) -> None:
    if "message" in found:
        shown["message"] += found["message"]
        shown["tool_calls"] += found["tool_calls"]
    if found.get("thinking", "None") != "None":
        shown["thinking"] += found["thinking"]
    if "citations" in found:
        shown["citations"] = found["citations"]


def session(rig: Any, key: tuple[str, str, str] = ("bot", "user", "c1")) -> Any:
    return rig.app.supervisor.sessions[key]


# ── The stream ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_6_the_stream_is_server_sent_events(served: Any) -> None:
    async with served() as rig, rig.stream("POST", f"{C}/message?session_id=r1", **SAID) as events:
        headers = events.response.headers
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (headers["x-session-id"], headers["cache-control"]) == ("r1", "no-cache, no-transform")
        said = await rig.bot.given("r1")
        for piece in ("So ", ToolCall("c", "look", {"at": 1}), ToolResult("c", "seen"), "it is"):
            said.say(piece)
        said.end()
        told = await events.rest()
        assert [event.kind for event in told] == ["queued", "chunk", "chunk", "chunk", "chunk", "end"]
        assert all(re.fullmatch(r"\d+-\d+", event.id) for event in told)
        for event in told[:-1]:
            assert sorted(event.data) == ["citations", "message", "thinking", "tool_calls"]
            assert None not in event.data.values()
        assert told[2].data["tool_calls"] == [
            {
                "call_id": "c", "event_type": "call", "tool_name": "look", "tool_response": "",
                "tool_call_details": {"input": {"at": 1}}, "stream_part": "", "is_complete": False,
            }
        ]  # fmt: skip
        assert told[-1].data == {"status": "completed"}
        assert b"\r" not in events.raw


@pytest.mark.parametrize("piece", ['He said "{"', "}{\\", "Grüße 🙂\n\n", ": keep\ndata: {}", '\\"'])
async def test_6_the_original_front_end_shows_exactly_the_answer(served: Any, piece: str) -> None:
    async with served() as rig, rig.stream("POST", f"{C}/message?session_id=r1", **SAID) as events:
        said = await rig.bot.given("r1")
        for spoken in (
            Thought(piece), piece, ToolCall(piece, piece, {piece: piece}), ToolResult(piece, piece), piece,
        ):  # fmt: skip
            said.say(spoken)
        await events.until("chunk")
        said.say(Note({"citations": [piece]}))
        said.say(piece)
        said.end()
        await events.rest()
        shown = front_end(events.raw.decode())
        assert (shown["message"], shown["thinking"], shown["citations"]) == (piece * 3, piece, [piece])
        assert [call["event_type"] for call in shown["tool_calls"]] == ["call", "result"]


async def test_6_what_failed_ends_with_why_and_without_a_message(served: Any) -> None:
    async with served() as rig, rig.stream("POST", f"{C}/message?session_id=r1", **SAID) as events:
        said = await rig.bot.given("r1")
        said.say("So f")
        said.fail(AgentError("No."))
        told = await events.rest()
        assert told[-1].data == {"status": "error", "code": "agent_failed", "error": "No."}
        assert front_end(events.raw.decode())["message"] == "So f"


async def test_6_without_stream_it_is_one_document(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        path = f"{C}/message?stream=false&session_id=r"
        asking = group.create_task(rig.http.post(f"{path}1", **SAID))
        said = await rig.bot.given("r1")
        for piece in (Thought("Hm."), "So ", ToolCall("c", "look"), "it is", Note({"citations": ["f.py"]})):
            said.say(piece)
        said.end()
        whole = await asking
        assert (whole.status_code, whole.headers["x-session-id"]) == (200, "r1")
        body = whole.json()
        assert [call["tool_name"] for call in body.pop("tool_calls")] == ["look"]
        assert body == {"message": "So it is", "citations": ["f.py"], "thinking": "Hm."}
        asking = group.create_task(rig.http.post(f"{path}2", **SAID))
        (await rig.bot.given("r2")).fail(AgentError("No.", "agent_timeout"))
        failed = await asking
        assert (failed.status_code, failed.json()) == (504, {"detail": "No."})


async def test_6_a_gateway_that_stops_ends_what_waits(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        asking = [
            group.create_task(rig.http.post(f"{C}/message?session_id={run}&stream={stream}", **SAID))
            for run in ("r1", "r2")
            for stream in ("true", "false")
        ]
        await rig.until(lambda: len(rig.app.supervisor.lines) == 4 and session(rig).state.waiting)
        await rig.app.drain()
        running, whole, waiting, whole_of_waiting = [await one for one in asking]
        assert '"code":"turn_interrupted"' in running.text
        assert "event: end" not in waiting.text
        assert (whole.status_code, whole_of_waiting.status_code) == (503, 503)
        assert whole_of_waiting.json()["detail"].startswith("The gateway stops")


async def test_6_a_listener_that_goes_leaves_the_run_running(served: Any) -> None:
    async with served() as rig:
        async with rig.stream("POST", f"{C}/message?session_id=r1", **SAID) as events:
            said = await rig.bot.given("r1")
            said.say("Hel")
            await events.until("chunk")
        await rig.until(lambda: not rig.app.supervisor.lines)
        said.say("lo")
        async with rig.stream("POST", f"{C}/resume/r1") as events:
            said.end()
            await events.rest()
            assert front_end(events.raw.decode())["message"] == "Hello"


# ── What runs are called ────────────────────────────────────────────────────────────────────────────────────


async def test_7_a_run_that_is_posted_again_is_heard_again_and_runs_once(served: Any) -> None:
    path = f"{C}/message?session_id=conversation:current_user_id:1"
    async with served() as rig:
        async with rig.stream("POST", path, **SAID) as first, rig.stream("POST", path, **SAID) as second:
            said = await rig.bot.given("conversation:current_user_id:1")
            said.say("once")
            said.end()
            heard = [await events.rest() for events in (first, second)]
        async with rig.stream("POST", path, **SAID) as third:
            heard.append(await third.rest())
        assert heard[0] == heard[1] == heard[2]
        assert len(rig.bot.turns) == 1
        other = await rig.http.post(path, data={"content": "something else"})
        assert (other.status_code, [*other.json()]) == (409, ["detail"])


async def test_7_a_run_without_a_name_gets_one_of_its_own_each_time(in_memory: Any) -> None:
    async with in_memory(agents={"echo": EchoAgent()}) as rig:

        async def called(**params: str) -> str:
            response = await rig.http.post(f"{C}/message", params=params, **SAID)
            return str(response.headers["x-session-id"])

        assert [await called() for _ in range(6)] == [
            "conversation:user:new", *(f"conversation:user:new-{number}" for number in range(1, 6)),
        ]  # fmt: skip
        assert await called(prev_human_message_id="m1") == "conversation:user:m1"
        long = await called(prev_human_message_id="m" * 500)
        assert len(long) == 128
        assert await called(prev_human_message_id="m" * 500) == long[:-2] + "-1"
        bad = await rig.http.post(f"{C}/message?prev_human_message_id=%0A", **SAID)
        assert (bad.status_code, [*bad.json()]) == (400, ["detail"])


@pytest.mark.parametrize("contents", [("same", "same"), ("one", "another")])
async def test_7_two_at_once_without_a_name_get_one_each(in_memory: Any, contents: tuple[str, str]) -> None:
    class Together(MemoryStore):
        """The first to look up whether a name is free are answered at once."""

        looking = 2

        async def turn(self, key: Key, turn_id: str) -> KnownTurn | None:
            self.looking -= 1
            try:
                return await super().turn(key, turn_id)
            finally:
                if self.looking >= 0:
                    await looked.wait()

    looked = asyncio.Barrier(2)
    agents = {"echo": EchoAgent()}
    async with in_memory(agents=agents, store=Together()) as rig, asyncio.TaskGroup() as group:
        both = [
            group.create_task(rig.http.post(f"{C}/message", data={"content": content}))
            for content in contents
        ]
        names = {(await one).headers["x-session-id"] for one in both}
        assert names == {"conversation:user:new", "conversation:user:new-1"}
        assert len((await rig.http.get(f"{C}/messages")).json()) == 4


async def test_7_a_name_that_is_no_ascii_is_told_escaped(in_memory: Any) -> None:
    async with in_memory(agents={"echo": EchoAgent()}) as rig:
        for name, told in (("a b/c", "a b/c"), ("Zoë", "Zo%C3%AB")):
            response = await rig.http.post(f"{C}/message", params={"session_id": name}, **SAID)
            assert response.headers["x-session-id"] == told
            again = await rig.http.post(f"{C}/resume/{name}/")
            assert front_end(again.text)["message"] == "x"


async def test_7_with_a_cursor_nothing_is_said(in_memory: Any) -> None:
    async with in_memory(agents={"echo": EchoAgent()}) as rig:
        await rig.http.post(f"{C}/message", data={"content": "Hello"})
        await rig.http.post(f"{C}/message", data={"content": "Goodbye"})
        for way in ("message", "regenerate"):
            query = "session_id=conversation:user:new&cursor=2-3"
            heard = await rig.http.post(f"{C}/{way}?{query}", data=SAID["data"] if way == "message" else None)
            assert front_end(heard.text)["message"] == "lo"
            none = await rig.http.post(f"{C}/message?session_id=nix&cursor=0-0", **SAID)
            assert (none.status_code, none.json()) == (404, {"detail": "Session nix not found or expired"})
        assert len((await rig.http.get(f"{C}/messages")).json()) == 4


# ── Resuming ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_8_resuming_is_strictly_after_the_cursor(served: Any) -> None:
    async with served() as rig:
        async with rig.stream("POST", f"{C}/message?session_id=r1", **SAID) as events:
            said = await rig.bot.given("r1")
            heard = [await events.event()]
            for piece in ("Grüße", ToolCall("c", "look"), " und", ToolResult("c", 1), " Ende"):
                said.say(piece)
                heard.append(await events.event())
        for number, event in enumerate(heard):  # while it goes on
            async with rig.stream("POST", f"{C}/resume/r1?cursor={event.id}") as resumed:
                rest = [await resumed.event() for _ in heard[number + 1 :]][-1:]
                assert rest == heard[number + 1 :][-1:]
        said.end()
        await rig.until(lambda: not rig.app.supervisor.lines)
        for number, event in enumerate(heard):  # and when it is over
            async with rig.stream("POST", f"{C}/resume/r1?cursor={event.id}") as resumed:
                rest = await resumed.rest()
                text = "".join(told.data["message"] for told in [*heard[: number + 1], *rest[:-1]])
                assert text == "Grüße und Ende"
                assert rest[-1].data == {"status": "completed"}
        async with rig.stream("POST", f"{C}/resume/r1?cursor={rest[-1].id}") as resumed:
            assert await resumed.rest() == []


async def test_8_ahead_of_the_end_it_waits_or_is_over(served: Any) -> None:
    async with served() as rig:
        await rig.http.post(
            "/frames", json={"type": "message", "session_id": "c1", "turn_id": "r1", "content": "x"}
        )
        said = await rig.bot.given("r1")
        async with rig.stream("POST", f"{C}/resume/r1?cursor=1700000000000-0") as events:
            said.say("So")
            said.end()
            assert await events.rest() == []
        async with rig.stream("POST", f"{C}/resume/r1?cursor=1700000000000-0") as events:
            assert await events.rest() == []


@pytest.mark.parametrize("cursor", ["", "-", "abc", "$", "1", "1-", "1-2-3", "-1-0"])
async def test_8_a_malformed_cursor_is_refused(in_memory: Any, cursor: str) -> None:
    async with in_memory(agents={"echo": EchoAgent()}) as rig:
        await rig.http.post(f"{C}/message?session_id=r1", **SAID)
        response = await rig.http.post(f"{C}/resume/r1", params={"cursor": cursor})
        assert (response.status_code, [*response.json()]) == (400, ["detail"])


async def test_8_what_is_over_can_be_heard_as_long_as_it_is_kept(in_memory: Any) -> None:
    store = MemoryStore(keep_records=3)
    async with in_memory(store=store, agents={"echo": EchoAgent()}) as rig:
        for run in ("r1", "r2"):
            await rig.http.post(f"{C}/message?session_id={run}", data={"content": run})
        again = await rig.http.post(f"{C}/resume/r1")
        assert front_end(again.text)["message"] == "r1"
        assert '"status":"completed"' in again.text
        await store.trim(time())
        for run in ("r1", "r3"):
            async with asyncio.timeout(WAIT):
                missing = await rig.http.post(f"{C}/resume/{run}")
            assert missing.status_code == 404
            assert missing.json() == {"detail": f"Session {run} not found or expired"}
        nowhere = await rig.http.post("/api/v1/conversations/c2/resume/r1")
        assert (nowhere.status_code, nowhere.json()) == (404, {"detail": "Session r1 not found or expired"})


async def test_8_who_comes_to_a_run_that_waits_hears_that_one_only(served: Any) -> None:
    async with served() as rig:
        for run in ("r1", "r2"):
            frame = {"type": "message", "session_id": "c1", "turn_id": run, "content": run}
            await rig.http.post("/frames", json=frame)
        first = await rig.bot.given("r1")
        first.say("The first")
        async with rig.stream("POST", f"{C}/resume/r2") as events:
            assert (await events.event()).kind == "queued"
            sent = rig.app.supervisor.runtime.metrics.frames_sent
            first.say("and more")
            await rig.until(lambda: session(rig).log.text.length > len("The first"))
            await settle()
            assert rig.app.supervisor.runtime.metrics.frames_sent == sent
            first.end()
            second = await rig.bot.given("r2")
            second.say("The second")
            second.end()
            await events.rest()
            assert front_end(events.raw.decode())["message"] == "The second"


async def test_8_who_resumes_is_not_told_its_thoughts_again(served: Any) -> None:
    async with served() as rig:
        async with rig.stream("POST", f"{C}/message?session_id=r1", **SAID) as events:
            said = await rig.bot.given("r1")
            said.say(Thought("Hm"))
            said.say("So")
            heard = await events.until("chunk")
            while not heard[-1].data["message"]:
                heard += await events.until("chunk")
        async with rig.stream("POST", f"{C}/resume/r1?cursor={heard[-1].id}") as events:
            said.say(Thought("m."))
            said.end()
            rest = await events.rest()
            assert "".join(one.data["thinking"] for one in rest[:-1]) == "m."
        again = await rig.http.post(f"{C}/resume/r1")
        assert front_end(again.text)["thinking"] == "Hmm."
        after = await rig.http.post(f"{C}/resume/r1?cursor={heard[-1].id}")
        assert front_end(after.text)["thinking"] == ""


# ── Stopping ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_10_what_is_stopped_keeps_what_it_had_said(served: Any) -> None:
    async with served() as rig:
        async with rig.stream("POST", f"{C}/message?session_id=r1", **SAID) as events:
            said = await rig.bot.given("r1")
            said.say("So f")
            await events.until("chunk")
            stopped = await rig.http.post(f"{C}/stop?session_id=r1", json={})
            assert stopped.json() == {
                "status": "success",
                "message": "Cancellation signal sent and task revoked",
                "stopped": True,
                "saved_partial": True,
                "message_id": "r1:answer",
            }
            assert (await events.rest())[-1].data == {"status": "cancelled"}
        messages = (await rig.http.get(f"{C}/messages")).json()
        assert (messages[1]["id"], messages[1]["content"]) == ("r1:answer", "So f")
        for query in ("", "?session_id=r1", "?session_id=never"):
            again = await rig.http.post(f"{C}/stop{query}")
            assert again.json() == {
                "status": "success",
                "message": "No active session to stop",
                "stopped": False,
                "saved_partial": False,
                "message_id": None,
            }
        assert (await rig.http.post("/api/v1/conversations/c2/stop")).status_code == 404


async def test_10_without_a_name_it_is_the_run_that_goes_on(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        asking = [
            group.create_task(rig.http.post(f"{C}/message?session_id={run}&stream=false", **SAID))
            for run in ("r1", "r2")
        ]
        said = await rig.bot.given("r1")
        said.say("So f")
        await rig.until(lambda: session(rig).state.waiting and session(rig).log.text.length == 4)
        waiting = (await rig.http.post(f"{C}/stop?session_id=r2")).json()
        assert (waiting["stopped"], waiting["saved_partial"]) == (True, False)
        assert (await asking[1]).json()["message"] == ""
        running = (await rig.http.post(f"{C}/stop")).json()
        assert (running["stopped"], running["saved_partial"]) == (True, True)
        assert running["message_id"] == "r1:answer"
        assert (await asking[0]).json()["message"] == "So f"


# ── What is said ────────────────────────────────────────────────────────────────────────────────────────────


async def test_11_a_message_makes_the_conversation_with_the_agent_that_is_named(in_memory: Any) -> None:
    async with in_memory() as rig:
        await rig.http.post(f"{C}/message?agent=echo", **SAID)
        assert (await rig.http.get(f"{C}/info")).json()["agent_ids"] == ["echo"]
        assert (await rig.http.get("/api/sessions/c1")).json()["message_count"] == 2
        await rig.http.delete("/api/sessions/c1")
        gone = await rig.http.post(f"{C}/message", **SAID)
        assert (gone.status_code, [*gone.json()]) == (410, ["detail"])
        nobody = await rig.http.post(f"{C}/message?agent=nobody", **SAID)
        assert (nobody.status_code, [*nobody.json()]) == (404, ["detail"])


async def test_11_regenerating_replaces_the_last_answer(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        for number, content in enumerate(("first", "second")):
            asking = group.create_task(
                rig.http.post(f"{C}/message?session_id=r{number}&stream=false", data={"content": content})
            )
            said = await rig.bot.given(f"r{number}")
            busy = await rig.http.post(f"{C}/regenerate")
            assert (busy.status_code, [*busy.json()]) == (409, ["detail"])
            said.say("once")
            said.end()
            await asking
        path, node = f"{C}/regenerate?session_id=again&background=true", {"node_id": "n", "name": "N"}
        asking = group.create_task(rig.http.post(path, json={"node_ids": [node]}))
        said = await rig.bot.given("again")
        assert (said.turn.content, said.turn.metadata) == ("second", {"node_ids": [node]})
        said.say("anew")
        said.end()
        assert front_end((await asking).text)["message"] == "anew"
        messages = (await rig.http.get(f"{C}/messages")).json()
        assert [one["content"] for one in messages] == ["first", "once", "second", "anew"]
        assert front_end((await rig.http.post(path)).text)["message"] == "anew"
        assert len(rig.bot.turns) == 3


async def test_11_what_came_with_the_message_comes_with_it_again(in_memory: Any) -> None:
    async with in_memory() as rig:
        said = Send("r1", "look", metadata={"a": 1}, parts=[{"inlineData": {"data": "aGk="}}])
        async with rig.app.supervisor.opened(Key("bot", "user", "c1"), "new") as live:
            await live.asked(said)
        (await rig.bot.given("r1")).end()
        await rig.until(lambda: not rig.app.supervisor.sessions)
        async with asyncio.TaskGroup() as group:
            group.create_task(rig.http.post(f"{C}/regenerate?session_id=r2"))
            again = await rig.bot.given("r2")
            again.end()
        assert (again.turn.metadata, again.turn.parts) == ({"a": 1}, [{"inlineData": {"data": "aGk="}}])


async def test_11_there_must_be_something_to_answer_again(in_memory: Any) -> None:
    async with in_memory() as rig:
        unknown = await rig.http.post(f"{C}/regenerate")
        assert (unknown.status_code, unknown.json()["conversationId"]) == (404, "c1")
        await rig.http.post("/api/agents/bot/sessions", json={"session_id": "c1"})
        empty = await rig.http.post(f"{C}/regenerate")
        assert (empty.status_code, [*empty.json()]) == (404, ["detail"])


async def test_11_a_message_is_a_form_or_json(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        nodes = [{"node_id": "n1", "name": "f"}]
        parts = {
            "content": (None, "Grüße"),
            "node_ids": (None, json.dumps(nodes)),
            "tunnel_url": (None, "http://elsewhere"),
            "images": ("", b""),
            "attachment_ids": (None, ""),
        }
        for number, body in enumerate(
            (
                {"files": parts},
                {"data": {"content": "Grüße", "node_ids": json.dumps(nodes)}},
                {"json": {"content": "Grüße", "node_ids": nodes, "images": []}},
            )
        ):
            group.create_task(rig.http.post(f"{C}/message?session_id=r{number}", **body))
            said = await rig.bot.given(f"r{number}")
            assert (said.turn.content, said.turn.metadata) == ("Grüße", {"node_ids": nodes})
            said.end()


async def test_11_what_is_wrong_with_a_message_is_said(in_memory: Any) -> None:
    async with in_memory() as rig:
        for body, status, detail in (
            ({"data": {"content": "  "}}, 400, "Message content cannot be empty"),
            ({"data": {"node_ids": "[]"}}, 400, "Message content cannot be empty"),
            ({"json": {"content": ""}}, 400, "Message content cannot be empty"),
            ({"json": {}}, 400, "content"),
            ({"json": {"content": "x", "images": ["i"]}}, 400, "images"),
            ({"data": {"content": "x", "node_ids": "{"}}, 400, "Invalid node_ids format"),
            ({"data": {"content": "x", "node_ids": '{"a": 1}'}}, 400, "Invalid node_ids format"),
            ({"data": {"content": "x", "attachment_ids": "a1"}}, 400, "no images"),
            ({"files": {"content": (None, "x"), "images": ("i.png", b"png")}}, 400, "no images"),
            ({"data": {"content": "x" * 65_537}}, 413, "65,536"),
            ({"files": {"content": (None, "x"), "more": ("f", b"x" * 3_000_000)}}, 413, "bytes"),
            ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "JSON"),
        ):
            response = await rig.http.post(f"{C}/message", **body)
            assert response.status_code == status, (body, response.text)
            assert detail in response.json()["detail"]
        assert (await rig.http.get(f"{C}/info")).status_code == 404


async def test_12_streams_that_are_idle_slow_nobody(in_memory: Any) -> None:
    idle = 200
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        streams = [
            group.create_task(rig.http.post(f"/api/v1/conversations/idle{number}/message", **SAID))
            for number in range(idle)
        ]
        await rig.until(lambda: len(rig.app.supervisor.lines) == len(rig.bot.turns) == idle)
        await settle()
        batches = rig.app.supervisor.runtime.metrics.batches
        busy = group.create_task(rig.http.post(f"{C}/message?session_id=busy", **SAID))
        said = await rig.bot.given("busy")
        for path in ("active-session", "task-status"):
            assert (await rig.http.get(f"{C}/{path}")).json()["sessionId"] == "busy"
        said.say("at once")
        said.end()
        assert front_end((await busy).text)["message"] == "at once"
        assert not any(stream.done() for stream in streams)
        # Nobody was written to but the one, and nothing was done for those who wait.
        assert rig.app.supervisor.runtime.metrics.batches - batches <= 8
        for said in rig.bot.turns:
            said.end()
