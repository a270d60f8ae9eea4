"""The way up beside a stream, and who may use it."""

from __future__ import annotations

from typing import Any

from gateway.interfaces import Key, Unavailable
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore


def message(session_id: str | None = "s", content: str = "hi", **fields: Any) -> dict[str, Any]:
    named = {} if session_id is None else {"session_id": session_id}
    return {"type": "message", "content": content, **named, **fields}


async def test_a_message_is_answered_by_the_ok_frame(in_memory: Any) -> None:
    async with in_memory() as rig:
        response = await rig.http.post("/frames", json=message(turn_id="t", ref="r"))
        assert response.status_code == 200
        assert response.json() == {
            "type": "ok", "ref": "r", "session_id": "s", "turn_id": "t", "status": "started",
        }  # fmt: skip
        queued = await rig.http.post("/frames", json=message())
        assert queued.json()["status"] == "queued"


async def test_a_message_sent_again_runs_once(in_memory: Any) -> None:
    async with in_memory() as rig:
        for duplicate in (None, True):
            answer = (await rig.http.post("/frames", json=message(turn_id="t"))).json()
            assert (answer["turn_id"], answer.get("duplicate")) == ("t", duplicate)
        other = await rig.http.post("/frames", json=message(turn_id="t", content="something else"))
        assert (other.status_code, other.json()["code"]) == (409, "turn_conflict")
        await rig.bot.given("t")
        assert len(rig.bot.turns) == 1


async def test_without_a_session_it_goes_to_the_active_one(in_memory: Any) -> None:
    async with in_memory() as rig:
        first = (await rig.http.post("/frames", json=message(None))).json()
        again = (await rig.http.post("/frames", json=message(None))).json()
        other = (await rig.http.post("/frames", json=message(None, agent="echo"))).json()
        assert first["session_id"] == again["session_id"] != other["session_id"]
        active = (await rig.http.get("/api/agents/bot")).json()["session_id"]
        assert active == first["session_id"]


async def test_cancel_and_renew_are_answered_by_ok(in_memory: Any) -> None:
    async with in_memory() as rig:
        turn_id = (await rig.http.post("/frames", json=message())).json()["turn_id"]
        said = await rig.bot.given(turn_id)
        renewed = await rig.http.post("/frames", json={"type": "renew", "session_id": "s", "ref": "r"})
        assert renewed.json() == {"type": "ok", "ref": "r", "session_id": "s"}
        cancelled = await rig.http.post("/frames", json={"type": "cancel", "session_id": "s"})
        assert cancelled.json() == {"type": "ok", "session_id": "s", "turn_id": turn_id}
        await said.closed.wait()


async def test_what_is_refused_is_counted_once(in_memory: Any) -> None:
    async with in_memory() as rig:
        await rig.http.post("/frames", json=message(content=7))
        await rig.http.post("/frames", json={"type": "cancel", "session_id": "none"})
        await rig.http.post("/api/sessions/none/cancel")
        counted = rig.app.supervisor.runtime.metrics.refusals
        assert counted == {"bad_frame": 1, "session_not_found": 2}


async def test_what_is_refused_is_the_error_frame_with_its_status(in_memory: Any) -> None:
    async with in_memory(Settings(max_waiting=0, drain_timeout=0.01)) as rig:
        await rig.http.post("/frames", json=message())
        full = await rig.http.post("/frames", json=message(ref="r", turn_id="t2"))
        assert full.status_code == 429
        assert full.headers["retry-after"] == "1"
        error = full.json()
        assert (error["type"], error["code"], error["ref"]) == ("error", "queue_full", "r")
        assert (error["session_id"], error["turn_id"], error["retryable"]) == ("s", "t2", True)
        for frame, status, code in (
            ({"type": "cancel", "session_id": "none"}, 404, "session_not_found"),
            ({"type": "cancel", "session_id": "s", "turn_id": "none"}, 404, "turn_not_found"),
            (message(agent="nobody"), 404, "agent_not_found"),
            (message("a b"), 400, "bad_id"),
            (message(content=7), 400, "bad_frame"),
            (message(content="x" * 65_537), 413, "message_too_large"),
            (message("never", create=False), 404, "session_not_found"),
        ):
            response = await rig.http.post("/frames", json=frame)
            assert (response.status_code, response.json()["code"]) == (status, code), frame
            assert response.json()["type"] == "error"


async def test_frames_of_a_line_are_refused_with_a_list_of_what_is_allowed(in_memory: Any) -> None:
    async with in_memory() as rig:
        for frame in (
            {"type": "attach", "sessions": []},
            {"type": "detach", "session_ids": []},
            {"type": "hello"},
            {"type": "ping", "ref": "r"},
            {"type": "command", "command": "new"},
        ):
            response = await rig.http.post("/frames", json=frame)
            assert (response.status_code, response.json()["code"]) == (400, "bad_frame")
            assert "takes message, cancel, typing and renew" in response.json()["content"]
        assert response.json().get("ref") is None


async def test_a_message_attaches_the_stream_that_is_named(served: Any) -> None:
    async with (
        served() as rig,
        rig.stream("POST", "/events", json={"type": "attach", "sessions": []}) as events,
    ):
        [connected] = await events.until("connected")
        headers = {"X-Connection-Id": connected.data["connection_id"]}
        first = await rig.http.post("/frames", json=message(agent="echo"), headers=headers)
        assert first.json()["attached"] is True
        told = [event.kind for event in await events.until("response")]
        assert told.count("attached") == 1
        again = await rig.http.post("/frames", json=message(), headers=headers)
        assert again.json()["attached"] is True
        assert "attached" not in [event.kind for event in await events.until("response")]
        conflict = await rig.http.post("/frames", json=message(agent="bot"), headers=headers)
        assert (conflict.status_code, conflict.json()["code"]) == (409, "session_conflict")


async def test_a_stream_of_somebody_else_or_of_nobody_is_not_attached(served: Any) -> None:
    async with (
        served() as rig,
        rig.stream("POST", "/events?user_id=ann", json={"type": "attach", "sessions": []}) as events,
    ):
        [connected] = await events.until("connected")
        for user, line in (("bob", connected.data["connection_id"]), ("ann", "gone")):
            headers = {"X-Connection-Id": line, "X-User-Id": user}
            sent = await rig.http.post("/frames", json=message(agent="echo"), headers=headers)
            assert sent.status_code == 200
            assert "attached" not in sent.json()


async def test_typing_is_shown_to_the_other_streams_until_it_stops(served: Any) -> None:
    async with (
        served() as rig,
        rig.stream("GET", "/api/sessions/s/events?create=true") as watching,
        rig.stream("POST", "/events", json={"type": "attach", "sessions": [{"session_id": "s"}]}) as own,
    ):
        await watching.until("attached")
        [connected, *_] = await own.until("attached")
        headers = {"X-Connection-Id": connected.data["connection_id"]}
        for state in ("start", "stop"):
            frame = {"type": "typing", "session_id": "s", "state": state}
            answer = await rig.http.post("/frames", json=frame, headers=headers)
            assert answer.json() == {"type": "ok", "session_id": "s"}
            [*_, typing] = await watching.until("typing")
            assert (typing.data["author"], typing.data["state"]) == ("user", state)
        for state in ("start", "stop"):  # nobody's line: all are shown it
            await rig.http.post("/frames", json={"type": "typing", "session_id": "s", "state": state})
            for events in (watching, own):
                told = await events.until("typing")
                assert told[-1].data["state"] == state
        # One's own line was told nothing of the first two.
        assert [event.kind for event in told] == ["typing"]
        await rig.http.delete("/api/sessions/s")
        assert [event.kind for event in await own.until("session")] == ["session"]


async def test_the_request_id_goes_to_the_agent(in_memory: Any) -> None:
    async with in_memory() as rig:
        response = await rig.http.post(
            "/frames", json=message(turn_id="t"), headers={"X-Request-Id": "trace-7"}
        )
        assert response.headers["x-request-id"] == "trace-7"
        assert (await rig.bot.given("t")).turn.request_id == "trace-7"


async def test_cancelling_has_a_route_of_its_own(in_memory: Any) -> None:
    async with in_memory() as rig:
        turn_id = (await rig.http.post("/frames", json=message())).json()["turn_id"]
        waiting = (await rig.http.post("/frames", json=message())).json()["turn_id"]
        await rig.bot.given(turn_id)
        path = "/api/sessions/s/cancel"
        stopped = await rig.http.post(path, json={"turn_id": waiting})
        assert stopped.json() == {"type": "ok", "session_id": "s", "turn_id": waiting}
        assert (await rig.http.post(path)).json()["turn_id"] == turn_id
        for body, status, code in (
            ({"turn_id": "none"}, 404, "turn_not_found"),
            ({"turn_id": 7}, 400, "bad_request"),
        ):
            response = await rig.http.post(path, json=body)
            assert (response.status_code, response.json()["code"]) == (status, code)
        unknown = await rig.http.post("/api/sessions/none/cancel")
        assert (unknown.status_code, unknown.json()["session_id"]) == (404, "none")


async def test_a_store_that_does_not_answer_is_told_of(in_memory: Any) -> None:
    class Away(MemoryStore):
        async def find(self, *_: object) -> list[Key]:
            raise Unavailable

    async with in_memory(store=Away()) as rig:
        response = await rig.http.post("/frames", json=message())
        assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
        assert response.headers["retry-after"] == "1"
        native = await rig.http.get("/api/sessions/s")
        assert (native.status_code, native.json()["error"]) == (503, native.json()["content"])


async def test_a_gateway_that_stops_takes_no_message(in_memory: Any) -> None:
    async with in_memory() as rig:
        await rig.app.drain()
        response = await rig.http.post("/frames", json=message())
        assert (response.status_code, response.json()["code"]) == (503, "draining")


# ── Who may knock ──


async def test_pages_of_other_origins_are_refused(in_memory: Any) -> None:
    async with in_memory() as rig:
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "http://localhost:81"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            response = await rig.http.post("/frames", json=message(), headers=headers)
            assert (response.status_code, response.json()["code"]) == (403, "forbidden"), headers
            deleted = await rig.http.delete("/api/sessions/s", headers=headers)
            assert deleted.status_code == 403
        assert (await rig.http.get("/api/sessions")).json() == {"sessions": []}
        own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
        assert (await rig.http.post("/frames", json=message(), headers=own)).status_code == 200


async def test_a_name_that_was_rebound_to_this_machine_is_refused(in_memory: Any) -> None:
    known = Settings(allow_hosts=("chat.example",), allow_anonymous=True, drain_timeout=0.01)
    async with in_memory(known) as rig:
        for host, status in (
            ("evil.example", 403),
            ("evil.example:8080", 403),
            ("127.0.0.1.evil.example", 403),
            ("", 403),
            ("localhost:8080", 200),
            ("127.0.0.1:8080", 200),
            ("[::1]:8080", 200),
            ("chat.example", 200),
        ):
            response = await rig.http.get("/api/agents", headers={"Host": host})
            assert response.status_code == status, host


async def test_bodies_are_json_and_say_so(in_memory: Any) -> None:
    async with in_memory() as rig:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            response = await rig.http.post(
                "/frames", content=b'{"type":"message"}', headers={"Content-Type": kind}
            )
            assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type"), kind
        for data in (b"", b"{", b"[]", b"\xff", b'{"type":"message","content":"\\ud800"}'):
            response = await rig.http.post(
                "/frames", content=data, headers={"Content-Type": "application/json; charset=utf-8"}
            )
            assert (response.status_code, response.json()["code"]) == (400, "bad_frame"), data


async def test_a_body_has_a_limit(in_memory: Any) -> None:
    async with in_memory(Settings(max_body_bytes=100, drain_timeout=0.01)) as rig:
        response = await rig.http.post("/frames", json=message(content="x" * 100))
        assert (response.status_code, response.json()["code"]) == (413, "frame_too_large")
        assert response.json()["limit"] == 100


async def test_whoever_refuses_it_is_an_error_frame(in_memory: Any) -> None:
    async with in_memory() as rig:
        for method, headers, status, code in (
            ("GET", {}, 405, "method_not_allowed"),
            ("POST", {"Origin": "http://elsewhere"}, 403, "forbidden"),
            ("POST", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ):
            for path in ("/frames", "/api/sessions/s/cancel"):
                response = await rig.http.request(method, path, headers=headers, content="{}")
                told = response.json()
                assert (response.status_code, told["type"], told["code"]) == (status, "error", code)
                assert "error" not in told
