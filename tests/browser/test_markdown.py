"""What agents write: Markdown, and the code in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.browser.site import Site, site_in

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("site")) as site:
        yield site


CODE = 'def greet(name):\n\tprint(f"<b>hello</b>, {name}")\n\n\nif __name__:\n    greet("*you*")'
LISTED = """\
- in a list:
\t```make
\tall:

\t\tcc it
\t```

"""
MARKDOWN = """\
## Heading

A *paragraph* with **strong**, `code`, ~~no~~ and a [link](https://example.org/a_b?c=d), https://example.org.

- one
- two
  - two and a half
    with `more` of it

1. first
2. second

> said by
> somebody

| one | two |
|-----|:---:|
| 1   | *2* |

```python
print("**hello**")
```

---

snake_case stays, 5 * 3 * 2 too; "$5" is $5. **Never closed
"""


async def test_the_code_that_is_copied_is_the_code_that_was_written(
    site: Site, page: Page, profile: BrowserContext, tmp_path: Path
) -> None:
    await profile.grant_permissions(["clipboard-read", "clipboard-write"])
    (tmp_path / "said").write_text(f"Look:\n\n```python\n{CODE}\n```\n\n{LISTED}\nThat is it.")
    chat = await site.opened(page)
    await chat.say(f"pieces {tmp_path / 'said'} 1")
    await chat.shows_part("That is it.")
    blocks = await chat.answer().locator("figure").all()
    for block, language, code in zip(blocks, ("python", "make"), (CODE, "all:\n\n\tcc it"), strict=True):
        await expect(block.locator("figcaption")).to_have_text(language)
        await block.get_by_role("button", name="Copy code").click()
        await expect(block.get_by_role("button", name="Copied")).to_be_visible()
        assert await page.evaluate("navigator.clipboard.readText()") == code
    await chat.answers.last.locator("footer").get_by_role("button", name="Copy").click()
    await expect(chat.answers.last.locator("footer").get_by_role("button", name="Copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == (tmp_path / "said").read_text()


# What comes of a text in pieces of such a size, as the widget shows it.
IN_PIECES = """async ({ gateway, text, size }) => {
    const [{ Text }, { WORDS }] = await Promise.all(
        ["markdown", "words"].map((name) => import(`${gateway}/widget/${name}.js`)),
    );
    const root = document.createElement("div");
    const shown = new Text(root, WORDS);
    for (let end = size; end < text.length; end += size) shown.write(text.slice(0, end), false, () => false);
    shown.write(text, true, () => false);
    return [root.innerHTML, ...[...root.querySelectorAll("code")].map(({ textContent }) => textContent)];
}"""


async def test_markdown_ends_the_same_however_it_is_cut(site: Site, page: Page) -> None:
    await site.opened(page)
    for text in (MARKDOWN, LISTED + LISTED, f"```\n{CODE}\n``", "- a\n  ```\n\n\n b"):
        cut = {"gateway": site.gateway.url, "text": text}
        whole, *others = [
            await page.evaluate(IN_PIECES, {**cut, "size": size}) for size in (len(text), 1, 2, 3, 7, 64)
        ]
        assert others == [whole] * 5


FENCED = {
    "```\none\n\ttwo\n```": "one\n\ttwo",
    "```\none\n``": "one\n``",  # it ends before it says that it does
    "```\none\n  ": "one\n  ",
    "```\n``` one\n    ```\nafter": "``` one",
    "````\none\n```\n``````\nafter": "one\n```",
    "   ```\n   one\n     two\n   ```\n": "one\n  two",
    "- item\n  ```\n  one\n\n\n  two\n  ```\n\nafter": "one\n\n\ntwo",
    "- item\n  ```\n  one\noutside, and so no code": "one",
}


@pytest.mark.parametrize("size", [1, 100])
async def test_code_is_what_stands_between_its_fences(site: Site, page: Page, size: int) -> None:
    await site.opened(page)
    cut = {"gateway": site.gateway.url, "size": size}
    found = {text: (await page.evaluate(IN_PIECES, {**cut, "text": text}))[1:] for text in FENCED}
    assert found == {text: [code] for text, code in FENCED.items()}


async def test_markdown_that_streams_ends_the_same_as_in_one_piece(
    site: Site, page: Page, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    said.write_text(LISTED + MARKDOWN)
    chat = await site.opened(page)
    for place, order in enumerate((f"say {said}", f"pieces {said} 1", f"pieces {said} 3")):
        await chat.say(order)
        await chat.shows_part("Never closed", place)
        await expect(chat.answers.nth(place)).to_have_attribute("data-status", "completed")
    contents = chat.answers.locator(".content")
    whole, *cut = await contents.evaluate_all("all => all.map((one) => one.innerHTML)")
    for tag in ("h3", "em", "strong", "a ", "ul", "ol", "blockquote", "th", "figure", "hr"):
        assert f"<{tag}" in whole
    assert cut == [whole, whole]
