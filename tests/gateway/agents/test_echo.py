"""Echo says what was said."""

from __future__ import annotations

import asyncio

import pytest

from gateway.agents.echo import EchoAgent
from gateway.interfaces import SessionRef, Turn


async def _pieces(content: str) -> list[str]:
    turn = Turn("t1", content, SessionRef("echo", "user", "s1"))
    async with asyncio.timeout(5):
        return [str(piece) async for piece in EchoAgent()(turn)]


@pytest.mark.parametrize(
    "content", ["", "hi", "  two  spaces\n\nand\ttabs ", " \n ", "你好" * 100, "👩‍👩‍👧 and more"]
)
async def test_what_comes_back_is_exactly_what_was_said(content: str) -> None:
    assert "".join(await _pieces(content)) == content


async def test_it_comes_back_a_few_words_at_a_time() -> None:
    assert await _pieces("one two three four") == ["one two three ", "four"]


async def test_a_text_without_spaces_is_streamed_too() -> None:
    assert len(await _pieces("你" * 200)) > 1


async def test_a_long_message_lets_others_run_in_between() -> None:
    passes = 0

    async def count() -> None:
        nonlocal passes
        while True:
            passes += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        counting = group.create_task(count())
        pieces = await _pieces("word " * 300)
        counting.cancel()
    assert passes >= len(pieces) - 1


@pytest.mark.parametrize("pace_ms", [-1, 10_001, float("nan")])
def test_a_pace_that_makes_no_sense_is_refused(pace_ms: float) -> None:
    with pytest.raises(ValueError, match="allowed are 0 to 10,000"):
        EchoAgent(pace_ms=pace_ms)


async def test_it_pauses_between_pieces_if_asked() -> None:
    turn = Turn("t1", "one two three four", SessionRef("echo", "user", "s1"))
    pieces = EchoAgent(pace_ms=10_000)(turn)
    assert await anext(pieces) == "one two three "
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await anext(pieces)
