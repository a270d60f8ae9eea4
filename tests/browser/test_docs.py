"""The HTTP API as a page: found, unfolded, and good to read for everybody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.browser.axe import violations
from tests.browser.served import Served, served

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
async def test_axe_finds_nothing_wrong_with_it_and_nothing_sticks_out(
    gateway: Served, lenient: Page, scheme: Literal["light", "dark"], width: int
) -> None:
    await lenient.emulate_media(color_scheme=scheme)
    await lenient.set_viewport_size({"width": width, "height": 720})
    await lenient.goto(f"{gateway.url}/docs#put_api_sessions_session_id_label")
    await lenient.locator("#schema-Problem > summary").click()
    await expect(lenient.locator("#schema-Problem table")).to_be_visible()
    await expect(lenient.locator("#put_api_sessions_session_id_label table").first).to_be_visible()
    assert await violations(lenient) == []
    assert await lenient.evaluate("document.documentElement.scrollWidth") == width


async def test_a_search_leaves_what_has_all_words_and_its_end_brings_the_rest_back(
    gateway: Served, page: Page
) -> None:
    await page.goto(f"{gateway.url}/docs")
    shown, groups = page.locator("details.one:visible"), page.locator("nav details:visible")
    everything, sections = await shown.count(), await groups.count()
    await page.keyboard.press("/")
    await page.keyboard.type("LABEL put")
    await expect(page.locator("#found")).to_have_text(f"1 of {everything}")
    await expect(shown).to_have_count(1)
    await expect(shown.locator("summary")).to_contain_text("/api/sessions/{session_id}/label")
    await expect(page.locator("nav a:visible")).to_have_count(1)
    await expect(groups).to_have_count(1)
    await page.get_by_role("searchbox").fill("no such thing")
    await expect(shown).to_have_count(0)
    await page.get_by_role("searchbox").fill("")
    await expect(shown).to_have_count(everything)
    await expect(groups).to_have_count(sections)


async def test_an_address_leads_to_what_is_folded_and_not_even_found(gateway: Served, page: Page) -> None:
    await page.goto(f"{gateway.url}/docs#get_api_agents")
    one = page.locator("#get_api_agents")
    await expect(one.get_by_role("table").first).to_be_in_viewport()
    await page.locator("#schemas > summary").click()  # folded
    await page.get_by_role("searchbox").fill("/healthz")
    await page.evaluate("location.hash = 'schema-Problem'")
    await expect(page.locator("#schema-Problem").get_by_role("table")).to_be_in_viewport()
    await expect(page.get_by_role("searchbox")).to_have_value("")
    await page.locator("#get_healthz > summary").click()
    await expect(page).to_have_url(f"{gateway.url}/docs#get_healthz")


async def test_groups_fold_and_nothing_is_fetched_from_elsewhere(
    gateway: Served, page: Page, profile: BrowserContext
) -> None:
    asked: list[str] = []
    profile.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{gateway.url}/docs")
    operation = page.locator("#get_api_agents")
    await expect(operation).to_be_visible()
    await page.get_by_role("heading", name="Agents", exact=True).click()
    await expect(operation).to_be_hidden()
    assert asked
    assert all(url.startswith(gateway.url) for url in asked)
