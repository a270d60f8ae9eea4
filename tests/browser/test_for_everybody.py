from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.agents import numbers
from tests.browser.axe import violations
from tests.browser.chat import Chat, until
from tests.browser.served import Served

pytestmark = pytest.mark.asyncio(loop_scope="session")

SPOKEN = """\
## What there is

Some **words**, a [link](https://example.org) and `code`:

```python
print("hello")
```

| one | two |
|-----|-----|
| 1   | 2   |

1. first
2. second
"""
FOCUSED = """() => {
    let node = document.activeElement;
    while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement;
    return node?.getAttribute("aria-label") ?? node?.textContent.trim() ?? "";
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
async def test_axe_finds_nothing_wrong_with_a_conversation(
    gateway: Served, lenient: Page, tmp_path: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    page = lenient
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await page.set_viewport_size({"width": width, "height": 720})
    (tmp_path / "said").write_text(SPOKEN)
    await page.goto(gateway.url)
    chat = Chat(page)
    assert await violations(page) == []  # nothing was said yet
    await chat.say(f"say {tmp_path / 'said'}")
    await chat.shows_part("second")
    await chat.say(f"hold 10 20 {tmp_path / 'never'}")
    await chat.shows_part("8 9")
    assert await violations(page) == []  # an answer is being written
    await page.get_by_role("button", name="Wire").click()
    assert await violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_wrong_with_the_console(
    gateway: Served, lenient: Page, scheme: Literal["light", "dark"]
) -> None:
    page = lenient
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await page.goto(gateway.url)
    await Chat(page).say("count 3")
    await Chat(page).shows(numbers(0, 3))
    await page.goto(f"{gateway.url}/console")
    await page.get_by_role("row").filter(has_text="one").first.click()
    await expect(page.locator("#actions")).to_be_visible()
    assert await violations(page) == []


@pytest.mark.parametrize("width", [320, 375, 768])
async def test_nothing_sticks_out_of_a_narrow_page(
    gateway: Served, page: Page, tmp_path: Path, width: int
) -> None:
    await page.set_viewport_size({"width": width, "height": 568})
    (tmp_path / "said").write_text(SPOKEN + "\n\n" + "unbroken" * 60)
    await page.goto(gateway.url)
    chat = Chat(page)
    await chat.say(f"say {tmp_path / 'said'}")
    await chat.shows_part("unbrokenunbroken")
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    assert await chat.panel.locator(".log").evaluate("log => log.scrollWidth - log.clientWidth") <= 0
    box = await chat.field.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


async def test_a_conversation_is_held_with_the_keyboard_only(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    await page.goto(gateway.url)
    keys, chat = page.keyboard, Chat(page)
    await expect(page.get_by_role("tab")).to_have_count(3)
    await _tab_to(page, "one")
    await keys.press("ArrowRight")
    assert await page.evaluate(FOCUSED) == "two"
    await keys.press("Home")
    await _tab_to(page, "Message one")
    await keys.type("count 4")
    await keys.press("Enter")
    await chat.shows(numbers(0, 4))
    await keys.type(f"hold 10 20 {tmp_path / 'never'}")
    await keys.press("Enter")
    await chat.shows_part("8 9")
    await keys.press("Escape")  # stops it
    await expect(chat.answers.last.get_by_text("Stopped")).to_be_visible()
    await keys.press("ArrowUp")  # edits what was said last
    await expect(chat.field).to_have_value(f"hold 10 20 {tmp_path / 'never'}")
    await keys.press("Control+A")
    await keys.type("count 6")
    await keys.press("Enter")
    await chat.shows(numbers(0, 6))
    assert await chat.answers.count() == 2  # the edited one replaces the stopped one


async def test_the_field_to_write_in_is_three_tabs_away_however_much_was_said(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    (tmp_path / "said").write_text(SPOKEN)
    await page.goto(gateway.url)
    chat = Chat(page)
    for _ in range(3):
        await chat.say(f"say {tmp_path / 'said'}")
        await chat.shows_part("second")
    await page.reload()
    await expect(chat.answers).to_have_count(3)
    await expect(chat.field).to_be_visible()
    for _ in range(3):
        await page.keyboard.press("Tab")
    await expect(chat.field).to_be_focused()
    box, above = await chat.field.bounding_box(), await chat.log.bounding_box()
    assert box
    assert above
    assert box["y"] >= above["y"] + above["height"]  # it is still below the messages


TARGETS = """() => {
    const { shadowRoot } = document.querySelector("trunkline-chat");
    const all = [document, shadowRoot].flatMap((root) =>
        [...root.querySelectorAll("button, summary, textarea, input, select")]);
    const seen = all.filter((node) => node.checkVisibility({ visibilityProperty: true }));
    return seen.map((node) => [node.ariaLabel || node.textContent, node.getBoundingClientRect()])
        .map(([name, { width, height }]) => [name, Math.min(width, height)]);
}"""
TOUCHED = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}


async def test_where_a_finger_is_everything_to_press_is_large_enough_for_one(
    gateway: Served, chromium: Browser, tmp_path: Path
) -> None:
    context = await chromium.new_context(**TOUCHED)  # type: ignore[arg-type]
    page = await context.new_page()
    (tmp_path / "said").write_text(SPOKEN)
    await page.goto(gateway.url)
    chat = Chat(page)
    await chat.say(f"say {tmp_path / 'said'}")
    await chat.shows_part("second")
    await chat.say(f"use look_up in {tmp_path / 'said'} out")
    await chat.shows_part("After.")
    await chat.say(f"hold 10 20 {tmp_path / 'never'}")
    await chat.shows_part("8 9")
    await chat.say("count 3")  # waits, and may be withdrawn
    await expect(chat.panel.get_by_role("button", name="Withdraw")).to_be_visible()
    await page.get_by_role("button", name="Wire").click()
    await expect(page.get_by_role("button", name="Clear")).to_be_visible()
    targets = await page.evaluate(TARGETS)
    assert {name for name, size in targets if size < 44} == set()
    assert {"one", "Copy", "Copy code", "Edit", "Stop the answer", "look_updone", "Wire"} <= {
        name for name, _ in targets
    }
    await context.close()


async def test_a_screen_reader_is_told_sentences_not_tokens(gateway: Served, page: Page) -> None:
    await page.goto(gateway.url)
    await expect(page.get_by_role("tab")).to_have_count(3)
    await page.evaluate("""() => {
        window.said = [];
        const { shadowRoot } = document.querySelector("trunkline-chat");
        const live = shadowRoot.querySelector(".panel [aria-live=polite]");
        new MutationObserver(() => live.textContent && said.push(live.textContent)).observe(
            live, { childList: true, characterData: true, subtree: true });
    }""")
    chat = Chat(page)
    await chat.say("flood 400 1.5")
    await chat.shows(numbers(0, 400))
    await until(page, "said.some((text) => text.includes('399'))")
    told = await page.evaluate("said")
    assert len(told) <= 3  # an answer without a full stop is one sentence


async def _tab_to(page: Page, name: str) -> None:
    """Presses Tab until what has that name is focused, and fails if it never is."""
    for _ in range(30):
        if await page.evaluate(FOCUSED) == name:
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"Tab never reached {name!r}.")
