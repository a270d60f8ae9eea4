"""A browser as people have it, whose tabs hide each other: in those of playwright each is always in front."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import BrowserContext, BrowserType

__all__ = ["tabs"]

TOLD = b"DevTools listening on "
# What playwright tells its own: Chromium's housekeeping at the start may hold up whoever connects then.
QUIET = (
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--disable-features=OptimizationHints,MediaRouter,DialMediaRouteProvider,Translate",
    "--password-store=basic",
)


@asynccontextmanager
async def tabs(
    kind: BrowserType, executable: str, flags: Sequence[str], folder: Path
) -> AsyncIterator[BrowserContext]:
    """Its window, with one tab, which is hidden while another is in front. The profile is in that folder."""
    child = await asyncio.create_subprocess_exec(
        executable, "--headless", "--remote-debugging-port=0", f"--user-data-dir={folder}", *QUIET, *flags,
        "about:blank", stdout=DEVNULL, stderr=PIPE,
    )  # fmt: skip
    try:
        assert child.stderr is not None
        async with asyncio.timeout(20):
            while not (line := await child.stderr.readline()).startswith(TOLD):
                assert line, "it did not start"
        browser = await kind.connect_over_cdp(line.removeprefix(TOLD).decode().strip(), no_defaults=True)
        yield browser.contexts[0]
        await browser.close()
    finally:
        child.terminate()
        await child.wait()
