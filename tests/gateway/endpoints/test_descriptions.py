"""`/openapi.json`, `/asyncapi.json` and `/docs`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from gateway.interfaces import Caller
from protocol.errors import Refused
from protocol.schema import asyncapi
from tests.harness import WAIT


async def nobody(_: str | None, __: Any) -> Caller:
    raise Refused("unauthenticated", "Nobody gets in.")


async def test_the_api_is_told_as_openapi_to_everybody(in_memory: Any) -> None:
    async with in_memory(authenticator=nobody) as rig:
        assert (await rig.http.get("/api/sessions")).status_code == 401
        response = await rig.http.get("/openapi.json")
        assert response.headers["content-type"] == "application/json"
        assert response.json() == rig.app.openapi | {"servers": [{"url": "/"}]}


async def test_the_sockets_are_told_as_asyncapi_to_everybody(in_memory: Any) -> None:
    async with in_memory(authenticator=nobody) as rig:
        assert (await rig.http.get("/asyncapi.json")).json() == asyncapi()


async def test_people_are_shown_a_page_with_its_style(in_memory: Any) -> None:
    async with in_memory(authenticator=nobody) as rig:
        page = await rig.http.get("/docs")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "/api/agents/{agent}/message" in page.text
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        style = await rig.http.get("/docs.css")
        assert style.headers["content-type"].startswith("text/css")
        assert "prefers-color-scheme: dark" in style.text


@pytest.mark.parametrize("way", ["a proxy's prefix", "mounted"])
async def test_under_a_prefix_the_document_says_where_it_is_found(in_memory: Any, way: str) -> None:
    async with in_memory() as rig:
        if way == "mounted":
            app = Starlette(routes=[Mount("/chat", rig.app)])
            transport = httpx.ASGITransport(app)
        else:
            transport = httpx.ASGITransport(rig.app, root_path="/chat")
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=WAIT) as http:
            document = (await http.get("/chat/openapi.json")).json()
            assert document["servers"] == [{"url": "/chat"}]
            assert (await http.get("/chat/docs")).status_code == 200
            assert (await http.get("/chat/docs.css")).status_code == 200
