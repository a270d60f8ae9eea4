from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.served import Served
from tests.e2e.nginx import FORWARDS, behind_nginx

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("directives", ["", FORWARDS], ids=["bare", "proxy_params"])
async def test_who_opens_an_open_gateway_behind_nginx_reads_why_they_are_not_let_in(
    gateway: Served, page: Page, tmp_path: Path, directives: str
) -> None:
    with behind_nginx(gateway.url, tmp_path, directives) as url:
        for path in ("/", "/console"):
            response = await page.goto(url + path)
            assert response is not None
            assert response.status == 403
            await expect(page.get_by_role("heading")).to_have_text("Not let in")
            await expect(page.locator("body")).to_contain_text("came through a proxy")
            await expect(page.locator("body")).to_contain_text("--guests (each visitor sees only")
    await page.goto(gateway.url)
    await expect(page.locator("#told")).to_contain_text("One WebSocket")
