"""Where one writes: what is sent when, what is too long, and what is still there after a reload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.agents import numbers
from tests.browser.chat import Chat
from tests.browser.served import served
from tests.browser.shown import shown
from tests.browser.site import Site, site_in

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONGEST = 65_536
# Playwright's keyboard cannot press a key as an input method does.
PRESS = """(field, event) => field.dispatchEvent(
    new KeyboardEvent("keydown", { bubbles: true, cancelable: true, ...event }))"""
FRAMED = """\
<!doctype html>
<html lang="en">
  <title>Framed</title>
  <iframe title="chat" sandbox="allow-scripts" src="page.html" style="width: 900px; height: 600px"></iframe>
</html>
"""
CHAT = """\
<!doctype html>
<html lang="en">
  <title>Chat</title>
  <script type="module" src="{gateway}/widget.js"></script>
  <main style="height: 500px"><trunkline-chat agent="one"></trunkline-chat></main>
</html>
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("site")) as site:
        yield site


# ── What sends ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "event",
    [{"isComposing": True, "keyCode": 13}, {"isComposing": False, "keyCode": 229}],
    ids=["before the conversion ends", "after it, as in Safari"],
)
async def test_a_key_that_is_meant_for_an_input_method_neither_sends_nor_stops_nor_edits(
    site: Site, page: Page, tmp_path: Path, event: dict[str, object]
) -> None:
    chat = await site.opened(page)
    await chat.say("count 3")
    await chat.shows(numbers(0, 3))
    await chat.field.evaluate(PRESS, {"key": "ArrowUp", **event})
    await expect(chat.field).to_have_value("")  # nothing is put there to be edited
    await chat.say(f"hold 3 6 {tmp_path / 'go'}")
    await chat.shows(numbers(0, 3))
    await chat.field.fill("こんにちは")
    for key in ("Escape", "Enter"):
        await chat.field.evaluate(PRESS, {"key": key, **event})
    await expect(chat.field).to_have_value("こんにちは")
    (tmp_path / "go").touch()
    await chat.shows(numbers(0, 6))
    await expect(chat.panel.get_by_text("Stopped")).to_have_count(0)
    await chat.field.evaluate(PRESS, {"key": "Enter", "keyCode": 13})
    await chat.shows("こんにちは")
    await chat.stands("count 3", f"hold 3 6 {tmp_path / 'go'}", "こんにちは")


async def test_in_a_frame_that_may_not_submit_forms_a_message_is_sent_by_key_and_by_button(
    page: Page, tmp_path: Path
) -> None:
    (pages := tmp_path / "pages").mkdir()
    with shown(pages) as place, served(tmp_path, "--allow-origin", "*") as gateway:
        (pages / "page.html").write_text(CHAT.format(gateway=gateway.url))
        (pages / "framed.html").write_text(FRAMED)
        await page.goto(f"{place.url}/framed.html")
        frame = page.frame_locator("iframe")
        field, answers = frame.get_by_role("textbox"), frame.locator(".agent .content")
        await field.fill("by key")
        await field.press("Enter")
        await expect(answers).to_have_text(["by key"])
        await field.fill("by button")
        await frame.get_by_role("button", name="Send").click()
        await expect(answers).to_have_text(["by key", "by button"])


async def test_half_an_emoji_is_sent_as_the_sign_for_that_and_the_conversation_goes_on(
    site: Site, page: Page
) -> None:
    chat = await site.opened(page)
    await chat.field.evaluate(
        "field => { field.value = 'half \\ud83d'; field.dispatchEvent(new Event('input')) }"
    )
    await chat.field.press("Enter")
    await chat.shows("half \ufffd")
    await chat.say("whole 😀")
    await chat.shows("whole 😀")
    await chat.stands("half \ufffd", "whole 😀")


# ── What is too long ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_text_that_is_too_long_is_neither_cut_nor_sent_and_says_so(site: Site, page: Page) -> None:
    chat = await site.opened(page)
    told = chat.panel.get_by_text("Too long by")
    send = chat.panel.get_by_role("button", name="Send")
    text = "😀" + "x" * LONGEST
    await chat.field.focus()
    await page.keyboard.insert_text(text)
    await expect(told).to_have_text("Too long by 1 character: a message may have 65,536.")
    await expect(send).to_be_disabled()
    await chat.field.press("Enter")
    assert await chat.field.input_value() == text
    await chat.field.press("Backspace")
    await expect(told).to_be_hidden()
    await chat.field.press("Enter")
    await expect(chat.field).to_have_value("")
    await expect(chat.questions.locator(".body")).to_have_text(text[:-1])
    await expect(chat.answers).to_have_attribute("data-status", "completed")


async def test_how_long_a_message_may_be_is_the_gateways_to_say(page: Page, tmp_path: Path) -> None:
    with served(tmp_path, environment={"GATEWAY_MAX_CONTENT_CHARS": "10"}) as gateway:
        await page.goto(gateway.url)
        chat = Chat(page)
        await chat.say("0123456789")
        await chat.shows("0123456789")
        await chat.field.fill("0123456789ab")
        await expect(chat.panel.get_by_text("Too long by 2 characters")).to_be_visible()
        await chat.field.press("Enter")
        await expect(chat.field).to_have_value("0123456789ab")
        await chat.stands("0123456789")


# ── What is being written ───────────────────────────────────────────────────────────────────────────────────


async def test_what_is_being_written_survives_a_reload_each_in_its_conversation_until_it_is_sent(
    site: Site, page: Page
) -> None:
    await site.show(page, '<trunkline-chat sessions="one/, two/"></trunkline-chat>')
    one, two = Chat(page, "one"), Chat(page, "two")
    await one.field.fill("half a sent")
    await two.choose()
    await two.field.fill("and another")
    await page.reload()
    await expect(one.field).to_have_value("half a sent")
    await expect(two.field).to_have_value("and another")
    await one.say("count 3")
    await one.shows(numbers(0, 3))
    await page.reload()
    await one.shows(numbers(0, 3))
    await expect(one.field).to_have_value("")
    await expect(two.field).to_have_value("and another")


async def test_what_is_being_written_is_not_what_is_being_edited(site: Site, page: Page) -> None:
    chat = await site.opened(page)
    await chat.say("count 3")
    await chat.shows(numbers(0, 3))
    await chat.field.fill("half a sent")
    await chat.questions.last.hover()
    await chat.questions.last.get_by_role("button", name="Edit").click()
    await chat.field.fill("count 4")
    await page.reload()
    await expect(chat.field).to_have_value("half a sent")


async def test_what_is_being_written_is_nothing_to_the_next_user(site: Site, page: Page) -> None:
    chat = await site.opened(page, 'user="ann" session="here"')
    await chat.field.fill("a secret")
    await page.locator("trunkline-chat").evaluate("chat => chat.setAttribute('user', 'bob')")
    await expect(chat.field).to_have_value("")
    await chat.say("from bob")
    await chat.shows("from bob")
    await page.locator("trunkline-chat").evaluate("chat => chat.setAttribute('user', 'ann')")
    await expect(chat.field).to_have_value("a secret")
