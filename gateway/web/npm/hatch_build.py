"""Run by hatchling: a wheel carries the third-party scripts that its pages use, and their bundle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class FetchScripts(BuildHookInterface[Any]):
    """Fetches them before the wheel is put together; an editable install does without."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        if version == "editable":
            return
        fetch = Path(self.root, "gateway/web/npm/fetch.py")
        subprocess.run([sys.executable, str(fetch)], check=True)
