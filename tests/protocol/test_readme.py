"""Holds the wire contract in `protocol/README.md` to the code, row by row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import protocol
from protocol import frames
from protocol.codec import Limits
from protocol.errors import TABLE

PACKAGE = Path(protocol.__file__).parent
README = (PACKAGE / "README.md").read_text()
CLIENT = {struct.__struct_config__.tag: struct for struct in get_args(frames.ClientFrame)}
SERVER = {struct.__struct_config__.tag: struct for struct in get_args(frames.ServerFrame)}


def section(title: str) -> str:
    """What stands under that heading, up to the next one."""
    found = re.search(rf"^##+ {title}\n(.*?)(?=^##+ |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in `text`, without their heads."""
    tables = re.findall(r"^\|.*\|\n\|[-|]+\|\n((?:\|.*\|\n)+)", text, re.MULTILINE)
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for table in tables
        for line in table.splitlines()
    ]


def coded(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def fields_of(struct: type[Any]) -> set[str]:
    """Fields as the page writes them: `name`, or `name?` where it may be left out."""
    always = not struct.__struct_config__.omit_defaults
    return {
        field.encode_name + ("" if field.required or always else "?")
        for field in msgspec.structs.fields(struct)
    }


@pytest.mark.parametrize(("title", "structs"), [("Client frames", CLIENT), ("Server frames", SERVER)])
def test_the_table_has_every_frame_once(title: str, structs: dict[str, Any]) -> None:
    assert sorted(coded(row[0])[0] for row in rows(section(title))) == sorted(structs)


@pytest.mark.parametrize("row", rows(section("Client frames")), ids=lambda row: coded(row[0])[0])
def test_a_client_frames_row_has_its_fields(row: list[str]) -> None:
    assert {*coded(row[1]), "ref?"} == fields_of(CLIENT[coded(row[0])[0]])


@pytest.mark.parametrize("row", rows(section("Server frames")), ids=lambda row: coded(row[0])[0])
def test_a_server_frames_row_has_its_fields(row: list[str]) -> None:
    assert set(coded(row[1])) == fields_of(SERVER[coded(row[0])[0]])


@pytest.mark.parametrize("title", ["Client frames", "Server frames"])
def test_words_out_of_a_few_are_those_of_the_struct(title: str) -> None:
    structs = CLIENT if title == "Client frames" else SERVER
    for row in rows(section(title)):
        struct = structs[coded(row[0])[0]]
        literals = {
            field.encode_name: set(get_args(field.type))
            for field in msgspec.structs.fields(struct)
            if field.required
            and get_args(field.type)
            and all(isinstance(one, str) for one in get_args(field.type))
        }
        written = {
            name: set(words.split("·")) for name, words in re.findall(r"`(\w+)` (\w+(?:·\w+)+)", row[1])
        }
        assert {name: words for name, words in literals.items() if name != "durability"} == written


@pytest.mark.parametrize("struct", [frames.Target, frames.HistoryMessage, frames.ToolUse, frames.Timing])
def test_what_frames_hold_is_written_with_its_fields(struct: type[Any]) -> None:
    shapes = [set(shape.split(", ")) for shape in re.findall(r"`{([^}:]+)}`", README)]
    assert fields_of(struct) in shapes


def test_every_durability_and_way_to_be_busy_is_explained() -> None:
    (row,) = [row for row in rows(section("Server frames")) if row[0] == "`connected`"]
    (durability,) = [
        field.type for field in msgspec.structs.fields(frames.Connected) if field.name == "durability"
    ]
    assert set(coded(row[2])) == {"durability", *get_args(durability)}
    assert set(get_args(frames.OnBusy)) <= set(coded(section("Client frames")))


# ── Errors ──────────────────────────────────────────────────────────────────────────────────────────────────

ERRORS = {code: row for row in rows(section("Errors")) for code in coded(row[0])}


def test_the_table_of_errors_has_every_code_once() -> None:
    written = [code for row in rows(section("Errors")) for code in coded(row[0])]
    assert sorted(written) == sorted(TABLE)


@pytest.mark.parametrize("code", TABLE)
def test_an_errors_row_is_the_tables(code: str) -> None:
    _, status, retry, when = ERRORS[code]
    assert int(status) == TABLE[code].status
    assert retry.startswith("yes" if TABLE[code].retryable else "no")
    assert ("retry_after_ms" in when) == (TABLE[code].retry_after_ms is not None)


@pytest.mark.parametrize("code", sorted({row.close for row in TABLE.values() if row.close is not None}))
def test_every_close_code_that_is_used_is_explained(code: int) -> None:
    assert [row[0] for row in rows(section("Close codes"))].count(str(code)) == 1


def test_every_code_that_the_page_mentions_is_in_the_table_of_errors() -> None:
    beyond = [code for row in rows(section("Limits")) for code in coded(row[2])]
    assert {code for code in beyond if "_" in code} - {"text_delta", "has_more"} <= set(TABLE)


# ── Limits ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("limit", "default"),
    [
        ("client frame", Limits().frame_bytes),
        ("message content", Limits().content_chars),
        ("message metadata", Limits().metadata_bytes),
        ("depth of metadata", Limits().metadata_depth),
        ("`messages` in `attached`", Limits().history),
    ],
)
def test_a_limits_default_is_the_codes(limit: str, default: int) -> None:
    (written,) = [row[1] for row in rows(section("Limits")) if row[0] == limit]
    number, unit = re.match(r"([\d,]+)(?: (KiB|MiB))?", written).groups()  # type: ignore[union-attr]
    assert int(number.replace(",", "")) * {"KiB": 1 << 10, "MiB": 1 << 20, None: 1}[unit] == default


def test_the_range_of_history_is_written_where_it_is_asked_for() -> None:
    assert f"`history` (0–{Limits().history}, default 50)" in section("Client frames")


# ── The map ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_map_has_every_file_of_the_package_once() -> None:
    files = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    written = re.findall(r"\[`(\w+\.py)`\]\((\w+\.py)\)", README.partition("## Words")[0])
    assert sorted(name for name, _ in written) == sorted(files)
    assert all(name == link for name, link in written)
