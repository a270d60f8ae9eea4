"""How the widget looks is its page's to say, and its reader's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.chat import Chat, until
from tests.browser.site import Site, site_in

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAPER = {"light": "rgb(255, 254, 251)", "dark": "rgb(26, 29, 36)"}
MINE = """
<style>
  trunkline-chat {
    --trunkline-accent: rgb(1, 2, 3);
    --trunkline-paper: rgb(4, 5, 6);
    --trunkline-ink: rgb(7, 8, 9);
    --trunkline-radius: 3px;
    --trunkline-font: monospace;
    --trunkline-size: 20px;
    --trunkline-height: 400px;
  }
  trunkline-chat::part(send) { border: 5px solid rgb(10, 11, 12) }
  trunkline-chat::part(bubble) { background: rgb(13, 14, 15) }
  trunkline-chat::part(code) { background: rgb(16, 17, 18) }
  trunkline-chat::part(tool) { background: rgb(19, 20, 21) }
</style>
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("site")) as site:
        yield site


async def opened(site: Site, page: Page, attributes: str = "", style: str = "") -> Chat:
    """A widget with these attributes, on a page with this style, in which something was said."""
    await site.show(page, f'{style}<trunkline-chat agent="one" {attributes}></trunkline-chat>')
    chat = Chat(page)
    await chat.say("Hello you")
    await chat.shows("Hello you")
    return chat


async def style(of: Locator, name: str) -> Any:
    """What that property comes to."""
    return await of.evaluate("(node, name) => getComputedStyle(node)[name]", name)


def frame(page: Page) -> Locator:
    return page.locator("trunkline-chat .frame")


# ── Colours ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_as_light_as_the_system_unless_its_theme_says_otherwise(
    site: Site, page: Page, scheme: Literal["light", "dark"]
) -> None:
    await page.emulate_media(color_scheme=scheme)
    await opened(site, page)
    paper, widget = PAPER[scheme], page.locator("trunkline-chat")
    assert await style(frame(page), "backgroundColor") == paper
    for theme, shown in PAPER.items():
        await widget.evaluate("(chat, theme) => chat.setAttribute('theme', theme)", theme)
        assert await style(frame(page), "backgroundColor") == shown
    await widget.evaluate("chat => chat.removeAttribute('theme')")
    assert await style(frame(page), "backgroundColor") == paper


async def test_a_system_that_turns_dark_turns_it_dark(site: Site, page: Page) -> None:
    await page.emulate_media(color_scheme="light")
    await opened(site, page)
    await page.emulate_media(color_scheme="dark")
    assert await style(frame(page), "backgroundColor") == PAPER["dark"]


async def test_a_page_themes_it_by_variables_and_parts(site: Site, page: Page, tmp_path: Path) -> None:
    chat = await opened(site, page, style=MINE)
    await expect(page.locator("trunkline-chat")).to_have_css("height", "400px")
    (tmp_path / "code").write_text("```\ncode\n```\n")
    await chat.say(f"say {tmp_path / 'code'}")
    await chat.shows_part("code")
    await chat.say(f"use look_up this {tmp_path / 'code'} that")
    await chat.shows_part("After.")
    whole = frame(page)
    assert await style(whole, "backgroundColor") == "rgb(4, 5, 6)"
    assert await style(whole, "color") == "rgb(7, 8, 9)"
    assert await style(whole, "borderTopLeftRadius") == "3px"
    assert await style(whole, "fontFamily") == "monospace"
    assert await style(chat.answer(), "fontSize") == "20px"
    send = chat.panel.locator("[part=send]")
    await chat.field.fill("something")
    assert await style(send, "backgroundColor") == "rgb(1, 2, 3)"
    assert await style(send, "borderTopColor") == "rgb(10, 11, 12)"
    assert await style(chat.questions.last.locator(".body"), "backgroundColor") == "rgb(13, 14, 15)"
    assert await style(chat.answers.locator("figure"), "backgroundColor") == "rgb(16, 17, 18)"
    assert await style(chat.answers.locator("details"), "backgroundColor") == "rgb(19, 20, 21)"


async def test_no_style_of_the_page_gets_in_and_none_of_its_own_gets_out(site: Site, page: Page) -> None:
    loud = "<style>button, p, textarea { background: rgb(255, 0, 0) !important }</style><p id=out>outside</p>"
    chat = await opened(site, page, style=loud)
    assert await style(chat.field, "backgroundColor") == "rgba(0, 0, 0, 0)"
    assert await style(page.locator("#out"), "margin") == "16px 0px"


async def test_in_forced_colours_what_colours_told_apart_has_borders(site: Site, page: Page) -> None:
    await page.emulate_media(forced_colors="active")
    chat = await opened(site, page, 'sessions="one/, two/"')
    assert await style(chat.questions.last.locator(".body"), "borderTopStyle") == "solid"
    assert await style(page.get_by_role("tab", selected=True), "borderTopStyle") == "solid"


# ── Direction ───────────────────────────────────────────────────────────────────────────────────────────────


async def left(of: Locator) -> float:
    """How far its left edge is from that of its panel, in parts of the panel's width."""
    found: float = await of.evaluate("""node => {
        const { left, width } = node.closest(".panel").getBoundingClientRect();
        return (node.getBoundingClientRect().left - left) / width;
    }""")
    return found


@pytest.mark.parametrize("direction", ["ltr", "rtl"])
async def test_from_right_to_left_everything_is_mirrored(
    site: Site, page: Page, direction: Literal["ltr", "rtl"]
) -> None:
    chat = await opened(site, page, 'dir="rtl"' if direction == "rtl" else "")
    question, send = chat.questions.last.locator(".body"), chat.panel.locator("[part=send]")
    bubbles_are_left, send_is_left = await left(question) < 0.3, await left(send) < 0.3
    assert (bubbles_are_left, send_is_left) == ((False, False) if direction == "ltr" else (True, True))
    corners = [await style(question, f"borderBottom{side}Radius") for side in ("Left", "Right")]
    assert corners == (["14px", "4px"] if direction == "ltr" else ["4px", "14px"])
    assert await style(frame(page), "direction") == direction


async def test_a_direction_set_later_mirrors_it_and_arrows_choose_tabs_as_they_are_seen(
    site: Site, page: Page
) -> None:
    await opened(site, page, 'sessions="one/, two/, three/"')
    await page.locator("trunkline-chat").evaluate("chat => chat.setAttribute('dir', 'rtl')")
    one, two = page.get_by_role("tab", name="one"), page.get_by_role("tab", name="two")
    places = [await tab.evaluate("tab => tab.getBoundingClientRect().left") for tab in (one, two)]
    assert places[0] > places[1]
    await one.press("ArrowLeft")
    await expect(two).to_be_focused()


async def test_each_message_goes_in_its_own_direction(site: Site, page: Page, tmp_path: Path) -> None:
    chat = await opened(site, page)
    (tmp_path / "said").write_text("שלום, what is this?\n\nAnd this.")
    await chat.say(f"say {tmp_path / 'said'}")
    await chat.shows_part("And this.")
    await chat.say("مرحبا")
    await chat.shows("مرحبا")
    assert await style(chat.questions.last.locator(".body"), "direction") == "rtl"
    assert await style(chat.answer(0).locator(".body"), "direction") == "ltr"
    assert await style(chat.answer(1).locator(".body"), "direction") == "rtl"
    assert await style(chat.answer(2).locator(".body"), "direction") == "rtl"
    assert await style(chat.answers.last.locator("footer"), "direction") == "ltr"


@pytest.mark.parametrize("direction", ["ltr", "rtl"])
async def test_the_time_reads_in_its_own_direction(site: Site, page: Page, direction: str) -> None:
    chat = await opened(site, page, f'dir="{direction}"')
    for time in (chat.questions.last.locator("time"), chat.answers.last.locator("time")):
        assert re.fullmatch(r"\d+:\d\d\s[AP]M", await time.inner_text())
        hour, half = await time.evaluate("""time => [0, time.textContent.length - 1].map((place) => {
            const range = document.createRange();
            range.setStart(time.firstChild, place);
            range.setEnd(time.firstChild, place + 1);
            return range.getBoundingClientRect().left;
        })""")
        assert hour < half


# ── Motion ──────────────────────────────────────────────────────────────────────────────────────────────────

SHADOW = "document.querySelector('trunkline-chat').shadowRoot"
MOVING = f"{SHADOW}.getAnimations().filter(({{ playState }}) => playState === 'running').length"


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
async def test_nothing_moves_for_those_who_prefer_that(
    site: Site, page: Page, tmp_path: Path, motion: Literal["no-preference", "reduce"]
) -> None:
    await page.emulate_media(reduced_motion=motion)
    chat = await opened(site, page, 'sessions="one/, two/"')
    await chat.say(f"use look_up this {tmp_path / 'never'} that")
    await expect(chat.answers.last.locator("details")).to_be_visible()
    await page.get_by_role("tab", name="two").click()
    two = Chat(page, "two")
    await two.say(f"hold 0 1 {tmp_path / 'never'}")
    await expect(two.panel.locator(".waiting")).to_be_visible()
    await until(page, f"{MOVING} {'> 2' if motion == 'no-preference' else '=== 0'}")
    assert await style(two.panel.locator(".dots"), "animationName") == (
        "breathe" if motion == "no-preference" else "none"
    )
