"""The client library as it is published: its declaration and what is said of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from httpx import ASGITransport, AsyncClient

from gateway import __version__
from gateway.agents.echo import EchoAgent
from gateway.app import gateway_app
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from protocol.schema import typescript

ROOT = Path(__file__).parent.parent.parent
WEB = ROOT / "gateway" / "web"


def test_its_frames_are_declared_as_the_protocol_has_them() -> None:
    assert (WEB / "client.d.ts").read_text().endswith("\n" + typescript()), (
        "client.d.ts ends with what `gateway schema --typescript` prints: put that there again."
    )


def test_all_that_it_exports_is_declared() -> None:
    (exported,) = re.findall(r"^export \{ (.*) \};", (WEB / "client.js").read_text(), re.MULTILINE)
    names = {"Gateway", *exported.split(", ")}
    declared = set(re.findall(r"^export class (\w+)", (WEB / "client.d.ts").read_text(), re.MULTILINE))
    assert names == declared


def test_it_has_the_gateways_version_and_needs_nothing_else() -> None:
    package = json.loads((WEB / "package.json").read_text())
    assert package["version"] == __version__
    assert not {name for name in package if "ependencies" in name}


def test_it_carries_the_licence() -> None:
    assert (WEB / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()  # npm packs it unasked


def test_all_that_it_imports_is_in_it() -> None:
    package = json.loads((WEB / "package.json").read_text())
    assert {"client.js", "client.d.ts", "client/"} == set(package["files"])
    for script in (WEB / "client.js", *(WEB / "client").glob("*.js")):
        for name in re.findall(r'^(?:import|export) .* from "([^"]+)"', script.read_text(), re.MULTILINE):
            imported = (script.parent / name).resolve()
            assert imported.exists(), f"{script.name}: {name}"
            assert imported.is_relative_to(WEB / "client"), f"{script.name}: {name}"


async def test_any_page_may_import_it_and_is_then_told_by_the_gateway_what_it_may_do() -> None:
    settings = Settings(allow_origins=("https://chat.example",), drain_timeout=0.01)
    app = gateway_app(settings, agents={"echo": EchoAgent()}, store=MemoryStore())
    async with app.lifespan(), AsyncClient(transport=ASGITransport(app), base_url="http://localhost") as http:
        for path in ("/client.js", "/client/desk.js"):
            for origin in ("https://chat.example", "https://else.example"):
                script = await http.get(path, headers={"Origin": origin})
                assert script.status_code == 200
                assert script.headers["content-type"].startswith("text/javascript")
                assert script.headers.get_list("access-control-allow-origin") == ["*"]
