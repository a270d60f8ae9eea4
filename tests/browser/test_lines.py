from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, WebSocket, expect

from tests.browser.agents import numbers
from tests.browser.chat import Chat
from tests.browser.proxy import proxy
from tests.browser.served import AGENTS, Served

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_three_sessions_stream_at_once_in_one_socket(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    sockets: list[WebSocket] = []
    page.on("websocket", lambda socket: sockets.append(socket))
    await page.goto(gateway.url)
    chats = [Chat(page, name) for name in AGENTS]
    for chat in chats:
        await chat.say(f"hold 20 400 {tmp_path / 'go'}")
    for chat in chats:
        await chat.shows_part("18 19")  # all three are in the middle of their answers
    (tmp_path / "go").touch()
    for chat in chats:
        await chat.shows(numbers(0, 400))
    assert len(sockets) == 1


async def test_a_reload_in_mid_answer_loses_no_character_and_shows_none_twice(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    await page.goto(gateway.url)
    chat = Chat(page)
    await chat.say(f"hold 300 600 {tmp_path / 'go'}")
    await chat.shows_part("298 299")
    attached = _listen(page, "attached")
    await page.reload()
    await chat.shows(numbers(0, 300))
    (tmp_path / "go").touch()
    await chat.shows(numbers(0, 600))
    assert await chat.answers.count() == 1
    assert {frame["mode"] for frame in attached} == {"replay"}  # it went on, and did not begin anew


async def test_reloads_while_text_streams_lose_no_character_and_show_none_twice(
    gateway: Served, page: Page
) -> None:
    await page.goto(gateway.url)
    chat = Chat(page)
    await chat.say("count 1000 0.003")
    for part in ("50 51", "150 151", "300 301"):
        await chat.shows_part(part)
        await page.reload()
    await chat.shows(numbers(0, 1000))
    assert await chat.answers.count() == 1


async def test_after_the_gateway_was_killed_in_mid_answer_the_answer_says_so_and_may_be_had_again(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    await page.goto(gateway.url)
    chat = Chat(page)
    await chat.say(f"hold 40 80 {tmp_path / 'go'}")
    await chat.shows_part("38 39")
    await gateway.kill()
    await expect(page.locator("trunkline-chat .line")).to_contain_text("Trying again")
    await gateway.start()
    await expect(chat.answers.last.get_by_text("The answer was interrupted.")).to_be_visible()
    await expect(page.locator("trunkline-chat .line")).to_be_hidden()
    (tmp_path / "go").touch()
    await chat.panel.get_by_role("button", name="Try again").click()
    await chat.shows(numbers(0, 80))
    assert await chat.answers.count() == 1


async def test_what_was_said_while_the_gateway_was_down_is_answered_when_it_is_back(
    gateway: Served, page: Page
) -> None:
    await page.goto(gateway.url)
    chat = Chat(page)
    await chat.say("count 5")
    await chat.shows(numbers(0, 5))
    await gateway.kill()
    await chat.say("count 7")
    await expect(chat.panel.get_by_text("Sending")).to_be_visible()
    await gateway.start()
    await chat.shows(numbers(0, 7))
    assert await chat.answers.count() == 2


async def test_a_message_that_nobody_acknowledged_survives_a_reload_and_is_said_once(
    gateway: Served, page: Page
) -> None:
    async with proxy(gateway.url) as between:
        await page.goto(between.url)
        chat = Chat(page)
        await chat.say("count 5")
        await chat.shows(numbers(0, 5))
        between.freeze()
        await chat.say("count 7")
        await expect(chat.panel.get_by_text("Sending")).to_be_visible()
        async with asyncio.TaskGroup() as group:
            group.create_task(page.reload())
            between.thaw()
        await chat.shows(numbers(0, 7))
        assert await chat.answers.count() == 2


async def test_two_tabs_on_one_session_show_the_same_and_cancel_in_one_stops_both(
    gateway: Served, profile: BrowserContext, tmp_path: Path
) -> None:
    here, there = [Chat(await profile.new_page()) for _ in range(2)]
    await here.page.goto(gateway.url)
    await here.say(f"hold 30 60 {tmp_path / 'never'}")
    await there.page.goto(gateway.url)
    for chat in (here, there):
        await chat.shows(numbers(0, 30))
    await there.panel.get_by_role("button", name="Stop the answer").click()
    for chat in (here, there):
        await expect(chat.answers.last.get_by_text("Stopped")).to_be_visible()
        await expect(chat.panel.get_by_role("button", name="Stop the answer")).to_be_hidden()
        await chat.shows(numbers(0, 30))


def _listen(page: Page, kind: str) -> list[dict[str, str]]:
    """The frames of that kind that its sockets get from now on."""
    heard: list[dict[str, str]] = []

    def hear(message: str | bytes) -> None:
        frames = [json.loads(line) for line in str(message).splitlines()]
        heard.extend(frame for frame in frames if frame["type"] == kind)

    page.on("websocket", lambda socket: socket.on("framereceived", hear))
    return heard
