"""The page at `/` of a gateway that asks who one is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Locator, Page, expect

from gateway.keys import secret_key
from gateway.tokens import mint
from tests.browser.agents import numbers
from tests.browser.axe import violations
from tests.browser.chat import Chat
from tests.browser.served import Served, served

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "a secret of at least thirty-two bytes"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Served]:
    """A gateway for holders of tokens."""
    with served(tmp_path, environment={"GATEWAY_JWT_SECRET": SECRET}) as gateway:
        yield gateway


def token(seconds: float) -> str:
    return mint(secret_key(SECRET), "ann", time.time() + seconds)


async def enter(page: Page, text: str) -> Locator:
    """Shows the page that token; the field that asks for one."""
    field = page.get_by_label("Token", exact=True)
    await field.fill(text)
    await field.press("Enter")
    return field


async def test_it_asks_for_a_token_until_one_counts_and_keeps_that_for_its_tab_only(
    gateway: Served, page: Page, profile: BrowserContext
) -> None:
    await page.goto(gateway.url)
    field = await enter(page, "nonsense")
    await expect(page.get_by_role("alert")).to_contain_text("no JSON Web Token")
    ours = token(600)
    await enter(page, ours)
    await expect(field).to_be_hidden()
    chat = Chat(page)
    await chat.say("count 5")
    await chat.shows(numbers(0, 5))
    await page.reload()
    await chat.shows(numbers(0, 5))
    assert ours not in page.url
    assert ours not in await page.evaluate("JSON.stringify(localStorage)")
    other = await profile.new_page()
    await other.goto(gateway.url)
    await expect(other.get_by_label("Token", exact=True)).to_be_visible()


async def test_a_token_that_is_forgotten_is_asked_for_again_and_nothing_is_shown_meanwhile(
    gateway: Served, page: Page
) -> None:
    await page.goto(gateway.url)
    field = await enter(page, token(600))
    chat = Chat(page)
    await chat.say("count 5")
    await chat.shows(numbers(0, 5))
    await page.get_by_role("button", name="Forget the token").click()
    await expect(field).to_be_visible()
    await expect(page.locator("trunkline-chat")).to_have_count(0)
    assert await page.evaluate("sessionStorage.getItem('trunkline page token')") is None


async def test_when_its_token_is_over_it_asks_for_another(gateway: Served, page: Page) -> None:
    await page.goto(gateway.url)
    field = await enter(page, token(3))
    await expect(page.locator("trunkline-chat")).to_have_count(1)
    await expect(field).to_be_visible()
    await enter(page, token(600))
    chat = Chat(page)
    await chat.say("count 5")
    await chat.shows(numbers(0, 5))


async def test_axe_finds_nothing_wrong_with_the_question(gateway: Served, lenient: Page) -> None:
    await lenient.goto(gateway.url)
    await enter(lenient, "nonsense")
    await expect(lenient.get_by_role("alert")).to_be_visible()
    assert await violations(lenient) == []
