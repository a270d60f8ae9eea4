"""Visitors without an account: each browser is one guest, until it has a user's token."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from gateway.keys import secret_key
from gateway.tokens import mint
from tests.browser.agents import numbers
from tests.browser.chat import Chat
from tests.browser.served import Served, served

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "a secret of at least thirty-two bytes"
SESSIONS = """async () => {
    const [name] = Object.keys(localStorage).filter((name) => name.startsWith("trunkline guest"));
    const headers = { Authorization: `Bearer ${JSON.parse(localStorage.getItem(name)).token}` };
    const answer = await (await fetch("api/sessions", { headers })).json();
    return answer.sessions.map(({ session_id }) => session_id).sort();
}"""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Served]:
    """A gateway for guests, and for holders of tokens."""
    with served(tmp_path, "--guests", environment={"GATEWAY_JWT_SECRET": SECRET}) as gateway:
        yield gateway


def token(user: str) -> str:
    return mint(secret_key(SECRET), user, time.time() + 600)


async def opened(context: BrowserContext, gateway: Served) -> Page:
    page = await context.new_page()
    await page.goto(gateway.url)
    await expect(page.locator("#told")).to_contain_text("One WebSocket")
    return page


async def test_guests_in_two_browsers_see_their_own_conversations_only(
    gateway: Served, chromium: Browser
) -> None:
    one, other = await chromium.new_context(), await chromium.new_context()
    try:
        first, second = await opened(one, gateway), await opened(other, gateway)
        await Chat(first).say("count 5")
        await Chat(second).say("count 7")
        await Chat(first).shows(numbers(0, 5))
        await Chat(second).shows(numbers(0, 7))
        for page, text in ((first, "count 5"), (second, "count 7")):
            await page.reload()
            await Chat(page).stands(text)
        own, others = await first.evaluate(SESSIONS), await second.evaluate(SESSIONS)
        assert own
        assert others
        assert {*own}.isdisjoint(others)
    finally:
        await one.close()
        await other.close()


async def test_all_tabs_of_a_browser_are_one_guest(gateway: Served, profile: BrowserContext) -> None:
    first, second = [await profile.new_page() for _ in range(2)]
    # At once: neither finds a guest there.
    for page in (first, second):
        await page.goto(gateway.url, wait_until="commit")
    for page in (first, second):
        await expect(page.locator("#told")).to_contain_text("One WebSocket")
    await Chat(first).say("count 5")
    await Chat(first).shows(numbers(0, 5))
    assert await first.evaluate(SESSIONS) == await second.evaluate(SESSIONS)
    third = await opened(profile, gateway)
    assert await third.evaluate(SESSIONS) == await first.evaluate(SESSIONS)


async def test_a_guest_that_shows_a_token_goes_on_as_that_user(gateway: Served, page: Page) -> None:
    await page.goto(gateway.url)
    chat = Chat(page)
    await chat.say("count 5")
    await chat.shows(numbers(0, 5))
    await page.get_by_role("button", name="Use a token").click()
    field = page.get_by_label("Token", exact=True)
    await field.fill(token("ann"))
    await field.press("Enter")
    await expect(page.get_by_role("button", name="Forget the token")).to_be_visible()
    await chat.stands("count 5")
    await chat.shows(numbers(0, 5))
    await chat.say("count 3")
    await chat.shows(numbers(0, 3))
    assert not await page.evaluate("Object.keys(localStorage).some((name) => name.includes('guest'))")
