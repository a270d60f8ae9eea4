from __future__ import annotations

from typing import NamedTuple

import pytest
from playwright.async_api import CDPSession, Page

from tests.browser.agents import numbers
from tests.browser.chat import Chat, until
from tests.browser.proxy import proxy
from tests.browser.served import Served

pytestmark = pytest.mark.asyncio(loop_scope="session")

WARM_UP = 100
"""Until the page's drawer holds as many frames as it keeps."""
RECONNECTS = 200
SOME = 20
"""What one leak per reconnect would far exceed."""

# A machine that comes back to its network does not wait: neither does this test.
COUNTED = """() => {
    const { gateway } = document.querySelector("trunkline-chat");
    window.opened = 0;
    gateway.addEventListener("state", ({ detail: { status } }) => {
        if (status === "connected") opened += 1;
        if (status === "waiting") setTimeout(() => dispatchEvent(new Event("online")), 0);
    });
}"""


async def test_two_hundred_reconnects_in_a_row_leak_neither_listeners_nor_memory(
    gateway: Served, page: Page
) -> None:
    async with proxy(gateway.url) as between:
        await page.goto(between.url)
        chat = Chat(page)
        await chat.say("count 50")
        await chat.shows(numbers(0, 50))
        devtools = await page.context.new_cdp_session(page)
        await devtools.send("Performance.enable")
        await page.evaluate(COUNTED)

        async def reconnect(times: int) -> Held:
            for number in range(await page.evaluate("opened"), times):
                between.cut()
                await until(page, "number => opened > number", number)
            return await _held(devtools)

        before = await reconnect(WARM_UP)
        after = await reconnect(WARM_UP + RECONNECTS)
        assert after.listeners <= before.listeners
        assert after.nodes - before.nodes < SOME
        assert after.objects - before.objects < SOME
        await chat.say("count 9")
        await chat.shows(numbers(0, 9))


class Held(NamedTuple):
    """What a page holds when everything is thrown away that may be. (Bytes would count what
    Chromium compiled.)"""

    listeners: float
    nodes: float
    objects: float


async def _held(devtools: CDPSession) -> Held:
    await devtools.send("HeapProfiler.collectGarbage")
    told = (await devtools.send("Performance.getMetrics"))["metrics"]
    metrics = {metric["name"]: metric["value"] for metric in told}
    every = (await devtools.send("Runtime.evaluate", {"expression": "Object.prototype"}))["result"][
        "objectId"
    ]
    found = (await devtools.send("Runtime.queryObjects", {"prototypeObjectId": every}))["objects"]["objectId"]
    counted = {"functionDeclaration": "function () { return this.length; }", "objectId": found}
    objects = (await devtools.send("Runtime.callFunctionOn", counted))["result"]["value"]
    await devtools.send("Runtime.releaseObject", {"objectId": found})
    await devtools.send("Runtime.releaseObject", {"objectId": every})
    return Held(metrics["JSEventListeners"], metrics["Nodes"], objects)
