"""Conversations that end: one is told before, may keep them going, and may begin again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.agents import numbers
from tests.browser.chat import Chat
from tests.browser.clocked import MINUTES, Clocked, clocked

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clocked]:
    with clocked(tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest_asyncio.fixture(loop_scope="session")
async def chat(gateway: Clocked, page: Page) -> Chat:
    """A conversation in which something was said."""
    await page.goto(gateway.url)
    chat = Chat(page)
    await chat.say("count 3")
    await chat.shows(numbers(0, 3))
    await chat.stands("count 3")
    return chat


async def test_a_conversation_that_is_about_to_end_says_so_and_is_kept_going(
    gateway: Clocked, chat: Chat
) -> None:
    notice = chat.panel.get_by_role("status")
    await expect(notice).to_be_hidden()
    gateway.forward(6 * MINUTES)
    await expect(notice).to_contain_text("This conversation ends in")
    await chat.press("Keep it going")
    await expect(notice).to_be_hidden()
    gateway.forward(4.5 * MINUTES)  # its first end is over
    await chat.say("count 4")
    await chat.shows(numbers(0, 4))
    await chat.stands("count 3", "count 4")


async def test_what_one_says_keeps_a_conversation_going_too(gateway: Clocked, chat: Chat) -> None:
    gateway.forward(6 * MINUTES)
    await expect(chat.panel.get_by_role("status")).to_contain_text("This conversation ends in")
    await chat.say("count 4")
    await chat.shows(numbers(0, 4))
    await expect(chat.panel.get_by_role("status")).to_be_hidden()


async def test_a_conversation_that_has_expired_says_so_and_another_takes_its_place(
    gateway: Clocked, chat: Chat
) -> None:
    gateway.forward(11 * MINUTES)
    notice = chat.panel.get_by_role("status")
    await expect(notice).to_contain_text("This conversation has expired.")
    await expect(chat.field).to_be_hidden()  # nothing can be said there
    await expect(chat.panel.get_by_role("button", name="Answer again")).to_be_hidden()
    await chat.shows(numbers(0, 3))  # what was said can still be read
    await chat.press("Start again")
    await expect(notice).to_be_hidden()
    await chat.stands()
    await chat.say("count 4")
    await chat.shows(numbers(0, 4))
    await chat.page.reload()
    await chat.stands("count 4")


async def test_a_conversation_that_somebody_closed_says_so_and_goes_on_under_its_name(
    gateway: Clocked, chat: Chat
) -> None:
    """One that has a name: what the widget keeps itself is another one then."""
    page = chat.page
    await page.evaluate("""() => {
        const chat = document.querySelector("trunkline-chat");
        chat.setAttribute("sessions", "one/support");
    }""")
    await chat.stands()
    await chat.say("count 5")
    await chat.shows(numbers(0, 5))
    closed = await page.request.delete(f"{gateway.url}/api/sessions/support?agent=one")
    assert closed.ok
    notice = chat.panel.get_by_role("status")
    await expect(notice).to_contain_text("This conversation was closed.")
    await expect(chat.field).to_be_hidden()
    await chat.press("Start again")
    await expect(notice).to_be_hidden()
    await expect(chat.field).to_be_focused()
    await chat.say("count 6")
    await chat.shows(numbers(0, 6))
    await chat.stands("count 6")
    assert await page.evaluate("document.querySelector('trunkline-chat').session.id") == "support"
