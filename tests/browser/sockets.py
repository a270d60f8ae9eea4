"""The WebSockets of a page."""

from __future__ import annotations

import asyncio

from playwright.async_api import Page, WebSocket

__all__ = ["Sockets"]


class Sockets:
    """Those of a page: `all` that there ever were, `open` ones still are."""

    def __init__(self, page: Page) -> None:
        self.all: list[WebSocket] = []
        page.on("websocket", lambda socket: self.all.append(socket))

    @property
    def open(self) -> list[WebSocket]:
        return [socket for socket in self.all if not socket.is_closed()]

    async def come_to(self, count: int) -> None:
        """Waits until so many are open."""
        async with asyncio.timeout(5):
            while len(self.open) != count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
