"""The upgrade, who may make it, and how a line ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from gateway.interfaces import Caller, ToolCall, ToolResult
from gateway.settings import Settings
from protocol.errors import Refused
from tests.harness import WAIT


async def authenticator(token: str | None, _: Mapping[str, str]) -> Caller:
    """The token `ann` is Ann's, `service` is of a service; others are none."""
    match token:
        case "ann" | "bob":
            return Caller(user=token)
        case "ann until 9":
            return Caller(user="ann", expires_at=9e9)
        case "service":
            return Caller()
        case "old":
            raise Refused("token_expired", "This token is over.")
        case _:
            raise Refused("unauthenticated", "This is no token.")


class Wire:
    """A WebSocket client that speaks JSON."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, type: str, **fields: Any) -> None:  # noqa: A002
        await self.socket.send(json.dumps({"type": type, **fields}))

    async def frame(self) -> dict[str, Any]:
        async with asyncio.timeout(WAIT):
            return json.loads(await self.socket.recv())  # type: ignore[no-any-return]

    async def until(self, kind: str) -> dict[str, Any]:
        while (frame := await self.frame())["type"] != kind:
            pass
        return frame

    async def closed(self) -> int | None:
        """Wait for the end, and answer its code."""
        async with asyncio.timeout(WAIT):
            await self.socket.wait_closed()
        return self.socket.close_code


@asynccontextmanager
async def wire(rig: Any, path: str = "/ws", **options: Any) -> AsyncIterator[Wire]:
    url = str(rig.http.base_url).replace("http", "ws", 1).rstrip("/") + path
    async with connect(url, **options) as socket:
        yield Wire(socket)


async def refused(rig: Any, path: str = "/ws", **options: Any) -> tuple[int, dict[str, Any]]:
    """The status and body with which an upgrade was refused."""
    with pytest.raises(InvalidStatus) as info:
        async with wire(rig, path, **options):
            pass
    body = info.value.response.body
    return info.value.response.status_code, json.loads(body or b"{}")


async def test_without_authentication_it_is_connected_at_once(served: Any) -> None:
    async with served() as rig, wire(rig, "/ws?user_id=ann", subprotocols=["other", "gateway.v1"]) as line:
        connected = await line.frame()
        assert (connected["type"], connected["user_id"], connected["protocol"]) == ("connected", "ann", 1)
        assert connected["connection_id"] in rig.app.supervisor.lines
        assert line.socket.subprotocol == "gateway.v1"
        await line.send("hello", user_id="ann", ref="h")
        assert (await line.frame())["ref"] == "h"


async def test_the_agents_socket_speaks_to_that_agent_also_in_bare_text(served: Any) -> None:
    async with served() as rig, wire(rig, "/api/agents/echo/ws") as line:
        assert (await line.frame())["agent_id"] == "echo"
        await line.socket.send("just words")
        assert (await line.until("attached"))["agent"] == "echo"
        assert (await line.until("response"))["content"] == "just words"


async def test_the_agents_socket_tells_of_tools_in_openfangs_words_too_and_no_other_does(served: Any) -> None:
    async with served() as rig:
        heard = []
        for path in ("/api/agents/bot/ws", "/ws"):
            async with wire(rig, path) as line:
                await line.frame()
                await line.send("message", session_id="s", turn_id=path, content="x", agent="bot")
                said = await rig.bot.given(path)
                for piece in ("So ", ToolCall("c", "add", {"a": 1}), ToolResult("c", 2), "two"):
                    said.say(piece)
                said.end()
                frames = [await line.frame()]
                while frames[-1]["type"] != "response":
                    frames.append(await line.frame())
                heard.append([frame for frame in frames if "tool" in str(frame.values())])
        bound, unbound = heard
        assert [frame["type"] for frame in unbound] == ["tool_call", "tool_result"]
        assert [frame["type"] for frame in bound] == [
            "typing", "tool_start", "tool_end", "tool_call", "tool_result",
        ]  # fmt: skip
        assert (bound[0]["state"], bound[0]["tool"]) == ("tool", "add")
        assert (bound[1]["id"], bound[1]["tool"]) == ("c", "add")
        assert bound[2]["input"] == '{"a":1}'
        assert (bound[4]["id"], bound[4]["tool"], bound[4]["result"]) == ("c", "add", "2")
        assert all(frame["session_id"] == "s" for frame in bound)
        assert "tool" not in unbound[1]


async def test_an_empty_answer_has_its_end_too(served: Any) -> None:
    async with served() as rig, wire(rig, "/api/agents/bot/ws") as line:
        await line.send("message", session_id="s", turn_id="t", content="x")
        (await rig.bot.given("t")).end()
        end = await line.until("response")
        assert (end["content"], end["session_id"], end["input_tokens"]) == ("", "s", 0)
        await line.send("ping", ref="p")
        assert (await line.frame())["type"] == "pong"


async def test_several_frames_come_in_one_message_to_who_asked_for_it(served: Any) -> None:
    async with served() as rig:
        for batch in (False, True):
            async with wire(rig, "/api/agents/echo/ws") as line:
                await line.frame()
                await line.send("hello", batch=batch)
                await line.frame()
                await line.send("message", content="x")
                messages = [""]
                async with asyncio.timeout(WAIT):
                    while '"response"' not in messages[-1]:
                        messages.append(str(await line.socket.recv()))
                told = [json.loads(text)["type"] for text in messages[-1].split("\n")]
                assert told == (["typing", "response"] if batch else ["response"])


async def test_upgrades_that_are_refused_without_a_browser_are_http_errors(served: Any) -> None:
    async with served() as rig:
        for path, headers, status, code in (
            ("/api/agents/nobody/ws", {}, 404, "agent_not_found"),
            ("/ws", {"Host": "evil.example"}, 403, "forbidden"),
            ("/ws?user_id=a/b", {}, 400, "bad_id"),
        ):
            found, body = await refused(rig, path, additional_headers=headers)
            assert (found, body["code"]) == (status, code)
        found, _ = await refused(rig, "/wsx")
        assert found in (403, 404)


async def test_a_browser_is_told_in_frames_why_it_is_refused(served: Any) -> None:
    async with served() as rig:
        own = str(rig.http.base_url).rstrip("/")
        for path, origin, code, close in (
            ("/ws", "https://evil.example", "forbidden", 4403),
            ("/ws", "null", "forbidden", 4403),
            ("/api/agents/nobody/ws", own, "agent_not_found", 4404),
            ("/api/agents/" + "%C3%A4" * 64 + "/ws", own, "agent_not_found", 4404),
        ):
            async with wire(rig, path, origin=origin) as line:
                assert (await line.frame())["code"] == code
                assert await line.closed() == close
        async with wire(rig, origin=own) as line:
            assert (await line.frame())["type"] == "connected"


async def test_a_refused_socket_names_its_subprotocol_or_a_browser_would_not_read_why(served: Any) -> None:
    async with (
        served() as rig,
        wire(rig, origin="https://evil.example", subprotocols=["gateway.v1"]) as line,
    ):
        assert line.socket.subprotocol == "gateway.v1"
        assert await line.closed() == 4403


async def test_a_token_in_the_header_is_enough(served: Any) -> None:
    async with served(authenticator=authenticator) as rig:
        for headers in ({"Authorization": "Bearer ann"}, {"X-API-Key": "ann"}):
            async with wire(rig, additional_headers=headers) as line:
                assert (await line.frame())["user_id"] == "ann"
        service = {"Authorization": "Bearer service", "X-User-Id": "carl"}
        async with wire(rig, additional_headers=service) as line:
            assert (await line.frame())["user_id"] == "carl"
        for token, status, code in (
            ("wrong", 401, "unauthenticated"),
            ("old", 401, "token_expired"),
        ):
            headers = {"Authorization": f"Bearer {token}"}
            found, body = await refused(rig, additional_headers=headers)
            assert (found, body["code"]) == (status, code)
        stranger = {"Authorization": "Bearer ann", "X-User-Id": "bob"}
        found, body = await refused(rig, additional_headers=stranger)
        assert (found, body["code"]) == (403, "forbidden")


async def test_a_token_in_hello_is_enough_too(served: Any) -> None:
    async with served(authenticator=authenticator) as rig, wire(rig) as line:
        await line.send("hello", token="ann", ref="h")
        connected = await line.frame()
        assert (connected["type"], connected["user_id"], connected["ref"]) == ("connected", "ann", "h")
        await line.send("hello", token="ann until 9", ref="renewed")
        assert (await line.frame())["token_expires_at"] == 9e9
        await line.send("hello", token="bob", ref="other")
        assert (await line.frame())["code"] == "forbidden"
        await line.send("ping", ref="p")
        assert (await line.frame())["type"] == "pong"


async def test_connected_precedes_every_other_frame_though_the_token_ends_soon(served: Any) -> None:
    asked, known = 0, asyncio.Event()

    async def slow(token: str | None, headers: Mapping[str, str]) -> Caller:
        nonlocal asked
        asked += 1
        if asked > 1:
            await known.wait()
        return Caller((await authenticator(token, headers)).user, expires_at=time.time() + 30)

    async with served(authenticator=slow) as rig, wire(rig) as line:
        await line.send("hello", token="ann", batch=True, ref="h")
        await rig.until(lambda: rig.app.supervisor.lines)
        [connection] = rig.app.supervisor.lines.values()
        connection.tick(asyncio.get_running_loop().time())
        connection.goaway("The gateway stops.", 1_000)
        known.set()
        told = [json.loads(frame) for frame in (await line.socket.recv()).split("\n")]
        assert [frame["type"] for frame in told] == ["connected", "token", "goaway"]
        assert told[0]["ref"] == "h"


async def test_a_line_that_comes_while_the_gateway_drains_is_refused(served: Any) -> None:
    async def slow(token: str | None, headers: Mapping[str, str]) -> Caller:
        rig.app.supervisor.runtime.draining = True
        return await authenticator(token, headers)

    async with served(authenticator=slow) as rig:
        async with wire(rig) as line:
            await line.send("hello", token="ann")
            assert (await line.frame())["code"] == "draining"
            assert await line.closed() == 1001
        rig.app.supervisor.runtime.draining = False


async def test_who_owes_hello_and_says_something_else_is_closed(served: Any) -> None:
    async with served(authenticator=authenticator) as rig:
        for message, code, close in (
            ('{"type":"ping"}', "unauthenticated", 4400),
            ("{", "bad_frame", 4400),
            ('{"type":"hello","token":"wrong"}', "unauthenticated", 4401),
            ('{"type":"hello","token":"old"}', "token_expired", 4401),
            ('{"type":"hello","token":"ann","user_id":"bob"}', "forbidden", 4403),
            (json.dumps({"type": "hello", "token": "x" * 9000}), "frame_too_large", 4400),
            (b"\x00", "bad_frame", 1003),
        ):
            async with wire(rig) as line:
                await line.socket.send(message)
                assert (await line.frame())["code"] == code, message
                assert await line.closed() == close
        assert rig.app.supervisor.lines == {}


async def test_who_owes_hello_and_says_nothing_is_closed(served: Any) -> None:
    settings = Settings(hello_timeout=0.05, drain_timeout=0.01)
    async with served(settings, authenticator=authenticator) as rig, wire(rig) as line:
        assert (await line.frame())["code"] == "unauthenticated"
        assert await line.closed() == 4408


async def test_what_is_no_text_ends_the_line(served: Any) -> None:
    async with served() as rig, wire(rig) as line:
        await line.frame()
        await line.socket.send(b"\x00\x01")
        assert (await line.frame())["code"] == "bad_frame"
        assert await line.closed() == 1003
        await rig.until(lambda: not rig.app.supervisor.lines)


async def test_a_bad_frame_does_not_end_the_line(served: Any) -> None:
    async with served() as rig, wire(rig) as line:
        await line.frame()
        for message, code in (
            ("nonsense", "bad_frame"),
            ('{"type":"nonsense","ref":"r"}', "unknown_type"),
            ('{"type":"message","content":"x","session_id":"a b"}', "bad_id"),
            (json.dumps({"type": "message", "content": "x" * 300_000}), "frame_too_large"),
        ):
            await line.socket.send(message)
            assert (await line.frame())["code"] == code
        await line.send("ping", ref="p")
        assert await line.frame() == {"type": "pong", "ref": "p"}


async def test_a_gateway_that_stops_says_goaway_and_closes(served: Any) -> None:
    async with served() as rig, wire(rig) as line:
        await line.frame()
        await line.send("message", session_id="s", turn_id="t", content="x")
        said = await rig.bot.given("t")
        said.say("So f")
        await line.until("text_delta")
        async with asyncio.timeout(WAIT):
            await rig.app.drain()
        assert (await line.until("goaway"))["reconnect_after_ms"] == 1000
        end = await line.until("error")
        assert (end["code"], end["partial"]) == ("turn_interrupted", "So f")
        assert await line.closed() == 1001
        found, body = await refused(rig)
        assert (found, body["code"]) == (503, "draining")


async def test_a_line_that_dies_leaves_its_turn_running(served: Any) -> None:
    async with served() as rig:
        async with wire(rig) as line:
            await line.frame()
            await line.send("message", session_id="s", turn_id="t", content="x")
            said = await rig.bot.given("t")
            line.socket.transport.abort()
        await rig.until(lambda: not rig.app.supervisor.lines)
        said.say("to nobody")
        said.end()
        answer = await rig.http.post(
            "/api/agents/bot/sessions/s/message", json={"message": "x", "turn_id": "t"}
        )
        assert answer.json()["response"] == "to nobody"
