"""The page at `/`: what goes over its wire, and what it does without its third-party scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.agents import numbers
from tests.browser.bare import bare
from tests.browser.chat import Chat
from tests.browser.served import Served, served

pytestmark = pytest.mark.asyncio(loop_scope="session")

# The page's widget is somebody's who has one.
WITH_TOKEN = """
    const create = document.createElement;
    document.createElement = function (name) {
        const node = create.apply(this, arguments);
        if (name === "trunkline-chat") node.setAttribute("token", "a-secret");
        return node;
    };
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


class Drawer:
    """What went over the wire, as it is shown."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.button = page.get_by_role("button", name="Wire")
        self.whole = page.get_by_role("complementary", name="What just went over the wire")
        self.lines = self.whole.locator("li")

    async def types(self, arrow: str) -> list[str]:
        """The types of the frames that went that way."""
        lines = self.lines.filter(has_text=arrow)
        return await lines.locator("b").all_inner_texts()

    async def press(self, name: str) -> None:
        await self.whole.get_by_role("button", name=name).click()


async def test_the_drawer_shows_what_goes_out_and_what_comes_in_as_it_does(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    await page.goto(gateway.url)
    drawer, chat = Drawer(page), Chat(page)
    await expect(drawer.whole).to_be_hidden()
    await drawer.button.click()
    await expect(drawer.lines.first).to_contain_text("hello")  # also what went before it was opened
    assert await drawer.types("↑") == ["hello", "attach"]
    await expect(drawer.lines.filter(has_text="attached")).to_have_count(3)
    await chat.say(f"hold 20 40 {tmp_path / 'go'}")
    await expect(drawer.lines.filter(has_text="text_delta").first).to_contain_text("0 1 2")  # it still runs
    await expect(drawer.lines.filter(has_text="response")).to_have_count(0)
    (tmp_path / "go").touch()
    last = drawer.lines.filter(has_text="response")
    await expect(last).to_be_in_viewport()
    assert "message" in await drawer.types("↑")
    assert {"ok", "typing", "message", "text_delta", "response"} <= set(await drawer.types("↓"))
    await last.locator("summary").click()
    await expect(last.locator("pre")).to_contain_text("completed")
    assert json.loads(await last.locator("pre").inner_text())["content"] == numbers(0, 40)
    counted = re.fullmatch(r"(\d+) received, (\d+) sent", await drawer.whole.locator("#sum").inner_text())
    assert counted
    assert [int(number) for number in counted.groups()] == [
        await drawer.lines.filter(has_text=arrow).count() for arrow in "↓↑"
    ]


async def test_the_drawer_is_paused_and_cleared(gateway: Served, page: Page) -> None:
    await page.goto(gateway.url)
    drawer, chat = Drawer(page), Chat(page)
    await drawer.button.click()
    await expect(drawer.lines.filter(has_text="attached")).to_have_count(3)
    await drawer.press("Pause")
    shown, counted = await drawer.lines.count(), await drawer.whole.locator("#sum").inner_text()
    await chat.say("count 3")
    await chat.shows(numbers(0, 3))
    await expect(drawer.whole.locator("#sum")).not_to_have_text(counted)  # it is counted, and no more
    assert await drawer.lines.count() == shown
    await drawer.press("Clear")
    await expect(drawer.lines).to_have_count(0)
    await drawer.press("Pause")
    await chat.say("count 4")
    await expect(drawer.lines.filter(has_text="response")).to_have_count(1)
    await expect(drawer.lines.filter(has_text="attached")).to_have_count(0)


async def test_what_one_chose_to_see_survives_a_reload(gateway: Served, page: Page) -> None:
    await page.goto(gateway.url)
    await page.set_viewport_size({"width": 1600, "height": 720})  # there is room for all
    drawer = Drawer(page)
    await drawer.button.click()
    await drawer.press("Pause")
    await page.get_by_role("button", name="Side by side").click()
    await page.reload()
    await expect(drawer.whole).to_be_visible()
    await expect(drawer.button).to_have_attribute("aria-expanded", "true")
    await expect(drawer.whole.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")
    await expect(page.get_by_role("tabpanel")).to_have_count(3)
    await drawer.button.click()
    await page.get_by_role("button", name="Side by side").click()
    await page.reload()
    await expect(page.get_by_role("tabpanel")).to_have_count(1)
    await expect(drawer.whole).to_be_hidden()


async def test_a_token_is_not_shown_in_the_drawer(gateway: Served, page: Page) -> None:
    await page.add_init_script(WITH_TOKEN)
    await page.goto(gateway.url)
    drawer = Drawer(page)
    await drawer.button.click()
    hello = drawer.lines.filter(has_text="hello")
    await expect(hello).to_contain_text('token "…"')
    await hello.locator("summary").click()
    await expect(hello.locator("pre")).to_contain_text('"token": "…"')
    assert "a-secret" not in await drawer.whole.inner_text()


# ── Without npm ─────────────────────────────────────────────────────────────────────────────────────────────


PLAIN = "# No *heading*\n\n<b>and no HTML</b>\n\tindented"


async def test_without_what_npm_fetches_the_page_chats_in_plain_text_and_says_what_is_missing(
    page: Page, tmp_path: Path
) -> None:
    with served(tmp_path, environment=bare(tmp_path / "bare")) as gateway:
        assert (await page.request.get(f"{gateway.url}/vendor/smd.js")).status == 404
        await page.goto(gateway.url)
        chat = Chat(page)
        (tmp_path / "said").write_text(PLAIN)
        await chat.say(f"pieces {tmp_path / 'said'} 3")
        await chat.shows_part("indented")
        assert (
            await chat.answer().evaluate("node => node.innerText")
            == "# No *heading*\n\n<b>and no HTML</b>\n\tindented"
        )
        missing = page.get_by_text("Shown as plain text: streaming-markdown is not installed on the gateway.")
        await expect(missing).to_be_visible()


async def test_with_it_nothing_is_missing(gateway: Served, page: Page) -> None:
    await page.goto(gateway.url)
    await Chat(page).say("**bold**")
    await expect(Chat(page).answer().locator("strong")).to_have_text("bold")
    await expect(page.locator("trunkline-chat .missing")).to_be_hidden()
