"""The READMEs are maps: what they name is there, and what is there they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.options import Option
from gateway.settings import OPTIONS

ROOT = Path(__file__).parent.parent
READMES = [
    path for path in ROOT.rglob("README.md") if ".venv" not in path.parts and "node_modules" not in path.parts
]


def row(option: Option) -> str:
    """How the gateway's README shows a setting."""
    names = f"`{option.variable}`" + (f" · `{option.about.flag}`" if option.about.flag else "")
    match option.default:
        case None:
            default = "–"
        case "" | ():
            default = "none"
        case bool():
            default = str(option.default).lower()
        case int() | float():
            default = f"{option.default:,g}" if option.name != "port" else str(option.default)
            if isinstance(option.default, int) and option.name != "port":
                default = f"{option.default:,}"
            default += f" {option.about.unit}" if option.about.unit else ""
        case text:
            default = f"`{text}`"
    return f"| {names} | {option.about.what} | {default} |"


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(readme: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", readme.read_text())
    missing = [link for link in links if "://" not in link and not (readme.parent / link).exists()]
    assert missing == []


def test_every_file_of_the_gateway_is_on_its_map() -> None:
    text = (ROOT / "gateway/README.md").read_text()
    files = {path.name for path in (ROOT / "gateway").glob("*.py") if not path.name.startswith("__")}
    assert {file for file in files if f"]({file})" not in text} == set()


@pytest.mark.parametrize("name", OPTIONS)
def test_every_setting_is_in_the_gateways_readme_as_it_is(name: str) -> None:
    assert row(OPTIONS[name]) in (ROOT / "gateway/README.md").read_text().splitlines()


def test_what_the_examples_folder_holds_is_run_by_a_test() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    examples = {path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".mjs", ".sh")}
    assert {name for name in examples if Path(name).stem not in tests} == set()
