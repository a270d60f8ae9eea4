"""The console's sessions: how one is found, what is seen of it, and what an operator does to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.browser.agents import numbers
from tests.browser.axe import violations
from tests.browser.chat import Chat
from tests.browser.console import LENGTH, Console
from tests.browser.proxy import proxy
from tests.browser.served import Served, served
from tests.browser.talk import answered, says, where
from tests.browser.trace import keeps_no_task_long
from tests.e2e.line import opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "swordfish"
STICKS_OUT = """(others = "") => [...document.querySelectorAll(
    "html, .top, .card, .values, .head, .facts, dialog" + others)]
    .filter((node) => node.scrollWidth > node.clientWidth)
    .map((node) => node.outerHTML.slice(0, 80))"""

HOSTILE = "<img src=x onerror=window.owned=1>\u202e\u2066\u202e"
HOLDERS = """() => [...document.querySelectorAll("body *")].filter(({ childNodes }) =>
    [...childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.includes("\u202e")))"""
LET_OUT = f"""() => ({HOLDERS})().filter((node) => {{
    const {{ display, unicodeBidi }} = getComputedStyle(node);
    return display === "inline" && !["isolate", "plaintext", "isolate-override"].includes(unicodeBidi);
}}).map((node) => node.outerHTML)"""

# ── Sessions ──


@asynccontextmanager
async def three(gateway: Served, folder: Path) -> AsyncIterator[None]:
    """Ann runs a turn in `shopping`, with agent one; what was said since in `travel` and `garden` is over."""
    async with opened(where(gateway, "ann")) as ann, opened(where(gateway, "bob")) as bob:
        await says(ann, "shopping", f"hold 20 40 {folder / 'go'}")
        for session in ("travel", "garden"):
            await says(bob, session, SECRET, "two")
        await answered(bob, 2)
        yield


async def test_sessions_are_listed_those_that_run_first_and_found_by_part_of_id_user_or_agent(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    console = Console(page)
    await page.clock.install()
    async with three(gateway, tmp_path):
        await console.open(gateway.url)
        await expect(console.rows).to_have_count(3)
        await expect(console.rows.first).to_contain_text("shoppingRunningoneann1")
        await expect(console.row("travel")).to_contain_text("travelLivetwobob2")
        await expect(page.locator("#sessions-count")).to_have_text("3 · 1 running")
        await page.clock.pause_at(datetime.now() + timedelta(seconds=1))  # or it would soon ask by itself
        for text, found in (("opp", 1), ("BO", 2), ("one", 1), ("", 3), ("ann", 1)):
            await console.search.fill(text)
            await page.clock.run_for(250)
            await expect(console.rows).to_have_count(found)
        await console.search.fill("nothing like it")
        await page.clock.run_for(250)
        await expect(page.get_by_text("No session fits “nothing like it”.")).to_be_visible()


async def test_a_click_tells_what_was_said_before_and_then_what_is_live(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    console = Console(page)
    await page.clock.install()
    async with three(gateway, tmp_path):
        await console.open(gateway.url)
        await console.watch("travel")
        await expect(console.kinds()).to_have_text(["attached", "message", "response"])
        await console.watch("shopping")
        await expect(page.locator("#watched")).to_have_text("shoppingoneann")
        before = ["attached", "message", "text delta", "typing"]
        await expect(console.kinds()).to_have_text(before)
        (tmp_path / "go").touch()
        await expect(console.kinds()).to_have_text([*before, "text delta", "typing", "response"])
        await expect(console.frames.last).to_contain_text(f"{len(numbers(0, 40))} hidden")
        await page.clock.run_for(3_000)  # then the table is asked for again
        await expect(console.row("shopping")).to_contain_text("Live")


async def test_a_session_is_found_and_opened_with_the_keyboard(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    console, keys = Console(page), page.keyboard
    async with three(gateway, tmp_path):
        await console.open(gateway.url)
        await expect(console.rows).to_have_count(3)
        await keys.press("/")
        await keys.type("shop")
        await expect(console.rows).to_have_count(1)
        await keys.press("Tab")  # the table, which may be scrolled
        await keys.press("Tab")
        await keys.press("Enter")
        await expect(console.kinds().first).to_have_text("attached")
        await expect(console.button("shopping")).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("contents", [False, True], ids=["hidden", "shown"])
async def test_what_is_said_reaches_the_page_only_if_that_was_chosen(
    page: Page, tmp_path: Path, contents: bool
) -> None:
    with served(tmp_path, *["--console-contents"] * contents) as gateway:
        console = Console(page)
        async with opened(where(gateway, "ann")) as ann:
            await says(ann, "talk", f"{SECRET} before")
            await console.open(gateway.url)
            await console.watch("talk")
            await says(ann, "talk", f"{SECRET} live")
            await expect(console.frames.filter(has_text="response")).to_have_count(2)
        assert (SECRET in await page.content()) == contents
        assert any(SECRET in text for text in console.received) == contents
        await expect(page.locator("#veiled")).to_be_visible(visible=not contents)


async def test_whatever_users_call_things_and_say_is_no_markup_and_turns_no_other_text_around(
    page: Page, tmp_path: Path
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with served(tmp_path, "--console-contents") as gateway:
        console = Console(page)
        async with opened(where(gateway, quote(HOSTILE))) as line:
            turn = {"turn_id": f"\u202e{HOSTILE}", "ref": "m"}
            await line.put("message", session_id="talk", agent="one", content=HOSTILE, **turn)
            await line.answer("m")
            await labelled(page, gateway, HOSTILE, HOSTILE)
            await console.open(gateway.url)
            await console.watch("talk")
            await expect(console.frames.filter(has_text="response")).to_contain_text("onerror")
            await console.button("Close the session").click()
        await expect(console.sure).to_contain_text("onerror")
        name, _, _, user, *_ = await console.row("talk").locator("th, td").all_inner_texts()
        assert (name, user) == (f"talk\n{HOSTILE}", HOSTILE)
        assert await page.evaluate(f"({HOLDERS})().length") >= 8
        assert await page.evaluate(LET_OUT) == []
        assert await page.locator("main img, dialog img, [onerror]").count() == 0
        assert await page.evaluate("window.owned") is None
        assert not any(url.endswith("/x") for url in asked)


async def labelled(page: Page, gateway: Served, user: str, label: str) -> None:
    """That user calls the session `talk` so."""
    url = f"{gateway.url}/api/sessions/talk/label?user_id={quote(user)}"
    assert (await page.request.put(url, data={"label": label})).ok


async def test_a_label_does_not_make_a_session_read_as_another(page: Page, tmp_path: Path) -> None:
    with served(tmp_path, "--console-contents") as gateway:
        console = Console(page)
        async with opened(where(gateway, "ann")) as ann:
            await says(ann, "travel", "hello")
            await says(ann, "talk", "hello")
            await labelled(page, gateway, "ann", "travel")
            await console.open(gateway.url)
            row = console.row("talk").get_by_role("rowheader")
            await expect(row.get_by_role("button")).to_have_text("talk")
            await expect(row.locator(".label")).to_have_text("travel")
            await expect(console.rows.get_by_role("button", name="travel", exact=True)).to_have_count(1)


async def test_of_two_sessions_with_one_id_the_timeline_shows_the_one_that_was_chosen(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    console = Console(page)
    async with (
        opened(where(gateway, "ann")) as ann,
        opened(where(gateway, "bob")) as bob,
        proxy(gateway.url) as between,
    ):
        await says(ann, "support", f"hold 20 40 {tmp_path / 'go'}")
        await says(bob, "support", "hello")
        await console.open(between.url)
        await console.watch("ann")
        between.freeze()
        (tmp_path / "go").touch()
        await answered(ann)
        await console.row("bob").click()  # which the gateway hears when it has told of ann's answer
        between.thaw()
        await expect(console.kinds()).to_have_text(["attached", "message", "response"])
        await expect(console.frames.last).to_contain_text("5 hidden")


async def test_two_thousand_deltas_per_second_in_a_watched_session_keep_no_task_long(
    gateway: Served, chromium: Browser, page: Page
) -> None:
    console = Console(page)
    async with opened(where(gateway, "ann")) as ann:
        await says(ann, "talk", "flood 2000 1")
        await console.open(gateway.url)
        await console.watch("talk")
        await console.figure("Deltas", "a second", r"[\d,]{2,}")

        async def flood(number: int) -> None:
            await says(ann, "talk", "flood 4000 2")
            await expect(console.frames.filter(has_text="response")).to_have_count(2 + number)
            await page.evaluate("new Promise(requestAnimationFrame)")

        await keeps_no_task_long(chromium, page, flood)


# ── What an operator does ──


async def test_cancel_stops_the_turn_for_its_user_at_once(
    gateway: Served, profile: BrowserContext, tmp_path: Path
) -> None:
    chat, console = Chat(await profile.new_page()), Console(await profile.new_page())
    await chat.page.goto(gateway.url)
    await chat.say(f"hold 20 40 {tmp_path / 'never'}")
    await chat.shows(numbers(0, 20))
    await console.open(gateway.url)
    await console.watch("Running")
    await console.button("Cancel the turn").click()
    await expect(chat.answers.first.get_by_text("Stopped")).to_be_visible()
    await expect(console.frames.last).to_contain_text("cancelled")
    await chat.say("count 5")
    await chat.shows(numbers(0, 5))


async def test_a_session_is_closed_only_by_who_is_sure_and_its_user_is_told(
    gateway: Served, profile: BrowserContext
) -> None:
    chat, console = Chat(await profile.new_page()), Console(await profile.new_page())
    keys = console.page.keyboard
    await chat.page.goto(gateway.url)
    await chat.say("count 5")
    await chat.shows(numbers(0, 5))
    await console.open(gateway.url)
    await console.watch("one")
    await console.button("Close the session").focus()
    await keys.press("Enter")
    await expect(console.sure).to_contain_text("oneuser")
    await keys.press("Enter")  # what is pressed without a look keeps it
    await expect(console.sure).to_be_hidden()
    await keys.press("Enter")
    await keys.press("Escape")
    await expect(console.sure).to_be_hidden()
    await chat.say("count 7")
    await chat.shows(numbers(0, 7))
    await keys.press("Enter")
    await keys.press("Tab")
    await keys.press("Enter")
    await expect(chat.panel.locator(".notice")).to_contain_text("This conversation was closed.")
    await expect(console.frames.last).to_contain_text("closed")
    await expect(console.row("one")).to_have_count(0)
    await expect(console.button("Close the session")).to_be_hidden()
    await expect(console.page.get_by_role("group", name="Timeline")).to_be_focused()


# ── Narrow ──


async def test_at_1024_pixels_all_columns_of_long_names_are_seen_beside_the_timeline(
    gateway: Served, page: Page
) -> None:
    await page.set_viewport_size({"width": 1024, "height": 768})
    console, session, user = (
        Console(page),
        "5f0c1e1e-37bb-4f0c-9f7c-1b2d3e4f5a61",
        "auth0|5f7c8ec7c33c6c004bbafe8",
    )
    async with opened(where(gateway, quote(user))) as line:
        await says(line, session, "count 3")
        await answered(line)
        await console.open(gateway.url)
        await console.watch(session)
        for part in (console.row(session).locator("td").last, console.button("Close the session")):
            await expect(part).to_be_in_viewport(ratio=1)
        assert await page.evaluate(STICKS_OUT, ", .scroll, .sessions thead th") == []
        assert await console.row(session).locator("td").nth(2).get_attribute("title") == user


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_in_320_pixels_nothing_sticks_out_and_axe_finds_nothing(
    gateway: Served, lenient: Page, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    page, console = lenient, Console(lenient)
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await page.set_viewport_size({"width": 320, "height": 568})
    async with three(gateway, tmp_path), opened(where(gateway, "eve")) as eve:
        await console.open(gateway.url)
        await says(eve, "talk", "flood 300 0.3")
        await console.watch("shopping")
        await console.figure("Turns", "running", "1")
        for title in ("First delta", "Delta gap"):
            await console.figure(title, "p99", LENGTH)
        assert await page.evaluate(STICKS_OUT) == []
        assert await violations(page) == []
        await console.button("Close the session").click()
        assert await page.evaluate(STICKS_OUT) == []
        assert await violations(page) == []
