"""The element on somebody's page: its conversations, its attributes, its line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, WebSocket, expect

from tests.browser.agents import numbers
from tests.browser.chat import Chat
from tests.browser.site import Site, site_in

pytestmark = pytest.mark.asyncio(loop_scope="session")

ID = "document.querySelector('trunkline-chat').session.id"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("site")) as site:
        yield site


class Sockets:
    """Those of a page: `all` that there ever were, `open` ones still are."""

    def __init__(self, page: Page) -> None:
        self.all: list[WebSocket] = []
        page.on("websocket", lambda socket: self.all.append(socket))

    @property
    def open(self) -> list[WebSocket]:
        return [socket for socket in self.all if not socket.is_closed()]

    async def come_to(self, count: int) -> None:
        """Waits until so many are open."""
        async with asyncio.timeout(5):
            while len(self.open) != count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def in_widget(page: Page, place: int) -> Locator:
    """The panel of that widget of the page."""
    return page.locator("trunkline-chat").nth(place).locator(".panel")


# ── Several conversations ───────────────────────────────────────────────────────────────────────────────────


async def test_conversations_are_tabs_with_their_labels_chosen_by_mouse_and_arrows(
    site: Site, page: Page
) -> None:
    await site.show(
        page,
        '<trunkline-chat agent="one" sessions="first=Support, two/second=Sales, three/"></trunkline-chat>',
    )
    tabs = page.get_by_role("tab")
    await expect(tabs).to_have_text(["Support", "Sales", "three"])
    for name in ("Support", "Sales", "three"):
        chat = Chat(page, name)
        await chat.say(f"to {name}")
        await chat.shows(f"to {name}")
        await expect(page.get_by_role("tabpanel", name=name)).to_be_visible()
        await expect(page.get_by_role("textbox", name=f"Message {name}")).to_be_visible()
        await chat.stands(f"to {name}")
    shown = "document.querySelector('trunkline-chat').session"
    for key, place, agent in (
        ("ArrowRight", 0, "one"),
        ("ArrowRight", 1, "two"),
        ("ArrowLeft", 0, "one"),
        ("ArrowLeft", 2, "three"),
        ("Home", 0, "one"),
        ("End", 2, "three"),
    ):
        await page.get_by_role("tab", selected=True).press(key)
        await expect(tabs.nth(place)).to_be_focused()
        await expect(tabs.nth(place)).to_have_attribute("aria-selected", "true")
        await expect(page.get_by_role("tab", selected=True)).to_have_count(1)
        assert await page.evaluate(f"{shown}.agent") == agent
    ids = await page.evaluate("document.querySelector('trunkline-chat').gateway.sessions.map(({ id }) => id)")
    assert ids[:2] == ["first", "second"]


async def test_in_columns_all_conversations_stand_side_by_side_where_there_is_room(
    site: Site, page: Page
) -> None:
    await site.show(
        page,
        '<trunkline-chat sessions="one/, two/, three/" layout="columns"></trunkline-chat>',
    )
    panels = page.get_by_role("tabpanel")
    await expect(panels).to_have_count(3)
    boxes = await panels.evaluate_all("all => all.map((one) => one.getBoundingClientRect().toJSON())")
    assert len({box["y"] for box in boxes}) == 1
    assert all(left["right"] <= right["x"] for left, right in pairwise(boxes))
    await expect(page.get_by_role("tablist")).to_be_hidden()
    two = Chat(page, "two")
    await two.field.fill("count 3")
    await two.field.press("Enter")
    await two.shows(numbers(0, 3))
    await page.set_viewport_size({"width": 600, "height": 720})  # no longer
    await expect(page.get_by_role("tablist")).to_be_visible()
    await expect(panels).to_have_count(1)
    await page.set_viewport_size({"width": 1000, "height": 720})
    await expect(panels).to_have_count(3)
    await page.locator("trunkline-chat").evaluate("chat => chat.removeAttribute('layout')")
    await expect(panels).to_have_count(1)


async def test_a_new_conversation_takes_the_place_of_the_old_one_also_after_a_reload(
    site: Site, page: Page
) -> None:
    await site.show(page, '<trunkline-chat agent="one"></trunkline-chat>')
    chat = Chat(page)
    await chat.say("count 3")
    await chat.shows(numbers(0, 3))
    before = await page.evaluate(ID)
    await page.get_by_role("button", name="New conversation").click()
    await chat.stands()
    await expect(chat.field).to_be_focused()
    await expect(chat.log).to_have_attribute("data-empty", "Say something to one.")
    await chat.say("count 4")
    await chat.shows(numbers(0, 4))
    await page.reload()
    await chat.stands("count 4")
    assert await page.evaluate(ID) != before


async def test_a_conversation_with_a_name_is_never_another_one(site: Site, page: Page) -> None:
    await site.show(page, '<trunkline-chat agent="one" session="named"></trunkline-chat>')
    await expect(Chat(page).field).to_be_visible()
    await expect(page.get_by_role("button", name="New conversation")).to_be_hidden()


# ── Attributes that are set later ───────────────────────────────────────────────────────────────────────────


async def test_attributes_that_are_set_later_count_and_leave_one_line(site: Site, page: Page) -> None:
    sockets = Sockets(page)
    await site.show(page, '<trunkline-chat agent="one" session="here" heading="Before"></trunkline-chat>')
    chat, widget = Chat(page), page.locator("trunkline-chat")
    await chat.say("count 3")
    await chat.shows(numbers(0, 3))
    await widget.evaluate("""chat => {
        chat.setAttribute("theme", "dark");
        chat.setAttribute("dir", "rtl");
    }""")
    assert len(sockets.all) == 1  # how it looks is none of the line's business
    await widget.evaluate("chat => chat.setAttribute('heading', 'After')")
    await expect(page.get_by_role("heading", name="After")).to_be_visible()
    await expect(page.get_by_role("heading", name="Before")).to_have_count(0)
    await chat.stands("count 3")
    await widget.evaluate("chat => chat.setAttribute('agent', 'two')")
    await chat.stands()  # of that name with another agent
    await chat.say("count 4")
    await chat.shows(numbers(0, 4))
    assert await page.evaluate("document.querySelector('trunkline-chat').session.agent") == "two"
    for number in range(20):
        await widget.evaluate("(chat, number) => chat.setAttribute('heading', `Number ${number}`)", number)
    await expect(page.get_by_role("heading", name="Number 19")).to_be_visible()
    await chat.stands("count 4")
    await chat.say("count 5")
    await chat.shows(numbers(0, 5))
    await sockets.come_to(1)
    assert await widget.evaluate("chat => chat.shadowRoot.querySelectorAll('.frame').length") == 1


async def test_what_is_being_written_survives_another_heading(site: Site, page: Page) -> None:
    await site.show(page, '<trunkline-chat agent="one" heading="Before"></trunkline-chat>')
    chat = Chat(page)
    await chat.field.fill("half a sent")
    await page.locator("trunkline-chat").evaluate("chat => chat.setAttribute('heading', 'After')")
    await expect(page.get_by_role("heading", name="After")).to_be_visible()
    await expect(chat.field).to_have_value("half a sent")
    await chat.say("count 3")
    await chat.shows(numbers(0, 3))


# ── Lines ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_two_widgets_of_a_page_share_one_line_until_the_last_is_gone(
    site: Site, page: Page, tmp_path: Path
) -> None:
    sockets = Sockets(page)
    await site.show(
        page,
        '<trunkline-chat agent="one" session="left" style="height: 340px"></trunkline-chat>'
        '<trunkline-chat agent="one" session="right" style="height: 340px"></trunkline-chat>',
    )
    for place in (0, 1):
        field = in_widget(page, place).locator("textarea")
        await field.fill(f"to {place}")
        await field.press("Enter")
    for place in (0, 1):
        await expect(in_widget(page, place).locator(".agent .content")).to_have_text(f"to {place}")
    assert len(sockets.all) == 1
    await page.evaluate("window.left = document.querySelector('trunkline-chat')")
    await page.evaluate("window.right = document.querySelectorAll('trunkline-chat')[1]")
    await page.evaluate("left.remove()")
    field = in_widget(page, 0).locator("textarea")  # the other one
    await field.fill(f"hold 3 6 {tmp_path / 'go'}")
    await field.press("Enter")
    await expect(in_widget(page, 0).locator(".agent .content").last).to_have_text(numbers(0, 3).strip())
    assert len(sockets.open) == len(sockets.all) == 1
    await page.evaluate("right.remove()")
    await sockets.come_to(0)
    (tmp_path / "go").touch()  # its answer goes on without it
    await page.evaluate("document.querySelector('main').append(right, left)")
    await expect(in_widget(page, 0).locator(".agent .content")).to_have_text(["to 1", numbers(0, 6).strip()])
    await expect(in_widget(page, 1).locator(".agent .content")).to_have_text("to 0")
    await sockets.come_to(1)
    assert len(sockets.all) == 2


async def test_a_widget_that_is_moved_on_its_page_goes_on(site: Site, page: Page) -> None:
    await site.show(page, '<trunkline-chat agent="one"></trunkline-chat>')
    chat = Chat(page)
    await chat.say("count 3")
    await chat.shows(numbers(0, 3))
    await page.evaluate("""() => {
        const aside = document.body.appendChild(document.createElement("aside"));
        aside.append(document.querySelector("trunkline-chat"));
    }""")
    await chat.stands("count 3")
    await chat.say("count 4")
    await chat.shows(numbers(0, 4))
    await chat.stands("count 3", "count 4")
