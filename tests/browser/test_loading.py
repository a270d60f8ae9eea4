"""What a browser asks the network for: to show a page for the first time, and again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.browser.bundled import bundled
from tests.browser.chat import Chat
from tests.browser.served import Served, served
from tests.browser.shown import shown
from tests.browser.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundled")


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    """A page of another origin, with a widget that comes in one file."""
    pages = folder / "pages"
    pages.mkdir()
    environment = bundled(folder / "package")
    with (
        shown(pages) as place,
        served(folder, "--allow-origin", place.url, environment=environment) as gateway,
    ):
        yield Site(pages, place.url, gateway)


@pytest.fixture
def gateway(site: Site) -> Served:
    return site.gateway


class Network:
    """What came from the gateway over the network: not what a cache had, and not what the API answered."""

    def __init__(self, page: Page, url: str) -> None:
        self._page = page
        self._url = url
        self._paths: dict[str, str] = {}
        self._statuses: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    async def listen(self) -> Network:
        session = await self._page.context.new_cdp_session(self._page)
        await session.send("Network.enable")
        session.on("Network.requestWillBeSent", self._asked)
        session.on("Network.responseReceivedExtraInfo", self._answered)
        session.on("Network.loadingFinished", self._finished)
        return self

    def _asked(self, event: Any) -> None:
        url = event["request"]["url"]
        if url.startswith(self._url) and not url.startswith(f"{self._url}/api/"):
            self._paths[event["requestId"]] = url.removeprefix(self._url).partition("?")[0]

    def _answered(self, event: Any) -> None:
        self._statuses[event["requestId"]] = event[
            "statusCode"
        ]  # as it came: a 304 is shown as 200 elsewhere

    def _finished(self, event: Any) -> None:
        self._sizes[event["requestId"]] = int(event["encodedDataLength"])

    def take(self) -> tuple[dict[str, int], int]:
        """What came since this was last asked: statuses by path, and bytes in all."""
        came = {
            path: (self._statuses[request], self._sizes[request])
            for request, path in self._paths.items()
            if self._sizes.get(request)
        }
        self._paths.clear()
        return {path: status for path, (status, _) in came.items()}, sum(size for _, size in came.values())


async def test_a_page_comes_in_a_few_files_and_a_reload_only_asks_whether_it_changed(
    gateway: Served, page: Page
) -> None:
    network = await Network(page, gateway.url).listen()
    await page.goto(gateway.url)
    await expect(page.get_by_role("tab")).to_have_count(3)
    await page.wait_for_load_state("networkidle")
    files, size = network.take()
    assert files.keys() - {"/icon.svg"} == {"/", "/page.css", "/page.js", "/widget/widget.css"}
    assert size < 60_000
    await page.reload()
    await expect(page.get_by_role("tab")).to_have_count(3)
    await page.wait_for_load_state("networkidle")
    files, size = network.take()
    assert files == {"/": 304}
    assert size < 2_000


async def test_a_widget_elsewhere_is_one_script_and_a_style_sheet_and_a_reload_asks_once(
    site: Site, page: Page
) -> None:
    network = await Network(page, site.gateway.url).listen()
    chat = await site.opened(page)
    await chat.say("**bold**")
    await expect(chat.answer().locator("strong")).to_have_text("bold")  # Markdown is in it
    files, size = network.take()
    assert files == {"/widget.js": 200, "/widget/widget.css": 200}
    assert size < 60_000
    await page.reload()
    await expect(chat.answer().locator("strong")).to_have_text("bold")
    files, size = network.take()
    assert files == {"/widget.js": 304}
    assert size < 2_000


async def test_the_console_draws_its_curves_from_one_file(gateway: Served, page: Page) -> None:
    network = await Network(page, gateway.url).listen()
    await page.goto(f"{gateway.url}/console")
    await expect(page.locator(".card canvas").first).to_be_visible()
    await page.wait_for_load_state("networkidle")
    files, _ = network.take()
    assert [path for path in files if path.endswith(".js")] == ["/console.js"]
    over = await page.locator(".card .u-over").first.evaluate("node => getComputedStyle(node).position")
    assert over == "absolute"  # as uPlot's own style sheet has it


async def test_two_tabs_share_a_line_with_the_bundled_client(
    site: Site, profile: BrowserContext, page: Page
) -> None:
    sockets: list[str] = []
    profile.on("page", lambda tab: tab.on("websocket", lambda socket: sockets.append(socket.url)))
    page.on("websocket", lambda socket: sockets.append(socket.url))
    first = await site.opened(page, 'session="both" shared')
    await first.say("count 3")
    other = await profile.new_page()
    second = Chat(other)
    await other.goto(page.url)
    await expect(second.answer()).to_have_text(await first.answer().inner_text())
    assert len(sockets) == 1
