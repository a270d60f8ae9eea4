from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from gateway.keys import secret_key
from gateway.tokens import mint
from tests.browser.agents import numbers
from tests.browser.chat import Chat
from tests.browser.proxy import proxy
from tests.browser.served import Served, served
from tests.browser.shown import Shown, shown

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "a secret of at least thirty-two bytes"
WITH_TOKENS = {"GATEWAY_JWT_SECRET": SECRET}


@pytest.fixture
def examples(tmp_path: Path) -> Iterator[Shown]:
    folder = tmp_path / "examples"
    folder.mkdir()
    with shown(folder) as examples:
        yield examples


@pytest.fixture
def open_gateway(tmp_path: Path, examples: Shown) -> Iterator[Served]:
    """A gateway that the pages of the examples may talk to; they know where it is."""
    with served(tmp_path, "--allow-origin", examples.url) as gateway:
        examples.name(gateway.url)
        yield gateway


def token() -> str:
    return mint(secret_key(SECRET), "ann", time.time() + 600)


async def test_the_widget_works_on_a_page_of_another_origin_that_is_allowed_and_has_a_token(
    examples: Shown, page: Page, tmp_path: Path
) -> None:
    with served(
        tmp_path, "--allow-origin", examples.url, environment=WITH_TOKENS, names=["eliza"]
    ) as gateway:
        examples.name(gateway.url, token())
        await page.goto(f"{examples.url}/widget.html")
        chat = Chat(page)
        await chat.say("count 200 0.001")
        await chat.shows(numbers(0, 200))


async def test_where_its_place_has_no_height_the_widget_keeps_its_own_however_much_is_said(
    examples: Shown, page: Page, tmp_path: Path
) -> None:
    with served(tmp_path, "--allow-origin", examples.url, names=["eliza"]) as gateway:
        examples.name(gateway.url)
        await page.goto(f"{examples.url}/widget.html")
        size = "node => [node.offsetHeight, node.shadowRoot.querySelector('.frame').offsetHeight]"
        widget = page.locator("trunkline-chat")
        before = await widget.evaluate(size)
        chat = Chat(page)
        await chat.say("count 2000")
        await chat.shows(numbers(0, 2000))
        assert await widget.evaluate(size) == before
        assert before[0] == before[1] > 400


async def test_the_widget_says_why_it_does_not_work_on_a_page_that_is_not_allowed(
    examples: Shown, page: Page, tmp_path: Path
) -> None:
    with served(tmp_path, environment=WITH_TOKENS, names=["eliza"]) as gateway:
        examples.name(gateway.url, token())
        await page.goto(f"{examples.url}/widget.html")
        why = f"Pages of {examples.url} may not talk to this gateway; see --allow-origin."
        await expect(page.locator("trunkline-chat").get_by_text(why)).to_be_visible()


async def test_the_widget_says_why_it_does_not_work_with_a_token_that_does_not_count(
    examples: Shown, page: Page, tmp_path: Path
) -> None:
    with served(
        tmp_path, "--allow-origin", examples.url, environment=WITH_TOKENS, names=["eliza"]
    ) as gateway:
        examples.name(gateway.url, "not a token")
        await page.goto(f"{examples.url}/widget.html")
        await expect(page.locator("trunkline-chat .line")).to_contain_text("token")


async def test_a_page_whose_gateway_is_not_there_says_so(
    examples: Shown, page: Page, unused_tcp_port: int
) -> None:
    examples.name(f"http://127.0.0.1:{unused_tcp_port}")
    await page.goto(f"{examples.url}/widget.html")
    await expect(page.get_by_text("This chat needs its gateway, which was not reached.")).to_be_visible()


@pytest.mark.parametrize("framework", ["react", "vue"])
async def test_a_framework_shows_what_streams_from_an_import_map_without_a_cdn(
    open_gateway: Served, examples: Shown, page: Page, tmp_path: Path, framework: str
) -> None:
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url.split("/")[2]))
    await page.goto(f"{examples.url}/{framework}.html")
    field = page.get_by_role("textbox", name="Message")
    await field.fill(f"hold 30 60 {tmp_path / 'go'}")
    await field.press("Enter")
    answer = page.locator("li.agent")
    await expect(answer).to_have_text(numbers(0, 30).strip())
    (tmp_path / "go").touch()
    await expect(answer).to_have_text(numbers(0, 60).strip())
    await expect(answer).to_have_attribute("data-status", "completed")
    await expect(field).to_have_value("")
    assert asked == {url.removeprefix("http://") for url in (open_gateway.url, examples.url)}


async def test_a_client_by_hand_goes_on_where_its_line_broke(
    open_gateway: Served, examples: Shown, page: Page, tmp_path: Path
) -> None:
    async with proxy(open_gateway.url) as between:
        examples.name(between.url)
        await page.goto(f"{examples.url}/plain_client.html")
        attached = []
        page.on("websocket", lambda socket: socket.on("framereceived", lambda text: attached.append(text)))
        field = page.get_by_role("textbox", name="Message")
        await expect(page.locator("#log")).to_be_attached()
        await field.fill(f"hold 30 60 {tmp_path / 'go'}")
        await field.press("Enter")
        said = page.locator("#log p")
        await expect(said).to_have_text([f"hold 30 60 {tmp_path / 'go'}", numbers(0, 30).strip()])
        between.cut()
        (tmp_path / "go").touch()
        await expect(said.nth(1)).to_have_text(numbers(0, 60).strip())
        await expect(said).to_have_count(2)
        assert any('"mode":"replay"' in str(text) for text in attached)
