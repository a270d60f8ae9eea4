"""The console on a page, as an operator sees it."""

from __future__ import annotations

import re

from playwright.async_api import Locator, Page, WebSocket, expect

__all__ = ["LENGTH", "Console"]

LENGTH = r"[\d.]+ (µs|ms|s)"
"""How a length of time looks."""


class Console:
    """`received` and `addresses` are what came over its sockets, and whatever it asked the network for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.received: list[str] = []
        self.addresses: list[str] = []
        self.line = page.locator("#line-words")
        self.key = page.get_by_label("Service key")
        self.search = page.get_by_role("searchbox")
        self.rows = page.locator("#sessions-rows tr")
        self.frames = page.locator("#frames li")
        self.sure = page.get_by_role("dialog")
        page.on("request", lambda request: self.addresses.append(request.url))
        page.on("websocket", self._listen)

    def _listen(self, socket: WebSocket) -> None:
        self.addresses.append(socket.url)
        socket.on("framereceived", lambda data: self.received.extend(str(data).splitlines()))

    async def open(self, url: str) -> None:
        """Goes to the console of the gateway at that URL, where it is open to everybody."""
        await self.page.goto(f"{url}/console")
        await self.connected()

    async def connected(self) -> None:
        """Waits until it has a line."""
        await expect(self.line).to_have_text("Connected")

    async def show(self, key: str) -> None:
        """Types that key, and sends it."""
        await self.key.fill(key)
        await self.key.press("Enter")

    async def figure(self, title: str, name: str, fits: str) -> None:
        """Waits until all of that number fits the expression."""
        card = self.page.locator(".card").filter(has=self.page.get_by_role("heading", name=title, exact=True))
        value = card.locator("div").filter(has=self.page.get_by_text(name, exact=True)).locator("dd")
        await expect(value).to_have_text(re.compile(f"^({fits})$"))

    def row(self, text: str) -> Locator:
        """The session that has this somewhere in its row."""
        return self.rows.filter(has_text=text)

    async def watch(self, text: str) -> None:
        """Chooses that session, and waits until it is followed."""
        await self.row(text).click()
        await expect(self.button("Pause")).to_be_visible()

    def button(self, name: str) -> Locator:
        """The button whose name begins so."""
        return self.page.get_by_role("button", name=re.compile(f"^{name}"))

    def kinds(self) -> Locator:
        """What the frames of the timeline are, in order."""
        return self.frames.locator(".kind")
