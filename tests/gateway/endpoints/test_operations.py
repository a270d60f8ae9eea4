"""What operators ask, and what every answer has."""

from __future__ import annotations

from typing import Any

from gateway import __version__
from gateway.interfaces import Key, Unavailable
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore


async def test_it_is_alive_and_ready_until_it_stops(in_memory: Any) -> None:
    async with in_memory() as rig:
        for path in ("/healthz", "/readyz"):
            assert (await rig.http.get(path)).json() == {"status": "ok"}
        for path in ("/health", "/api/health"):
            assert (await rig.http.get(path)).json() == {"status": "ok", "version": __version__}
        await rig.app.drain()
        assert (await rig.http.get("/healthz")).status_code == 200
        ready = await rig.http.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        assert (await rig.http.get("/api/health")).json()["status"] == "degraded"
        assert (await rig.http.get("/api/status")).json()["status"] == "draining"


async def test_it_is_not_ready_while_the_store_does_not_answer(in_memory: Any) -> None:
    class Away(MemoryStore):
        async def find(self, *_: object) -> list[Key]:
            raise Unavailable

    async with in_memory(store=Away()) as rig:
        ready = await rig.http.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "store unavailable"})


async def test_numbers_are_for_prometheus(in_memory: Any) -> None:
    async with in_memory() as rig:
        await rig.http.post("/api/agents/echo/message", json={"message": "x"})
        response = await rig.http.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'gateway_turns_total{outcome="completed"} 1.0' in response.text


async def test_status_and_version_say_what_runs_here(in_memory: Any) -> None:
    async with in_memory() as rig:
        status = (await rig.http.get("/api/status")).json()
        assert (status["status"], status["version"], status["agent_count"]) == ("running", __version__, 2)
        assert [agent["id"] for agent in status["agents"]] == ["bot", "echo"]
        assert status["default_model"] == "bot"
        assert status["uptime_seconds"] >= 0
        for path in ("/version", "/api/version"):
            version = (await rig.http.get(path)).json()
            assert (version["name"], version["version"]) == ("trunkline", __version__)
            assert version["language"] == "python"
            assert set(version) == {
                "name", "version", "build_date", "git_sha", "rust_version", "platform", "arch",  # OpenFang
                "language", "language_version",  # ADK
            }  # fmt: skip


async def test_every_answer_has_a_request_id_given_or_made(in_memory: Any) -> None:
    async with in_memory() as rig:
        for path in ("/healthz", "/nowhere", "/api/sessions/none"):
            given = await rig.http.get(path, headers={"X-Request-Id": "abc-1"})
            assert given.headers["x-request-id"] == "abc-1"
            made = {
                (await rig.http.get(path, headers=headers)).headers["x-request-id"]
                for headers in ({}, {"X-Request-Id": "not fit for a log"}, {"X-Request-Id": "x" * 129})
            }
            assert len(made) == 3
            assert "not fit for a log" not in made
        refused = await rig.http.get("/api/agents", headers={"Host": "evil.example", "X-Request-Id": "abc"})
        assert (refused.status_code, refused.headers["x-request-id"]) == (403, "abc")


async def test_no_browser_is_to_guess_what_an_answer_is(in_memory: Any) -> None:
    asks = {"Origin": "https://chat.example", "Access-Control-Request-Method": "POST"}
    async with in_memory(Settings(allow_origins=(asks["Origin"],))) as rig:
        for method, path, headers, status in (
            ("GET", "/", {}, 200),
            ("GET", "/client.js", {}, 200),
            ("GET", "/api/agents", {}, 200),
            ("GET", "/metrics", {}, 200),
            ("GET", "/nowhere", {}, 404),
            ("POST", "/healthz", {}, 405),
            ("GET", "/api/agents", {"Host": "evil.example"}, 403),
            ("POST", "/frames", {"Origin": "https://evil.example"}, 403),
            ("OPTIONS", "/frames", asks, 204),
        ):
            answer = await rig.http.request(method, path, headers=headers)
            assert answer.status_code == status
            assert answer.headers.get_list("x-content-type-options") == ["nosniff"], (method, path)


async def test_what_the_framework_refuses_has_the_native_shape(in_memory: Any) -> None:
    async with in_memory() as rig:
        for method, path, status, code in (
            ("GET", "/nowhere", 404, "not_found"),
            ("POST", "/api/agents", 405, "method_not_allowed"),
            ("PATCH", "/api/agents/echo/sessions", 405, "method_not_allowed"),
        ):
            response = await rig.http.request(method, path)
            body = response.json()
            assert (response.status_code, body["code"], body["retryable"]) == (status, code, False)
            assert body["error"] == body["content"]
        assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}


async def test_head_is_get_without_the_body(in_memory: Any) -> None:
    async with in_memory() as rig:
        for path in ("/healthz", "/api/agents", "/api/sessions"):
            assert (await rig.http.head(path)).status_code == 200
