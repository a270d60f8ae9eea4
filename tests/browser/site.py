"""Pages of somebody else's, with the widget in them, and the gateway that they talk to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.async_api import Page

from tests.browser.chat import Chat
from tests.browser.served import Served, served
from tests.browser.shown import shown

__all__ = ["Site", "site_in"]

PAGE = """\
<!doctype html>
<html lang="en">
  <meta charset="utf-8">
  <title>Somewhere</title>
  <script type="module" src="{gateway}/widget.js"></script>
  <style>body {{ margin: 0 }} main {{ height: 700px }}</style>
  <main>{body}</main>
</html>
"""


class Site:
    """A place for one page at a time."""

    def __init__(self, folder: Path, url: str, gateway: Served) -> None:
        self._file = folder / "page.html"
        self._url = f"{url}/page.html"
        self._shown = 0
        self.gateway = gateway

    async def show(self, page: Page, body: str) -> None:
        """A page with this in it."""
        self._file.write_text(PAGE.format(gateway=self.gateway.url, body=body))
        # Under a name of its own: the server knows what changed by the second only.
        self._shown += 1
        await page.goto(f"{self._url}?{self._shown}")

    async def opened(self, page: Page, attributes: str = "") -> Chat:
        """A page with one widget, of these attributes, that talks to the agent `one`."""
        await self.show(page, f'<trunkline-chat agent="one" {attributes}></trunkline-chat>')
        return Chat(page)


@contextmanager
def site_in(folder: Path) -> Iterator[Site]:
    """A site, and a gateway that allows it, with all that they keep in that folder."""
    pages = folder / "pages"
    pages.mkdir()
    with shown(pages) as place, served(folder, "--allow-origin", place.url) as gateway:
        yield Site(pages, place.url, gateway)
