"""The page at `/`."""

from __future__ import annotations

import json
import re
import shutil
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path, PurePath
from posixpath import dirname, join, normpath
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from gateway.settings import Settings
from gateway.static import load

WEB = Path(str(files("gateway") / "web"))
SCRIPTS = sorted(
    str(path.relative_to(WEB))
    for folder in (WEB, WEB / "client", WEB / "widget", WEB / "console")
    for path in folder.glob("*.js")
)
IMPORTS = re.compile(r"""(?:from|import)\s+"(\./[^"]+|\.\./[^"]+)";""")
KINDS = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


class Page(HTMLParser):
    """What a page refers to, and what it does itself."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.refers: list[str] = []
        self.inline: list[str] = []
        self.feed(html)

    @property
    def files(self) -> list[str]:
        """Scripts, styles and pictures."""
        return [name for name in self.refers if PurePath(name.partition("?")[0]).suffix[1:] in KINDS]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.refers += [given[name] or "" for name in ("src", "href") if name in given]
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)


@pytest.mark.parametrize("page", ["/", "/console", "/docs"])
async def test_the_page_and_all_it_refers_to_are_there(in_memory: Any, page: str) -> None:
    async with in_memory() as rig:
        response = await rig.http.get(page)
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        refers = set(Page(response.text).files)
        seen = set[str]()
        while refers:
            name = refers.pop()
            seen.add(name)
            file = await rig.http.get(f"/{name}")
            assert file.status_code == 200, name
            plain = name.partition("?")[0]
            assert file.headers["content-type"].startswith(KINDS[plain.rpartition(".")[2]])
            assert file.headers["x-content-type-options"] == "nosniff"
            found = IMPORTS.findall(file.text) if plain.endswith(".js") else []
            refers |= {normpath(join(dirname(plain), other)) for other in found} - seen
        assert len(seen) > 1


async def test_what_a_page_refers_to_is_kept_for_good_and_the_page_asked_for_again(in_memory: Any) -> None:
    async with in_memory() as rig:
        for path in ("/", "/console", "/docs"):
            page = await rig.http.get(path)
            assert len(Page(page.text).files) > 1
            for name in Page(page.text).files:
                assert "immutable" in (await rig.http.get(f"/{name}")).headers["cache-control"], name
            again = await rig.http.get(path, headers={"If-None-Match": page.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")


async def test_what_others_load_is_asked_for_again_and_its_style_sheet_kept(in_memory: Any) -> None:
    async with in_memory() as rig:
        for path in ("/widget.js", "/client.js", "/widget/dom.js", "/client/desk.js"):
            script = await rig.http.get(path, headers={"Accept-Encoding": "gzip"})
            assert script.headers["cache-control"] == "no-cache"
            assert script.headers["content-encoding"] == "gzip"
            again = await rig.http.get(path, headers={"If-None-Match": script.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["access-control-allow-origin"] == "*"
        (sheet,) = re.findall(r'"(widget/widget\.css\?v=\w+)"', (await rig.http.get("/widget.js")).text)
        answer = await rig.http.get(f"/{sheet}")
        assert answer.headers["content-type"].startswith("text/css")
        assert "immutable" in answer.headers["cache-control"]
        assert "url(" not in answer.text, "it fetches nothing"


async def test_an_event_stream_is_never_compressed(in_memory: Any) -> None:
    async with in_memory(headers={"Accept-Encoding": "gzip"}) as rig:
        await rig.http.post("/api/sessions", json={"session_id": "s", "agent": "echo"})
        path = "/api/agents/echo/sessions/s/message/stream"
        answer = await rig.http.post(path, json={"message": "hi"})
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers


# ── With a bundle, and without ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """The files of the pages with a bundle, as if the modules had been made into it."""
    web = tmp_path / "web"
    shutil.copytree(WEB, web, ignore=shutil.ignore_patterns("npm", "vendor", "bundle"))
    (web / "bundle").mkdir()
    (web / "bundle/client.js").write_text("// all in one")
    modules = {"client.js": web / "client.js", "client/desk.js": web / "client/desk.js"}
    digests = {name: sha256(path.read_bytes()).hexdigest() for name, path in modules.items()}
    (web / "bundle/made_of.json").write_text(json.dumps({"made_by": {}, "modules": digests}))
    return web


def test_a_bundle_is_served_for_the_script_that_it_was_made_of_and_the_modules_beside_it(web: Path) -> None:
    held = load(web)
    assert held["client.js"].body == b"// all in one"
    assert held["client/desk.js"].body == (WEB / "client/desk.js").read_bytes()
    assert not any(name.startswith("bundle") for name in held)


@pytest.mark.parametrize("changed", ["client.js", "client/desk.js"])
def test_a_bundle_of_other_modules_than_these_is_not_served(web: Path, changed: str) -> None:
    with (web / changed).open("a") as module:
        module.write("\n// changed")
    assert b"import" in load(web)["client.js"].body


def test_a_bundle_of_a_module_that_is_gone_is_not_served(web: Path) -> None:
    (web / "client/desk.js").unlink()
    assert b"import" in load(web)["client.js"].body


def test_without_a_bundle_the_modules_are_served(web: Path) -> None:
    shutil.rmtree(web / "bundle")
    assert b"import" in load(web)["client.js"].body


@pytest.mark.parametrize(
    "path",
    ["/widget/no.js", "/vendor/no.js", "/widget/..%2Fpage.js", "/vendor/smd.license.txt", "/npm/fetch.py"],
)
async def test_nothing_else_of_the_folder_is_served(in_memory: Any, path: str) -> None:
    async with in_memory() as rig:
        response = await rig.http.get(path)
        assert response.status_code == 404
        assert response.json()["code"] == "not_found"


@pytest.mark.parametrize("allowed", [(), ("https://there.example",), ("*",)])
async def test_any_page_may_load_the_library_whoever_may_use_the_gateway(
    in_memory: Any, allowed: tuple[str, ...]
) -> None:
    async with in_memory(Settings(allow_origins=allowed)) as rig:
        for name in ("client.js", "widget.js", "widget/dom.js", "widget/widget.css"):
            response = await rig.http.get(f"/{name}", headers={"Origin": "https://there.example"})
            assert response.headers.get_list("access-control-allow-origin") == ["*"]


async def test_nothing_on_it_is_inline_or_from_elsewhere(in_memory: Any) -> None:
    async with in_memory() as rig:
        response = await rig.http.get("/")
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        page = Page(response.text)
        assert page.inline == []
        for name in page.refers:
            assert not name.startswith(("/", "http")), "it must work under a prefix"


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_puts_text_in_as_text(name: str) -> None:
    unsafe = r"innerHTML|outerHTML|insertAdjacentHTML|setHTMLUnsafe|document\.write|\beval\(|new Function"
    assert not re.search(unsafe, (WEB / name).read_text())


async def test_it_works_under_a_prefix(served: Any) -> None:
    def mount(app: Any) -> Any:
        return Starlette(routes=[Mount("/chat", app)], lifespan=app.lifespan)

    async with served(wrap=mount) as rig:
        assert (await rig.http.get("/chat")).headers["location"].endswith("/chat/")
        assert "page.js" in (await rig.http.get("/chat/")).text
        assert (await rig.http.get("/chat/page.js")).status_code == 200
        assert [agent["id"] for agent in (await rig.http.get("/chat/api/agents")).json()] == ["bot", "echo"]
        async with rig.stream("GET", "/chat/api/sessions/s/events?create=true") as events:
            await events.until("attached")
