"""What fetches the pages' third-party scripts, where nothing can be fetched."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.static import load
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


# ── The bundle ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """The folder of the pages' scripts, where nothing was bundled yet."""
    if not fetch.VENDOR.exists() or not (fetch.MODULES / "esbuild").exists():
        pytest.skip("there is no npm on this machine, which fetches what is bundled, and what bundles it")
    web = tmp_path / "web"
    shutil.copytree(fetch.HERE.parent, web, ignore=shutil.ignore_patterns("npm", "bundle"))
    return web


def test_each_script_that_pages_load_is_bundled_into_a_file_that_imports_nothing(web: Path) -> None:
    assert fetch.bundle(web)
    made = {path.name for path in (web / "bundle").iterdir()}
    assert made == {*fetch.BUNDLED, "made_of.json"}
    for name in fetch.BUNDLED:
        script = (web / "bundle" / name).read_text()
        assert not re.search(r'(?:from|import)\s*\(?"\.', script), name
        assert len(script) > 10_000, name
    assert 'define("trunkline-chat"' in (web / "bundle/page.js").read_text()
    assert b"trunkline-chat" in bytes(load(web)["widget.js"].body)


def test_it_is_bundled_again_only_where_a_script_changed(web: Path) -> None:
    assert fetch.bundle(web)
    client, before = web / "bundle/client.js", load(web)["client.js"].body
    client.write_text("// as it was")
    assert fetch.bundle(web)
    assert client.read_text() == "// as it was"
    with (web / "client/alarm.js").open("a") as script:
        script.write("\n// changed")
    assert fetch.bundle(web)
    assert load(web)["client.js"].body == before  # comments are left out


def test_a_script_that_cannot_be_bundled_leaves_no_bundle(
    web: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fetch.bundle(web)
    (web / "client/alarm.js").write_text("export class {")
    assert not fetch.bundle(web)
    assert "alarm.js" in capfd.readouterr().err
    assert not (web / "bundle/made_of.json").exists()
