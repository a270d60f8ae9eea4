"""Frames as server-sent events."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.settings import Settings
from tests.harness import WAIT, Script


async def say(rig: Any, session_id: str, content: str = "hi", **fields: Any) -> dict[str, Any]:
    frame = {"type": "message", "session_id": session_id, "content": content, **fields}
    response = await rig.http.post("/frames", json=frame)
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


async def test_an_event_is_the_cursor_the_type_and_the_frame(served: Any) -> None:
    async with served() as rig, rig.stream("GET", "/api/sessions/s/events?create=true&agent=echo") as events:
        assert await events.block() == "retry: 1500"
        [attached] = await events.until("attached")
        assert attached.id == attached.data["cursor"]
        assert (attached.data["agent"], attached.data["type"]) == ("echo", "attached")
        await say(rig, "s", "one two")
        told = await events.until("response")
        assert [event.kind for event in told] == [
            "message", "typing", "text_delta", "typing", "response",
        ]  # fmt: skip
        for event in told:
            assert event.data["type"] == event.kind
            assert event.id == event.data.get("cursor")
        assert told[-1].data["content"] == "one two"
        assert b"\r" not in events.raw


async def test_the_headers_tell_proxies_to_let_it_through(served: Any) -> None:
    async with (
        served() as rig,
        rig.stream(
            "GET", "/api/sessions/s/events?create=true", headers={"Accept-Encoding": "gzip"}
        ) as events,
    ):
        headers = events.response.headers
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["cache-control"] == "no-cache, no-transform"
        assert headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in headers
        assert headers["x-request-id"]
        assert headers["x-content-type-options"] == "nosniff"


async def test_last_event_id_wins_over_the_query_and_goes_on_within_the_text(served: Any) -> None:
    async with served() as rig:
        path = "/api/sessions/s/events"
        async with rig.stream("GET", f"{path}?create=true") as events:
            [attached] = await events.until("attached")
            turn_id = (await say(rig, "s"))["turn_id"]
            said = await rig.bot.given(turn_id)
            said.say("Hel")
            [*_, delta] = await events.until("text_delta")
        said.say("lo")
        async with rig.stream(
            "GET", f"{path}?cursor={attached.id}", headers={"Last-Event-ID": delta.id}
        ) as events:
            [again] = await events.until("attached")
            assert (again.data["mode"], again.data["cursor"]) == ("replay", delta.id)
            [*_, more] = await events.until("text_delta")
            assert more.data["content"] == "lo"
            said.end()
            [*_, end] = await events.until("response")
            assert end.data["content"] == "Hello"
        async with rig.stream("GET", f"{path}?cursor={attached.id}") as events:
            assert [event.kind for event in await events.until("response")] == [
                "attached", "message", "response",
            ]  # fmt: skip


async def test_what_is_refused_before_the_stream_begins_is_an_http_error(served: Any) -> None:
    async with served() as rig:
        for path, status, code in (
            ("/api/sessions/none/events", 404, "session_not_found"),
            ("/api/sessions/a%20b/events?create=true", 400, "bad_id"),
            ("/api/sessions/s/events?create=true&agent=nobody", 404, "agent_not_found"),
            ("/api/sessions/s/events?create=yes", 400, "bad_request"),
            ("/api/sessions/s/events?create=true&history=201", 400, "bad_request"),
        ):
            response = await rig.http.get(path)
            assert (response.status_code, response.json()["code"]) == (status, code), path
            assert response.json()["error"] == response.json()["content"]
        assert rig.app.supervisor.lines == {}


async def test_history_says_how_many_messages_a_snapshot_holds(served: Any) -> None:
    async with served() as rig:
        for content in "abc":
            await rig.http.post("/api/agents/echo/sessions/s/message", json={"message": content})
        async with rig.stream("GET", "/api/sessions/s/events?history=1") as events:
            [attached] = await events.until("attached")
            assert [message["content"] for message in attached.data["messages"]] == ["c"]
            assert attached.data["has_more"] is True


async def test_the_stream_ends_with_its_session(served: Any) -> None:
    async with served() as rig, rig.stream("GET", "/api/sessions/s/events?create=true") as events:
        await events.until("attached")
        await rig.http.delete("/api/sessions/s")
        told = await events.rest()
        assert [(event.kind, event.data.get("status")) for event in told] == [("session", "closed")]
        await rig.until(lambda: not rig.app.supervisor.lines)


async def test_an_event_source_that_comes_back_does_not_bring_back_what_was_deleted(served: Any) -> None:
    async with served() as rig:
        path = "/api/sessions/s/events?create=true"
        async with rig.stream("GET", path) as events:
            [attached] = await events.until("attached")
        await rig.http.delete("/api/sessions/s")
        back = await rig.http.get(path, headers={"Last-Event-ID": attached.id})
        assert (back.status_code, back.json()["code"]) == (410, "session_closed")
        async with rig.stream("GET", path) as events:
            [made_again] = await events.until("attached")
            assert made_again.id.split(".")[0] != attached.id.split(".")[0]


async def test_one_stream_carries_many_sessions_without_ids(served: Any) -> None:
    async with served() as rig:
        attach = {
            "type": "attach",
            "ref": "all",
            "sessions": [
                {"session_id": "a", "agent": "echo", "create": True},
                {"session_id": "b", "agent": "echo", "create": True},
                {"session_id": "none"},
            ],
        }
        async with rig.stream("POST", "/events", json=attach) as events:
            [connected] = await events.until("connected")
            assert connected.data["connection_id"] in rig.app.supervisor.lines
            assert connected.data["heartbeat_ms"] <= 15_000
            told = await events.until("ok")
            refused = [event.data for event in told if event.kind == "error"]
            assert [(error["code"], error["session_id"]) for error in refused] == [
                ("session_not_found", "none")
            ]
            assert {event.data["session_id"] for event in told if event.kind == "attached"} == {"a", "b"}
            assert told[-1].data["ref"] == "all"
            for session_id in ("a", "b"):
                await say(rig, session_id, session_id)
                [*_, end] = await events.until("response")
                assert (end.data["session_id"], end.data["content"]) == (session_id, session_id)
                assert end.data["cursor"]
                assert end.id is None


async def test_only_attach_opens_a_stream_of_many(in_memory: Any) -> None:
    async with in_memory() as rig:
        for body, code in (
            ({"type": "ping"}, "bad_frame"),
            ({"type": "attach"}, "bad_frame"),
            ({"type": "attach", "sessions": [{"session_id": "a b"}]}, "bad_id"),
            ({"type": "attache", "sessions": []}, "unknown_type"),
        ):
            response = await rig.http.post("/events", json=body)
            assert (response.status_code, response.json()["code"]) == (400, code)


async def test_silence_is_broken_by_comments(served: Any) -> None:
    async with (
        served(Settings(heartbeat=0.01)) as rig,
        rig.stream("GET", "/api/sessions/s/events?create=true") as events,
    ):
        blocks = [await events.block() for _ in range(4)]
        assert blocks[0] == "retry: 1500"
        assert blocks[2:] == [":", ":"]


async def test_a_flood_comes_in_fewer_events_than_pieces_and_whole(served: Any) -> None:
    class Flood(Script):
        async def __call__(self, _):  # type: ignore[no-untyped-def, override]
            for number in range(1_000):
                yield f"{number} "
                await asyncio.sleep(0)

    async with (
        served(agents={"flood": Flood()}) as rig,
        rig.stream("GET", "/api/sessions/s/events?create=true") as events,
    ):
        await say(rig, "s")
        told = await events.until("response")
        deltas = [event.data["content"] for event in told if event.kind == "text_delta"]
        assert deltas[0].startswith("0 ")
        assert len(deltas) < 500
        assert "".join(deltas) == told[-1].data["content"]


async def test_a_client_that_goes_is_noticed_and_its_turn_runs_on(served: Any) -> None:
    async with served() as rig:
        async with rig.stream("GET", "/api/sessions/s/events?create=true") as events:
            turn_id = (await say(rig, "s"))["turn_id"]
            await events.until("message")
        await rig.until(lambda: not rig.app.supervisor.lines)
        said = await rig.bot.given(turn_id)
        said.say("still here")
        said.end()
        again = {"message": "hi", "turn_id": turn_id}
        answer = await rig.http.post("/api/agents/bot/sessions/s/message", json=again)
        assert answer.json()["response"] == "still here"


async def test_a_gateway_that_stops_says_so_ends_the_turn_and_the_stream(served: Any) -> None:
    async with served() as rig, rig.stream("GET", "/api/sessions/s/events?create=true") as events:
        turn_id = (await say(rig, "s"))["turn_id"]
        await rig.bot.given(turn_id)
        await events.until("message")
        async with asyncio.timeout(WAIT):
            await rig.app.drain()
        told = {event.kind: event.data for event in await events.rest()}
        assert told["goaway"]["reconnect_after_ms"] == 1000
        assert told["error"]["code"] == "turn_interrupted"
        refused = await rig.http.get("/api/sessions/s/events")
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
        assert refused.headers["retry-after"] == "1"


async def test_a_stream_is_guarded_like_a_socket(served: Any) -> None:
    async with served() as rig:
        for headers in (
            {"Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Host": "evil.example"},
        ):
            response = await rig.http.get("/api/sessions/s/events?create=true", headers=headers)
            assert (response.status_code, response.json()["code"]) == (403, "forbidden"), headers
        assert (await rig.http.get("/api/sessions")).json() == {"sessions": []}
        own = {"Origin": str(rig.http.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
        async with rig.stream("GET", "/api/sessions/s/events?create=true", headers=own) as events:
            await events.until("attached")


async def test_a_look_at_the_headers_follows_nothing(served: Any) -> None:
    async with served() as rig:
        response = await rig.http.head("/api/sessions/s/events")
        assert response.headers["content-type"].startswith("text/event-stream")
        assert rig.app.supervisor.lines == {}


async def test_others_sessions_look_like_none(served: Any) -> None:
    async with served() as rig:
        await rig.http.post(
            "/api/agents/echo/sessions/s/message", json={"message": "x"}, headers={"X-User-Id": "ann"}
        )
        response = await rig.http.get("/api/sessions/s/events", headers={"X-User-Id": "bob"})
        assert response.status_code == 404
        async with rig.stream("GET", "/api/sessions/s/events", headers={"X-User-Id": "ann"}) as events:
            [attached] = await events.until("attached")
            assert attached.data["messages"][0]["content"] == "x"
