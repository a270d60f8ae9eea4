"""Sessions with a lifetime, and messages in them, as ElizaOS's clients ask for them. The numbers are those of
`messaging.md`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gateway.agents.echo import EchoAgent
from gateway.api import Api
from gateway.auth import Identity
from gateway.eliza_reply import Streamed
from gateway.interfaces import AgentError, Caller, Info, Key, Thought, ToolCall, ToolResult
from gateway.settings import Settings
from gateway.stores.sqlite import SqliteStore
from protocol import codec, frames
from protocol.eliza import agent_uuid, channel_id
from protocol.errors import Refused
from protocol.lifetime import tiers
from protocol.records import Message, Record, Response, Timing
from tests.harness import Client

S = "/api/messaging/sessions"
NOON = 1_800_000_000.0
DATES = {minute: f"2027-01-15T08:{minute:02}:00.000Z" for minute in range(60)}
"""By minutes after `NOON`."""
DEFAULTS = {
    "timeoutMinutes": 30.0, "autoRenew": True, "maxDurationMinutes": 720.0, "warningThresholdMinutes": 5.0,
}  # fmt: skip


class Clock:
    """Minutes after `NOON`."""

    minutes = 0.0

    def __call__(self) -> float:
        return NOON + 60 * self.minutes


async def by_name(token: str | None, _: Mapping[str, str]) -> Caller:
    match token:
        case None:
            raise Refused("unauthenticated", "Who are you?")
        case "service":
            return Caller(service=True)
        case "narrow":
            return Caller("ann", agents=frozenset({"echo"}))
        case name:
            return Caller(name)


def key(name: str) -> dict[str, str]:
    return {"X-API-KEY": name}


async def made(rig: Any, agent: str = "bot", user: str = "ann", **body: Any) -> Any:
    """A new session, as its maker is told of it."""
    response = await rig.http.post(S, json={"agentId": agent, "userId": user, **body})
    assert response.status_code == 201, response.text
    return response.json()


async def asked(rig: Any, method: str, path: str, status: int = 200, **options: Any) -> Any:
    """What a request is answered."""
    response = await rig.http.request(method, f"{S}{path}", **options)
    assert response.status_code == status, response.text
    return response.json()


async def refused(rig: Any, method: str, path: str, status: int, code: str, **options: Any) -> Any:
    """Why a request is refused."""
    error = (await asked(rig, method, path, status, **options))["error"]
    assert error["code"] == code, error
    return error


async def says(rig: Any, one: str, text: str = "x", transport: str = "http", **body: Any) -> Any:
    return await asked(
        rig, "POST", f"/{one}/messages", 201, json={"content": text, "transport": transport, **body}
    )


async def turn(rig: Any, number: int = 0) -> Any:
    """The turn of that number that the agent `bot` was given."""
    await rig.until(lambda: len(rig.bot.turns) > number)
    return rig.bot.turns[number]


def contents(page: Any) -> list[str]:
    return [message["content"] for message in page["messages"]]


# ── Sessions ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_1_there_are_the_ten_endpoints(in_memory: Any) -> None:
    clock = Clock()
    async with in_memory(now=clock, agents={"echo": EchoAgent()}) as rig:
        new = await made(rig, "echo", metadata={"topic": "x"})
        one = new["sessionId"]
        channel = channel_id("echo", "ann", one)
        assert str(UUID(one)) == one
        names = {"sessionId": one, "channelId": channel, "agentId": "echo", "userId": "ann"}
        kept = {"metadata": {"topic": "x"}, "expiresAt": DATES[30], "timeoutConfig": DEFAULTS}
        assert new == {**names, "createdAt": DATES[0], **kept}
        assert list(new) == [*names, "createdAt", *kept]
        clock.minutes = 1
        info = await asked(rig, "GET", f"/{one}")
        assert info == {
            **names, "createdAt": DATES[0], "lastActivity": DATES[0], **kept, "renewalCount": 0,
            "timeRemaining": 29 * 60_000, "isNearExpiration": False,
        }  # fmt: skip
        renewed = {**info, "lastActivity": DATES[1], "expiresAt": DATES[31], "timeRemaining": 1_800_000}
        for number, path in enumerate(("renew", "heartbeat"), 1):
            assert await asked(rig, "POST", f"/{one}/{path}") == {**renewed, "renewalCount": number}
        patched = await asked(rig, "PATCH", f"/{one}/timeout", json={"timeoutMinutes": 29})
        assert (patched["expiresAt"], patched["timeoutConfig"]["timeoutMinutes"]) == (DATES[30], 29)
        assert (await says(rig, one, "Hello"))["agentResponse"] == {"text": "Hello"}
        assert contents(await asked(rig, "GET", f"/{one}/messages")) == ["Hello", "Hello"]
        assert [found["sessionId"] for found in (await asked(rig, "GET", ""))["sessions"]] == [one]
        assert (await asked(rig, "GET", "/health"))["activeSessions"] == 1
        assert (await asked(rig, "DELETE", f"/{one}"))["success"] is True


async def test_1_an_agent_is_known_by_its_name_and_by_a_uuid_made_of_it(in_memory: Any) -> None:
    async with in_memory() as rig:
        for name in ("bot", agent_uuid("bot"), agent_uuid("bot").upper()):
            assert (await made(rig, name))["agentId"] == "bot"


async def test_1_the_user_is_the_caller_unless_a_service_calls(in_memory: Any) -> None:
    async with in_memory(authenticator=by_name) as rig:
        body = {"agentId": "bot", "userId": "ann"}
        await refused(rig, "POST", "", 403, "FORBIDDEN", json=body, headers=key("bob"))
        for caller in ("ann", "service"):
            new = await asked(rig, "POST", "", 201, json=body, headers=key(caller))
            assert new["userId"] == "ann"
            for other, status in (("ann", 200), ("service", 200), ("bob", 404)):
                await asked(rig, "GET", f"/{new['sessionId']}", status, headers=key(other))


async def test_1_an_agent_that_the_caller_may_not_use_is_none(in_memory: Any) -> None:
    async with in_memory(authenticator=by_name) as rig:
        for agent in ("bot", agent_uuid("bot"), "nobody"):
            body = {"agentId": agent, "userId": "ann"}
            error = await refused(rig, "POST", "", 404, "AGENT_NOT_FOUND", json=body, headers=key("narrow"))
            assert error["message"] == f"Agent with ID '{agent}' not found"


async def test_1_of_several_with_one_id_the_agent_says_which(in_memory: Any) -> None:
    async with in_memory(agents={"echo": EchoAgent(), "other": EchoAgent()}) as rig:
        for agent in ("echo", "other"):
            await rig.http.post(f"/api/agents/{agent}/sessions", json={"session_id": "s"})
        for method, path, body in EACH:
            await refused(rig, method, f"/s{path}", 409, "SESSION_AMBIGUOUS", json=body)
            await refused(rig, method, f"/s{path}?agent=nobody", 404, "AGENT_NOT_FOUND", json=body)
        for agent in ("echo", "other"):
            assert (await asked(rig, "GET", f"/s?agent={agent}"))["agentId"] == agent
            await asked(rig, "DELETE", f"/s?agent={agent}")


EACH: Any = (
    ("GET", "", None), ("GET", "/messages", None), ("POST", "/messages", {"content": "x"}),
    ("POST", "/renew", None), ("POST", "/heartbeat", None), ("PATCH", "/timeout", {}), ("DELETE", "", None),
)  # fmt: skip
"""Whatever is asked of one session."""


# ── A message and its answer ────────────────────────────────────────────────────────────────────────────────


async def test_2_a_message_is_answered_in_three_shapes_at_once(in_memory: Any) -> None:
    clock = Clock()
    async with in_memory(now=clock) as rig, asyncio.TaskGroup() as group:
        one = (await made(rig, metadata={"topic": "x"}))["sessionId"]
        clock.minutes = 1
        beside = {"metadata": {"k": 1}, "attachments": [{"url": "u"}]}
        saying = group.create_task(says(rig, one, "Hello", "sync", **beside))
        said = await turn(rig)
        for piece in (Thought("Hm."), ToolCall("c", "look"), ToolResult("c", "seen"), "Hi."):
            said.say(piece)
        said.end()
        answer = await saying
        of_all = {
            "agentId": "bot", "userId": "ann", "timeoutConfig": DEFAULTS, "topic": "x", "sessionId": one,
        }  # fmt: skip
        metadata = {**of_all, "k": 1, "attachments": [{"url": "u"}]}
        channel = channel_id("bot", "ann", one)
        user_message = {
            "id": answer["id"], "content": "Hello", "authorId": "ann", "createdAt": DATES[1],
            "channelId": channel, "channel_id": channel, "author_id": "ann", "source_type": "user",
            "message_server_id": "00000000-0000-0000-0000-000000000000",
            "created_at": int(NOON + 60) * 1000, "metadata": metadata,
            "raw_message": {"content": "Hello", "attachments": [{"url": "u"}]},
        }  # fmt: skip
        came = {
            "success": True,
            "userMessage": user_message,
            "agentResponse": {"text": "Hi.", "thought": "Hm.", "actions": ["look"]},
            "sessionStatus": {
                "expiresAt": DATES[31], "renewalCount": 1, "wasRenewed": True, "isNearExpiration": False,
            },
        }  # fmt: skip
        alone = {name: user_message[name] for name in ("id", "content", "authorId", "createdAt", "metadata")}
        assert answer == {**alone, **came, "data": came}
        replied, stored = (await asked(rig, "GET", f"/{one}/messages"))["messages"]
        assert stored == {**alone, "isAgent": False}
        assert UUID(replied.pop("id")) != UUID(stored["id"])
        assert replied.pop("createdAt") >= stored["createdAt"]
        assert replied == {
            "content": "Hi.", "authorId": "bot", "isAgent": True,
            "metadata": {**of_all, "status": "completed", "thought": "Hm.", "actions": ["look"]},
        }  # fmt: skip


@pytest.mark.parametrize("how", [{"transport": "websocket"}, {"mode": "websocket"}, {}])
async def test_2_over_websocket_the_answer_is_not_waited_for(in_memory: Any, how: dict[str, str]) -> None:
    async with in_memory() as rig:
        one = (await made(rig))["sessionId"]
        for number in range(2):  # the second one has to wait for its turn
            answer = await asked(rig, "POST", f"/{one}/messages", 201, json={"content": str(number), **how})
            assert "agentResponse" not in answer
            assert "agentResponse" not in answer["data"]
            newest = (await asked(rig, "GET", f"/{one}/messages"))["messages"][0]
            assert newest.pop("isAgent") is False
            assert newest == {name: answer[name] for name in newest}


@pytest.mark.parametrize(
    "how", [{"transport": "sse"}, {"mode": "stream"}, {"transport": "sse", "mode": "http"}]
)
async def test_2_over_sse_the_answer_comes_as_it_is_written(in_memory: Any, how: dict[str, str]) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        one = (await made(rig))["sessionId"]
        saying = group.create_task(rig.http.post(f"{S}/{one}/messages", json={"content": "Hello", **how}))
        said = await turn(rig)
        said.say("Hi ")
        said.say(ToolCall("c", "look"))
        said.say(ToolResult("c", "seen"))
        said.say("there.")
        said.end()
        events = told(await saying)
        newest, oldest = (await asked(rig, "GET", f"/{one}/messages"))["messages"]
        assert [kind for kind, _ in events] == ["user_message", *["chunk"] * (len(events) - 2), "done"]
        assert events[0][1]["id"] == oldest["id"]
        chunks = [data for _, data in events[1:-1]]
        assert "".join(chunk["chunk"] for chunk in chunks) == "Hi there."
        assert {chunk["messageId"] for chunk in chunks} == {newest["id"]}
        assert [chunk["index"] for chunk in chunks] == [*range(len(chunks))]
        assert events[-1][1] == {"text": "Hi there.", "actions": ["look"]}


def told(response: Any) -> list[tuple[str, Any]]:
    """The events of a stream that is over."""
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    blocks = [block.split("\n") for block in response.text.split("\n\n") if block.startswith("event: ")]
    return [(kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for kind, data in blocks]


async def test_2_one_who_lagged_gets_the_rest_of_the_text_in_a_last_chunk(in_memory: Any) -> None:
    async def send(message: Any) -> None:
        written.append(message)

    written: list[Any] = []
    async with in_memory() as rig:
        info = Info(Key("bot", "ann", "s"), NOON, NOON)
        stream = Streamed(send, Api(rig.app.supervisor, None), info, "t")
        end = frames.Response("e.3.0", "s", "t", "Hello", "completed", 0, 0, Timing(), 0.0)
        delta = frames.TextDelta("e.2.3", "s", "t", "Hel")
        other = frames.TextDelta("e.2.3", "s", "another", "xxx")
        await stream.send([codec.encode(frame) for frame in (frames.Pong(), delta, other, end, delta)])
        body = written[1]["body"].decode()
        assert body.startswith(":\n\n")  # silence is broken by what no client hears
        assert [body.count(text) for text in ('"Hel"', '"lo"', "xxx", "event: done")] == [1, 1, 0, 1]
        assert written[1]["more_body"] is False


async def test_2_an_agent_that_fails_is_told_of_in_the_same_words(in_memory: Any) -> None:
    async with in_memory() as rig, asyncio.TaskGroup() as group:
        one = (await made(rig))["sessionId"]
        for number, transport in enumerate(("http", "sse")):
            body = {"content": "x", "transport": transport}
            saying = group.create_task(rig.http.post(f"{S}/{one}/messages", json=body))
            said = await turn(rig, number)
            said.say("So")
            said.fail(AgentError("I am tired."))
            answer = await saying
            if transport == "http":
                error = answer.json()["error"]
                assert (answer.status_code, error["code"]) == (502, "AGENT_FAILED")
                assert error["message"] == "I am tired."
            else:
                assert told(answer)[-1] == ("error", {"error": "I am tired.", "code": "AGENT_FAILED"})
        failed = (await asked(rig, "GET", f"/{one}/messages"))["messages"][0]
        assert (failed["content"], failed["metadata"]["status"]) == ("So", "failed")
        assert failed["metadata"]["code"] == "AGENT_FAILED"


async def test_2_deleting_is_told_in_both_shapes(in_memory: Any) -> None:
    async with in_memory() as rig:
        one = (await made(rig))["sessionId"]
        done = {"success": True, "message": f"Session {one} deleted successfully"}
        assert await asked(rig, "DELETE", f"/{one}") == {**done, "data": done}


# ── Refusing ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "body", [{}, {"agentId": "bot"}, {"agentId": 5, "userId": "ann"}, {"agentId": "bot", "userId": ""}]
)
async def test_3_both_fields_are_named_where_one_is_missing(in_memory: Any, body: Any) -> None:
    async with in_memory() as rig:
        error = await refused(rig, "POST", "", 400, "VALIDATION_ERROR", json=body)
        assert error.pop("timestamp").endswith("Z")
        assert error == {
            "code": "VALIDATION_ERROR", "message": "Missing required fields: agentId, userId",
            "details": {"missingFields": ["agentId", "userId"]},
        }  # fmt: skip


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"agentId": "bot", "userId": "a/b"}', b"[" * 5000])
async def test_3_so_is_what_cannot_be_read(in_memory: Any, body: bytes) -> None:
    async with in_memory() as rig:
        headers = {"Content-Type": "application/json"}
        await refused(rig, "POST", "", 400, "VALIDATION_ERROR", content=body, headers=headers)


async def test_3_nothing_that_was_sent_is_sent_back(in_memory: Any) -> None:
    async with in_memory() as rig:
        one, secret = (await made(rig))["sessionId"], "secret"
        for method, path, body in (
            ("POST", "", {"agentId": "bot", "userId": "ann", "metadata": {"k": secret * 5000}}),
            ("POST", f"/{one}/messages", {"content": secret * 5000}),
            ("POST", f"/{one}/messages", {"content": "x", "metadata": {"k": secret * 5000}}),
            ("POST", f"/{one}/messages", {"content": "x", "transport": secret}),
            ("POST", f"/{one}/messages", {"content": "x", "transport": [secret]}),
            ("POST", f"/{one}/messages", {"content": [secret]}),
            ("PATCH", f"/{one}/timeout", {"timeoutMinutes": {"k": secret}}),
            ("GET", f"/{one}/messages?before={secret}", None),
        ):
            error = await refused(rig, method, path, 400, "VALIDATION_ERROR", json=body)
            assert error.keys() == {"code", "message", "timestamp", "details"}
            assert secret not in str(error)


async def test_3_a_body_that_is_too_large_is_a_validation_error_too(in_memory: Any) -> None:
    async with in_memory(Settings(max_body_bytes=100)) as rig:
        body = {"agentId": "bot", "userId": "ann", "metadata": {"k": "x" * 100}}
        await refused(rig, "POST", "", 413, "VALIDATION_ERROR", json=body)


async def test_4_at_the_maximum_duration_nothing_is_renewed_by_hand(in_memory: Any) -> None:
    clock = Clock()
    async with in_memory(now=clock) as rig:
        config = {"timeoutMinutes": 30, "maxDurationMinutes": 50}
        one = (await made(rig, timeoutConfig=config))["sessionId"]
        clock.minutes = 25
        assert (await asked(rig, "POST", f"/{one}/renew"))["renewalCount"] == 1
        clock.minutes = 30
        error = await refused(rig, "POST", f"/{one}/renew", 422, "SESSION_RENEWAL_FAILED")
        assert error["message"] == f"Cannot renew session '{one}': Maximum duration reached"
        assert error["details"] == {
            "maxDuration": 50, "createdAt": DATES[0], "timeSinceCreation": 30 * 60_000,
        }  # fmt: skip
        assert (await asked(rig, "POST", f"/{one}/heartbeat"))["renewalCount"] == 1
        clock.minutes = 50
        await refused(rig, "POST", f"/{one}/renew", 410, "SESSION_EXPIRED")


# ── Lifetimes ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_5_what_expired_is_told_so_for_a_day(in_memory: Any) -> None:
    clock = Clock()
    async with in_memory(now=clock) as rig:
        one = (await made(rig))["sessionId"]
        for clock.minutes in (30, 31, 24 * 60):
            for method, path, body in EACH:
                if (method, path) != ("DELETE", "") or clock.minutes > 30:
                    error = await refused(rig, method, f"/{one}{path}", 410, "SESSION_EXPIRED", json=body)
                    assert error["message"] == f"Session '{one}' expired at {DATES[30]}"
                    assert error["details"] == {"sessionId": one, "expiresAt": DATES[30]}
        clock.minutes = 30 + 24 * 60
        await rig.app.supervisor.runtime.store.trim(clock())
        await refused(rig, "GET", f"/{one}", 404, "SESSION_NOT_FOUND")


async def test_5_one_that_expired_and_was_not_asked_for_can_be_deleted(in_memory: Any) -> None:
    clock = Clock()
    async with in_memory(now=clock) as rig:
        one = (await made(rig))["sessionId"]
        clock.minutes = 40
        await asked(rig, "DELETE", f"/{one}")
        await refused(rig, "GET", f"/{one}", 404, "SESSION_NOT_FOUND")


async def test_5_what_was_deleted_is_not_there(in_memory: Any) -> None:
    async with in_memory() as rig:
        one = (await made(rig))["sessionId"]
        saying = {"content": "x", "transport": "websocket"}
        await asked(rig, "POST", f"/{one}/messages", 201, json=saying)
        await asked(rig, "DELETE", f"/{one}")
        await rig.until(lambda: rig.bot.turns[0].closed.is_set())
        for name in (one, "never-was"):
            for method, path, body in EACH:
                error = await refused(rig, method, f"/{name}{path}", 404, "SESSION_NOT_FOUND", json=body)
                assert error["message"] == f"Session with ID '{name}' not found"


@pytest.mark.parametrize(
    ("given", "clamped", "patched"),
    [
        ({"timeoutMinutes": 1}, {"timeoutMinutes": 5.0}, None),
        ({"timeoutMinutes": 99_999}, {"timeoutMinutes": 1440.0}, None),
        ({"timeoutMinutes": "45"}, {"timeoutMinutes": 45.0}, {"timeoutMinutes": 45.0}),
        ({"timeoutMinutes": "abc"}, {"timeoutMinutes": 30.0}, {"timeoutMinutes": 30.0}),
        ({"timeoutMinutes": True}, {"timeoutMinutes": 30.0}, None),
        ({"maxDurationMinutes": 9999}, {"maxDurationMinutes": 2880.0}, {"maxDurationMinutes": 2880.0}),
        ({"warningThresholdMinutes": 0}, {"warningThresholdMinutes": 1.0}, {"warningThresholdMinutes": 1.0}),
        ({"autoRenew": False}, {"autoRenew": False}, {"autoRenew": False}),
        ({"autoRenew": "false"}, None, None),
        ({"unknown": 1}, {}, {}),
    ],
)
async def test_6_creating_clamps_and_patching_refuses(
    in_memory: Any, given: Any, clamped: Any, patched: Any
) -> None:
    async with in_memory() as rig:
        one = (await made(rig))["sessionId"]
        body = {"agentId": "bot", "userId": "ann", "timeoutConfig": given}
        for method, path, sent, expected in (
            ("POST", "", body, clamped), ("PATCH", f"/{one}/timeout", given, patched),
        ):  # fmt: skip
            if expected is None:
                error = await refused(rig, method, path, 400, "VALIDATION_ERROR", json=sent)
                assert error["message"].startswith("Invalid timeout configuration: ")
            else:
                answer = await asked(rig, method, path, 201 if method == "POST" else 200, json=sent)
                assert answer["timeoutConfig"] == {**DEFAULTS, **expected}


async def test_6_patching_changes_what_it_says_and_nothing_else(in_memory: Any) -> None:
    async with in_memory(now=Clock()) as rig:
        config: Any = {"timeoutMinutes": 60, "autoRenew": False}
        one = (await made(rig, timeoutConfig=config))["sessionId"]
        before = await asked(rig, "GET", f"/{one}")
        assert await asked(rig, "PATCH", f"/{one}/timeout", json={}) == before
        after = await asked(rig, "PATCH", f"/{one}/timeout", json={"warningThresholdMinutes": 7})
        config = {**before["timeoutConfig"], "warningThresholdMinutes": 7.0}
        assert after == {**before, "timeoutConfig": config}
        error = await refused(
            rig, "PATCH", f"/{one}/timeout", 400, "VALIDATION_ERROR", json={"timeoutMinutes": 1}
        )
        assert error["message"] == "Invalid timeout configuration: Timeout must be between 5 and 1440 minutes"


async def test_6_patching_can_end_a_session(in_memory: Any) -> None:
    clock = Clock()
    async with in_memory(now=clock) as rig:
        one = (await made(rig, timeoutConfig={"autoRenew": False}))["sessionId"]
        clock.minutes = 20
        error = await refused(
            rig, "PATCH", f"/{one}/timeout", 410, "SESSION_EXPIRED", json={"timeoutMinutes": 10}
        )
        assert error["details"]["sessionId"] == one


async def test_7_the_session_says_over_its_agent_over_the_world(in_memory: Any) -> None:
    environ = {
        "SESSION_DEFAULT_TIMEOUT_MINUTES": "20", "SESSION_WARNING_THRESHOLD_MINUTES": "7",
        "BOT_SESSION_TIMEOUT_MINUTES": "40", "BOT_SESSION_AUTO_RENEW": "false",
        "ECHO_SESSION_AUTO_RENEW": "true",
    }  # fmt: skip
    async with in_memory(tiers=tiers(environ, ["bot", "echo"])) as rig:
        of_world = {**DEFAULTS, "timeoutMinutes": 20.0, "warningThresholdMinutes": 7.0}
        assert (await made(rig, "echo"))["timeoutConfig"] == of_world
        of_bot = {**of_world, "timeoutMinutes": 40.0, "autoRenew": False}
        assert (await made(rig, "bot"))["timeoutConfig"] == of_bot
        own = await made(rig, "bot", timeoutConfig={"timeoutMinutes": 50})
        assert own["timeoutConfig"] == {**of_bot, "timeoutMinutes": 50.0}


@pytest.mark.parametrize(("minutes", "near"), [(24.5, False), (25, True), (29.5, True)])
async def test_8_what_is_near_its_end_is_so_wherever_it_is_told(
    in_memory: Any, minutes: float, near: bool
) -> None:
    clock = Clock()
    async with in_memory(now=clock, agents={"echo": EchoAgent()}) as rig:
        one = (await made(rig, "echo", timeoutConfig={"autoRenew": False}))["sessionId"]
        await made(rig, "echo", timeoutConfig={"timeoutMinutes": 60})
        clock.minutes = minutes
        for _ in range(2):  # before it was announced, and after
            assert (await asked(rig, "GET", f"/{one}"))["isNearExpiration"] is near
            status = (await says(rig, one))["sessionStatus"]
            assert (status["isNearExpiration"], status["wasRenewed"]) == (near, False)
            listed = (await asked(rig, "GET", ""))["sessions"]
            assert [found["isNearExpiration"] for found in listed] == [
                near if found["sessionId"] == one else False for found in listed
            ]
            assert (await asked(rig, "GET", "/health"))["expiringSoon"] == near
            await rig.app.supervisor.look_after_due()


# ── The history ─────────────────────────────────────────────────────────────────────────────────────────────


async def conversation(rig: Any, *minutes: float) -> tuple[str, list[str]]:
    """A session in which something was said at those times, and answered in the same instant, as an imported
    history may have it; what was said, newest first."""
    log: list[Record] = []
    for number, at in enumerate(NOON + 60 * minute for minute in minutes):
        log.append(Message(f"t{number}", f"ask {number}", at))
        log.append(Response(f"t{number}", f"tell {number}", "completed", at))
    await rig.app.supervisor.make(Identity("ann"), "bot", "s", records=log)
    return "s", [record.content for record in reversed(log) if isinstance(record, Message | Response)]


async def pages(rig: Any, one: str, query: str) -> list[Any]:
    """All pages, each from where the one before says that it ends."""
    found, cursor = [], ""
    while True:
        page = await asked(rig, "GET", f"/{one}/messages?{query}{cursor}")
        found.append(page)
        if not page["hasMore"]:
            return found
        cursor = f"&cursor={page['cursor']}"


@pytest.mark.parametrize("limit", range(1, 10))
async def test_9_paging_loses_nothing_and_knows_where_it_ends(in_memory: Any, limit: int) -> None:
    async with in_memory() as rig:
        one, said = await conversation(rig, 0, 1, 1, 1)  # six messages share a millisecond
        backward = await pages(rig, one, f"limit={limit}")
        assert [text for page in backward for text in contents(page)] == said
        forward = await pages(rig, one, f"limit={limit}&after=1")
        assert [text for page in reversed(forward) for text in contents(page)] == said
        for found in (backward, forward):
            assert len(found) == -(-8 // limit)
            assert all(len(page["messages"]) == limit for page in found[:-1])
        within = await pages(rig, one, f"limit={limit}&after={DATES[0]}&before={DATES[2]}")
        assert [text for page in within for text in contents(page)] == said[:6]
        assert len(within) == -(-6 // limit)


async def test_9_who_comes_back_for_what_is_new_misses_nothing(in_memory: Any) -> None:
    async with in_memory(now=Clock(), agents={"echo": EchoAgent()}) as rig:
        one = (await made(rig, "echo"))["sessionId"]
        cursor, heard = "", []
        for text in ("one", "two"):  # all in one millisecond
            await says(rig, one, text)
            page = await asked(rig, "GET", f"/{one}/messages?after=1{cursor}")
            heard.append(contents(page))
            assert page["hasMore"] is False
            cursor = f"&cursor={page['cursor']}"
        assert heard == [["one", "one"], ["two", "two"]]
        nothing = await asked(rig, "GET", f"/{one}/messages?after=1{cursor}")
        assert nothing == {"messages": [], "hasMore": False}


async def test_9_messages_are_told_newest_first_with_the_times_at_both_ends(in_memory: Any) -> None:
    async with in_memory() as rig:
        one, said = await conversation(rig, 0, 1, 2)
        for limit, size in (("0", 1), ("-5", 1), ("3", 3), ("1000", 6), ("abc", 6), ("", 6)):
            page = await asked(rig, "GET", f"/{one}/messages?limit={limit}")
            assert contents(page) == said[:size]
            assert page["hasMore"] is (size < 6)
            oldest = (size - 1) // 2  # in minutes before the newest
            assert page["messages"][-1]["createdAt"] == DATES[2 - oldest]
            at = int(NOON + 120) * 1000
            assert page["cursors"] == {"before": at - 60_000 * oldest, "after": at}
            before = await asked(rig, "GET", f"/{one}/messages?before={page['cursors']['before']}")
            assert contents(before) == said[2 * oldest + 2 :]
            after = await asked(rig, "GET", f"/{one}/messages?after={page['cursors']['after']}")
            assert contents(after) == []


async def test_9_a_cursor_that_is_none_is_refused(in_memory: Any) -> None:
    async with in_memory() as rig:
        one = (await made(rig))["sessionId"]
        for cursor in ("x", "W10", "é", "LTE"):
            await refused(rig, "GET", f"/{one}/messages?cursor={cursor}", 400, "VALIDATION_ERROR")


@pytest.mark.parametrize("moment", [f"{NOON * 1000 + 60_000:.0f}", DATES[1], "2027-01-15T09:01:00%2B01:00"])
async def test_10_moments_are_milliseconds_or_dates(in_memory: Any, moment: str) -> None:
    async with in_memory() as rig:
        one, said = await conversation(rig, 0, 1, 2)
        assert contents(await asked(rig, "GET", f"/{one}/messages?before={moment}")) == said[4:]
        assert contents(await asked(rig, "GET", f"/{one}/messages?after={moment}")) == said[:2]


async def test_10_of_those_after_a_moment_the_oldest_come_first_and_between_two_the_newest(
    in_memory: Any,
) -> None:
    async with in_memory() as rig:
        one, said = await conversation(rig, 0, 1, 2, 3)
        after = await asked(rig, "GET", f"/{one}/messages?limit=2&after={DATES[0]}")
        assert contents(after) == said[4:6]
        both = f"limit=2&after={DATES[0]}&before={DATES[3]}"
        between = await asked(rig, "GET", f"/{one}/messages?{both}")
        assert contents(between) == said[2:4]
        assert after["hasMore"] is between["hasMore"] is True


@pytest.mark.parametrize("name", ["before", "after"])
@pytest.mark.parametrize("moment", ["abc", "tomorrow", "1e3", "9" * 16, "9" * 40, "2027-13-01"])
async def test_10_anything_else_is_refused(in_memory: Any, name: str, moment: str) -> None:
    async with in_memory() as rig:
        one = (await made(rig))["sessionId"]
        error = await refused(rig, "GET", f"/{one}/messages?{name}={moment}", 400, "VALIDATION_ERROR")
        assert error["message"].startswith(f"Invalid pagination parameter '{name}': ")
        assert error["details"]["parameter"] == name


# ── All sessions ────────────────────────────────────────────────────────────────────────────────────────────


async def test_11_all_sessions_are_for_services_and_come_in_pages(in_memory: Any) -> None:
    clock = Clock()
    async with in_memory(now=clock, authenticator=by_name, headers=key("service")) as rig:
        for path in ("", "/health"):
            await refused(rig, "GET", path, 403, "FORBIDDEN", headers=key("ann"))
            await refused(rig, "GET", path, 401, "UNAUTHENTICATED", headers={"X-API-KEY": ""})
        new = []
        for number in range(7):
            clock.minutes = number // 2
            new.append((await made(rig, user=f"user-{number}"))["sessionId"])
        everything = await asked(rig, "GET", "")
        assert {found["sessionId"] for found in everything["sessions"]} == {*new}
        assert everything.keys() == {"sessions", "total", "stats"}
        found: list[Any] = []
        page = {"nextCursor": ""}
        while "nextCursor" in page:
            cursor = f"&cursor={page['nextCursor']}" if found else ""
            page = await asked(rig, "GET", f"?limit=3{cursor}")
            found += page["sessions"]
        assert found == everything["sessions"]
        for query in ("limit=0", "limit=1001", "limit=x", "cursor=x"):
            await refused(rig, "GET", f"?{query}", 400, "VALIDATION_ERROR")


async def test_11_what_expired_is_counted_and_not_listed(in_memory: Any) -> None:
    clock = Clock()
    async with in_memory(now=clock) as rig:
        await made(rig, timeoutConfig={"timeoutMinutes": 5})
        lives = await made(rig)
        clock.minutes = 6
        listed = await asked(rig, "GET", "")
        assert [found["sessionId"] for found in listed["sessions"]] == [lives["sessionId"]]
        assert listed["total"] == 1
        assert listed["stats"] == {"totalSessions": 2, "activeSessions": 1, "expiredSessions": 1}
        assert await asked(rig, "GET", "/health") == {
            "status": "healthy", "activeSessions": 1, "timestamp": DATES[6],
            "expiringSoon": 0, "uptime": 360.0,
        }  # fmt: skip


# ── On the socket, and after a restart ──────────────────────────────────────────────────────────────────────


async def test_12_whoever_follows_is_told_of_its_life_each_thing_once(in_memory: Any) -> None:
    clock = Clock()
    async with in_memory(now=clock) as rig:
        one = (await made(rig))["sessionId"]
        client = Client(rig.app.supervisor, "ann")
        other = (await made(rig, timeoutConfig={"timeoutMinutes": 60}))["sessionId"]
        client.put(
            "attach", sessions=[{"session_id": name, "agent": "bot"} for name in (one, other)], ref="a"
        )
        await client.answer("a")
        for minutes, path in ((26, None), (27, "renew"), (54, None), (57, None)):
            clock.minutes = minutes
            for _ in range(2):
                await rig.app.supervisor.look_after_due()
            if path:
                await asked(rig, "POST", f"/{one}/{path}")
        await asked(rig, "DELETE", f"/{other}")
        await client.until(lambda frame: getattr(frame, "status", None) == "closed")
        heard = [(told.status, told.minutes_remaining) for told in client.of(one, frames.Session)]
        assert heard == [("expiring", 4.0), ("renewed", None), ("expiring", 3.0), ("expired", None)]
        assert [told.status for told in client.of(other, frames.Session)] == ["expiring", "closed"]
        client.vanish()


async def test_12_their_own_socket_is_not_served(in_memory: Any) -> None:
    async with in_memory() as rig:
        assert (await rig.http.get("/socket.io/?EIO=4&transport=polling")).status_code == 404


async def test_13_a_restart_loses_nothing(in_memory: Any, tmp_path: Path) -> None:
    clock, file = Clock(), str(tmp_path / "gateway.db")
    world = {"now": clock, "agents": {"echo": EchoAgent()}}
    async with in_memory(store=SqliteStore(file), **world) as rig:
        one, gone, over = [(await made(rig, "echo"))["sessionId"] for _ in range(3)]
        await says(rig, one, "Hello")
        await asked(rig, "DELETE", f"/{gone}")
        await asked(rig, "PATCH", f"/{over}/timeout", json={"timeoutMinutes": 5})
        clock.minutes = 6
        await refused(rig, "GET", f"/{over}", 410, "SESSION_EXPIRED")
        before = [await asked(rig, "GET", f"/{one}{path}") for path in ("", "/messages")]
    async with in_memory(store=SqliteStore(file), **world) as rig:
        assert [await asked(rig, "GET", f"/{one}{path}") for path in ("", "/messages")] == before
        await refused(rig, "GET", f"/{gone}", 404, "SESSION_NOT_FOUND")
        await refused(rig, "GET", f"/{over}", 410, "SESSION_EXPIRED")


# ── What else holds here ────────────────────────────────────────────────────────────────────────────────────


async def test_14_a_session_without_a_timeout_lives_for_ever(in_memory: Any) -> None:
    clock = Clock()
    async with in_memory(now=clock, agents={"echo": EchoAgent()}) as rig:
        await rig.http.post("/api/agents/echo/sessions", json={"session_id": "any.id"})
        for path in ("", "/renew", "/heartbeat"):
            info = await asked(rig, "POST" if path else "GET", f"/any.id{path}")
            assert (info["expiresAt"], info["timeRemaining"], info["timeoutConfig"]) == (None, None, {})
            assert (info["isNearExpiration"], info["renewalCount"]) == (False, 0)
            assert info["channelId"] == channel_id("echo", "user", "any.id")
        status = (await says(rig, "any.id"))["sessionStatus"]
        assert (status["expiresAt"], status["wasRenewed"]) == (None, False)
        assert (await asked(rig, "PATCH", "/any.id/timeout", json={}))["expiresAt"] is None
        patched = await asked(rig, "PATCH", "/any.id/timeout", json={"timeoutMinutes": 31})
        assert patched["expiresAt"] == DATES[31]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"content": ""}, 400),
        ({"content": "x" * 4000}, 201),
        ({"content": "x" * 4001}, 400),
        ({"content": "\U0001f600" * 2000}, 201),
        ({"content": "\U0001f600" * 2001}, 400),
        ({"content": " "}, 201),
        ({"content": "x", "metadata": {"k": "x" * (10_240 - 8)}}, 201),
        ({"content": "x", "metadata": {"k": "é" * (10_240 - 8)}}, 201),
        ({"content": "x", "metadata": {"k": "x" * (10_240 - 7)}}, 400),
        ({"content": "x", "metadata": "any"}, 201),
        ({"content": "x", "metadata": json.loads("[" * 15 + "]" * 15)}, 201),
        ({"content": "x", "metadata": json.loads('{"k":' + "[" * 16 + "]" * 16 + "}")}, 400),
        ({"content": "x", "attachments": [{"data": "x" * 100_000}]}, 201),
    ],
)
async def test_14_messages_have_limits_of_their_own_here(in_memory: Any, body: Any, status: int) -> None:
    async with in_memory(agents={"echo": EchoAgent()}) as rig:
        one = (await made(rig, "echo"))["sessionId"]
        answer = await asked(rig, "POST", f"/{one}/messages", status, json=body)
        if status == 400:
            assert answer["error"]["code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize(
    ("metadata", "shown"),
    [
        ({"k": "x" * (10_240 - 8)}, ...), ({"k": "x" * (10_240 - 7)}, None), ("any", ...), ([1], ...),
        (None, {}), ("", {}), ({"\0": 1}, ...), (json.loads('{"k":' + "[" * 16 + "]" * 16 + "}"), None),
    ],
)  # fmt: skip
async def test_14_so_has_a_sessions_metadata_which_comes_back_as_it_was_given(
    in_memory: Any, metadata: Any, shown: Any
) -> None:
    async with in_memory() as rig:
        if shown is None:
            body = {"agentId": "bot", "userId": "ann", "metadata": metadata}
            await refused(rig, "POST", "", 400, "VALIDATION_ERROR", json=body)
        else:
            one = (await made(rig, metadata=metadata))["sessionId"]
            assert (await asked(rig, "GET", f"/{one}"))["metadata"] == (metadata if shown is ... else shown)


async def test_14_what_a_client_may_send_is_looked_at_in_elizas_order(in_memory: Any) -> None:
    async with in_memory() as rig:
        for body, status in (({"transport": "x"}, 400), ({}, 400), ({"content": ""}, 404)):
            await asked(rig, "POST", "/never-was/messages", status, json=body)
        await refused(
            rig, "POST", "", 404, "AGENT_NOT_FOUND", json={"agentId": "nobody", "userId": "any one"}
        )
        await refused(rig, "PATCH", "/never-was/timeout", 404, "SESSION_NOT_FOUND", json={"autoRenew": 1})


async def test_14_health_is_no_sessions_id(in_memory: Any) -> None:
    async with in_memory() as rig:
        await rig.http.post("/api/agents/bot/sessions", json={"session_id": "health"})
        assert (await asked(rig, "GET", "/health"))["status"] == "healthy"


async def test_15_every_error_is_nested(in_memory: Any) -> None:
    limits = Settings(max_sessions_per_user=1, max_messages_per_minute=1, drain_timeout=0.01)
    async with in_memory(limits, authenticator=by_name, headers=key("ann")) as rig:
        one = (await made(rig))["sessionId"]
        body = {"content": "x", "transport": "websocket"}
        await asked(rig, "POST", f"/{one}/messages", 201, json=body)
        new = {"agentId": "bot", "userId": "ann"}
        for method, path, status, code, options in (
            ("GET", "/s/nothing", 404, "NOT_FOUND", {}),
            ("PUT", "", 405, "METHOD_NOT_ALLOWED", {}),
            ("POST", "", 401, "UNAUTHENTICATED", {"headers": {"X-API-KEY": ""}}),
            ("POST", f"/{one}/messages", 401, "UNAUTHENTICATED", {"headers": {"X-API-KEY": ""}}),
            ("POST", "", 429, "TOO_MANY_SESSIONS", {"json": new}),
            ("POST", f"/{one}/messages", 429, "RATE_LIMITED", {"json": body}),
            ("POST", f"/{one}/messages", 415, "UNSUPPORTED_MEDIA_TYPE", {"content": b"x"}),
            ("POST", "", 403, "FORBIDDEN", {"json": new, "headers": {"Origin": "http://evil.example"}}),
            ("GET", "/a%20b", 400, "VALIDATION_ERROR", {}),
        ):
            error = await refused(rig, method, path, status, code, **options)
            assert {"message", "timestamp"} <= error.keys()


async def test_a_client_that_goes_leaves_the_turn_running(served: Any) -> None:
    async with served() as rig:
        one = (await made(rig))["sessionId"]
        body = {"content": "x", "transport": "sse"}
        async with rig.stream("POST", f"{S}/{one}/messages", json=body) as stream:
            assert (await stream.event()).kind == "user_message"
        said = await turn(rig)
        await rig.until(lambda: not rig.app.supervisor.lines)
        said.say("All of it.")
        said.end()
        await rig.until(lambda: not rig.app.supervisor.sessions)
        assert contents(await asked(rig, "GET", f"/{one}/messages")) == ["All of it.", "x"]
