"""What others can reach when somebody puts the gateway behind an nginx, and nothing else."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.e2e.nginx import FORWARDS, behind_nginx
from tests.e2e.process import gateway_serve, serving

KEY = "a-key-of-forty-characters-for-the-tests-"
PATHS = ("/", "/console", "/widget.js", "/api/sessions", "/api/agents", "/metrics", "/openapi.json")


@pytest.mark.parametrize("directives", ["", FORWARDS], ids=["bare", "proxy_params"])
async def test_a_proxy_pass_publishes_nothing_where_nobody_has_to_say_who_they_are(
    tmp_path: Path, directives: str
) -> None:
    arguments = gateway_serve(tmp_path / "chats.db", {"echo": "echo"})
    with (
        serving(arguments, tmp_path / "log") as gateway,
        behind_nginx(gateway.url, tmp_path, directives) as url,
    ):
        async with httpx.AsyncClient(base_url=gateway.url) as here, httpx.AsyncClient(base_url=url) as there:
            assert (await here.get("/api/sessions")).status_code == 200
            for path in PATHS:
                refused = await there.get(path)
                assert refused.status_code == 403, path
                assert "came through a proxy" in refused.text
                assert "GATEWAY_JWT_SECRET" in refused.text
            said = await there.post("/frames", json={"type": "message", "session_id": "s", "content": "hi"})
            assert said.status_code == 403
            assert (await there.get("/healthz")).status_code == 200
            assert (await there.get("/readyz")).status_code == 200


async def test_with_keys_it_works_behind_one(tmp_path: Path) -> None:
    arguments = [*gateway_serve(tmp_path / "chats.db", {"echo": "echo"}), "--trusted-proxy", "127.0.0.1"]
    with (
        serving(arguments, tmp_path / "log", {"GATEWAY_API_KEYS": f"shop={KEY}"}) as gateway,
        behind_nginx(gateway.url, tmp_path, FORWARDS) as url,
    ):
        async with httpx.AsyncClient(base_url=url) as there:
            assert (await there.get("/")).status_code == 200
            assert (await there.get("/api/sessions")).status_code == 401
            mine = await there.get("/api/sessions", headers={"X-API-Key": KEY})
            assert mine.status_code == 200
