"""What agents write: Markdown, and the code in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

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


async def test_without_a_clipboard_what_is_copied_is_pasted_all_the_same(
    site: Site, page: Page, tmp_path: Path
) -> None:
    """As on plain HTTP, where browsers have none."""
    await page.add_init_script(
        "Object.defineProperty(Navigator.prototype, 'clipboard', { value: undefined })"
    )
    (tmp_path / "said").write_text(f"```python\n{CODE}\n```\n")
    chat = await site.opened(page)
    await chat.say(f"say {tmp_path / 'said'}")
    await chat.shows_part("greet")
    assert await page.evaluate("navigator.clipboard") is None
    block, footer = chat.answer().locator("figure"), chat.answers.last.locator("footer")
    for place, name, text in (
        (block, "Copy code", CODE),
        (footer, "Copy", (tmp_path / "said").read_text()),
    ):
        await place.get_by_role("button", name=name).press("Enter")
        await expect(place.get_by_role("button", name="Copied")).to_be_focused()
        await chat.field.fill("")
        await chat.field.press("ControlOrMeta+V")
        assert await chat.field.input_value() == text
    assert (
        await page.locator("trunkline-chat").evaluate(
            "chat => chat.shadowRoot.querySelectorAll('textarea').length"
        )
        == 1
    )


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


# ── What is no Markdown ─────────────────────────────────────────────────────────────────────────────────────

TYPED = (
    r"\(",
    r"\)",
    r"\[",
    r"\]",
    "$",
    "$$",
    "&amp;",
    "&",
    ";",
    r"\frac",
    "a",
    "é",
    "\U0001f600",
    " ",
    "\n",
)
AS_SHOWN = """async ({ gateway, texts, size }) => {
    const [{ Text }, { WORDS }] = await Promise.all(
        ["markdown", "words"].map((name) => import(`${gateway}/widget/${name}.js`)),
    );
    return texts.map((text) => {
        const root = document.createElement("div");
        const shown = new Text(root, WORDS);
        const ends = Array.from({ length: text.length / size }, (_, place) => size * (place + 1));
        for (const end of ends) shown.write(text.slice(0, end), false, () => false);
        shown.write(text, true, () => false);
        return root.textContent;
    });
}"""


def close(text: str) -> str:
    """Without the space, of which there is less on a page."""
    return "".join(text.split())


@pytest.mark.parametrize("size", [1, 2, 3, 10_000])
async def test_signs_of_mathematics_and_entities_are_seen_as_they_were_typed(
    site: Site, page: Page, size: int
) -> None:
    await site.opened(page)
    random = Random(size)
    texts = ["".join(random.choices(TYPED, k=random.randrange(1, 30))) for _ in range(2_000)]
    texts += [r"\[" + "\nx = $y$\n" + r"\]", "$$\nx\n$$", r"*so* \(a\) `\(b\)` $c$", r"5 \$ or $6"]
    shown = await page.evaluate(AS_SHOWN, {"gateway": site.gateway.url, "texts": texts, "size": size})
    expected = [*texts[:-2], r"so \(a\) \(b\) $c$", "5 $ or $6"]
    assert [close(text) for text in shown] == [close(text) for text in expected]


async def test_signs_of_mathematics_are_copied_and_linked_to_as_they_were_typed(
    site: Site, page: Page
) -> None:
    await site.opened(page)
    text = (
        "```$sh\n"
        + r"echo \(a\) $x \$y \["
        + "\n```\n\n[a](https://a.example/?$b=1) "
        + r"\( https://b.example/\)"
    )
    for size in (1, 1_000):
        cut = {"gateway": site.gateway.url, "text": text, "size": size}
        html, code = await page.evaluate(IN_PIECES, cut)
        assert code == r"echo \(a\) $x \$y \["
        assert ">$sh</span>" in html
        assert 'href="https://a.example/?$b=1"' in html
        assert 'href="https://b.example/"' in html


# ── Tables and tasks ────────────────────────────────────────────────────────────────────────────────────────

ALIGNED = """\
| left | middle | right | neither |
|:-----|:------:|------:|---------|
| 1    | 2      | 3     | 4       |
| 1    | 2      | 3     | 4       |

| other |
|-------|
| one   |
"""
TASKS = """\
- [ ] to do
- [x] done
- neither
"""
ALIGNMENTS = "all => all.map((cell) => getComputedStyle(cell).textAlign)"


async def test_columns_of_a_table_stand_as_its_rules_say(site: Site, page: Page, tmp_path: Path) -> None:
    (tmp_path / "said").write_text(ALIGNED)
    chat = await site.opened(page)
    for order in (f"say {tmp_path / 'said'}", f"pieces {tmp_path / 'said'} 1"):
        await chat.say(order)
        await expect(chat.answers.last).to_have_attribute("data-status", "completed")
        tables = chat.answer().locator("table")
        for row in await tables.first.locator("tr").all():
            assert await row.locator("th, td").evaluate_all(ALIGNMENTS) == [
                "left",
                "center",
                "right",
                "start",
            ]
        assert await tables.last.locator("th, td").evaluate_all(ALIGNMENTS) == ["start", "start"]


async def test_a_task_has_a_box_and_no_bullet_beside_it(site: Site, page: Page, tmp_path: Path) -> None:
    (tmp_path / "said").write_text(TASKS)
    chat = await site.opened(page)
    await chat.say(f"say {tmp_path / 'said'}")
    items = chat.answer().locator("li")
    await expect(items).to_have_text(["☐ to do", "☑ done", "neither"])
    bullets = "all => all.map((item) => getComputedStyle(item).listStyleType)"
    assert await items.evaluate_all(bullets) == ["none", "none", "disc"]


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
