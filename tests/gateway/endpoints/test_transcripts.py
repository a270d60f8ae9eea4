"""What the pages show of `curl` is what it shows."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from gateway.agents.echo import EchoAgent
from gateway.agents.eliza import ElizaAgent
from tests.harness import WAIT

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "gateway/endpoints").glob("*.md"))]
SHOWN = "http://127.0.0.1:8080"


def commands(page: Path) -> list[tuple[str, str]]:
    """The commands of a page's transcripts, and what it shows them to print; `…` is anything."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    return [
        (command, printed)
        for block in blocks
        for command, printed in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    ]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands(page)], ids=lambda page: str(page.relative_to(ROOT))
)
async def test_a_transcript_shows_what_happens(page: Path, served: Any) -> None:
    async with served(agents={"eliza": ElizaAgent(), "echo": EchoAgent()}) as rig:
        for command, expected in commands(page):
            line = shlex.split(command.replace(SHOWN, str(rig.http.base_url).rstrip("/")))
            assert line[0] == "curl"
            process = await asyncio.create_subprocess_exec(*line, stdout=asyncio.subprocess.PIPE)
            async with asyncio.timeout(WAIT):
                printed, _ = await process.communicate()
            pattern = ".*".join(map(re.escape, expected.rstrip("\n").split("…")))
            assert re.fullmatch(pattern, printed.decode().rstrip("\n"), re.DOTALL), (
                command,
                printed.decode(),
            )
