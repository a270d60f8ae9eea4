"""What a message of the history is shown as."""

from __future__ import annotations

import pytest

from protocol import records
from protocol.potpie_shapes import answer_id, epoch_ms, shown


def test_a_user_and_an_agent_are_told_apart() -> None:
    said = shown(records.Message("r1", "Well?", 1.5), [], "c1", "ann")
    answer = shown(records.Response("r1", "So.", "cancelled", 2.5, thought="Hm."), [], "c1", "ann")
    assert (said.id, said.type, said.sender_id, said.content) == ("r1", "HUMAN", "ann", "Well?")
    assert (answer.id, answer.type, answer.sender_id) == (answer_id("r1"), "AI_GENERATED", None)
    assert (answer.content, answer.thinking, said.thinking) == ("So.", "Hm.", None)
    assert said.created_at == "1970-01-01T00:00:01.500+00:00"
    assert said.id != answer.id


def test_of_what_failed_it_is_what_it_had_said() -> None:
    failed = records.Failed("r1", "No.", "agent_failed", True, "So f", 2.5)
    assert shown(failed, [], "c1", "ann").content == "So f"


@pytest.mark.parametrize(
    ("seconds", "milliseconds"), [(0.0, 0), (1.2346, 1_235), (1.7e9 + 0.25, 1_700_000_000_250)]
)
def test_times_are_milliseconds(seconds: float, milliseconds: int) -> None:
    assert epoch_ms(seconds) == milliseconds
