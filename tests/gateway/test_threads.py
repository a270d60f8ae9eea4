"""Iterators in threads: read in order, held when unread, told to stop, counted when they do not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from threading import Event, current_thread
from typing import Any

import pytest

from gateway.interfaces import AgentError
from gateway.threads import Threads
from tests.anything import Loud


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


async def _wait(event: Event) -> None:
    await _until(event.is_set)


async def _next(items: AsyncIterator[Any]) -> Any:
    async with asyncio.timeout(5):
        return await anext(items)


async def _all(threads: Threads, start: Callable[[], Any]) -> list[Any]:
    async with asyncio.timeout(5), aclosing(threads.iterate(start)) as items:  # type: ignore[type-var]
        return [item async for item in items]


@asynccontextmanager
async def _hanging(threads: Threads, count: int) -> AsyncIterator[Event]:
    """`count` threads that nobody reads any more and that do not return before the event given is set."""
    release = Event()
    try:
        for _ in range(count):
            started = Event()

            def hang(started: Event = started) -> Iterator[str]:
                started.set()
                release.wait(5)
                yield "too late"

            async with asyncio.TaskGroup() as group:
                reading = group.create_task(_all(threads, hang))
                await _wait(started)
                reading.cancel()
        yield release
    finally:
        release.set()
        await _until(lambda: threads.busy == 0)


async def test_many_items_arrive_all_and_in_order() -> None:
    assert await _all(Threads(1), lambda: range(10_000)) == list(range(10_000))


async def test_one_item_arrives_before_the_next_is_made() -> None:
    more = Event()

    def start() -> Iterator[str]:
        yield "first"
        more.wait(5)
        yield "second"

    async with aclosing(Threads(1).iterate(start)) as items:  # type: ignore[type-var]
        assert await _next(items) == "first"
        more.set()
        assert await _next(items) == "second"


async def test_the_whole_iterator_runs_in_one_thread_that_is_not_the_loops() -> None:
    names = await _all(Threads(1), lambda: (current_thread() for _ in range(5)))
    assert len(set(names)) == 1
    assert names[0] is not current_thread()
    assert names[0].daemon


async def test_what_it_raises_is_raised_after_what_it_yielded() -> None:
    def start() -> Iterator[str]:
        yield "so far"
        raise LookupError("gone")

    async with aclosing(Threads(1).iterate(start)) as items:  # type: ignore[type-var]
        assert await _next(items) == "so far"
        with pytest.raises(LookupError, match="gone"):
            await _next(items)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_what_would_end_the_process_is_only_an_error_here(error: BaseException) -> None:
    def start() -> Iterator[str]:
        yield "so far"
        raise error

    with pytest.raises(RuntimeError, match=type(error).__name__):
        await _all(Threads(1), start)


@pytest.mark.parametrize(("item", "most"), [("x", 1_000), ("x" * 10_000, 7), (Loud("x" * 10_000), 7)])
async def test_it_is_held_while_nobody_reads_and_then_told_to_stop(item: str, most: int) -> None:
    made, ended = 0, Event()

    def start() -> Iterator[str]:
        nonlocal made
        try:
            for made in range(1, 10 * most):  # noqa: B007
                yield item
        finally:
            ended.set()

    async with aclosing(Threads(1).iterate(start)) as items:  # type: ignore[type-var]
        assert await _next(items) == item
        assert not ended.wait(0.1)  # it would have ended long ago
        assert most < made <= 2 * most + 1
    await _wait(ended)
    assert made <= 2 * most + 1


async def test_what_it_was_held_at_arrives_when_read_on() -> None:
    items = ["x" * 10_000] * 50
    async with aclosing(Threads(1).iterate(lambda: items)) as arriving:  # type: ignore[type-var]
        assert [await _next(arriving) for _ in items] == items


async def test_closing_returns_at_once_and_the_iterators_clean_up_runs_in_its_thread() -> None:
    waiting, release, cleaned = Event(), Event(), []

    def start() -> Iterator[str]:
        try:
            yield "first"
            waiting.set()
            release.wait(5)
            yield "second"
        finally:
            cleaned.append(current_thread())

    threads = Threads(1)
    async with aclosing(threads.iterate(start)) as items:  # type: ignore[type-var]
        await _next(items)
        await _wait(waiting)
    assert (threads.hung, cleaned) == (1, [])
    release.set()
    await _until(lambda: threads.hung == 0)
    assert threads.busy == 0
    assert cleaned[0] is not current_thread()


async def test_an_iterator_that_somebody_keeps_is_closed_all_the_same() -> None:
    kept = []

    def start() -> Iterator[str]:
        kept.append(items)
        return items

    items = (word for word in iter(lambda: "again", "never"))
    threads = Threads(1)
    async with aclosing(threads.iterate(start)) as arriving:  # type: ignore[type-var]
        await _next(arriving)
    await _until(lambda: threads.busy == 0)
    assert list(kept[0]) == []


async def test_a_failure_after_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    release = Event()

    def start() -> Iterator[str]:
        yield "first"
        release.wait(5)
        raise LookupError("after the end")

    threads = Threads(1)
    async with aclosing(threads.iterate(start)) as items:  # type: ignore[type-var]
        await _next(items)
    release.set()
    await _until(lambda: threads.busy == 0)
    assert "after the end" in caplog.text


async def test_more_than_the_limit_wait_their_turn_in_order() -> None:
    threads, release, order = Threads(2), Event(), []

    def start(name: int) -> Iterator[int]:
        order.append(name)
        release.wait(5)
        yield name

    async with asyncio.TaskGroup() as group:
        for name in range(5):
            group.create_task(_all(threads, lambda name=name: start(name)))
        await _until(lambda: len(order) == 2)
        assert threads.busy == 2
        release.set()
    assert sorted(order[:2]) == [0, 1]
    assert sorted(order) == list(range(5))
    await _until(lambda: threads.busy == 0)


async def test_one_that_gives_up_waiting_takes_nobodys_turn() -> None:
    threads, release = Threads(1), Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_all(threads, lambda: iter(release.wait, True)))
        await _until(lambda: threads.busy == 1)
        impatient = group.create_task(_all(threads, lambda: ["never"]))
        patient = group.create_task(_all(threads, lambda: ["at last"]))
        await _until(lambda: threads.waiting == 2)
        impatient.cancel()
        await _until(lambda: threads.waiting == 1)
        release.set()
    assert patient.result() == ["at last"]
    await _until(lambda: threads.busy == 0)


async def test_one_that_gives_up_in_the_moment_it_is_given_a_thread_gives_it_on() -> None:
    threads, release = Threads(1), Event()

    async def first() -> None:
        await _all(threads, lambda: iter(release.wait, True))
        second.cancel()  # it was handed the thread in this very pass, and has not run since

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        await _until(lambda: threads.busy == 1)
        second = group.create_task(_all(threads, lambda: ["never"]))
        await _until(lambda: threads.waiting == 1)
        release.set()
    assert second.cancelled()
    assert threads.busy == 0
    assert await _all(threads, lambda: ["still free"]) == ["still free"]


async def test_when_all_hang_whoever_waits_and_whoever_comes_is_told_so() -> None:
    threads = Threads(2, grace=0.01)
    async with _hanging(threads, 2):
        assert threads.hung == 2
        for _ in range(2):
            with pytest.raises(AgentError, match="all of its 2 threads hang") as caught:
                await _all(threads, lambda: ["no"])
            assert caught.value.code == "agent_unavailable"


async def test_when_one_of_those_returns_there_is_an_answer_again() -> None:
    threads = Threads(1, grace=0)
    async with _hanging(threads, 1) as release:
        with pytest.raises(AgentError):
            await _all(threads, lambda: ["no"])
        release.set()
        await _until(lambda: threads.hung == 0)
        assert await _all(threads, lambda: ["yes"]) == ["yes"]


async def test_hope_that_was_regained_is_not_lost_to_an_old_clock() -> None:
    threads, late = Threads(1, grace=0.05), asyncio.Event()
    async with _hanging(threads, 1) as release:
        release.set()
        await _until(lambda: threads.hung == 0)
    asyncio.get_running_loop().call_later(0.05, late.set)  # timers fire in order: this one after the grace
    await late.wait()
    assert await _all(threads, lambda: ["yes"]) == ["yes"]


async def test_one_that_stops_within_the_grace_costs_the_next_only_a_wait() -> None:
    threads = Threads(1, grace=60)
    async with _hanging(threads, 1) as release, asyncio.TaskGroup() as group:
        next_one = group.create_task(_all(threads, lambda: ["yes"]))
        await asyncio.sleep(0)
        release.set()
    assert next_one.result() == ["yes"]


async def test_the_variables_of_the_context_are_there() -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("mine")
    assert await _all(Threads(1), lambda: [variable.get()]) == ["mine"]


def test_a_hung_thread_does_not_keep_the_process_from_its_end() -> None:
    program = """
import asyncio, threading
from gateway.threads import Threads

def hang():
    yield "started"
    threading.Event().wait()

async def main():
    items = Threads(1).iterate(hang)
    print(await anext(items))
    await items.aclose()

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=5, check=True
    )
    assert (done.stdout, done.stderr) == ("started\n", "")
