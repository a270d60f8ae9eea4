"""axe-core, which knows what makes a page hard to use for some. It comes from npm, for tests only."""

from __future__ import annotations

from playwright.async_api import Page

from tests.e2e.process import ROOT

__all__ = ["violations"]

SCRIPT = ROOT / "gateway" / "web" / "npm" / "node_modules" / "axe-core" / "axe.min.js"


async def violations(page: Page) -> list[str]:
    """What is wrong with the page as it is now: the rule, and where."""
    # Evaluated, not put in as a script: the page's policy would forbid that, and should.
    await page.evaluate(SCRIPT.read_text())
    result = await page.evaluate("axe.run()")
    return [
        f"{found['id']}: {node['target']} {node['failureSummary']}"
        for found in result["violations"]
        for node in found["nodes"]
    ]
