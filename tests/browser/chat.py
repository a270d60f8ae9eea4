"""A page with the widget in it, as a person sees it: what stands there, and what one can press."""

from __future__ import annotations

import asyncio
import re

from playwright.async_api import Locator, Page, expect

__all__ = ["Chat", "until"]


async def until(page: Page, condition: str, argument: object = None) -> None:
    """Waits until that JavaScript, or that function of the argument, is true of the page, half a minute at
    most. (`wait_for_function` would have the page evaluate a string, which its policy forbids.)"""
    async with asyncio.timeout(30):
        while not await page.evaluate(condition, argument):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Chat:
    """One conversation of the widget on `page`: the one that is shown, or that of the tab with this name."""

    def __init__(self, page: Page, name: str | None = None) -> None:
        self.page = page
        self.name = name
        panels = page.locator("trunkline-chat .panel")
        self.panel: Locator = (
            panels.filter(has=page.locator(f"h3:text-is('{name}')")) if name else panels.first
        )
        self.questions = self.panel.locator(".user")
        self.answers = self.panel.locator(".agent")
        self.log = self.panel.locator(".log")
        self.field = self.panel.locator("textarea")

    async def choose(self) -> None:
        """Shows it, where several share a place."""
        await self.page.get_by_role("tab", name=re.compile(f"^{self.name}")).click()

    async def say(self, text: str) -> None:
        """Types it and sends it."""
        if self.name is not None:
            await self.choose()
        await self.field.fill(text)
        await self.field.press("Enter")

    async def shows(self, text: str, place: int = -1) -> None:
        """Waits until that answer, counted as in a list, is exactly this."""
        await expect(self.answer(place)).to_have_text(text.strip())

    async def shows_part(self, text: str, place: int = -1) -> None:
        """Waits until that answer has this in it."""
        await expect(self.answer(place)).to_contain_text(text)

    def answer(self, place: int = -1) -> Locator:
        """The text of that answer."""
        return self.answers.nth(place).locator(".content")

    async def press(self, name: str) -> None:
        """The button of that name."""
        await self.panel.get_by_role("button", name=name, exact=True).click()

    async def stands(self, *said: str) -> None:
        """Waits until what the user said is this and no more, and each is answered once."""
        await expect(self.questions.locator(".body")).to_have_text(list(said))
        await expect(self.answers).to_have_count(len(said))
