"""What goes wrong in pages that nobody looks at."""

from __future__ import annotations

from playwright.async_api import BrowserContext, ConsoleMessage, WebError

__all__ = ["Watched"]

OF_THE_NETWORK = ("Failed to load resource", "WebSocket connection to")
"""How Chromium begins to tell of lines that break: that is what many tests are about."""


class Watched:
    """`wrong` holds what scripts of these pages threw, and what their consoles call an error."""

    def __init__(self, context: BrowserContext) -> None:
        self.wrong: list[str] = []
        context.on("weberror", self._thrown)
        context.on("console", self._written)

    def _thrown(self, error: WebError) -> None:
        self.wrong.append(str(error.error))

    def _written(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(OF_THE_NETWORK):
            self.wrong.append(message.text)
