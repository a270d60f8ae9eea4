"""The metronome plays what it is told, or says why it cannot."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gateway.agents.metronome import MetronomeAgent
from gateway.interfaces import AgentError, Piece, SessionRef, ToolCall, ToolResult, Turn, Usage


def _turn(**metadata: Any) -> Turn:
    return Turn("t1", "please play", SessionRef("metronome", "user", "s1"), metadata=metadata)


async def _play(**metadata: Any) -> list[Piece]:
    async with asyncio.timeout(5):
        return [piece async for piece in MetronomeAgent()(_turn(**metadata))]


async def _text(**metadata: Any) -> list[str]:
    return [piece for piece in await _play(**metadata) if isinstance(piece, str)]


async def test_by_default_it_plays_twenty_pieces_of_eight_characters() -> None:
    assert await _text() == [f"{position:07d} " for position in range(20)]


@pytest.mark.parametrize("size", [1, 2, 4, 7, 8, 9, 50])
async def test_every_piece_has_exactly_the_size_asked_for(size: int) -> None:
    assert {len(piece) for piece in await _text(size=size, deltas=120)} == {size}


async def test_a_small_piece_wraps_its_position() -> None:
    pieces = await _text(size=4, deltas=1_002)
    assert pieces[:2] == ["000 ", "001 "]
    assert pieces[999:] == ["999 ", "000 ", "001 "]


async def test_a_large_piece_is_filled_behind_its_position() -> None:
    assert await _text(size=12, deltas=1) == ["0000000 ...."]


async def test_it_ends_with_the_usage() -> None:
    assert (await _play(deltas=3))[-1] == Usage(input_tokens=2, output_tokens=3)


@pytest.mark.parametrize("fail_at", [0, 2, 5])
async def test_it_fails_when_that_many_pieces_are_out(fail_at: int) -> None:
    pieces = MetronomeAgent()(_turn(deltas=5, fail_at=fail_at))
    async with asyncio.timeout(5):
        assert [await anext(pieces) for _ in range(fail_at)] == [f"{n:07d} " for n in range(fail_at)]
        with pytest.raises(AgentError, match=f"after {fail_at} pieces"):
            await anext(pieces)


@pytest.mark.parametrize("tool_at", [0, 2, 5])
async def test_it_calls_a_tool_when_that_many_pieces_are_out(tool_at: int) -> None:
    call, result = (await _play(deltas=5, tool_at=tool_at))[tool_at : tool_at + 2]
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert call.tool_call_id == result.tool_call_id


async def test_no_piece_comes_before_it_is_due() -> None:
    start = time.monotonic()
    await _text(deltas=4, interval_ms=4)
    assert time.monotonic() >= start + 0.0119


async def test_a_late_loop_does_not_move_what_is_due_later() -> None:
    """Whoever was away for four minutes finds four pieces due, and gets them without another wait."""
    now = 0.0
    pieces = MetronomeAgent(clock=lambda: now)(_turn(deltas=6, interval_ms=60_000))
    async with asyncio.timeout(5):
        await anext(pieces)
        now = 240.0
        assert [await anext(pieces) for _ in range(4)] == [f"{position:07d} " for position in range(1, 5)]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await anext(pieces)


async def test_it_is_silent_first_if_asked() -> None:
    pieces = MetronomeAgent()(_turn(silent_ms=60_000))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await anext(pieces)


async def test_as_fast_as_it_goes_it_still_lets_others_run_between_pieces() -> None:
    pieces = MetronomeAgent()(_turn())
    await anext(pieces)
    ran: list[str] = []
    asyncio.get_running_loop().call_soon(ran.append, "other")
    await anext(pieces)
    assert ran == ["other"]


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"deltas": -1}, "deltas = -1: allowed is a whole number from 0 to 1,000,000"),
        ({"deltas": 1_000_001}, "deltas = 1000001"),
        ({"deltas": 1.5}, "deltas = 1.5"),
        ({"deltas": True}, "deltas = True"),
        ({"deltas": None}, "deltas = None"),
        ({"size": 0}, "size = 0: allowed is a whole number from 1 to 1,048,576"),
        ({"size": "x" * 1_000}, "size = 'xxx"),
        (
            {"deltas": 1_000_000, "size": 2},
            "deltas × size = 2000000: allowed is at most 1,048,576 characters",
        ),
        ({"interval_ms": 60_001}, "interval_ms = 60001: allowed is a number from 0 to 60,000"),
        ({"interval_ms": float("nan")}, "interval_ms = nan"),
        ({"interval_ms": [1]}, "interval_ms = [1]"),
        ({"silent_ms": -1}, "silent_ms = -1"),
        ({"deltas": 5, "fail_at": 6}, "fail_at = 6: allowed is a whole number from 0 to 5"),
        ({"tool_at": "3"}, "tool_at = '3'"),
    ],
)
async def test_a_bad_value_is_refused_with_its_name_and_what_is_allowed(
    metadata: dict[str, Any], said: str
) -> None:
    with pytest.raises(AgentError) as caught:
        await _play(**metadata)
    assert said in caught.value.content
    assert len(caught.value.content) < 200
    assert caught.value.retryable is False


async def test_other_metadata_is_none_of_its_business() -> None:
    assert len(await _text(deltas=1, colour="blue")) == 1
