from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.browser.agents import numbers
from tests.browser.chat import Chat
from tests.browser.proxy import proxy
from tests.browser.served import Served

pytestmark = pytest.mark.asyncio(loop_scope="session")

SOCKET = "One WebSocket"
STREAM = "Event stream over HTTP"
OFFLINE = 10.0
"""Seconds without a network: longer than the client waits for a sign of life."""


async def goes_by(page: Page, way: str) -> None:
    await expect(page.locator("#told")).to_contain_text(way)


async def test_where_no_upgrade_gets_through_the_page_chats_by_an_event_stream(
    gateway: Served, page: Page
) -> None:
    async with proxy(gateway.url) as between:
        between.upgrades = False
        await page.goto(between.url)
        chat = Chat(page)
        await chat.say("count 300 0.002")  # said before there was any line
        await goes_by(page, STREAM)
        await chat.shows(numbers(0, 300))
        await chat.say("count 30")
        await chat.shows(numbers(0, 30))
        assert between.refused >= 2


async def test_a_socket_that_gets_through_again_takes_over_in_mid_answer(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    async with proxy(gateway.url) as between:
        between.upgrades = False
        await page.goto(between.url)
        chat = Chat(page)
        await chat.say(f"hold 100 200 {tmp_path / 'go'}")
        await goes_by(page, STREAM)
        await chat.shows_part("98 99")
        between.upgrades = True
        await page.evaluate("dispatchEvent(new Event('online'))")  # the network changed: a good time to try
        await goes_by(page, SOCKET)
        (tmp_path / "go").touch()
        await chat.shows(numbers(0, 200))
        assert await chat.answers.count() == 1


async def test_a_proxy_that_cuts_every_connection_after_three_seconds_loses_nothing(
    gateway: Served, page: Page
) -> None:
    async with proxy(gateway.url) as between:
        await page.goto(between.url)
        await goes_by(page, SOCKET)
        before = between.connections
        between.lifetime = 3.0
        between.cut()
        chat = Chat(page)
        await chat.say("count 2000 0.004")  # some 9 s of it
        await expect(chat.answer()).to_have_text(numbers(0, 2000).strip())
        assert await chat.answers.count() == 1
        assert between.connections - before >= 3


async def test_a_proxy_that_holds_streams_back_is_noticed_and_the_socket_tried_again(
    gateway: Served, page: Page
) -> None:
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    async with proxy(gateway.url) as between:
        between.upgrades, between.buffers = False, True
        await page.goto(between.url)
        chat = Chat(page)
        await chat.say("count 50")
        async with asyncio.timeout(30):
            while between.refused < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        between.upgrades = True  # sockets would get through, if somebody tried
        await goes_by(page, SOCKET)
        await chat.shows(numbers(0, 50))
        assert any("holds back" in text for text in told)


async def test_ten_seconds_offline_lose_nothing_either_way(
    gateway: Served, profile: BrowserContext, page: Page, tmp_path: Path
) -> None:
    async with proxy(gateway.url) as between:
        await page.goto(between.url)
        chat = Chat(page)
        await chat.say(f"hold 40 300 {tmp_path / 'go'}")
        await chat.shows_part("38 39")
        between.freeze()
        await profile.set_offline(True)
        bar = page.locator("trunkline-chat .line")
        await expect(bar).to_contain_text("You are offline")
        (tmp_path / "go").touch()  # the answer goes on
        await chat.say("count 25")
        await expect(chat.panel.get_by_text("Sending")).to_be_visible()
        await asyncio.sleep(OFFLINE)
        between.thaw()
        between.cut()
        await profile.set_offline(False)
        await expect(bar).to_be_hidden()
        await chat.shows(numbers(0, 300), 0)
        await chat.shows(numbers(0, 25), 1)


async def test_seven_tabs_of_one_site_in_fallback_are_all_live_and_all_able_to_send(
    gateway: Served, profile: BrowserContext
) -> None:
    # A browser has six HTTP/1.1 connections to a host: streams of their own would leave none to send by.
    async with proxy(gateway.url) as between:
        between.upgrades = False
        pages = [await profile.new_page() for _ in range(7)]
        for page in pages:
            await page.goto(between.url)
        for page in pages:
            await goes_by(page, STREAM)
        for number, page in enumerate(pages):
            chat = Chat(page)
            await chat.say(f"I am tab {number}")
            await chat.shows(f"I am tab {number}")
        for page in pages:
            for number in range(7):
                await Chat(page).shows(f"I am tab {number}", number)


async def test_when_the_tab_that_holds_the_line_is_closed_another_goes_on_in_mid_answer(
    gateway: Served, profile: BrowserContext, tmp_path: Path
) -> None:
    async with proxy(gateway.url) as between:
        between.upgrades = False
        first, second = [await profile.new_page() for _ in range(2)]
        await first.goto(between.url)
        await goes_by(first, STREAM)
        await second.goto(between.url)
        await goes_by(second, STREAM)
        chat = Chat(second)
        await chat.say(f"hold 50 100 {tmp_path / 'go'}")
        await chat.shows_part("48 49")
        await first.close()
        (tmp_path / "go").touch()
        await chat.shows(numbers(0, 100))
        await chat.say("count 9")
        await chat.shows(numbers(0, 9))
