"""The page at `/`."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount


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


async def test_the_page_and_all_it_refers_to_are_there(in_memory: Any) -> None:
    async with in_memory() as rig:
        response = await rig.http.get("/")
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        refers = set(Page(response.text).refers)
        kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
        while refers:
            name = refers.pop()
            file = await rig.http.get(f"/{name}")
            assert file.status_code == 200, name
            assert file.headers["content-type"].startswith(kinds[name.rpartition(".")[2]])
            assert file.headers["x-content-type-options"] == "nosniff"
            refers |= set(re.findall(r'from "\./([^"]+)"', file.text))


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


async def test_it_puts_text_in_as_text(in_memory: Any) -> None:
    async with in_memory() as rig:
        for name in ("page.js", "chat.js", "line.js"):
            script = (await rig.http.get(f"/{name}")).text
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


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
