"""A gateway whose scripts are bundled, whatever was fetched and made in this folder before."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.web.npm import fetch
from tests.browser.bare import bare
from tests.e2e.process import ROOT

__all__ = ["bundled"]


def bundled(folder: Path) -> dict[str, str]:
    """The environment in which Python finds that gateway, which this makes in that folder."""
    if not fetch.VENDOR.exists():
        pytest.skip("there is no npm on this machine, which fetches what is bundled")
    environment, web = bare(folder), folder / "gateway" / "web"
    shutil.rmtree(web)
    shutil.copytree(ROOT / "gateway" / "web", web, ignore=shutil.ignore_patterns("npm", "bundle"))
    assert fetch.bundle(web)
    return environment
