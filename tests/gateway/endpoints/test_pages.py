"""The page at `/`."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from gateway.settings import Settings

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

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.refers += [given[name] or "" for name in ("src", "href") if name in given]
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)


@pytest.mark.parametrize("page", ["/"])
async def test_the_page_and_all_it_refers_to_are_there(in_memory: Any, page: str) -> None:
    async with in_memory() as rig:
        response = await rig.http.get(page)
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        refers, seen = set(Page(response.text).refers), set[str]()
        while refers:
            name = refers.pop()
            seen.add(name)
            file = await rig.http.get(f"/{name}")
            assert file.status_code == 200, name
            assert file.headers["content-type"].startswith(KINDS[name.rpartition(".")[2]])
            assert file.headers["x-content-type-options"] == "nosniff"
            found = IMPORTS.findall(file.text) if name.endswith(".js") else []
            refers |= {normpath(join(dirname(name), other)) for other in found} - seen
        assert {"page.js", "widget.js", "client.js", "widget/markdown.js"} <= seen


async def test_the_widget_has_its_style_sheet_beside_it(in_memory: Any) -> None:
    async with in_memory() as rig:
        assert '"widget/widget.css"' in (await rig.http.get("/widget.js")).text
        sheet = await rig.http.get("/widget/widget.css")
        assert sheet.headers["content-type"].startswith("text/css")
        assert "url(" not in sheet.text, "it fetches nothing"


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
