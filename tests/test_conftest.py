"""Nothing is skipped where CI runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SKIPPED = {
    "a test": "import pytest\ndef test_a():\n    pytest.skip('no cheese')\n",
    "a marked test": "import pytest\n@pytest.mark.skip('no cheese')\ndef test_a(): pass\n",
    "a module": "import pytest\npytest.skip('no cheese', allow_module_level=True)\n",
}


def run(directory: Path, test: str, ci: str) -> subprocess.CompletedProcess[str]:
    (directory / "conftest.py").write_text(Path(__file__).with_name("conftest.py").read_text())
    (directory / "test_it.py").write_text(test)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "."],
        cwd=directory,
        env={**os.environ, "CI": ci, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("what", SKIPPED)
def test_in_ci_what_is_skipped_fails_and_says_why(tmp_path: Path, what: str) -> None:
    done = run(tmp_path, SKIPPED[what], "true")
    assert done.returncode in (1, 2)
    assert "no cheese: in CI that is a failure." in done.stdout


def test_elsewhere_it_is_only_skipped(tmp_path: Path) -> None:
    assert run(tmp_path, SKIPPED["a test"], "").returncode == 0


def test_what_is_expected_to_fail_may_fail_in_ci(tmp_path: Path) -> None:
    test = "import pytest\n@pytest.mark.xfail\ndef test_a():\n    assert False\n"
    assert run(tmp_path, test, "true").returncode == 0
