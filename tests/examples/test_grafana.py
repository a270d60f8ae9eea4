"""`examples/grafana.json` asks for numbers that are there, and leaves none out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.metrics import Metrics

ROOT = Path(__file__).parents[2]
BOARD: dict[str, Any] = json.loads((ROOT / "examples/grafana.json").read_text())
NAMES = set(re.findall(r"`(gateway_\w+)`", (ROOT / "gateway/console.md").read_text()))


def expressions() -> Iterator[str]:
    for panel in BOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (one["query"]["query"] for one in BOARD["templating"]["list"] if one["type"] == "query")


def test_every_number_of_the_gateway_is_on_the_board_and_no_other() -> None:
    asked = set(re.findall(r"\b(gateway_\w+)", " ".join(expressions())))
    assert {name.removesuffix("_bucket") for name in asked} == NAMES


def test_what_it_asks_of_the_process_is_told() -> None:
    asked = set(re.findall(r"\b(process_\w+)", " ".join(expressions())))
    told = set(re.findall(r"^(process_\w+) ", Metrics().text().decode(), re.MULTILINE))
    assert asked
    assert asked <= told


@pytest.mark.parametrize("expression", [*expressions()])
def test_every_question_is_closed_and_of_the_chosen_gateways(expression: str) -> None:
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)
    if not expression.startswith("label_values"):
        metrics = re.findall(r"\b(?:gateway|process)_\w+", expression)
        assert expression.count('{instance=~"$instance"}') == len(metrics)


def test_panels_have_ids_and_places_of_their_own() -> None:
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in BOARD["panels"]}
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(places) == len(BOARD["panels"])
