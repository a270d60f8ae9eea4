"""The console's figures: numbers that fit what runs, and their curves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, expect

from tests.browser.bare import bare
from tests.browser.chat import until
from tests.browser.console import LENGTH, Console
from tests.browser.served import AGENTS, Served, served
from tests.browser.talk import answered, says, where
from tests.e2e.line import Line, opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

DRAWN = """() => [...document.querySelectorAll(".card canvas")].map((canvas) => {
    if (canvas.width === 0) return 0;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
})"""
"""How many colours each plot has: one that is blank has one."""
PICTURE = "() => document.querySelector('.card canvas').toDataURL()"


@asynccontextmanager
async def slow(gateway: Served) -> AsyncIterator[Line]:
    """A line whose socket takes little while nobody reads it."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    end.setblocking(False)
    url = urlsplit(gateway.url)
    await asyncio.get_running_loop().sock_connect(end, (url.hostname, url.port))
    async with opened(where(gateway, "slow"), sock=end, max_queue=1) as line:
        yield line


async def test_the_figures_are_those_of_what_is_there(gateway: Served, page: Page, tmp_path: Path) -> None:
    async with opened(where(gateway, "ann")) as ann, opened(where(gateway, "bob")) as bob:
        await says(ann, "first", f"hold 20 40 {tmp_path / 'never'}")
        await says(bob, "second", f"hold 20 40 {tmp_path / 'never'}")
        await says(bob, "second", "and this when that is done")
        await bob.put("nonsense", ref="bad")
        await bob.answer("bad")
        console = Console(page)
        await console.open(gateway.url)
        for title, name, value in (
            ("Connections", "open", "3"),
            ("Sessions", "live", "2"),
            ("Turns", "running", "2"),
            ("Turns", "queued", "1"),
            ("Deltas", "a second", "0"),
            ("Lagging readers", "behind", "0"),
            ("Event-loop lag", "late", LENGTH),
            ("Processor", "used", r"\d+ %"),
            ("Memory", "held", r"[\d.]+ MB"),
            ("Errors", "a second", "0"),
        ):
            await console.figure(title, name, value)
        await expect(page.locator("#errors-total")).to_have_text("1")
        await page.locator("#errors summary").click()
        await expect(page.locator("#errors-rows tr")).to_have_text(["unknown_type1"])


async def test_the_figures_of_text_that_streams_come_and_all_of_them_are_drawn(
    gateway: Served, page: Page
) -> None:
    console = Console(page)
    await console.open(gateway.url)
    async with opened(where(gateway, "ann")) as ann:
        await says(ann, "talk", "flood 2000 2")
        await console.figure("Deltas", "a second", r"\d{3}|1,\d{3}")  # a thousand, on a quiet machine
        for name in ("p50", "p99"):
            await console.figure("Delta gap", name, LENGTH)
        await console.figure("Coalescing", "deltas in one", r"[\d.]+ ×")
        await answered(ann)
        for name in ("p50", "p99"):
            await console.figure("First delta", name, LENGTH)
        await until(page, f"({DRAWN})().length === 12 && ({DRAWN})().every((colours) => colours > 3)")


async def test_the_plots_go_on_while_the_page_is_open(gateway: Served, page: Page) -> None:
    console = Console(page)
    await console.open(gateway.url)
    await until(page, f"({DRAWN})()[0] > 3")
    before = await page.evaluate(PICTURE)
    async with opened(where(gateway, "ann")):
        await console.figure("Connections", "open", "2")
        await until(page, f"(before) => ({PICTURE})() !== before", before)
        before = await page.evaluate(PICTURE)
    await console.figure("Connections", "open", "1")
    await until(page, f"(before) => ({PICTURE})() !== before", before)


async def test_a_reader_that_takes_nothing_lags_until_it_does(
    gateway: Served, page: Page, tmp_path: Path
) -> None:
    (tmp_path / "said").write_text("much " * 200_000)
    console = Console(page)
    await console.open(gateway.url)
    async with slow(gateway) as line:
        for session in AGENTS:  # more than the system keeps for a socket
            await line.put("message", session_id=session, agent="one", content=f"say {tmp_path / 'said'}")
        await console.figure("Lagging readers", "behind", "[123]")
        await answered(line, len(AGENTS))
        await console.figure("Lagging readers", "behind", "0")


async def test_without_uplot_the_figures_are_numbers(page: Page, tmp_path: Path) -> None:
    console = Console(page)
    with served(tmp_path, environment=bare(tmp_path / "bare")) as gateway:
        await console.open(gateway.url)
        await console.figure("Connections", "open", "1")
        await console.figure("Memory", "held", r"[\d.]+ MB")
        await expect(page.get_by_text("uPlot is not installed here")).to_be_visible()
        await expect(page.locator("canvas")).to_have_count(0)
