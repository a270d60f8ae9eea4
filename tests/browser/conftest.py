"""Chromium, and a gateway for it. All tests here share one browser, each has a profile of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.browser.served import Served, served
from tests.browser.watched import Watched

expect.set_options(timeout=20_000)  # milliseconds: two cores may be busy with something else
CHROMIUM = shutil.which("chromium")
# Root may not have Chromium's sandbox, and containers give little shared memory.
FLAGS = [
    "--disable-dev-shm-usage",
    "--js-flags=--expose-gc",
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The system's Chromium."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def profile(chromium: Browser) -> AsyncIterator[BrowserContext]:
    """A fresh browser profile. What its pages throw, or are stopped from by their policy, fails the test."""
    context = await chromium.new_context(viewport={"width": 1000, "height": 720})
    watched = Watched(context)
    yield context
    await context.close()
    assert watched.wrong == []


@pytest_asyncio.fixture(loop_scope="session")
async def page(profile: BrowserContext) -> Page:
    """A tab."""
    return await profile.new_page()


@pytest_asyncio.fixture(loop_scope="session")
async def lenient(chromium: Browser) -> AsyncIterator[Page]:
    """A tab that lets pages do what their policy forbids: axe puts styles into them."""
    context = await chromium.new_context(bypass_csp=True)
    yield await context.new_page()
    await context.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Served]:
    """A gateway without authentication. Its agents `one`, `two` and `three` do as they are told."""
    with served(tmp_path) as gateway:
        yield gateway
