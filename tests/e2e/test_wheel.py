"""What is installed from the wheel works by itself, away from the repository."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Thread
from urllib.request import urlopen
from zipfile import ZipFile

import pytest
from websockets.sync.client import connect

ROOT = Path(__file__).parents[2]
SOURCES = ("gateway", "protocol", "pyproject.toml", "README.md", "LICENSE", ".gitignore")
FETCHED = ("vendor", "bundle", "node_modules", "__pycache__")
SCRIPTS = ("smd.js", "smd.license.txt", "uplot.js", "uplot.css", "uplot.license.txt")
BUNDLED = ("client.js", "console.js", "page.js", "widget.js")
WAIT = 30.0


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run it, clean of this process's Python path; its output is seen if it fails."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made of what a fresh clone holds: nothing was fetched there."""
    place = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source, copy = ROOT / name, place / "clone" / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*FETCHED))
        else:
            shutil.copyfile(source, copy)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", place, cwd=place / "clone")
    [wheel] = place.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The `gateway` command of an environment that holds the wheel and nothing else of ours."""
    place = wheel.parent
    venv.create(place / "venv", with_pip=True)
    run(place / "venv/bin/python", "-m", "pip", "install", "--quiet", wheel, cwd=place)
    return place / "venv/bin/gateway"


@pytest.fixture
def url(installed: Path, tmp_path: Path) -> Iterator[str]:
    """Where it serves, from a directory of its own."""
    with subprocess.Popen(
        [installed, "serve", "--port", "0"], cwd=tmp_path, env={"PATH": ""}, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        lines: Queue[str] = Queue()
        reader = Thread(target=lambda out: lines.put(out.readline()), args=(server.stdout,), daemon=True)
        reader.start()
        try:
            yield lines.get(timeout=WAIT).split()[3]
            server.send_signal(signal.SIGTERM)
            assert server.wait(WAIT) == 0
        finally:
            server.kill()


def test_the_wheel_carries_the_scripts_that_its_pages_use_with_their_licences(wheel: Path) -> None:
    if shutil.which("npm") is None and os.environ.get("CI") != "true":
        pytest.skip("there is no npm on this machine, which fetches them")
    names = set(ZipFile(wheel).namelist())
    carried = {name for name in names if name.startswith("gateway/web/vendor/")}
    assert carried == {f"gateway/web/vendor/{name}" for name in SCRIPTS}
    bundled = {name for name in names if name.startswith("gateway/web/bundle/")}
    assert bundled == {f"gateway/web/bundle/{name}" for name in (*BUNDLED, "made_of.json")}
    assert not [name for name in names if name.startswith("gateway/web/npm/")]


def test_the_wheel_serves_its_page_its_probe_and_a_conversation(url: str) -> None:
    with urlopen(f"{url}/healthz", timeout=WAIT) as answer:
        assert json.load(answer) == {"status": "ok"}
    with urlopen(f"{url}/", timeout=WAIT) as answer:
        assert answer.headers.get_content_type() == "text/html"
        assert b"<script" in answer.read()
    with connect(f"ws{url[4:]}/ws", open_timeout=WAIT) as line:
        message = {"type": "message", "session_id": "s1", "agent": "eliza", "content": "Hello"}
        line.send(json.dumps(message))
        frames = [json.loads(line.recv(WAIT))]
        while frames[-1]["type"] != "response":
            frames.append(json.loads(line.recv(WAIT)))
    text = "".join(frame["content"] for frame in frames if frame["type"] == "text_delta")
    assert text == frames[-1]["content"] != ""
