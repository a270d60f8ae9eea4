"""Imports point strictly down, and modules of one layer never import each other."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LAYERS = (
    # What a process is made of
    ("gateway.__main__",),
    ("gateway.cli",),
    ("gateway.check", "gateway.chat"),
    ("gateway.run",),
    ("gateway.parts",),
    ("gateway.app", "gateway.load", "gateway.serve"),
    # What clients talk to, and the Python client
    ("gateway.endpoints.*", "gateway.client", "gateway.chat_terminal", "gateway.cork"),
    ("gateway.adk_reply", "gateway.eliza_reply"),
    ("gateway.potpie", "gateway.reply", "gateway.openapi", "gateway.docs"),
    ("gateway.stream", "gateway.described", "gateway.forms", "gateway.client_session", "gateway.console"),
    ("gateway.connection", "gateway.http", "gateway.client_turn", "gateway.search", "gateway.figures"),
    ("gateway.api", "gateway.adoption"),
    ("gateway.supervisor", "gateway.writer", "gateway.client_line"),
    ("gateway.attachment", "gateway.saver", "gateway.client_feed"),
    # Sessions
    ("gateway.session",),
    ("gateway.turn", "gateway.reader", "gateway.beside", "gateway.actor"),
    ("gateway.log", "gateway.briefing", "gateway.opening", "gateway.errands", "gateway.limits"),
    (
        "gateway.text",
        "gateway.pieces",
        "gateway.runtime",
        "gateway.auth",
        "gateway.watchdog",
        "gateway.knock",
    ),
    # What plugs in
    (
        "gateway.stores.memory",
        "gateway.stores.sqlite",
        "gateway.agents.*",
        "gateway.door",
        "gateway.guests",
        "gateway.adk_log",
    ),
    (
        "gateway.stores.memory_catalog",
        "gateway.stores.sqlite_find",
        "gateway.stores.sqlite_read",
        "gateway.stores.sqlite_trim",
        "gateway.stores.sqlite_write",
        "gateway.completions",
        "gateway.jwks",
        "gateway.tokens",
    ),
    (
        "gateway.stores.memory_log",
        "gateway.stores.sqlite_rows",
        "gateway.stores.sqlite_thread",
        "gateway.threads",
        "gateway.upstream",
        "gateway.keys",
    ),
    ("gateway.proxies", "gateway.refusals"),
    (
        "gateway.stores.sqlite_file",
        "gateway.lines",
        "gateway.static",
        "gateway.web.npm.fetch",
        "gateway.web.npm.hatch_build",
    ),
    ("gateway", "gateway.agents", "gateway.endpoints", "gateway.stores"),
    ("gateway.interfaces", "gateway.settings", "gateway.logs", "gateway.forwarded"),
    ("gateway.metrics", "gateway.options", "gateway.addresses"),
    # Above may await, below may not
    ("protocol.potpie_shapes", "protocol.openfang", "protocol.adk_import"),
    ("protocol.potpie_events", "protocol.adk_request"),
    ("protocol.potpie", "protocol.adk"),
    ("protocol.console",),
    ("protocol.codec", "protocol.session", "protocol.transcript", "protocol.schema", "protocol.native"),
    (
        "protocol.diagnose",
        "protocol.view",
        "protocol.history",
        "protocol.undo",
        "protocol.components",
        "protocol.saying",
        "protocol.eliza",
    ),
    ("protocol.frames", "protocol.eliza_shapes"),
    (
        "protocol.ids",
        "protocol.records",
        "protocol.cursor",
        "protocol.lifetime",
        "protocol.scopes",
        "protocol.about",
    ),
    ("protocol.errors", "protocol.bucket", "protocol.nesting"),
    ("protocol",),
)
"""From top to bottom. `*` is where files are added that know nothing of each other."""

ONLY_IN = {
    "gateway.agents.*": ("gateway.load",),
    "gateway.stores.*": ("gateway.parts", "gateway.stores.*"),
    "gateway.client_*": ("gateway.client", "gateway.client_*"),
    "starlette": (
        "gateway.adk_reply",
        "gateway.eliza_reply",
        "gateway.reply",
        "gateway.api",
        "gateway.http",
        "gateway.static",
        "gateway.forms",
        "gateway.stream",
        "gateway.potpie",
        "gateway.described",
        "gateway.openapi",
        "gateway.endpoints.*",
        "gateway.app",
    ),
    "uvicorn": ("gateway.cork", "gateway.serve"),
    "websockets": ("gateway.cork", "gateway.client*"),
    "sqlite3": ("gateway.stores.*",),
    "httpx": ("gateway.upstream",),
    "jwt": ("gateway.keys", "gateway.tokens"),
    "cryptography": ("gateway.keys",),
    "prometheus_client": ("gateway.metrics",),
    "click": ("gateway.cli",),
    "rich": ("gateway.chat*",),
}
"""What only these may import."""

IMPURE = {"asyncio", "threading", "socket", "os", "time", "random", "secrets", "logging"}
"""What the protocol does without, so that a test owns whatever it would have to wait for or guess."""

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("protocol", "gateway")
    for path in sorted((ROOT / package).rglob("*.py"))
    if "node_modules" not in path.parts
}


@cache
def imports(module: str) -> frozenset[str]:
    """Every module that `module` imports anywhere in it, functions included."""
    return frozenset(_imports(module))


def _imports(module: str) -> Iterator[str]:
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(filter(None, (base, node.module)))
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base


def matches(module: str, patterns: tuple[str, ...]) -> bool:
    return any(
        fnmatchcase(module, pattern) and module.count(".") == pattern.count(".") for pattern in patterns
    )


def layers_of(module: str) -> list[int]:
    return [number for number, layer in enumerate(LAYERS) if matches(module, layer)]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_one_layer(module: str) -> None:
    assert len(layers_of(module)) == 1, (
        f"{module} is in {len(layers_of(module))} layers of this file's table: put it into the lowest one "
        "that is above everything it imports."
    )


@pytest.mark.parametrize("name", [name for layer in LAYERS for name in layer])
def test_every_name_in_the_table_is_a_module(name: str) -> None:
    assert any(matches(module, (name,)) for module in MODULES), f"There is no {name} any more: take it out."


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_strictly_down(module: str) -> None:
    here = layers_of(module)
    for imported in imports(module) & MODULES.keys():
        assert here < layers_of(imported), (
            f"{module} imports {imported}, which is not below it: let the lower one offer what is needed, "
            "or let something above both bring them together."
        )


@pytest.mark.parametrize("module", MODULES)
def test_what_is_kept_to_a_few_modules_stays_there(module: str) -> None:
    for imported in imports(module):
        for kept, importers in ONLY_IN.items():
            if matches(imported, (kept,)) or imported.split(".")[0] == kept:
                assert matches(module, importers), f"{module} imports {imported}: only {importers} may."


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("gateway.client")])
def test_the_client_knows_nothing_of_the_gateway(module: str) -> None:
    ours = [name for name in imports(module) if name.startswith("gateway")]
    assert all(name.startswith("gateway.client") for name in ours)


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("protocol")])
def test_the_protocol_is_pure(module: str) -> None:
    roots = {name.split(".")[0] for name in imports(module)} - {"protocol", "msgspec"}
    assert roots <= sys.stdlib_module_names - IMPURE, f"{module} imports {sorted(roots)}."
