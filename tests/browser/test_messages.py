"""What one sees of messages, and does with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.browser.agents import Dictated, numbers
from tests.browser.chat import Chat
from tests.browser.site import Site, site_in

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("site")) as site:
        yield site


# ── Said again, or differently ──────────────────────────────────────────────────────────────────────────────


async def test_an_answer_that_is_had_again_takes_the_place_of_the_first_everywhere(
    site: Site, page: Page, profile: BrowserContext, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    said.write_text("The first answer.")
    chat = await site.opened(page)
    await chat.say("count 3")
    await chat.shows(numbers(0, 3))
    await chat.say(f"say {said}")
    await chat.shows("The first answer.")
    there = Chat(await profile.new_page())
    await there.page.goto(page.url)
    await there.shows("The first answer.")
    await page.bring_to_front()
    said.write_text("The second answer.")
    await chat.press("Answer again")
    await chat.shows("The second answer.")
    await page.reload()
    for each in (chat, there):
        await each.shows("The second answer.")
        await each.stands("count 3", f"say {said}")
        await each.shows(numbers(0, 3), 0)


async def test_an_edited_message_takes_the_place_of_the_first_and_of_all_after_it(
    site: Site, page: Page, profile: BrowserContext
) -> None:
    chat = await site.opened(page)
    for number in (3, 4, 5):
        await chat.say(f"count {number}")
        await chat.shows(numbers(0, number))
    there = Chat(await profile.new_page())
    await there.page.goto(page.url)
    await there.stands("count 3", "count 4", "count 5")
    await page.bring_to_front()
    await chat.questions.nth(1).hover()
    await chat.questions.nth(1).get_by_role("button", name="Edit").click()
    await expect(chat.field).to_have_value("count 4")
    await expect(chat.panel.get_by_text("What came after it will be replaced.")).to_be_visible()
    await chat.say("count 6")
    await expect(chat.panel.get_by_text("What came after it will be replaced.")).to_be_hidden()
    for each in (chat, there):
        await each.shows(numbers(0, 6))
        await each.stands("count 3", "count 6")


async def test_an_edit_that_is_discarded_changes_nothing_and_gives_back_what_was_being_written(
    site: Site, page: Page
) -> None:
    chat = await site.opened(page)
    await chat.say("count 3")
    await chat.shows(numbers(0, 3))
    await chat.field.fill("something else")
    await chat.questions.last.hover()
    await chat.questions.last.get_by_role("button", name="Edit").click()
    await chat.field.fill("count 9")
    await chat.press("Discard the edit")
    await expect(chat.field).to_have_value("something else")
    await chat.stands("count 3")


async def test_an_answer_that_failed_is_tried_again_in_its_place(
    site: Site, page: Page, tmp_path: Path
) -> None:
    chat = await site.opened(page)
    await chat.say(f"fail-once {tmp_path / 'failed'}")
    await expect(chat.answers.last.get_by_text("It broke.")).to_be_visible()
    await chat.shows("Well,")
    await expect(chat.panel.get_by_role("button", name="Answer again")).to_be_hidden()
    await chat.press("Try again")
    await chat.shows("Well, it works.")
    await chat.stands(f"fail-once {tmp_path / 'failed'}")
    await expect(chat.answers.last.get_by_text("It broke.")).to_be_hidden()


# ── Said while an answer is written ─────────────────────────────────────────────────────────────────────────


async def test_a_message_said_while_an_answer_is_written_waits_for_its_turn(
    site: Site, page: Page, tmp_path: Path
) -> None:
    chat = await site.opened(page)
    await chat.say(f"hold 3 6 {tmp_path / 'go'}")
    await chat.shows(numbers(0, 3))
    await chat.say("count 4")
    await expect(chat.questions.last.get_by_text("Waiting for its turn")).to_be_visible()
    await expect(chat.answers).to_have_count(1)
    (tmp_path / "go").touch()
    await chat.shows(numbers(0, 6), 0)
    await chat.shows(numbers(0, 4), 1)
    await expect(chat.panel.get_by_text("Waiting for its turn")).to_be_hidden()
    await chat.stands(f"hold 3 6 {tmp_path / 'go'}", "count 4")


async def test_a_message_that_waits_may_be_withdrawn(site: Site, page: Page, tmp_path: Path) -> None:
    chat = await site.opened(page)
    await chat.say(f"hold 3 6 {tmp_path / 'go'}")
    await chat.shows(numbers(0, 3))
    await chat.say("count 4")
    await chat.press("Withdraw")
    await expect(chat.panel.get_by_role("button", name="Withdraw")).to_be_hidden()
    await expect(chat.panel.get_by_text("Waiting for its turn")).to_be_hidden()
    (tmp_path / "go").touch()
    await chat.shows(numbers(0, 6), 0)
    await chat.say("count 5")
    await chat.shows(numbers(0, 5))
    await expect(chat.panel.get_by_text(numbers(0, 4).strip(), exact=True)).to_have_count(0)


async def test_a_widget_that_rejects_while_busy_says_so_and_sends_again_when_asked_to(
    site: Site, page: Page, tmp_path: Path
) -> None:
    chat = await site.opened(page, 'on-busy="reject"')
    await chat.say(f"hold 3 6 {tmp_path / 'go'}")
    await chat.shows(numbers(0, 3))
    await chat.say("count 4")
    refused = chat.questions.last
    await expect(refused).to_have_attribute("data-status", "refused")
    await expect(refused.locator(".why")).to_contain_text("turn")
    (tmp_path / "go").touch()
    await chat.shows(numbers(0, 6))
    await chat.press("Send again")
    await chat.shows(numbers(0, 4))
    await chat.stands(f"hold 3 6 {tmp_path / 'go'}", "count 4")
    await expect(chat.panel.get_by_role("button", name="Send again")).to_be_hidden()


async def test_a_widget_that_interrupts_while_busy_stops_the_answer_for_the_next_one(
    site: Site, page: Page, tmp_path: Path
) -> None:
    chat = await site.opened(page, 'on-busy="interrupt"')
    await chat.say(f"hold 3 6 {tmp_path / 'never'}")
    await chat.shows(numbers(0, 3))
    await chat.say("count 4")
    await chat.shows(numbers(0, 4))
    await expect(chat.answers.first.get_by_text("Stopped")).to_be_visible()
    await chat.shows(numbers(0, 3), 0)


# ── What agents say ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_tool_that_is_used_is_folded_and_opens_to_what_went_in_and_came_out(
    site: Site, page: Page, tmp_path: Path
) -> None:
    chat = await site.opened(page)
    await chat.say(f"use look_up '<b>in</b>' {tmp_path / 'go'} '<i>out</i>'")
    tool = chat.answers.last.locator("details.tool")
    await expect(tool.locator("summary")).to_have_text("look_upworking")
    await expect(tool.locator("pre").first).to_be_hidden()
    (tmp_path / "go").touch()
    await expect(tool.locator("summary")).to_have_text("look_updone")
    await expect(tool).not_to_have_attribute("open", "")
    await tool.locator("summary").click()
    await expect(tool.get_by_text("Input", exact=True)).to_be_visible()
    await expect(tool.locator("pre").first).to_have_text('{ "text": "<b>in</b>" }')
    await expect(tool.get_by_text("Result", exact=True)).to_be_visible()
    await expect(tool.locator("pre").last).to_have_text("<i>out</i>")
    assert await tool.locator("b, i").count() == 0
    parts = chat.answers.last.locator(".content > *")
    assert await parts.evaluate_all("all => all.map(({ localName }) => localName)") == [
        "div",
        "details",
        "div",
    ]
    await expect(parts.first).to_have_text("Before.")
    await expect(parts.last).to_have_text("After.")


async def test_what_an_agent_thinks_is_folded_and_grows_where_it_is_open(
    site: Site, page: Page, tmp_path: Path
) -> None:
    chat, agent = await site.opened(page), Dictated(tmp_path / "dictated")
    await chat.say(f"ponder {agent.file}")
    agent.says("Hm, <b>let</b> me ")
    thought = chat.answers.last.locator("details")
    await expect(thought.locator("summary")).to_have_text("Thinking")
    await expect(thought.locator(".thoughts")).to_be_hidden()
    await thought.locator("summary").click()
    await expect(thought.locator(".thoughts")).to_have_text("Hm, <b>let</b> me")
    agent.says("see.")
    await expect(thought.locator(".thoughts")).to_have_text("Hm, <b>let</b> me see.")
    await expect(thought.locator(".thoughts")).to_be_visible()
    agent.ends()
    await expect(thought.locator("summary")).to_have_text("Thoughts")
    await chat.shows("That is all.")
    await page.reload()
    await chat.shows("That is all.")
    await expect(thought.locator(".thoughts")).to_be_hidden()


# ── Who is writing ──────────────────────────────────────────────────────────────────────────────────────────


async def test_an_agent_that_has_said_nothing_yet_is_typing(site: Site, page: Page, tmp_path: Path) -> None:
    chat = await site.opened(page)
    await chat.say(f"hold 0 3 {tmp_path / 'go'}")
    typing = chat.panel.locator(".waiting")
    await expect(typing).to_be_visible()
    await expect(typing).to_have_text("one is typing")
    (tmp_path / "go").touch()
    await chat.shows(numbers(0, 3))
    await expect(typing).to_be_hidden()


async def test_that_somebody_types_elsewhere_is_seen_until_it_is_said(
    site: Site, page: Page, chromium: Browser, tmp_path: Path
) -> None:
    """Another profile: on one line for all tabs of a browser nobody is elsewhere."""
    chat = await site.opened(page, f'session="{tmp_path.name}"')
    context = await chromium.new_context()
    there = await site.opened(await context.new_page(), f'session="{tmp_path.name}"')
    await there.say("count 2")
    await chat.shows(numbers(0, 2))
    await there.field.press_sequentially("cou")
    typing = chat.panel.get_by_text("Somebody is typing on another device")
    await expect(typing).to_be_attached()
    await expect(chat.panel.locator(".waiting")).to_be_visible()
    await expect(there.panel.locator(".waiting")).to_be_hidden()
    await there.say("count 3")
    await chat.shows(numbers(0, 3))
    await expect(chat.panel.locator(".waiting")).to_be_hidden()
    await context.close()
