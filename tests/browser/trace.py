"""What kept the main thread of a page busy, as Chromium's own trace tells."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from playwright.async_api import Browser, Page

__all__ = ["keeps_no_task_long"]

MOST = 150.0
"""Milliseconds of one task of the main thread. A person feels what is longer than 50, and none is on a quiet
machine (`make test ARGS="-n0 -s -k no_task_long"` tells); a busy one may take three times that for it."""
TRIES = 3
"""What the page does, it does each time. A machine that stalls for once is not the page's fault."""

CATEGORIES = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline", "__metadata"]


async def keeps_no_task_long(browser: Browser, page: Page, act: Callable[[int], Awaitable[None]]) -> None:
    """Checks that the page does `act` without a long task. It is told how often it was done before."""
    longest: list[int] = []
    for number in range(TRIES):
        async with Trace(browser, page) as trace:
            await act(number)
        print(f"the longest tasks took {[round(task) for task in trace.longest[:5]]} ms")
        if trace.longest[0] < MOST:
            return
        longest.append(round(trace.longest[0]))
    raise AssertionError(f"each time a task took too long: {longest} ms")


class Trace:
    """`async with Trace(browser, page) as trace: …`, and then `trace.longest`."""

    def __init__(self, browser: Browser, page: Page) -> None:
        self._browser = browser
        self._page = page
        self.longest: list[float] = []
        """Milliseconds of the thread's own time that its tasks took, the longest first: what else the machine
        ran is not the page's fault."""

    async def __aenter__(self) -> Trace:
        await self._browser.start_tracing(page=self._page, categories=CATEGORIES)
        return self

    async def __aexit__(self, *_: object) -> None:
        events = json.loads(await self._browser.stop_tracing())["traceEvents"]
        [thread] = {_thread(event) for event in events if _names_main(event)} & {
            _thread(event) for event in events if event["name"] == "FireAnimationFrame"
        }
        mine = sorted((event for event in events if _thread(event) == thread), key=lambda event: event["ts"])
        tasks = [event for event in mine if event["name"] == "RunTask" and "tdur" in event]
        asked = [event["ts"] for event in mine if _of_the_test(event)]
        own = [task["tdur"] / 1_000 for task in tasks if not any(_within(ts, task) for ts in asked)]
        self.longest = sorted(own, reverse=True)


def _thread(event: dict[str, Any]) -> tuple[int, int]:
    return event["pid"], event["tid"]


def _names_main(event: dict[str, Any]) -> bool:
    return event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"


def _of_the_test(event: dict[str, Any]) -> bool:
    """Is it a question that this test asks the page?"""
    told = event.get("args", {}).get("chrome_mojo_event_info", {})
    return bool("DevToolsSession" in told.get("mojo_interface_tag", ""))


def _within(ts: float, task: dict[str, Any]) -> bool:
    return bool(task["ts"] <= ts < task["ts"] + task["dur"])
