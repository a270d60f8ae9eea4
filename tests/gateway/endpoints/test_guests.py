"""Visitors without an account, over HTTP and over sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import time
from typing import Any

import httpx
from websockets.asyncio.client import connect

from gateway.door import door_of
from gateway.guests import Guests
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from tests.harness import WAIT

SECRET = "a secret of thirty-two bytes, or more"
KEY = "k" * 40


def settings(**fields: Any) -> Settings:
    return Settings(guests=True, drain_timeout=0.01, **fields)


@asynccontextmanager
async def open_to_guests(make: Any, given: Settings | None = None) -> AsyncIterator[Any]:
    """A gateway that lets in guests, and the service `KEY`."""
    given = given or settings()
    services = door_of(Settings(api_keys=(f"shop={KEY}",)), time)
    store = MemoryStore()
    guests = Guests(SECRET, store, time, days=given.guest_days, others=services)
    async with make(given, store=store, guests=guests) as rig:
        yield rig


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def a_guest(rig: Any) -> dict[str, str]:
    """The header of a new guest."""
    answer = await rig.http.post("/guest")
    assert answer.status_code == 200
    return bearer(answer.json()["token"])


async def say(rig: Any, who: dict[str, str], session_id: str, content: str = "hi") -> httpx.Response:
    frame = {"type": "message", "session_id": session_id, "agent": "echo", "content": content}
    return await rig.http.post("/frames", json=frame, headers=who)  # type: ignore[no-any-return]


async def ids(rig: Any, who: dict[str, str]) -> list[str]:
    answer = await rig.http.get("/api/sessions", headers=who)
    assert answer.status_code == 200
    return [session["session_id"] for session in answer.json()["sessions"]]


async def test_where_no_guests_are_let_in_there_is_no_such_thing(in_memory: Any) -> None:
    async with in_memory() as rig:
        answer = await rig.http.post("/guest")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_each_guest_sees_its_own_sessions_only(in_memory: Any) -> None:
    async with open_to_guests(in_memory) as rig:
        one, other = await a_guest(rig), await a_guest(rig)
        assert (await say(rig, one, "s")).status_code == 200
        assert (await say(rig, other, "t")).status_code == 200
        assert (await ids(rig, one), await ids(rig, other)) == (["s"], ["t"])
        assert (await rig.http.get("/api/sessions/s", headers=other)).status_code == 404
        assert (await rig.http.get("/api/sessions")).status_code == 401
        assert (await rig.http.get("/api/sessions", headers={**one, "X-User-Id": "ann"})).status_code == 403


async def test_operators_routes_are_for_services_and_not_for_guests(in_memory: Any) -> None:
    async with open_to_guests(in_memory) as rig:
        guest = await a_guest(rig)
        for path in ("/metrics", "/api/status"):
            assert (await rig.http.get(path)).status_code == 401
            assert (await rig.http.get(path, headers=guest)).status_code == 403
            assert (await rig.http.get(path, headers={"X-API-Key": KEY})).status_code == 200


async def test_a_guests_token_is_renewed_for_the_same_guest(in_memory: Any) -> None:
    async with open_to_guests(in_memory) as rig:
        first = (await rig.http.post("/guest")).json()
        again = await rig.http.post("/guest", headers=bearer(first["token"]))
        assert again.json()["user_id"] == first["user_id"]
        assert again.headers["cache-control"] == "no-store"
        for wrong in ("nonsense", KEY):
            refused = await rig.http.post("/guest", headers=bearer(wrong))
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")


async def test_a_guest_comes_by_a_socket_like_anybody(served: Any) -> None:
    async with open_to_guests(served) as rig:
        guest = (await rig.http.post("/guest")).json()
        url = str(rig.http.base_url).replace("http", "ws", 1).rstrip("/") + "/ws"
        async with connect(url) as line, asyncio.timeout(WAIT):
            await line.send(json.dumps({"type": "hello", "token": guest["token"]}))
            connected = json.loads(await line.recv())
        assert (connected["type"], connected["user_id"]) == ("connected", guest["user_id"])
        assert connected["token_expires_at"] == guest["expires_at"]


async def test_one_address_gets_so_many_tokens_a_minute(in_memory: Any) -> None:
    async with open_to_guests(in_memory, settings(max_guests_per_minute=2)) as rig:
        transport = httpx.ASGITransport(rig.app, client=("192.0.2.1", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as caller:
            answers = [await caller.post("/guest") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[-1].json()["code"] == "rate_limited"
        assert int(answers[-1].headers["retry-after"]) > 1
        assert (await rig.http.post("/guest")).status_code == 200


async def test_guests_have_limits_of_their_own(in_memory: Any) -> None:
    given = settings(max_guest_sessions=1, max_guest_messages_per_minute=2)
    async with open_to_guests(in_memory, given) as rig:
        guest, ann = await a_guest(rig), {"X-API-Key": KEY, "X-User-Id": "ann"}
        assert (await say(rig, guest, "s")).status_code == 200
        refused = await say(rig, guest, "t")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_sessions")
        refused = await say(rig, guest, "s")
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        for session_id in ("s", "t", "u"):
            assert (await say(rig, ann, session_id)).status_code == 200


async def test_strange_pages_get_no_guest(in_memory: Any) -> None:
    async with open_to_guests(in_memory) as rig:
        refused = await rig.http.post("/guest", headers={"Origin": "https://evil.example"})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


# ── A guest becomes a user ──────────────────────────────────────────────────────────────────────────────────

ANN = {"X-API-Key": KEY, "X-User-Id": "ann"}
BOB = {"X-API-Key": KEY, "X-User-Id": "bob"}


async def adopt(rig: Any, who: dict[str, str], token: str) -> httpx.Response:
    return await rig.http.post("/guest/adopt", json={"token": token}, headers=who)  # type: ignore[no-any-return]


async def test_a_user_takes_over_a_guests_sessions_once(in_memory: Any) -> None:
    async with open_to_guests(in_memory) as rig:
        token = (await rig.http.post("/guest")).json()["token"]
        await say(rig, bearer(token), "s")
        await rig.until(lambda: not rig.app.supervisor.sessions)
        adopted = await adopt(rig, ANN, token)
        assert adopted.json() == {
            "user_id": "ann",
            "sessions": [{"agent": "echo", "session_id": "s", "guest_session_id": "s"}],
        }
        assert await ids(rig, ANN) == ["s"]
        assert (await adopt(rig, ANN, token)).json() == {"user_id": "ann", "sessions": []}
        refused = await adopt(rig, BOB, token)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert (await ids(rig, ANN), await ids(rig, BOB)) == (["s"], [])


async def test_a_guest_that_has_become_a_user_is_let_in_no_more(in_memory: Any) -> None:
    async with open_to_guests(in_memory) as rig:
        first = (await rig.http.post("/guest")).json()["token"]
        renewed = (await rig.http.post("/guest", headers=bearer(first))).json()["token"]
        await adopt(rig, ANN, first)
        for token in (first, renewed):
            for method, path in (("GET", "/api/sessions"), ("POST", "/guest")):
                refused = await rig.http.request(method, path, headers=bearer(token))
                assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
        assert (await adopt(rig, BOB, renewed)).status_code == 403


async def test_only_a_user_takes_over_and_only_a_guest_is_taken_over(in_memory: Any) -> None:
    async with open_to_guests(in_memory) as rig:
        token = (await rig.http.post("/guest")).json()["token"]
        for who, given, status, code in (
            ({}, token, 401, "unauthenticated"),
            (await a_guest(rig), token, 403, "forbidden"),
            ({"X-API-Key": KEY, "X-User-Id": "guest-1"}, token, 403, "forbidden"),
            ({"X-API-Key": KEY}, token, 400, "bad_request"),
            (ANN, "nonsense", 400, "bad_request"),
            (ANN, KEY, 400, "bad_request"),
        ):
            refused = await adopt(rig, who, given)
            assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert (await say(rig, bearer(token), "s")).status_code == 200
    async with in_memory() as rig:
        assert (await adopt(rig, ANN, token)).status_code == 404
