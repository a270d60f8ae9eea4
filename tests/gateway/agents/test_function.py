"""A user's function, whatever its kind, answers turns."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from threading import Event, current_thread, main_thread
from typing import Any

import pytest

from gateway.agents.function import FunctionAgent
from gateway.interfaces import AgentError, Piece, SessionRef, Thought, Turn, Usage

TURN = Turn("t1", "hi", SessionRef("me", "user", "s1"))


async def async_generator(turn: Turn) -> AsyncIterator[Piece]:
    yield turn.content
    yield Usage(1, 2)


async def coroutine(turn: Turn) -> list[Piece]:
    return [turn.content, Usage(1, 2)]


def generator(turn: Turn) -> Iterator[Piece]:
    yield turn.content
    yield Usage(1, 2)


def function(turn: Turn) -> tuple[Piece, ...]:
    return turn.content, Usage(1, 2)


class Caller:
    def __call__(self, turn: Turn) -> Iterator[Piece]:
        return generator(turn)

    async def method(self, turn: Turn) -> AsyncIterator[Piece]:
        async for piece in async_generator(turn):
            yield piece


async def async_with_option(times: int, turn: Turn) -> AsyncIterator[Piece]:
    yield turn.content * times
    yield Usage(1, 2)


def with_option(times: int, turn: Turn) -> Iterator[Piece]:
    yield turn.content * times
    yield Usage(1, 2)


async def _all(fn: Callable[..., Any], turn: Turn = TURN) -> list[Piece]:
    async with asyncio.timeout(5), aclosing(FunctionAgent(fn)(turn)) as pieces:  # type: ignore[type-var]
        return [piece async for piece in pieces]


@pytest.mark.parametrize(
    "fn",
    [
        async_generator,
        coroutine,
        generator,
        function,
        Caller(),
        Caller().method,
        functools.partial(with_option, 1),
        functools.partial(async_with_option, 1),
        lambda turn: generator(turn),
    ],
)
async def test_every_kind_of_function_answers(fn: Callable[..., Any]) -> None:
    assert await _all(fn) == ["hi", Usage(1, 2)]


@pytest.mark.parametrize("answer", ["text", Thought("hm"), Usage(3, 4)])
async def test_a_single_piece_returned_is_the_answer(answer: Piece) -> None:
    async def asynchronous(_: Turn) -> Piece:
        return answer

    assert await _all(asynchronous) == await _all(lambda _: answer) == [answer]


async def test_nothing_returned_is_an_empty_answer() -> None:
    assert await _all(lambda _: None) == []


@pytest.mark.parametrize("answer", [7, b"bytes", {"text": "hi"}])
async def test_what_is_no_answer_fails_with_what_would_be(answer: object) -> None:
    with pytest.raises(TypeError, match=f"returned {type(answer).__name__}.*async generator"):
        await _all(lambda _: answer)


def test_an_async_generator_is_passed_through_itself() -> None:
    pieces = FunctionAgent(async_generator)(TURN)
    assert getattr(pieces, "ag_code", None) is async_generator.__code__


async def test_what_is_not_async_runs_in_a_thread_and_what_is_does_not() -> None:
    async def asynchronous(_: Turn) -> str:
        return current_thread().name

    def synchronous(_: Turn) -> str:
        return current_thread().name

    assert await _all(asynchronous) == [main_thread().name]
    assert await _all(synchronous) != [main_thread().name]


@pytest.mark.parametrize("fn", [7, "text", None, Caller, lambda: "no turn", lambda turn, more: (turn, more)])
def test_what_could_not_answer_a_turn_is_refused_with_what_could(fn: Any) -> None:
    with pytest.raises(TypeError, match="an agent is a function of one argument"):
        FunctionAgent(fn)


@pytest.mark.parametrize("option", [{"history": -1}, {"threads": 0}, {"threads": 1_001}, {"grace": -1}])
def test_an_option_out_of_range_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed are"):
        FunctionAgent(function, **option)


async def test_an_agents_own_error_comes_through_in_its_own_words() -> None:
    def failing(_: Turn) -> Iterator[str]:
        yield "so far"
        raise AgentError("Closed on Sundays.", "agent_unavailable")

    with pytest.raises(AgentError, match=r"Closed on Sundays\.") as caught:
        await _all(failing)
    assert caught.value.code == "agent_unavailable"


async def test_a_function_that_blocks_for_ever_counts_as_hung_and_costs_only_its_own_thread() -> None:
    started, release = Event(), Event()

    def blocks(turn: Turn) -> str:
        if turn.content == "block":
            started.set()
            release.wait(5)
        return "free"

    agent = FunctionAgent(blocks, threads=2)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        pieces = agent(Turn("t2", "block", TURN.session))
        blocked = group.create_task(anext(pieces))  # type: ignore[arg-type]
        await asyncio.to_thread(started.wait, 5)
        blocked.cancel()
        await asyncio.wait([blocked])
        assert agent.hung == 1
        assert [piece async for piece in agent(TURN)] == ["free"]
        release.set()
        while True:
            if not agent.hung:
                break
            await asyncio.sleep(0.001)
