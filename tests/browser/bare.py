"""A gateway for which nobody fetched third-party scripts."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.process import ROOT

__all__ = ["bare"]

LACKS = ("web", "vendor", "bundle", "npm")


def bare(folder: Path) -> dict[str, str]:
    """The environment in which Python finds that gateway, which this makes in that folder."""
    (folder / "gateway" / "web").mkdir(parents=True)
    for place in (Path("gateway"), Path("gateway") / "web"):
        for found in (ROOT / place).iterdir():
            if found.name not in LACKS:
                (folder / place / found.name).symlink_to(found)
    # Without the first, what is in the working directory would come before what is in the path.
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": f"{folder}:{ROOT}"}
