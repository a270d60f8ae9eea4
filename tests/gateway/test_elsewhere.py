"""Two gateways on one store, of which one has not heard yet what the other did: it ends
nothing that lives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from gateway.auth import Identity
from gateway.interfaces import Head, Key
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol import frames
from protocol.errors import Refused
from protocol.lifetime import Renew, Tend, Terms
from tests.harness import Client, Script, gateway

QUIET = Settings(save_interval=1000.0, due_interval=1000.0, trim_interval=1000.0, drain_timeout=0.01)
KEY = Key("bot", "ann", "s")
HALF_AN_HOUR = Terms(30.0, True, 720.0, 5.0)


class Interrupted(MemoryStore):
    """A store with something to do elsewhere, `meanwhile`, just before anything is deleted."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def delete(self, *arguments: Any, **options: Any) -> None:
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            await happens()
        await super().delete(*arguments, **options)


class Deaf(Interrupted):
    """Nobody is told what others wrote, as where that word is late."""

    def watch(self, key: Key, changed: Callable[[Head | None], None]) -> None:
        pass


class Two(NamedTuple):
    """Two gateways, and a client of each that follows the session."""

    store: Interrupted
    script: Script
    here: Supervisor
    there: Supervisor
    mine: Client
    theirs: Client
    past: list[float]
    """The minutes that have passed, as the last of these says."""

    async def ask_there(self, command: Any) -> None:
        async with self.there.opened(KEY) as session:
            await session.asked(command)


@asynccontextmanager
async def two(store: Interrupted | None = None) -> AsyncIterator[Two]:
    store, script, past = store or Deaf(), Script(), [0.0]

    def now() -> float:
        return 1_000_000.0 + 60 * past[-1]

    async with (
        gateway({"bot": script}, store, QUIET, now=now) as here,
        gateway({"bot": script}, store, QUIET, now=now) as there,
    ):
        await here.make(Identity("ann"), "bot", "s", timeout=HALF_AN_HOUR)
        mine, theirs = Client(here), Client(there)
        for client in mine, theirs:
            assert isinstance(await answered(client, "attach", sessions=[{"session_id": "s"}]), frames.Ok)
        yield Two(store, script, here, there, mine, theirs, past)


async def answered(client: Client, type: str, **fields: Any) -> Any:  # noqa: A002
    ref = f"r{len(client.frames)}"
    client.put(type, ref=ref, **fields)
    return await client.answer(ref)


async def says(world: Two) -> None:
    said = await answered(world.mine, "message", session_id="s", turn_id="mine", content="hi")
    assert isinstance(said, frames.Ok), said


async def attaches(world: Two) -> None:
    assert isinstance(await answered(world.mine, "attach", sessions=[{"session_id": "s"}]), frames.Ok)


async def renews(world: Two) -> None:
    assert isinstance(await answered(world.mine, "renew", session_id="s"), frames.Ok)


async def looks_after_it(world: Two) -> None:
    async with world.here.held(KEY) as session:
        await session.asked(Tend())


async def makes_it(world: Two) -> None:
    with pytest.raises(Refused) as refusal:
        await world.here.make(Identity("ann"), "bot", "s")
    assert refusal.value.code == "session_exists"


DEEDS = [says, attaches, renews, looks_after_it, makes_it]


@pytest.mark.parametrize("deed", DEEDS)
async def test_a_session_that_was_renewed_elsewhere_does_not_expire_here(
    deed: Callable[[Two], Awaitable[None]],
) -> None:
    async with two() as world:
        world.past.append(20)
        await world.ask_there(Renew())
        world.past.append(31)
        await deed(world)
        await world.store.load(KEY)
        assert "expired" not in [notice.status for notice in world.mine.of("s", frames.Session)]


@pytest.mark.parametrize("deed", DEEDS)
async def test_a_session_in_which_somebody_speaks_elsewhere_does_not_expire_here(
    deed: Callable[[Two], Awaitable[None]],
) -> None:
    async with two() as world:
        world.past.append(20)
        await answered(world.theirs, "message", session_id="s", turn_id="theirs", content="hi")
        said = await world.script.given("theirs")
        world.past.append(31)
        await deed(world)
        said.end()
        assert (await world.theirs.terminal("theirs")).status == "completed"


async def test_what_was_said_elsewhere_in_the_moment_of_expiry_keeps_it() -> None:
    async with two() as world:

        async def speak() -> None:
            world.past.append(29)  # its clock is behind
            await answered(world.theirs, "message", session_id="s", turn_id="theirs", content="hi")
            world.past.append(31)

        world.store.meanwhile = speak
        world.past.append(31)
        await looks_after_it(world)
        (await world.script.given("theirs")).end()
        assert (await world.theirs.terminal("theirs")).status == "completed"


async def test_a_message_accepted_elsewhere_while_its_session_is_deleted_ends_before_that_does() -> None:
    async with two(Interrupted()) as world:

        async def speak() -> None:
            said = await answered(world.theirs, "message", session_id="s", turn_id="theirs", content="hi")
            assert isinstance(said, frames.Ok)

        world.store.meanwhile = speak
        await world.here.delete(KEY)
        assert (await world.theirs.terminal("theirs")).status == "cancelled"
        await world.theirs.until(lambda frame: getattr(frame, "status", None) == "closed")
        ends = [frame.status for frame in world.theirs.of("s", frames.Response, frames.Session)]
        assert ends == ["renewed", "cancelled", "closed"]
