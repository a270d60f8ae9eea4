"""Callers from web pages, through proxies, and in crowds, at every kind of endpoint."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from gateway.interfaces import Caller
from gateway.settings import Settings
from tests.harness import WAIT

THERE = "https://chat.example"
FOREIGN = {"Origin": THERE, "Sec-Fetch-Site": "cross-site"}
ANN, BOB = {"Authorization": "Bearer ann"}, {"Authorization": "Bearer bob"}


def settings(**fields: Any) -> Settings:
    return Settings(drain_timeout=0.01, **fields)


async def by_name(token: str | None, _: Mapping[str, str]) -> Caller:
    """A token is the name of its user; `all` is a service's."""
    return Caller(service=True) if token == "all" else Caller(user=token or "nobody")


def calling(rig: Any, address: str) -> httpx.AsyncClient:
    """A client at that address."""
    transport = httpx.ASGITransport(rig.app, client=(address, 4711))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=WAIT)


@asynccontextmanager
async def socket(rig: Any, **options: Any) -> AsyncIterator[ClientConnection]:
    url = str(rig.http.base_url).replace("http", "ws", 1).rstrip("/") + "/ws"
    async with connect(url, **options) as line:
        yield line


async def upgrade(rig: Any, **options: Any) -> httpx.Response:
    """The HTTP answer with which an upgrade was refused."""
    with pytest.raises(InvalidStatus) as info:
        async with socket(rig, **options):
            pass
    refused = info.value.response
    return httpx.Response(
        refused.status_code, headers=[*refused.headers.raw_items()], content=bytes(refused.body)
    )


async def heard(line: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(WAIT):
        return json.loads(await line.recv())  # type: ignore[no-any-return]


# ── Web pages ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path", ["/", "/frames", "/api/agents", "/nowhere", "/apps/a/users/u/sessions", "/api/messaging/sessions"]
)
async def test_a_browser_that_asks_whether_it_may_is_told_so_on_every_path(in_memory: Any, path: str) -> None:
    asking = {**FOREIGN, "Access-Control-Request-Method": "PATCH"}
    async with in_memory(settings(allow_origins=(THERE,))) as rig:
        told = await rig.http.options(path, headers=asking)
        assert (told.status_code, told.content) == (204, b"")
        headers = told.headers
        assert headers["access-control-allow-origin"] == THERE
        assert headers["access-control-allow-methods"] == "GET, POST, PUT, PATCH, DELETE, OPTIONS"
        assert headers["access-control-allow-headers"] == (
            "Content-Type, Authorization, X-API-KEY, X-User-Id, X-Connection-Id, X-Request-Id, Last-Event-ID"
        )
        assert headers["access-control-max-age"] == "86400"
        assert headers["vary"] == "Origin"
        refused = await rig.http.options(path, headers={**asking, "Origin": "https://evil.example"})
        assert refused.status_code == 403
        assert not any(name.startswith("access-control") for name in refused.headers)


async def test_a_page_of_an_allowed_origin_may_read_answers_errors_and_streams(served: Any) -> None:
    async with served(settings(allow_origins=(THERE,)), headers=FOREIGN) as rig:
        posted = await rig.http.post("/api/agents/echo/message", json={"message": "hi"})
        missing = await rig.http.get("/nowhere")
        wrong = await rig.http.post("/frames", json={"type": "nonsense"})
        assert [posted.status_code, missing.status_code, wrong.status_code] == [200, 404, 400]
        for response in (posted, missing, wrong):
            assert response.headers["access-control-allow-origin"] == THERE
            exposed = response.headers["access-control-expose-headers"]
            assert exposed == "X-Request-Id, X-Session-Id, Link, Retry-After"
            assert "Origin" in response.headers["vary"]
        async with rig.stream("GET", "/api/sessions/s/events?create=true&agent=echo") as events:
            assert events.response.headers["access-control-allow-origin"] == THERE
            await events.until("attached")
        async with socket(rig, origin=THERE) as line:
            assert (await heard(line))["type"] == "connected"


async def test_with_a_star_so_may_any_page(in_memory: Any) -> None:
    async with in_memory(settings(allow_origins=("*",)), headers=FOREIGN) as rig:
        posted = await rig.http.post("/api/agents/echo/message", json={"message": "hi"})
        assert (posted.status_code, posted.headers["access-control-allow-origin"]) == (200, "*")


@pytest.mark.parametrize(
    "body",
    [
        {"json": {"message": "hi"}},
        {"content": "message=hi", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"content": "{}", "headers": {"Content-Type": "text/plain"}},
        {"files": {"message": (None, "hi")}},
        {},
    ],
)
async def test_no_other_page_changes_anything_whatever_the_body_is(
    in_memory: Any, body: dict[str, Any]
) -> None:
    body = {**body, "headers": {**body.get("headers", {}), **FOREIGN}}
    async with in_memory(settings(allow_origins=("https://mine.example",))) as rig:
        for path in ("/api/agents/echo/message", "/frames", "/api/v1/conversations/s/message", "/run"):
            refused = await rig.http.post(path, **body)
            assert refused.status_code == 403
            assert "--allow-origin" in refused.text
            assert "access-control-allow-origin" not in refused.headers
        async with asyncio.timeout(WAIT):
            stream = await rig.http.get("/api/sessions/s/events?create=true", headers=FOREIGN)
        assert stream.status_code == 403
        assert (await rig.http.get("/api/agents/echo/sessions")).json()["sessions"] == []


async def test_a_refused_page_is_told_over_its_socket_what_to_set(served: Any) -> None:
    async with served() as rig, socket(rig, origin=THERE) as line:
        refused = await heard(line)
        assert refused["code"] == "forbidden"
        assert "--allow-origin" in refused["content"]
        async with asyncio.timeout(WAIT):
            await line.wait_closed()
        assert line.close_code == 4403


# ── Proxies ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_addresses_are_counted_as_a_trusted_proxy_tells_them(in_memory: Any) -> None:
    given = settings(trusted_proxies=("10.0.0.0/8",), max_requests_per_second=1)
    async with (
        in_memory(given) as rig,
        calling(rig, "10.0.0.1") as proxy,
        calling(rig, "192.0.2.1") as direct,
    ):
        for address in ("203.0.113.1", "203.0.113.2"):
            assert (await proxy.get("/healthz", headers={"X-Forwarded-For": address})).status_code == 200
        codes = [
            (await direct.get("/healthz", headers={"X-Forwarded-For": address})).status_code
            for address in ("203.0.113.3", "203.0.113.4")
        ]
        assert codes == [200, 429]


async def test_a_page_behind_a_proxy_has_the_origin_that_the_proxy_tells(in_memory: Any) -> None:
    given = settings(trusted_proxies=("10.0.0.1",), allow_hosts=("chat.example",), allow_anonymous=True)
    page = {"Origin": THERE, "Sec-Fetch-Site": "same-origin", "X-Forwarded-Host": "chat.example"}
    async with in_memory(given) as rig, calling(rig, "10.0.0.1") as proxy, calling(rig, "10.0.0.2") as other:
        for client, status in ((proxy, 200), (other, 403)):
            said = await client.post("/api/agents/echo/message", json={"message": "hi"}, headers=page)
            assert said.status_code == status
        refused = await proxy.get("/api/agents", headers={"X-Forwarded-Host": "evil.example"})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


async def test_what_a_proxy_passes_on_that_cannot_be_read_is_refused(in_memory: Any) -> None:
    async with in_memory(settings(trusted_proxies=("127.0.0.1",))) as rig:
        refused = await rig.http.get("/healthz", headers={"Forwarded": 'for="'})
        assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")


async def test_a_person_who_comes_through_a_proxy_reads_on_a_page_why_they_are_not_let_in(
    in_memory: Any,
) -> None:
    browser = {"X-Forwarded-For": "203.0.113.1", "Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    async with in_memory() as rig:
        for path in ("/", "/console", "/docs", "/nowhere"):
            page = await rig.http.get(path, headers=browser)
            assert page.status_code == 403
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert page.headers["cache-control"] == "no-store"
            assert "came through a proxy (X-Forwarded-For)" in page.text
            assert "--guests" in page.text
        evil = {"Host": "<script>alert(1)</script>", "Accept": "text/html"}
        assert "<script" not in (await rig.http.get("/", headers=evil)).text
        for method, path in (("GET", "/api/sessions"), ("POST", "/frames")):
            refused = await rig.http.request(method, path, headers={**browser, "Accept": "*/*"})
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
            assert "came through a proxy (X-Forwarded-For)" in refused.text


async def test_a_socket_through_a_proxy_is_told_why_it_is_not_let_in(served: Any) -> None:
    forwarded = {"X-Forwarded-For": "203.0.113.1"}
    async with served() as rig:
        refused = await upgrade(rig, additional_headers=forwarded)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        own = str(rig.http.base_url).rstrip("/")
        async with socket(rig, origin=own, additional_headers=forwarded) as line:
            told = await heard(line)
            assert (told["type"], told["code"]) == ("error", "forbidden")
            assert "--allow-anonymous" in told["content"]
            async with asyncio.timeout(WAIT):
                await line.wait_closed()
            assert line.close_code == 4403


# ── Crowds ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_address_that_asks_too_often_is_told_when_to_come_back(in_memory: Any) -> None:
    async with in_memory(settings(max_requests_per_second=2)) as rig, calling(rig, "2001:db8::1") as client:
        for _ in range(2):
            assert (await client.get("/healthz")).status_code == 200
        for path in ("/healthz", "/api/agents", "/nowhere"):
            refused = await client.get(path)
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
            assert (refused.headers["retry-after"], refused.json()["retry_after_ms"]) == ("1", 1000)
            assert refused.headers["x-request-id"]
        async with calling(rig, "2001:db8::ffff") as same, calling(rig, "2001:db8:0:1::1") as other:
            assert (await same.get("/healthz")).status_code == 429
            assert (await other.get("/healthz")).status_code == 200
        for _ in range(5):
            assert (await rig.http.get("/healthz")).status_code == 200, "this machine's own is not counted"
        counted = (await rig.http.get("/metrics")).text
        assert 'gateway_refusals_total{code="rate_limited"} 4.0' in counted


async def test_too_many_lines_of_an_address_are_429_for_programs_and_browsers(served: Any) -> None:
    given = settings(trusted_proxies=("127.0.0.1",), max_connections_per_address=1, allow_anonymous=True)
    one, other = {"X-Forwarded-For": "203.0.113.1"}, {"X-Forwarded-For": "203.0.113.2"}
    async with served(given) as rig:
        async with socket(rig, additional_headers=one) as line:
            assert (await heard(line))["type"] == "connected"
            own = str(rig.http.base_url).rstrip("/")
            for origin in (None, own):
                refused = await upgrade(rig, additional_headers=one, origin=origin)
                assert (refused.status_code, refused.json()["code"]) == (429, "too_many_connections")
                assert refused.headers["retry-after"] == "1"
            assert (await rig.http.get("/healthz", headers=one)).status_code == 429
            async with socket(rig, additional_headers=other) as second:
                assert (await heard(second))["type"] == "connected"
        await rig.until(lambda: not rig.app.supervisor.lines)
        async with socket(rig, additional_headers=one) as line:
            assert (await heard(line))["type"] == "connected"


async def test_too_many_lines_of_a_user_are_429_before_the_upgrade_and_an_error_after_hello(
    served: Any,
) -> None:
    async with (
        served(settings(max_connections_per_user=1), authenticator=by_name) as rig,
        socket(rig, additional_headers=ANN) as line,
    ):
        assert (await heard(line))["user_id"] == "ann"
        for origin in (None, str(rig.http.base_url).rstrip("/")):
            refused = await upgrade(rig, additional_headers=ANN, origin=origin)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_connections")
        async with socket(rig) as late:
            await late.send('{"type":"hello","token":"ann"}')
            assert (await heard(late))["code"] == "too_many_connections"
            async with asyncio.timeout(WAIT):
                await late.wait_closed()
            assert late.close_code == 1013
        async with socket(rig, additional_headers=BOB) as others:
            assert (await heard(others))["user_id"] == "bob"
        path = "/api/sessions/s/events?create=true&agent=bot"
        assert (await rig.http.get(path, headers=ANN)).status_code == 429


async def test_streams_count_as_lines_until_they_end(served: Any) -> None:
    path = "/api/sessions/s/events?create=true&agent=echo"
    async with served(settings(max_connections_per_user=1), headers=ANN, authenticator=by_name) as rig:
        async with rig.stream("GET", path) as events:
            await events.until("attached")
            refused = await rig.http.get(path)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_connections")
            assert refused.headers["retry-after"] == "1"
        await rig.until(lambda: not rig.app.supervisor.lines)
        async with rig.stream("GET", path) as events:
            await events.until("attached")


async def test_a_user_that_says_too_much_is_told_so_on_every_way(in_memory: Any) -> None:
    async with in_memory(settings(max_messages_per_minute=1), authenticator=by_name) as rig:
        said = {"type": "message", "session_id": "s", "content": "hi", "agent": "echo"}
        ways = {"/frames": said, "/api/agents/echo/message": {"message": "hi"}}
        assert (await rig.http.post("/frames", json=said, headers=ANN)).status_code == 200
        for path, body in ways.items():
            refused = await rig.http.post(path, json=body, headers=ANN)
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
            assert 58 < int(refused.headers["retry-after"]) <= 61
        service = {"Authorization": "Bearer all", "X-User-Id": "ann"}
        assert (await rig.http.post("/frames", json=said, headers=service)).status_code == 429
        assert (await rig.http.post("/frames", json=said, headers=BOB)).status_code == 200


async def test_where_nobody_has_to_say_who_they_are_users_are_not_counted(served: Any) -> None:
    async with (
        served(settings(max_messages_per_minute=1, max_connections_per_user=1), headers=ANN) as rig,
        socket(rig),
        socket(rig) as line,
    ):
        assert (await heard(line))["type"] == "connected"
        for _ in range(2):
            said = {"type": "message", "session_id": "s", "content": "hi", "agent": "echo"}
            assert (await rig.http.post("/frames", json=said)).status_code == 200


async def test_a_user_has_so_many_sessions_however_they_are_made(in_memory: Any) -> None:
    async with in_memory(settings(max_sessions_per_user=2)) as rig:
        made = [await rig.http.post("/api/agents/echo/sessions", json={}) for _ in range(3)]
        assert [response.status_code for response in made] == [200, 200, 429]
        refused = made[2].json()
        assert (refused["code"], refused["limit"], refused["retryable"]) == ("too_many_sessions", 2, True)
        said = {"type": "message", "session_id": "s", "content": "hi", "agent": "bot"}
        assert (await rig.http.post("/frames", json=said)).json()["code"] == "too_many_sessions"
        assert (await rig.http.post("/frames", json=said, headers={"X-User-Id": "bob"})).status_code == 200
        await rig.http.delete(f"/api/sessions/{made[0].json()['session_id']}")
        assert (await rig.http.post("/frames", json=said)).status_code == 200


async def test_who_calls_from_where_is_not_logged(in_memory: Any, logged: Any) -> None:
    log = logged()
    async with in_memory(settings(max_requests_per_second=1)) as rig, calling(rig, "203.0.113.77") as client:
        for _ in range(2):
            await client.get("/healthz")
    assert "203.0.113.77" not in log.getvalue()
