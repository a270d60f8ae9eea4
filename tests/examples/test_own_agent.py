"""The example does what it says."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from gateway.interfaces import SessionRef, Turn
from gateway.load import load_agent


async def _say(spec: str, content: str, state: dict[str, Any]) -> str:
    turn = Turn("t1", content, SessionRef("me", "user", "s1"), state=state)
    async with asyncio.timeout(5), aclosing(load_agent(spec)(turn)) as pieces:  # type: ignore[type-var]
        return "".join([str(piece) async for piece in pieces])


async def test_it_counts_over_the_whole_conversation() -> None:
    state: dict[str, Any] = {}
    assert await _say("examples.own_agent:agent", "one two", state) == "eno owt (2 words so far)"
    assert await _say("examples.own_agent:agent", "three", state) == "eerht (3 words so far)"


@pytest.mark.parametrize("content", ["hi", ""])
async def test_the_blocking_one_answers_as_well(content: str) -> None:
    assert await _say("examples.own_agent:blocking", content, {}) == f"You said: {content}"
