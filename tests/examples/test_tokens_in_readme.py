"""What the README shows backends for making a user's token is what the gateway takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import which
from time import time

import pytest

from gateway.door import door_of
from gateway.settings import Settings

README = Path(__file__).parents[2] / "README.md"
SECRET = "a secret of thirty-two bytes, or more"
USER = 'Zoë "the first" <zoe@example.org>'


def snippet(language: str) -> str:
    """The code in that language under "Who may do what"."""
    section = README.read_text().split("## Who may do what")[1].split("\n## ")[0]
    [code] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(code)


def printed(*command: str) -> str:
    environment = {**os.environ, "GATEWAY_JWT_SECRET": SECRET, "USER_ID": USER}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=30)
    return run.stdout.strip()


async def is_taken(token: str) -> None:
    caller = await door_of(Settings(jwt_secret=SECRET), time)(token, {})
    assert caller.user == USER
    assert caller.expires_at is not None
    assert 0 < caller.expires_at - time() <= 3600


async def test_a_token_made_in_python_is_taken() -> None:
    code = snippet("python") + '\nprint(token_for(os.environ["USER_ID"]))\n'
    await is_taken(printed(sys.executable, "-c", code))


@pytest.mark.skipif(which("node") is None, reason="Node is not installed.")
async def test_a_token_made_in_node_is_taken(tmp_path: Path) -> None:
    script = tmp_path / "token.mjs"
    script.write_text(snippet("js") + "\nconsole.log(tokenFor(process.env.USER_ID));\n")
    await is_taken(printed("node", str(script)))
