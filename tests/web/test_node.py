"""The client library on Node's own runner, with a browser that the tests own: the files beside this one."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from shutil import which

import pytest

from protocol import codec
from tests.web.vectors import vectors

HERE = Path(__file__).parent
WEB = HERE.parent.parent / "gateway" / "web"
FILES = sorted(path.name for path in HERE.glob("*.test.mjs"))
IMPORTED = 'const { Gateway, TurnFailed } = await import("trunkline"); if (!Gateway || !TurnFailed) throw 0;'

pytestmark = pytest.mark.skipif(which("node") is None, reason="Node is not installed.")


def node(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", *arguments], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations, with what is to be seen of them."""
    path = tmp_path_factory.mktemp("vectors") / "vectors.json"
    path.write_bytes(codec.encode(asyncio.run(vectors())))
    return path


@pytest.mark.parametrize("name", FILES)
def test_the_scripts_do_what_their_tests_say(name: str, told: Path) -> None:
    run = node("--expose-gc", "--test", str(HERE / name), VECTORS=str(told))
    assert run.returncode == 0, run.stdout + run.stderr


def test_it_is_a_package_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "trunkline").symlink_to(WEB)
    run = node("--input-type=module", "--eval", IMPORTED, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
