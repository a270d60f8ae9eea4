"""What one reads stays where it is, and what one has not read is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.agents import Dictated, numbers
from tests.browser.background import tabs
from tests.browser.chat import Chat, until
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.browser.proxy import proxy
from tests.browser.site import Site, site_in

pytestmark = pytest.mark.asyncio(loop_scope="session")

TURNS = 70
PARAGRAPH = "A paragraph with words enough to fill more than one line of it. " * 4
END = "log => Math.abs(log.scrollHeight - log.scrollTop - log.clientHeight) <= 1"
SAY_ALL = """async (turns) => {
    const { session } = document.querySelector("trunkline-chat");
    for (let number = 0; number < turns; number++) await session.send(`message ${number}`);
}"""
# Where that message stands in the window, picture by picture.
WATCH = """(log, { text, top }) => {
    const node = [...log.querySelectorAll(".user .body")].find(({ textContent }) => textContent === text);
    log.scrollTop = top;
    const places = window.places = [];
    const look = () => { places.push(node.getBoundingClientRect().top); requestAnimationFrame(look); };
    look();
}"""
MOVED = "() => Math.max(...places) - Math.min(...places)"
# Resolves when what is to be painted now was painted.
PAINTED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("site")) as site:
        yield site


# ── Earlier messages ────────────────────────────────────────────────────────────────────────────────────────


async def test_scrolled_to_the_top_it_loads_earlier_messages_and_what_one_reads_does_not_move(
    site: Site, page: Page, chromium: Browser, tmp_path: Path
) -> None:
    attributes = f'session="{tmp_path.name}"'
    elsewhere = await chromium.new_context()
    there = await site.opened(await elsewhere.new_page(), attributes)
    await expect(there.field).to_be_visible()
    await there.page.evaluate(SAY_ALL, TURNS)
    await elsewhere.close()
    chat = await site.opened(page, attributes)
    first = chat.questions.locator(".body").first
    await chat.shows(f"message {TURNS - 1}")
    for shown, top in ((TURNS - 25, 200), (TURNS - 50, 0)):  # fifty messages, and fifty more
        await expect(first).to_have_text(f"message {shown}")
        await chat.log.evaluate(WATCH, {"text": f"message {shown}", "top": top})
        await expect(first).not_to_have_text(f"message {shown}")
        await page.evaluate(PAINTED)
        assert await page.evaluate(MOVED) <= 1
    everything = [f"message {number}" for number in range(TURNS)]
    await expect(chat.questions.locator(".body")).to_have_text(everything)
    await expect(chat.answers.locator(".content")).to_have_text(everything)
    await expect(chat.panel.locator(".earlier")).to_be_hidden()


# How many messages are in the list, and which of them are skipped.
SKIPPED = """log => [...log.querySelectorAll(".message")].map((message) =>
    !message.querySelector(".body").checkVisibility({ contentVisibilityAuto: true }))"""
# To the top, a little for each picture: how high the list was, and how far its first message moved in each.
TO_THE_TOP = """async (log) => {
    const first = log.querySelector(".message"), heights = [], moves = [];
    while (log.scrollTop > 0) {
        const { top } = first.getBoundingClientRect(), before = log.scrollTop;
        log.scrollTop -= 150;
        await new Promise(requestAnimationFrame);
        await new Promise(requestAnimationFrame);
        heights.push(log.scrollHeight);
        moves.push(first.getBoundingClientRect().top - top - (before - log.scrollTop));
    }
    return [Math.max(...heights) - Math.min(...heights), Math.max(...moves.map(Math.abs))];
}"""


async def test_messages_out_of_sight_are_skipped_found_and_come_into_sight_without_moving_anything(
    site: Site, page: Page, tmp_path: Path
) -> None:
    chat = await site.opened(page, f'session="{tmp_path.name}"')
    await long(chat, tmp_path)
    await page.evaluate(SAY_ALL, 40)
    await chat.shows("message 39")
    await until(page, f"({SKIPPED})({LOG}).filter(Boolean).length > 40")
    skipped = await chat.log.evaluate(SKIPPED)
    assert skipped[:4] == [True] * 4
    assert skipped[-2:] == [False] * 2
    assert await page.evaluate("find('message 17')")
    await until(page, f"!({SKIPPED})({LOG})[2 + 2 * 17]")
    await chat.log.evaluate("log => { log.scrollTop = log.scrollHeight }")
    grown, moved = await chat.log.evaluate(TO_THE_TOP)
    assert (grown, moved < 1) == (0, True)
    assert (await chat.log.evaluate(SKIPPED))[0] is False


# ── While text streams ──────────────────────────────────────────────────────────────────────────────────────


async def long(chat: Chat, folder: Path) -> None:
    """A conversation that is higher than its place."""
    (folder / "long").write_text(f"{PARAGRAPH}\n\n" * 20)
    await chat.say(f"say {folder / 'long'}")
    await expect(chat.answers.last).to_have_attribute("data-status", "completed")


async def test_while_one_reads_above_nothing_moves_and_at_the_end_it_follows(
    site: Site, page: Page, tmp_path: Path
) -> None:
    chat, agent = await site.opened(page), Dictated(tmp_path / "dictated")
    await long(chat, tmp_path)
    await chat.say(f"take-down {agent.file}")
    agent.says(f"{PARAGRAPH}\n\n")
    await chat.shows_part("A paragraph")
    await until(page, f"({END})({LOG})")
    await chat.log.hover()
    await page.mouse.wheel(0, -600)
    await until(page, f"!({END})({LOG})")
    stands = "log => [log.scrollTop, log.querySelector('.agent p:nth-child(9)').getBoundingClientRect().top]"
    await page.evaluate(PAINTED)
    before = await chat.log.evaluate(stands)
    for number in range(5):
        agent.says(f"{PARAGRAPH} Number {number}.\n\n")
        await chat.shows_part(f"Number {number}.")
    await page.evaluate(PAINTED)
    assert await chat.log.evaluate(stands) == before
    await chat.panel.locator(".jump").click()
    for number in range(5, 10):
        agent.says(f"{PARAGRAPH} Number {number}.\n\n")
        await chat.shows_part(f"Number {number}.")
        await until(page, f"({END})({LOG})")
    agent.ends()
    await expect(chat.answers.last).to_have_attribute("data-status", "completed")
    await until(page, f"({END})({LOG})")


LOG = 'document.querySelector("trunkline-chat").shadowRoot.querySelector(".log")'
SHIFTS = """() => {
    window.shifts = [];
    new PerformanceObserver((list) => shifts.push(...list.getEntries().map(({ value }) => value)))
        .observe({ type: "layout-shift" });
}"""
RICH = [
    "Some *words*",
    " and **more** of them.\n\n",
    "- one\n- two\n",
    "- three\n\n```python\n",
    "print(1)\nprint(2)\n",
    "```\n\n| a | b |\n|---|---|\n",
    "| 1 | 2 |\n| 3 | 4 |\n\n",
    "## The end\n\nIndeed.\n",
]


CARET = "node => getComputedStyle(node, '::after').content"


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("Half an answer that", "p"),
        ("- one\n- two, and half", "li"),
        ("> What was **said**, and half", "p"),
        ("```\nfirst = 1\nsecond", "span"),
        ("| a | b |\n|---|---|\n| one | half", "td"),
    ],
)
async def test_while_an_answer_pauses_a_caret_stands_where_it_will_go_on(
    site: Site, page: Page, tmp_path: Path, text: str, tag: str
) -> None:
    chat, agent = await site.opened(page), Dictated(tmp_path / "dictated")
    await chat.say(f"take-down {agent.file}")
    agent.says(text)
    caret = chat.answers.last.locator(".caret")
    await expect(caret).to_have_count(1)
    assert await caret.evaluate("node => node.localName") == tag
    seen = await caret.inner_text() + (await caret.evaluate(CARET)).strip('"')
    assert seen.rstrip("\u200b").endswith(text[-4:])  # all that was said so far
    agent.says(" goes on.\n")
    agent.ends()
    await expect(chat.answers.last).to_have_attribute("data-status", "completed")
    await expect(caret).to_have_count(0)


@pytest.mark.parametrize("before", ["a short conversation", "a long one"])
async def test_an_answer_grows_without_moving_or_making_anew_what_is_there(
    site: Site, page: Page, tmp_path: Path, before: str
) -> None:
    chat, agent = await site.opened(page), Dictated(tmp_path / "dictated")
    if before == "a long one":
        await long(chat, tmp_path)
    await chat.say(f"take-down {agent.file}")
    agent.says(RICH[0])
    await chat.shows_part("Some words")
    await page.evaluate(SHIFTS)
    await page.evaluate(f"window.nodes = [...{LOG}.querySelectorAll('.messages *')]")
    for piece in RICH[1:]:
        agent.says(piece)
        await chat.shows_part(re.findall(r"\w+", piece)[-1])
        await page.evaluate(PAINTED)
        await page.evaluate(f"nodes.push(...{LOG}.querySelectorAll('.messages .content *'))")
    agent.ends()
    await expect(chat.answers.last).to_have_attribute("data-status", "completed")
    await page.evaluate(PAINTED)
    assert (
        await page.evaluate("nodes.filter((node) => !node.isConnected).map((node) => node.outerHTML)") == []
    )
    assert await page.evaluate("shifts") == []
    tags = (
        await chat.answer().locator(".body > *").evaluate_all("all => all.map(({ localName }) => localName)")
    )
    assert tags == ["p", "ul", "figure", "div", "h3", "p"]


# ── What one has not read ───────────────────────────────────────────────────────────────────────────────────


async def test_an_answer_below_what_one_reads_is_counted_marked_and_a_click_away(
    site: Site, page: Page, tmp_path: Path
) -> None:
    await page.goto(site.gateway.url)
    chat, badge = Chat(page, "one"), page.locator("trunkline-chat .badge").first
    await long(chat, tmp_path)
    await chat.say(f"hold 0 3 {tmp_path / 'go'}")
    await expect(chat.panel.locator(".waiting")).to_be_visible()
    await chat.log.hover()
    await page.mouse.wheel(0, -900)
    jump = chat.panel.locator(".jump")
    await expect(jump).to_be_visible()
    await expect(jump).to_have_text("Jump to the end")
    (tmp_path / "go").touch()
    await expect(jump).to_have_text("1 new message")
    await expect(badge).to_have_text("1")
    await expect(page).to_have_title("(1) Trunkline")
    mark = chat.panel.locator(".messages > [role=separator]")
    await expect(mark).to_have_text("New")
    assert await mark.evaluate("mark => mark.nextElementSibling.querySelector('.content').textContent") == (
        numbers(0, 3)
    )
    await jump.click()
    await until(page, f"({END})({LOG})")
    await expect(jump).to_be_hidden()
    await expect(badge).to_be_hidden()
    await expect(page).to_have_title("Trunkline")
    await expect(mark).to_be_visible()  # until one answers
    await chat.say("count 4")
    await chat.shows(numbers(0, 4))
    await expect(mark).to_have_count(0)


async def test_an_answer_in_another_tab_of_the_widget_is_counted_until_that_is_shown(
    site: Site, page: Page, tmp_path: Path
) -> None:
    await page.goto(site.gateway.url)
    one, two = Chat(page, "one"), Chat(page, "two")
    for chat in (one, two):
        await chat.say(f"hold 0 3 {tmp_path / 'go'}")
        await expect(chat.panel.locator(".waiting")).to_be_visible()
    await page.get_by_role("tab", name="three").click()
    (tmp_path / "go").touch()
    await expect(page).to_have_title("(2) Trunkline")
    await expect(page.get_by_role("tab", name="one, 1 new message")).to_be_visible()
    await expect(page.get_by_role("tab", name="two, 1 new message")).to_be_visible()
    await two.choose()
    await expect(page).to_have_title("(1) Trunkline")
    await expect(page.get_by_role("tab", name="two", exact=True)).to_be_visible()
    await expect(two.panel.locator("[role=separator]")).to_have_text("New")
    await one.choose()
    await expect(page).to_have_title("Trunkline")


async def test_an_answer_to_a_page_that_nobody_sees_is_counted_in_its_title(
    site: Site, chromium: Browser, tmp_path: Path
) -> None:
    assert CHROMIUM is not None
    async with tabs(chromium.browser_type, CHROMIUM, FLAGS, tmp_path / "profile") as window:
        page = window.pages[0]
        await page.goto(site.gateway.url)
        chat = Chat(page)
        await chat.say(f"hold 0 3 {tmp_path / 'go'}")
        await expect(chat.panel.locator(".waiting")).to_be_visible()
        in_front = await window.new_page()
        await until(page, "document.hidden")
        (tmp_path / "go").touch()
        await expect(page).to_have_title("(1) Trunkline")
        await in_front.close()
        await expect(page).to_have_title("Trunkline")
        await chat.shows(numbers(0, 3))


async def test_an_answer_that_came_while_the_line_was_broken_is_counted_too(
    site: Site, page: Page, chromium: Browser, tmp_path: Path
) -> None:
    async with proxy(site.gateway.url) as between:
        await page.goto(between.url)
        chat = Chat(page, "one")
        await chat.say(f"hold 0 3 {tmp_path / 'go'}")
        await expect(chat.panel.locator(".waiting")).to_be_visible()
        await page.get_by_role("tab", name="two").click()
        between.freeze()
        between.cut()
        session = await page.evaluate("document.querySelector('trunkline-chat').gateway.sessions[0].id")
        elsewhere = await chromium.new_context()
        there = await site.opened(await elsewhere.new_page(), f'session="{session}"')
        (tmp_path / "go").touch()
        await there.shows(numbers(0, 3))
        await expect(there.answers.last).to_have_attribute("data-status", "completed")
        await elsewhere.close()
        between.thaw()
        await page.evaluate("dispatchEvent(new Event('online'))")
        await expect(page).to_have_title("(1) Trunkline")
        await expect(page.get_by_role("tab", name="one, 1 new message")).to_be_visible()


async def test_an_answer_is_read_out_to_its_end_and_why_it_ended(
    site: Site, page: Page, tmp_path: Path
) -> None:
    chat, agent = await site.opened(page), Dictated(tmp_path / "dictated")
    spoken = chat.panel.locator("[aria-live=polite] p")
    await chat.say(f"take-down {agent.file}")
    agent.says("A sentence. And half of")
    await expect(spoken).to_have_text(["A sentence."])
    await chat.press("Stop the answer")
    await expect(spoken).to_have_text(["A sentence.", "And half of", "Stopped"])
    await chat.say(f"fail-once {tmp_path / 'failed'}")
    await expect(spoken).to_have_text(["A sentence.", "And half of", "Stopped", "Well,", "It broke."])
