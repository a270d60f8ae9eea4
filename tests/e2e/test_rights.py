"""A gateway that demands tokens, started and asked as its users do it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from protocol import frames
from tests.e2e.line import WAIT, Line
from tests.e2e.process import ROOT, Process, gateway_serve, serving

SECRET = "a secret that only this gateway and its test know"
SERVICE = "a-key-that-only-this-test-knows"
ENVIRONMENT = {"GATEWAY_JWT_SECRET": SECRET, "GATEWAY_API_KEYS": f"test={SERVICE}"}
PRIVATE = "what u2 said to nobody else"


def token(user: str, *flags: str) -> str:
    """What `gateway token` prints."""
    made = subprocess.run(
        [sys.executable, "-m", "gateway", "token", "--user", user, *flags],
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return made.stdout.strip()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Process]:
    arguments = gateway_serve(tmp_path / "gateway.db", {"echo": "echo", "other": "echo"})
    with serving(arguments, tmp_path / "log", ENVIRONMENT) as running:
        yield running


def asking(gateway: Process, credentials: str | None) -> httpx.AsyncClient:
    headers = {} if credentials is None else {"Authorization": f"Bearer {credentials}"}
    return httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=WAIT)


async def test_who_shows_no_token_is_refused_and_who_shows_one_is_served(gateway: Process) -> None:
    async with asking(gateway, None) as nobody, asking(gateway, token("u1")) as u1:
        for method, path in (("GET", "/api/agents"), ("GET", "/api/sessions"), ("POST", "/frames")):
            refused = await nobody.request(method, path)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
            assert refused.headers["www-authenticate"] == "Bearer"
        for bad in (token("u1")[:-2], SECRET, "geheim"):
            refused = await nobody.get("/api/agents", headers={"Authorization": f"Bearer {bad}"})
            assert refused.json()["code"] == "unauthenticated"
            with pytest.raises(InvalidStatus) as upgrade:
                await connect(f"{gateway.ws}/ws", additional_headers={"Authorization": f"Bearer {bad}"})
            assert upgrade.value.response.status_code == 401
        assert (await nobody.get("/healthz")).status_code == 200
        answer = await u1.post("/api/agents/echo/message", json={"message": "one two"})
        assert answer.json()["response"] == "one two"
    async with connect(f"{gateway.ws}/ws") as socket:
        line = Line(socket)
        await line.put("hello", token=token("u1", "--ttl", "30s"))
        connected = await line.next()
        assert isinstance(connected, frames.Connected)
        assert connected.user_id == "u1"
        soon = await line.until(lambda frame: isinstance(frame, frames.Token))
        assert soon == frames.Token(connected.token_expires_at or 0)
    assert not any(secret in gateway.log for secret in (SECRET, SERVICE, "eyJ", "geheim"))


async def test_a_service_acts_for_any_user_and_sees_the_numbers(gateway: Process) -> None:
    async with asking(gateway, SERVICE) as service, asking(gateway, token("u1")) as u1:
        body = {"session_id": "made-for-u1"}
        made = await service.post("/api/agents/echo/sessions", json=body, headers={"X-User-Id": "u1"})
        assert made.status_code == 200
        assert (await u1.get("/api/sessions/made-for-u1")).status_code == 200
        assert (await service.get("/metrics")).status_code == 200
        assert (await u1.get("/metrics")).status_code == 403


async def test_a_user_sees_a_session_of_another_by_no_route(gateway: Process) -> None:
    async with asking(gateway, token("u1")) as u1, asking(gateway, token("u2")) as u2:
        path = "/api/agents/echo/sessions"
        await u2.post(path, json={"session_id": "theirs", "label": "plans"})
        said = await u2.post(f"{path}/theirs/message", json={"message": PRIVATE, "turn_id": "t"})
        assert said.json()["response"] == PRIVATE

        async def asked(session_id: str) -> list[Any]:
            """What u1 is answered who asks for that session, by every route that makes none."""
            cancel = {"type": "cancel", "session_id": session_id, "turn_id": "t"}
            renew = {"type": "renew", "session_id": session_id, "agent": "echo"}
            answers = [
                await u1.get(f"/api/sessions/{session_id}"),
                await u1.get(f"/api/sessions/{session_id}?agent=echo"),
                await u1.get(f"/api/sessions/{session_id}/messages"),
                await u1.get(f"/api/sessions/{session_id}/events"),
                await u1.put(f"/api/sessions/{session_id}/label", json={"label": "mine"}),
                await u1.post(f"/api/sessions/{session_id}/cancel"),
                await u1.post(f"{path}/{session_id}/switch"),
                await u1.post(f"{path}/{session_id}/stop"),
                await u1.post("/frames", json=cancel),
                await u1.post("/frames", json=renew),
                await u1.delete(f"/api/sessions/{session_id}"),
            ]
            return [json.loads(answer.text.replace(session_id, "ID")) for answer in answers]

        there, nowhere = await asked("theirs"), await asked("nobodys")
        assert there == nowhere
        assert {answer["code"] for answer in there} == {"session_not_found"}
        assert (await u1.get(f"{path}/by-label/plans")).status_code == 404
        for listed in ("/api/sessions", path):
            assert (await u1.get(listed)).json()["sessions"] == []
        named = await u1.get("/api/sessions", headers={"X-User-Id": "u2"})
        assert (named.status_code, named.json()["code"]) == (403, "forbidden")

        headers = {"Authorization": f"Bearer {token('u1')}"}
        async with connect(f"{gateway.ws}/ws", additional_headers=headers) as socket:
            line = Line(socket)
            resume = [
                {"session_id": "theirs", "agent": agent, "cursor": "e.1.0"} for agent in ("echo", "other")
            ]
            await line.put("attach", sessions=[{"session_id": "theirs"}, *resume], ref="a")
            await line.until(lambda frame: getattr(frame, "ref", None) == "a")
            # One with that id of their own begins empty, and they never hear of the other.
            await line.put("message", session_id="theirs", content="mine", turn_id="mine")
            await line.until(lambda frame: isinstance(frame, frames.Response))
            errors = [frame.code for frame in line.frames if isinstance(frame, frames.Error)]
            assert errors == ["session_not_found"] * 3
            assert not any(PRIVATE in repr(frame) for frame in line.frames)
        assert [m["content"] for m in (await u1.get("/api/sessions/theirs/messages")).json()["messages"]] == [
            "mine",
            "mine",
        ]
        kept = (await u2.get("/api/sessions/theirs/messages")).json()["messages"]
        assert [message["content"] for message in kept] == [PRIVATE, PRIVATE]


async def test_a_narrowed_token_reaches_one_session_only(gateway: Process) -> None:
    narrow = token("u1", "--agent", "echo", "--session", "one")
    async with asking(gateway, narrow) as narrowed, asking(gateway, token("u1")) as u1:
        for session_id in ("one", "two"):
            await u1.post("/api/agents/echo/sessions", json={"session_id": session_id})
        assert [agent["id"] for agent in (await narrowed.get("/api/agents")).json()] == ["echo"]
        listed = (await narrowed.get("/api/sessions")).json()["sessions"]
        assert [session["session_id"] for session in listed] == ["one"]
        assert (await narrowed.get("/api/sessions/one")).status_code == 200
        assert (await narrowed.get("/api/sessions/two")).status_code == 404
