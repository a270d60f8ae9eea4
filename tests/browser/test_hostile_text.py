from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.agents import numbers
from tests.browser.chat import Chat, until
from tests.browser.served import Served
from tests.browser.trace import keeps_no_task_long

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHOWN = """() => document.querySelector("trunkline-chat").shadowRoot.querySelector(".panel .messages")
    .lastElementChild.querySelector(".content")?.textContent.trimEnd().endsWith("THE END")"""
HOSTILE = """\
<script>window.owned = 1</script>
<img src=x onerror="window.owned = 2">
<svg onload="window.owned = 3"></svg>
<iframe srcdoc="<script>parent.owned = 4</script>"></iframe>
<a href="javascript:window.owned = 5">press me</a>
<style>* { display: none }</style>

[here](javascript:window.owned=6) [there](data:text/html,<script>window.owned=7</script>) \
[elsewhere](vbscript:x) ![picture](http://127.0.0.1:9/spy.png)

`</code><script>window.owned = 8</script>` and

```html
</pre><script>window.owned = 9</script>
```
"""


async def told(page: Page, gateway: Served, folder: Path, text: str) -> Chat:
    """A page on which the agent has said that."""
    file = folder / "said"
    file.write_text(text)
    await page.goto(gateway.url)
    chat = Chat(page)
    await chat.say(f"say {file}")
    return chat


async def test_nothing_that_an_agent_says_is_markup_or_runs(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    chat = await told(page, gateway, tmp_path, HOSTILE)
    await chat.shows_part("window.owned = 9")
    answer = chat.answer()
    await expect(answer).to_contain_text("<script>window.owned = 1</script>")
    for link in await answer.get_by_text("press me").or_(answer.locator("a")).all():
        await link.click(trial=True)
    assert (
        await answer.locator("script, img, iframe, style, svg:not(.icon), [onerror], [onload]").count() == 0
    )
    hrefs = await answer.locator("a").evaluate_all("links => links.map(({ protocol }) => protocol)")
    assert set(hrefs) <= {"http:", "https:", "mailto:"}
    assert await page.evaluate("window.owned") is None
    assert not any("spy.png" in url for url in asked)


async def test_a_link_tells_where_it_leads_if_its_text_does_not(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    text = "[https://a.example/](https://evil.example/x) https://a.example/y [https://a.example/](https://a.example/)"
    answer = (await told(page, gateway, tmp_path, text)).answer()
    await expect(answer.locator("a")).to_have_count(3)
    titles = await answer.locator("a").evaluate_all("links => links.map(({ title }) => title)")
    assert titles == ["https://evil.example/x", "", ""]


async def test_nothing_that_a_user_says_is_markup_or_runs(gateway: Served, page: Page) -> None:
    await page.goto(gateway.url)
    chat = Chat(page)
    await chat.field.fill("'<img src=x onerror=window.owned=1>'")
    await chat.field.press("Enter")
    await chat.shows_part("onerror")
    assert await chat.panel.locator("img").count() == 0
    assert await page.evaluate("window.owned") is None


async def test_overrides_of_the_text_direction_do_not_leave_their_message(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    chat = await told(page, gateway, tmp_path, "abc \u202e\u2066\u202egnp.exe")
    await chat.shows_part("gnp.exe")
    footer = chat.answers.last.locator("footer")
    isolated = "node => getComputedStyle(node).unicodeBidi"
    assert await chat.answer().locator(".body").first.evaluate(isolated) in ("isolate", "plaintext")
    assert await footer.evaluate("node => getComputedStyle(node).direction") == "ltr"


LONG = 200_000
PARAGRAPH = "A *paragraph* with **some** `code`, and words enough to fill a few lines of it. " * 5 + "\n\n"
LONG_TEXTS = {
    "paragraphs": PARAGRAPH * (LONG // len(PARAGRAPH)),
    "one line": "word " * (LONG // 5),
    "one word": "w" * LONG,
    "code": "```\n" + "let x = 1;\n" * (LONG // 11) + "```\n",
    "brackets": "[" * LONG,
    "list": "- an item\n" * (LONG // 10),
    "emphasis": "**" + "word " * (LONG // 5),
    "heading": "# " + "word " * (LONG // 5),
    "table": "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * (LONG // 10) + "\n",
}


@pytest.mark.parametrize("kind", LONG_TEXTS)
async def test_a_very_long_answer_keeps_no_task_long(
    gateway: Served, chromium: Browser, page: Page, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "said").write_text(LONG_TEXTS[kind] + "\nTHE END")

    chat = await warm(page, gateway)

    async def read(number: int) -> None:
        await chat.say(f"say {tmp_path / 'said'}")
        await expect(chat.answers).to_have_count(2 + number)
        await until(page, SHOWN)

    await keeps_no_task_long(chromium, page, read)


@pytest.mark.parametrize("wire", [False, True], ids=["", "wire open"])
async def test_two_thousand_deltas_per_second_keep_no_task_long(
    gateway: Served, chromium: Browser, page: Page, wire: bool
) -> None:
    chat = await warm(page, gateway)
    if wire:
        await page.get_by_role("button", name="Wire").click()

    async def flood(number: int) -> None:
        await chat.say("flood 6000 3")
        await expect(chat.answers).to_have_count(2 + number)
        await expect(chat.answer()).to_contain_text("5998 5999")

    await keeps_no_task_long(chromium, page, flood)
    await chat.shows(numbers(0, 6000))


async def warm(page: Page, gateway: Served) -> Chat:
    """A page that has shown something: what is compiled once is not what is measured."""
    await page.goto(gateway.url)
    chat = Chat(page)
    await chat.say("warm up")
    await chat.shows("warm up")
    return chat
