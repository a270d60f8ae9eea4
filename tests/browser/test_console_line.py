"""The console's line: the key it wants, a gateway that goes and comes back, a tab that nobody looks at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from gateway.keys import secret_key
from gateway.tokens import mint
from tests.browser.axe import violations
from tests.browser.background import tabs
from tests.browser.chat import Chat, until
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.browser.console import Console
from tests.browser.served import Served, served

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "a secret of at least thirty-two bytes"
KEY = "the-key-of-those-who-operate"
KEPT = "() => Object.values(sessionStorage)"
ELSEWHERE = "() => [document.cookie, location.href, ...Object.values(localStorage)].join()"


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Served]:
    """A gateway that wants tokens of users, and keys of services."""
    environment = {"GATEWAY_JWT_SECRET": SECRET, "GATEWAY_API_KEYS": f"ops={KEY}"}
    with served(tmp_path, environment=environment) as gateway:
        yield gateway


async def asked(console: Console, gateway: Served) -> None:
    """Goes to the console, which wants a key and shows nothing else."""
    await console.page.goto(f"{gateway.url}/console")
    await wanted(console)


async def wanted(console: Console) -> None:
    """Waits until it wants a key. It shows nothing else."""
    await expect(console.key).to_be_focused()
    await expect(console.line).to_have_text("Not let in")
    await expect(console.page.locator("#figures, #work").filter(visible=True)).to_have_count(0)


# ── The key ──


async def test_who_shows_a_wrong_key_or_a_users_token_is_told_why_and_asked_again(
    locked: Served, page: Page
) -> None:
    console = Console(page)
    await asked(console, locked)
    await expect(page.get_by_role("alert")).to_be_hidden()
    user = mint(secret_key(SECRET), "ann", time.time() + 600)
    for key, why in (("wrong", "This token does not count here"), (user, "This is for service keys only.")):
        await console.show(key)
        await expect(page.get_by_role("alert")).to_contain_text(why)
        await wanted(console)
        await expect(console.key).to_have_value("")
        assert await page.evaluate(KEPT) == []  # or it would be shown again
    await console.show(KEY)
    await console.connected()
    await console.figure("Connections", "open", "1")
    await expect(console.key).to_be_hidden()


async def test_the_key_outlives_a_reload_and_is_nowhere_but_in_this_tab(
    locked: Served, profile: BrowserContext
) -> None:
    here, there = Console(await profile.new_page()), Console(await profile.new_page())
    await asked(here, locked)
    await here.show(KEY)
    await here.connected()
    await here.page.reload()
    await here.connected()
    await here.figure("Connections", "open", "1")
    assert await here.page.evaluate(KEPT) == [KEY]
    assert KEY not in await here.page.evaluate(ELSEWHERE)
    assert KEY not in await here.page.content()
    await asked(there, locked)
    assert any(address.startswith("ws:") for address in here.addresses)
    assert not any(KEY in address for address in here.addresses)


async def test_the_key_is_forgotten_when_one_says_so(locked: Served, page: Page) -> None:
    console = Console(page)
    await asked(console, locked)
    await console.show(KEY)
    await console.connected()
    await console.button("Forget the key").click()
    await wanted(console)
    await expect(page.get_by_role("alert")).to_be_hidden()  # nothing went wrong
    assert await page.evaluate(KEPT) == []
    await page.reload()
    await wanted(console)


async def test_who_needs_no_key_is_not_asked_for_one(gateway: Served, page: Page) -> None:
    console = Console(page)
    await console.open(gateway.url)
    await console.figure("Connections", "open", "1")
    await expect(console.key).to_be_hidden()
    await expect(console.button("Forget the key")).to_be_hidden()


async def test_axe_finds_nothing_wrong_with_being_asked_in_320_pixels(locked: Served, lenient: Page) -> None:
    console = Console(lenient)
    await lenient.set_viewport_size({"width": 320, "height": 568})
    await asked(console, locked)
    await console.show("wrong")
    await expect(lenient.get_by_role("alert")).to_be_visible()
    assert await violations(lenient) == []
    assert await lenient.evaluate("document.documentElement.scrollWidth") <= 320


# ── The line ──


async def test_when_the_gateway_was_killed_and_is_back_so_is_the_console_with_its_session(
    gateway: Served, profile: BrowserContext
) -> None:
    chat, console = Chat(await profile.new_page()), Console(await profile.new_page())
    await chat.page.goto(gateway.url)
    await chat.say("count 5")
    await chat.shows("0 1 2 3 4")
    await console.open(gateway.url)
    await console.watch("one")
    known = ["attached", "message", "response"]
    await expect(console.kinds()).to_have_text(known)
    await gateway.kill()
    await expect(console.line).to_contain_text("Connection lost; trying again")
    await gateway.start()
    await console.connected()
    await console.figure("Connections", "open", "[12]")
    await expect(console.kinds()).to_have_text(known)
    await expect(console.row("one")).to_have_count(1)
    await chat.say("count 7")
    await expect(console.frames.filter(has_text="response")).to_have_count(2)


async def test_a_tab_that_was_hidden_goes_on_when_it_is_shown(
    gateway: Served, chromium: Browser, tmp_path: Path
) -> None:
    assert CHROMIUM is not None
    async with tabs(chromium.browser_type, CHROMIUM, FLAGS, tmp_path / "profile") as window:
        console = Console(window.pages[0])
        await console.page.clock.install()
        await console.open(gateway.url)
        await console.figure("Connections", "open", "1")
        await expect(console.page.get_by_text("Nobody has begun a conversation yet.")).to_be_visible()
        chat = Chat(await window.new_page())
        await until(console.page, "document.hidden")
        await chat.page.goto(gateway.url)
        await chat.say("count 5")
        await chat.shows("0 1 2 3 4")
        await console.figure("Connections", "open", "2")
        await console.page.clock.run_for(5_000)  # nobody asks for the sessions meanwhile
        await expect(console.rows).to_have_count(0)
        await console.page.bring_to_front()
        await until(console.page, "!document.hidden")
        await expect(console.row("one")).to_contain_text("Live")
        await chat.page.close()
        await console.figure("Connections", "open", "1")
