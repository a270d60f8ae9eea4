"""The console's page and its socket: who gets in."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.interfaces import Caller
from protocol.errors import Refused
from tests.harness import WAIT


async def authenticator(token: str | None, _: Mapping[str, str]) -> Caller:
    match token:
        case "service":
            return Caller(service=True)
        case "narrow":
            return Caller(service=True, agents=frozenset({"bot"}))
        case "ann":
            return Caller(user="ann")
        case _:
            raise Refused("unauthenticated", "This is no token.")


@asynccontextmanager
async def console(rig: Any, **options: Any) -> AsyncIterator[ClientConnection]:
    url = str(rig.http.base_url).replace("http", "ws", 1).rstrip("/") + "/console/ws"
    async with connect(url, **options) as socket:
        yield socket


async def frames(socket: ClientConnection, until: str) -> list[dict[str, Any]]:
    """What comes, up to the first frame of that type, or to the end."""
    got: list[dict[str, Any]] = []
    async with asyncio.timeout(WAIT):
        try:
            while not got or got[-1]["type"] != until:
                got += map(json.loads, str(await socket.recv()).split("\n"))
        except ConnectionClosed:
            pass
    return got


async def test_without_authentication_it_is_open_and_told_figures(served: Any) -> None:
    async with served() as rig, console(rig) as socket:
        await socket.send('{"type":"hello","batch":true,"ref":"h"}')
        first = await frames(socket, "figures")
        assert {frame["type"] for frame in first} == {"connected", "about", "figures"}
        again = await frames(socket, "figures")  # the wheel turns
        assert again[-1]["connections"] == 1


async def test_where_keys_are_wanted_a_service_key_in_hello_lets_in(served: Any) -> None:
    async with served(authenticator=authenticator) as rig, console(rig) as socket:
        await socket.send('{"type":"hello","token":"service","ref":"h"}')
        got = await frames(socket, "about")
        assert got[0]["type"] == "connected"
        await socket.send('{"type":"list","ref":"l"}')
        assert (await frames(socket, "sessions"))[-1]["sessions"] == []


@pytest.mark.parametrize(
    ("hello", "code", "close"),
    [
        ({}, "unauthenticated", 4401),
        ({"token": "none"}, "unauthenticated", 4401),
        ({"token": "ann"}, "forbidden", 4403),
        ({"token": "narrow"}, "forbidden", 4403),
        ({"type": "ping"}, "unauthenticated", 4400),
    ],
)
async def test_nobody_else_is_let_in_wherever_they_call_from(
    served: Any, hello: dict[str, str], code: str, close: int
) -> None:
    async with served(authenticator=authenticator) as rig, console(rig) as socket:
        await socket.send(json.dumps({"type": "hello", **hello}))
        got = await frames(socket, "figures")
        assert [(frame["type"], frame["code"]) for frame in got] == [("error", code)]
        assert socket.close_code == close
        assert not rig.app.supervisor.lines
        assert rig.app.supervisor.runtime.metrics.refusals == {code: 1}


async def test_a_key_may_also_be_shown_with_the_upgrade_and_is_judged_alike(served: Any) -> None:
    async with served(authenticator=authenticator) as rig:
        async with console(rig, additional_headers={"X-API-Key": "service"}) as socket:
            assert (await frames(socket, "about"))[0]["type"] == "connected"
        async with console(rig, additional_headers={"X-API-Key": "ann"}) as socket:
            assert (await frames(socket, "about"))[0]["code"] == "forbidden"
            assert socket.close_code == 4403


async def test_pages_of_other_origins_are_not_let_in(served: Any) -> None:
    async with served() as rig, console(rig, origin="http://evil.example") as socket:
        got = await frames(socket, "about")
        assert (got[0]["type"], got[0]["code"], socket.close_code) == ("error", "forbidden", 4403)


async def test_other_sockets_below_it_are_none(served: Any) -> None:
    async with served() as rig:
        url = str(rig.http.base_url).replace("http", "ws", 1).rstrip("/") + "/console/other"
        with pytest.raises(InvalidStatus):
            async with connect(url):
                pass


async def test_the_page_and_all_it_needs_are_open_and_nothing_is_inline(in_memory: Any) -> None:
    async with in_memory(authenticator=authenticator) as rig:
        page = (await rig.http.get("/console")).text
        assert not re.search(r"\son\w+=|style=|<script>|<style", page)
        found = {f"/{name}" for name in re.findall(r'(?:src|href)="([^"]+)"', page)}
        assert {"/console.js", "/console.css"} <= {path.partition("?")[0] for path in found}
        # Where the page's script is one bundled file, it imports no modules: they are served all the same.
        found |= {"/console/timeline.js", "/console/plots.js"}
        seen: set[str] = set()
        while found - seen:
            path = (found - seen).pop()
            seen.add(path)
            file = await rig.http.get(path)
            assert file.status_code == 200, path
            folder = path.rpartition("/")[0]
            found |= {
                f"{folder}/{name}" for name in re.findall(r'^import .*from "\./(.+)";', file.text, re.M)
            }
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", file.text)


async def test_what_is_refused_over_http_is_counted_too(in_memory: Any) -> None:
    async with in_memory(authenticator=authenticator) as rig:
        await rig.http.get("/metrics")
        await rig.http.get("/nowhere")
        assert rig.app.supervisor.runtime.metrics.refusals == {"unauthenticated": 1, "not_found": 1}
