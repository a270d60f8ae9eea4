"""One line for several tabs, tokens that are renewed, and users who follow one another in one tab."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Locator, Page, Route, expect

from gateway.keys import secret_key
from gateway.tokens import mint
from tests.browser.agents import numbers
from tests.browser.chat import Chat, until
from tests.browser.served import served
from tests.browser.shown import shown
from tests.browser.site import Site, site_in
from tests.browser.sockets import Sockets

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "a secret of at least thirty-two bytes"
CHAT = '<trunkline-chat agent="one" session="here"></trunkline-chat>'
ASKS = """\
<script type="module">
  const token = async () => {
    const answer = await fetch("token");
    if (!answer.ok) throw new Error("No token.");
    return answer.text();
  };
  for (const [agent, session] of %s) {
    const chat = Object.assign(document.createElement("trunkline-chat"), { token });
    chat.setAttribute("agent", agent);
    chat.setAttribute("session", session);
    chat.style.height = "340px";
    document.querySelector("main").append(chat);
  }
</script>
"""
"""Widgets that get their tokens from the site."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Its gateway takes everybody."""
    with site_in(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Its gateway wants tokens."""
    folder = tmp_path_factory.mktemp("guarded")
    pages = folder / "pages"
    pages.mkdir()
    secret = {"GATEWAY_JWT_SECRET": SECRET}
    with (
        shown(pages) as place,
        served(folder, "--allow-origin", place.url, environment=secret) as gateway,
    ):
        yield Site(pages, place.url, gateway)


def token_of(user: str, seconds: float = 600) -> str:
    return mint(secret_key(SECRET), user, time.time() + seconds)


def in_widget(page: Page, place: int) -> Locator:
    """The panel of that widget of the page."""
    return page.locator("trunkline-chat").nth(place).locator(".panel")


def held_by(token: str) -> str:
    return CHAT.replace("agent=", f'token="{token}" agent=')


class Issuer:
    """Where pages get their tokens: one of `user`, who is None if there is none to be had, that lives so many
    `seconds`; `given` counts them."""

    def __init__(self, user: str | None, seconds: float = 600) -> None:
        self.user = user
        self.seconds = seconds
        self.given = 0

    async def serve(self, page: Page) -> None:
        await page.route("**/token", self._answer)

    async def _answer(self, route: Route) -> None:
        if self.user is None:
            await route.fulfill(status=503)
            return
        self.given += 1
        await route.fulfill(body=token_of(self.user, self.seconds))


# ── One line for several tabs ───────────────────────────────────────────────────────────────────────────────


async def test_two_tabs_share_one_socket_and_when_the_one_that_holds_it_goes_in_mid_answer_the_other_goes_on(
    site: Site, profile: BrowserContext, tmp_path: Path
) -> None:
    first, second = await profile.new_page(), await profile.new_page()
    sockets = [Sockets(first), Sockets(second)]
    await site.show(first, CHAT.replace("agent=", "shared agent="))
    await sockets[0].come_to(1)
    await site.show(second, CHAT.replace("agent=", "shared agent="))
    one, two = Chat(first), Chat(second)
    await one.say("from one")
    await two.shows("from one")
    await two.say("from two")
    await one.stands("from one", "from two")
    held = f"hold 300 600 {tmp_path / 'go'}"
    await two.say(held)
    for chat in (one, two):
        await chat.shows(numbers(0, 300))
    assert [len(each.all) for each in sockets] == [1, 0]
    await first.close()
    await sockets[1].come_to(1)
    (tmp_path / "go").touch()
    await two.shows(numbers(0, 600))
    await two.say("and on")
    await two.shows("and on")
    await two.stands("from one", "from two", held, "and on")
    assert len(sockets[1].all) == 1


async def test_widgets_of_different_agents_share_one_line_and_the_same_function_is_the_same_token(
    guarded: Site, page: Page
) -> None:
    sockets = Sockets(page)
    await Issuer("ann").serve(page)
    await guarded.show(page, ASKS % '[["one", "left"], ["two", "right"]]')
    for place, agent in enumerate(("one", "two")):
        field = in_widget(page, place).locator("textarea")
        await field.fill(f"to {agent}")
        await field.press("Enter")
        await expect(in_widget(page, place).locator(".agent .content")).to_have_text(f"to {agent}")
    gateways = "[...document.querySelectorAll('trunkline-chat')].map(({ gateway }) => gateway)"
    assert await page.evaluate(f"new Set({gateways}).size") == 1
    assert await page.evaluate(f"{gateways}[0].sessions.map(({{ agent }}) => agent)") == ["one", "two"]
    assert len(sockets.all) == 1


@pytest.mark.parametrize(
    ("sessions", "place", "why"),
    [
        ("one/a, two/a, three/b", 1, "The session a is followed with the agent one"),
        ("one/a, a/b/c, three/b", 1, '“a/b/c” in sessions="…" is not [agent/]id[=label].'),
    ],
)
async def test_a_conversation_that_cannot_be_shown_says_why_in_its_place_and_the_others_work(
    site: Site, page: Page, sessions: str, place: int, why: str
) -> None:
    await site.show(page, f"<trunkline-chat sessions='{sessions}'></trunkline-chat>")
    for other in (0, 2):
        await page.get_by_role("tab").nth(other).click()
        panel = page.locator("trunkline-chat .panel").nth(other)
        await panel.locator("textarea").fill(f"to {other}")
        await panel.locator("textarea").press("Enter")
        await expect(panel.locator(".agent .content").last).to_have_text(f"to {other}")
    await page.get_by_role("tab").nth(place).click()
    await expect(page.get_by_text(why)).to_be_visible()
    await page.locator("trunkline-chat").evaluate("chat => chat.setAttribute('sessions', 'one/a')")
    await expect(page.locator("trunkline-chat .panel textarea")).to_be_visible()


async def test_a_widget_with_nothing_but_a_wrong_conversation_says_so(site: Site, page: Page) -> None:
    await site.show(page, '<trunkline-chat sessions="a/b/c"></trunkline-chat>')
    await expect(page.get_by_text("“a/b/c” in sessions")).to_be_visible()


async def test_a_conversation_is_followed_as_long_as_a_widget_shows_it(site: Site, page: Page) -> None:
    await site.show(page, 2 * CHAT + CHAT.replace("here", "there"))
    widgets = page.locator("trunkline-chat")
    await expect(widgets).to_have_count(3)
    ids = "document.querySelector('trunkline-chat').gateway.sessions.map(({ id }) => id)"
    await widgets.nth(0).evaluate("chat => chat.remove()")
    assert await page.evaluate(ids) == ["here", "there"]
    await widgets.nth(1).evaluate("chat => chat.remove()")
    assert await page.evaluate(ids) == ["here"]
    await widgets.nth(0).evaluate("chat => chat.setAttribute('agent', 'two')")
    await Chat(page).say("to two")
    await Chat(page).shows("to two")


# ── Tokens ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_token_of_seconds_is_renewed_on_the_same_line_and_the_answer_goes_on(
    guarded: Site, page: Page, tmp_path: Path
) -> None:
    sockets, issuer = Sockets(page), Issuer("short", seconds=3)
    await issuer.serve(page)
    ends = (time.time() + 4) * 1000
    renewed = asyncio.Event()

    def heard(text: str | bytes) -> None:
        issuer.seconds = 600  # from the first frame on
        if '"ref":"renewal"' in str(text):
            renewed.set()

    page.on("websocket", lambda socket: socket.on("framereceived", heard))
    await guarded.show(page, ASKS % '[["one", "here"]]')
    chat = Chat(page)
    await chat.say(f"hold 300 600 {tmp_path / 'go'}")
    await chat.shows(numbers(0, 300))
    await asyncio.wait_for(renewed.wait(), 5)
    await until(page, "ends => Date.now() > ends", ends)  # the first one is over
    (tmp_path / "go").touch()
    await chat.shows(numbers(0, 600))
    await chat.say("and on")
    await chat.shows("and on")
    assert len(sockets.all) == 1
    assert issuer.given >= 2


async def test_what_one_said_while_no_token_could_be_got_is_not_sent_by_the_next_user_of_the_tab(
    guarded: Site, page: Page
) -> None:
    issuer = Issuer(None)
    await issuer.serve(page)
    await guarded.show(page, ASKS % '[["one", "said"]]')
    chat = Chat(page)
    await chat.say("in private")
    await expect(chat.questions.locator(".body")).to_have_text("in private")
    await expect(page.locator("trunkline-chat .line")).to_contain_text("Trying again")
    issuer.user = "bob"
    await page.reload()
    await chat.say("of bob")
    await chat.shows("of bob")
    await chat.stands("of bob")
    await page.reload()
    await chat.stands("of bob")  # says the gateway, too


async def test_what_one_saw_is_shown_in_that_tab_only_to_who_has_a_token_of_theirs(
    guarded: Site, page: Page
) -> None:
    await guarded.show(page, held_by(token_of("ann")))
    chat = Chat(page)
    await chat.say("in private")
    await chat.stands("in private")
    await guarded.show(page, held_by("not a token"))
    await expect(page.get_by_text("This token does not count here")).to_be_visible()
    await expect(chat.questions).to_have_count(0)
    await guarded.show(page, CHAT)
    await expect(page.locator("trunkline-chat .line")).to_be_visible()
    await expect(chat.questions).to_have_count(0)
    await page.route_web_socket("**/ws", lambda _: None)  # from here on the gateway says nothing
    await guarded.show(page, held_by(token_of("ann", 700)))
    await chat.stands("in private")
    for issuer, count in ((Issuer("ann"), 1), (Issuer("bob"), 0), (Issuer(None), 0)):
        await issuer.serve(page)
        await guarded.show(page, ASKS % '[["one", "here"]]')
        await expect(chat.questions).to_have_count(count)
        if issuer.user is None:
            await expect(page.locator("trunkline-chat .line")).to_contain_text("Trying again")
        else:
            await until(page, "() => performance.getEntriesByName(new URL('token', location)).length > 0")
        await expect(chat.questions).to_have_count(count)
    await guarded.show(page, held_by(token_of("bob")))
    await expect(chat.field).to_be_visible()
    await expect(chat.questions).to_have_count(0)


async def test_what_one_was_writing_goes_when_the_widget_gets_somebody_elses_token(
    guarded: Site, page: Page
) -> None:
    await guarded.show(page, held_by(token_of("ann")))
    chat, widget = Chat(page), page.locator("trunkline-chat")
    await chat.field.fill("in private")
    await widget.evaluate("chat => chat.setAttribute('heading', 'After')")
    await expect(page.get_by_role("heading", name="After")).to_be_visible()
    await expect(chat.field).to_have_value("in private")
    await widget.evaluate("(chat, token) => (chat.token = token)", token_of("bob"))
    await expect(chat.field).to_have_value("")
