"""Fetches the third-party scripts of the pages into `gateway/web/vendor`, by npm and its lock file.

    python gateway/web/npm/fetch.py          # what the pages need
    python gateway/web/npm/fetch.py --dev    # and what checks and tests them

Nothing of it is committed; wheels carry it. Without npm the pages work in plain text and plain numbers, and
say what is missing: so this says it too, and fails only where `CI=true`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENDOR = HERE.parent / "vendor"
MODULES = HERE / "node_modules"

FILES = {
    "smd.js": "streaming-markdown/smd.js",
    "smd.license.txt": "streaming-markdown/license",
    "uplot.js": "uplot/dist/uPlot.esm.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
    "uplot.license.txt": "uplot/LICENSE",
}
"""Name in `vendor` → file of a package."""

EXAMPLES = HERE.parents[2] / "examples" / "vendor"
"""Where the import maps of examples find what they name."""
BUNDLE = (
    "--bundle",
    "--format=esm",
    "--minify",
    '--define:process.env.NODE_ENV="production"',
    "--log-level=error",
)


def main(*, dev: bool) -> str | None:
    """Fetches; answers what went wrong, as a sentence for people."""
    npm = shutil.which("npm")
    if npm is None:
        return "There is no npm here: chats are shown in plain text, and the console's plots as numbers."
    scope = "dev" if dev else "pages"
    if not _fresh(scope):
        omit = [] if dev else ["--omit=dev"]
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *omit]
        if subprocess.run(command, cwd=HERE, stdout=subprocess.DEVNULL, check=False).returncode:
            return "npm could not fetch the pages' scripts: chats are shown in plain text."
        (MODULES / f".{scope}").touch()
    VENDOR.mkdir(exist_ok=True)
    for name, source in FILES.items():
        shutil.copyfile(MODULES / source, VENDOR / name)
    if dev:
        _for_examples()
    return None


def _for_examples() -> None:
    """Vue as it comes; React, whose packages are no modules, as one."""
    EXAMPLES.mkdir(exist_ok=True)
    shutil.copyfile(MODULES / "vue/dist/vue.esm-browser.prod.js", EXAMPLES / "vue.js")
    esbuild = str(MODULES / ".bin" / "esbuild")
    subprocess.run([esbuild, "react.js", *BUNDLE, f"--outfile={EXAMPLES / 'react.js'}"], cwd=HERE, check=True)


def _fresh(scope: str) -> bool:
    """Is what the lock file names there already? What is for development holds what the pages need."""
    stamps = [MODULES / f".{done}" for done in {scope, "dev"}]
    locked = (HERE / "package-lock.json").stat().st_mtime
    return any(stamp.exists() and stamp.stat().st_mtime >= locked for stamp in stamps)


if __name__ == "__main__":
    problem = main(dev="--dev" in sys.argv[1:])
    if problem:
        print(problem, file=sys.stderr)
    sys.exit(1 if problem and os.environ.get("CI") == "true" else 0)
