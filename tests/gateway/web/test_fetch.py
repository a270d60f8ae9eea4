"""What fetches the pages' third-party scripts, where nothing can be fetched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.web.npm import fetch


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
def test_without_npm_it_says_what_is_missing_and_fails_in_ci_only(
    tmp_path: Path, ci: str, status: int
) -> None:
    done = subprocess.run(
        [sys.executable, fetch.__file__],
        env={"PATH": str(tmp_path), "CI": ci},
        capture_output=True,
        text=True,
        timeout=5,
        check=False,
    )
    assert done.returncode == status
    assert "There is no npm here" in done.stderr
    assert "plain text" in done.stderr


def test_what_is_fetched_comes_with_its_licence() -> None:
    packages = {source.partition("/")[0] for source in fetch.FILES.values()}
    licences = {source.partition("/")[0] for source in fetch.FILES.values() if "license" in source.lower()}
    assert packages == licences
