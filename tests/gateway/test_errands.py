"""What a line must look into the store for first, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.errands import Errands
from gateway.interfaces import Unavailable
from gateway.runtime import Tasks
from protocol.errors import Refused
from tests.harness import settle


async def errands(story: Callable[[Errands, list[Any]], Any]) -> list[Any]:
    """What is noted while the story goes on, and errands are done beside it."""
    noted: list[Any] = []
    async with Tasks() as tasks:
        await story(Errands(tasks, lambda: noted.append("done"), lambda: noted.append("broke")), noted)
    return noted


def doing(noted: list[Any], name: str, raises: BaseException | None = None) -> Any:
    async def errand() -> None:
        await asyncio.sleep(0)
        noted.append(name)
        if raises is not None:
            raise raises

    return errand


async def test_errands_are_done_in_order_and_each_is_told_what_went_wrong_with_it() -> None:
    async def story(some: Errands, noted: list[Any]) -> None:
        def answer(answered: Any) -> None:
            noted.append(getattr(answered, "code", type(answered).__name__))

        some.add(doing(noted, "a"), answer)
        some.add(doing(noted, "b", Refused("bad_id", "No.")), answer)
        some.add(doing(noted, "c", Unavailable()), answer)
        some.add(doing(noted, "d", ValueError()), answer)
        assert len(some) == 4
        await settle()
        assert len(some) == 0

    assert await errands(story) == [
        "a", "done", "b", "bad_id", "done", "c", "store_unavailable", "done", "d", "ValueError", "done",
    ]  # fmt: skip


async def test_an_answer_that_cannot_be_given_is_told_and_the_next_errand_is_done() -> None:
    async def story(some: Errands, noted: list[Any]) -> None:
        def answer(_: Any) -> None:
            raise KeyError

        some.add(doing(noted, "a", ValueError()), answer)
        some.add(doing(noted, "b"), answer)
        await settle()
        some.add(doing(noted, "c"), answer)
        await settle()

    assert await errands(story) == ["a", "broke", "done", "b", "done", "c", "done"]


async def test_what_an_errand_is_about_is_held_until_it_is_done() -> None:
    async def story(some: Errands, noted: list[Any]) -> None:
        goes_on, left = asyncio.Event(), {"a", "b"}

        async def one_by_one() -> None:
            await goes_on.wait()
            left.discard("a")
            goes_on.clear()
            await goes_on.wait()

        some.add(one_by_one, noted.append, left)
        assert (some.hold("a"), some.hold("b"), some.hold("c")) == (True, True, False)
        goes_on.set()
        await settle()
        assert (some.hold("a"), some.hold("b")) == (False, True)
        some.add(doing(noted, "of all"), noted.append, None)
        assert some.hold("a")
        goes_on.set()
        await settle()
        assert (some.hold("a"), some.hold("b")) == (False, False)

    assert await errands(story) == ["done", "of all", "done"]


async def test_after_a_stop_the_one_at_work_is_finished_and_no_other_is_begun() -> None:
    async def story(some: Errands, noted: list[Any]) -> None:
        for name in "ab":
            some.add(doing(noted, name), lambda answered: noted.append(type(answered)))
        await asyncio.sleep(0)
        some.stop()
        await settle()

    assert await errands(story) == ["a", "done", ConnectionError, "done"]
