"""Fetches the third-party scripts of the pages into `gateway/web/vendor`, by npm and its lock file, and makes
one file of each page's scripts in `gateway/web/bundle`.

    python gateway/web/npm/fetch.py          # what the pages need
    python gateway/web/npm/fetch.py --dev    # and what checks and tests them

Nothing of it is committed; wheels carry it. Without npm the pages work in plain text and plain numbers, and
say what is missing: so this says it too, and fails only where `CI=true`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from hashlib import sha256
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
ESBUILD = (str(MODULES / ".bin" / "esbuild"), "--bundle", "--format=esm", "--minify", "--log-level=error")

BUNDLED = ("widget.js", "client.js", "page.js", "console.js")
"""Those that pages load: each becomes one file."""


def main(*, dev: bool) -> str | None:
    """Fetches; answers what went wrong, as a sentence for people."""
    npm = shutil.which("npm")
    if npm is None:
        return (
            "There is no npm here: chats are shown in plain text, the console's plots as numbers, and the "
            "pages load their scripts one by one."
        )
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
    if not bundle(HERE.parent):
        return "esbuild could not bundle the pages' scripts: they are loaded one by one."
    return None


def bundle(web: Path) -> bool:
    """Bundles the scripts in that folder, unless its bundle is of just these. False if esbuild cannot.

    The gateway serves a bundle only as long as the modules are those that `made_of.json` names.
    """
    folder, made_by = web / "bundle", _digests(HERE, ("fetch.py", "package-lock.json"))
    made_of, meta = folder / "made_of.json", folder / "meta.json"
    if made_of.exists():
        before = json.loads(made_of.read_text())
        if before == {"made_by": made_by, "modules": _digests(web, before["modules"])}:
            return True
        made_of.unlink()  # first: it must never name others than the bundle is of
    # package.json says that its modules have no effects by themselves. Those of the widget and the page have.
    command = [*ESBUILD, *BUNDLED, "--ignore-annotations", f"--outdir={folder}", f"--metafile={meta}"]
    if subprocess.run(command, cwd=web, check=False).returncode:
        return False
    modules = _digests(web, json.loads(meta.read_text())["inputs"])
    meta.write_text(json.dumps({"made_by": made_by, "modules": modules}))
    meta.rename(made_of)
    return True


def _digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Of the files that are there."""
    return {
        name: sha256((folder / name).read_bytes()).hexdigest() for name in names if (folder / name).exists()
    }


def _for_examples() -> None:
    """Vue as it comes; React, whose packages are no modules, as one."""
    EXAMPLES.mkdir(exist_ok=True)
    shutil.copyfile(MODULES / "vue/dist/vue.esm-browser.prod.js", EXAMPLES / "vue.js")
    production = '--define:process.env.NODE_ENV="production"'
    command = [*ESBUILD, "react.js", production, f"--outfile={EXAMPLES / 'react.js'}"]
    subprocess.run(command, cwd=HERE, check=True)


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
