"""What the widget says by itself, and in which language."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from tests.browser.chat import Chat
from tests.browser.served import served
from tests.browser.site import Site, site_in

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Scripts of a page run before modules do: the element is not defined yet.
BEFORE = """\
<trunkline-chat agent="one"></trunkline-chat>
<script>
  const chat = document.querySelector("trunkline-chat");
  chat.words = {
    send: "Senden", empty: "Sag # etwas.", tool: { running: "läuft" }, line: { connecting: "Verbinde" },
  };
  chat.token = "a-token";
  chat.session = "read only";
  chat.select = "too";
</script>
"""
SAID = """async ({ gateway, words, name, values }) => {
    const { worded } = await import(`${gateway}/widget/words.js`);
    return name.split(".").reduce((found, part) => found[part], worded(words))(...values);
}"""
POLISH = {
    "locale": "pl",
    "unread": {
        "one": "# nowa wiadomość", "few": "# nowe wiadomości", "many": "# nowych wiadomości", "other": "#",
    },
}  # fmt: skip
# The time on the page's clock is the only thing here that somebody sets.
LEFT = """async (gateway) => {
    const [{ LineBar }, { worded }] = await Promise.all(
        ["bar", "words"].map((name) => import(`${gateway}/widget/${name}.js`)),
    );
    const { now } = Date;
    const state = { status: "waiting", retryAt: now() + 500_000, reason: "" };
    const bar = new LineBar({ state }, worded({ line: { waiting: "# s" } }));
    const shown = [];
    for (const hours of [0, -1, 1]) {
        Date.now = () => now() + hours * 3_600_000;
        bar.show();
        shown.push(parseInt(bar.node.textContent));
    }
    bar.close();
    Date.now = now;
    return shown;
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("site")) as site:
        yield site


async def test_what_was_set_before_the_element_was_defined_counts_and_hides_nothing(
    site: Site, page: Page
) -> None:
    await site.show(page, BEFORE)
    chat, widget = Chat(page), page.locator("trunkline-chat")
    await expect(chat.panel.get_by_role("button", name="Senden")).to_be_visible()
    await expect(chat.log).to_have_attribute("data-empty", "Sag one etwas.")
    assert await widget.evaluate("chat => chat.token") == "a-token"
    assert await widget.evaluate("chat => chat.session.agent") == "one"
    assert await widget.evaluate("chat => typeof chat.select") == "function"


async def test_words_that_are_set_leave_the_others_as_they_were_however_deep(site: Site, page: Page) -> None:
    await site.show(page, BEFORE)
    words = "({ words }) => [words.tool, words.line.connecting, words.line.offline, words.stop]"
    tool, connecting, offline, stop = await page.locator("trunkline-chat").evaluate(words)
    assert tool == {"running": "läuft", "done": "done", "failed": "failed"}
    assert (connecting, stop) == ("Verbinde", "Stop the answer")
    assert offline.startswith("You are offline.")


@pytest.mark.parametrize(
    ("words", "name", "values", "said"),
    [
        ({}, "unread", [1], "1 new message"),
        ({}, "unread", [2], "2 new messages"),
        ({}, "tooLong", [1_001, 65_536], "Too long by 1,001 characters: a message may have 65,536."),
        (POLISH, "unread", [1], "1 nowa wiadomość"),
        (POLISH, "unread", [3], "3 nowe wiadomości"),
        (POLISH, "unread", [12], "12 nowych wiadomości"),
        ({"locale": "de", "tooLong": {"other": "# zu viel (#)"}}, "tooLong", [1_001, 9], "1.001 zu viel (9)"),
        ({"message": "Nachricht an #"}, "message", ["#1"], "Nachricht an #1"),
        ({"line": {"waiting": "noch # s"}}, "line.waiting", [3], "noch 3 s"),
    ],
)
async def test_what_is_counted_is_said_in_the_plurals_of_its_language(
    site: Site, page: Page, words: dict[str, object], name: str, values: list[object], said: str
) -> None:
    await site.opened(page)
    given = {"gateway": site.gateway.url, "words": words, "name": name, "values": values}
    assert await page.evaluate(SAID, given) == said


async def test_one_conversation_is_one_conversation(
    page: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for names, said in (
        (["one"], "One WebSocket, 1 conversation"),
        (["one", "two"], "One WebSocket, 2 conversations"),
    ):
        with served(tmp_path_factory.mktemp("gateway"), names=names) as gateway:
            await page.goto(gateway.url)
            await expect(page.locator("#told")).to_have_text(said)


async def test_how_long_it_waits_is_said_right_though_the_clock_was_set(site: Site, page: Page) -> None:
    await site.opened(page)
    assert all(400 < seconds <= 500 for seconds in await page.evaluate(LEFT, site.gateway.url))
