"""What becomes of a line whose token ends, or is renewed with other rights."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.auth import Identity, renew
from gateway.interfaces import Caller, Key
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol import frames
from protocol.errors import Refused
from tests.harness import Client, Script, gateway, settle

NOON = 1_000_000.0


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> float:
        return self.time


CALLERS = {
    "ann an hour": Caller("ann", NOON + 3600),
    "ann two hours": Caller("ann", NOON + 7200),
    "ann for s": Caller("ann", sessions=frozenset({"s"})),
    "ann for bot": Caller("ann", agents=frozenset({"bot"})),
    "user": Caller("user"),
    "bob": Caller("bob"),
    "service": Caller(service=True),
}


async def greet(hello: frames.Hello, present: Identity) -> Identity:
    if hello.token not in CALLERS:
        raise Refused("unauthenticated", "This is no token.")
    return renew(present, CALLERS[hello.token])


def client(g: Supervisor, expires_at: float | None = None, **rights: Any) -> Client:
    identity = Identity("ann", expires_at=expires_at)._replace(**rights)
    return Client(g, identity=identity, greeting=greet)


def gatewayed(clock: Clock, store: MemoryStore | None = None) -> Any:
    return gateway({"bot": Script(), "other": Script()}, store or MemoryStore(), now=clock)


async def tick(client: Client) -> None:
    client.line.tick(asyncio.get_running_loop().time())
    await settle()


def told(client: Client) -> list[float]:
    return [frame.expires_at for frame in client.frames if isinstance(frame, frames.Token)]


# ── Its end ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_end_of_a_token_is_announced_once_a_minute_before() -> None:
    clock = Clock()
    async with gatewayed(clock) as g:
        ann = client(g, NOON + 3600)
        clock.time = NOON + 3539.9
        await tick(ann)
        assert told(ann) == []
        clock.time = NOON + 3540
        for _ in range(3):
            await tick(ann)
        assert told(ann) == [NOON + 3600]


async def test_at_its_end_the_line_is_closed() -> None:
    clock = Clock()
    async with gatewayed(clock) as g:
        ann = client(g, NOON + 3600)
        clock.time = NOON + 3599.9
        await tick(ann)
        assert ann.close_code is None
        clock.time = NOON + 3600
        for _ in range(3):
            await tick(ann)
        [error] = [frame for frame in ann.frames if isinstance(frame, frames.Error)]
        assert (error.code, error.cursor) == ("token_expired", None)
        assert ann.close_code == 4401
        assert g.lines == {}


async def test_no_frame_is_taken_after_its_end_though_nobody_looked_yet() -> None:
    clock = Clock()
    async with gatewayed(clock) as g:
        ann = client(g, NOON + 3600)
        clock.time = NOON + 3600
        ann.put("message", session_id="s", content="late", ref="m")
        ann.put("ping", ref="p")
        ann.put("hello", token="ann two hours", ref="h")
        await settle()
        assert [type(frame) for frame in ann.frames] == [frames.Error]
        assert ann.close_code == 4401
        assert await g.runtime.store.find("s", None) == []


async def test_hello_renews_it_even_in_the_last_moment() -> None:
    clock = Clock()
    async with gatewayed(clock) as g:
        ann = client(g, NOON + 60)
        await tick(ann)
        clock.time = NOON + 61
        ann.put("hello", token="ann an hour", ref="h")
        assert (await ann.answer("h")).token_expires_at == NOON + 3600
        await tick(ann)
        assert (told(ann), ann.close_code) == ([NOON + 60], None)
        clock.time = NOON + 3550
        await tick(ann)
        assert told(ann) == [NOON + 60, NOON + 3600]
        clock.time = NOON + 3600
        await tick(ann)
        assert ann.close_code == 4401


async def test_a_hello_that_is_refused_changes_nothing() -> None:
    clock = Clock()
    async with gatewayed(clock) as g:
        ann = client(g, NOON + 60)
        for token, code in (("wrong", "unauthenticated"), ("bob", "forbidden")):
            ann.put("hello", token=token, ref=token)
            assert (await ann.answer(token)).code == code
        assert ann.line.identity == Identity("ann", expires_at=NOON + 60)
        clock.time = NOON + 60
        await tick(ann)
        assert ann.close_code == 4401


async def test_a_line_without_a_token_stays_open() -> None:
    clock = Clock()
    async with gatewayed(clock) as g:
        ann = client(g)
        clock.time = NOON * 1000
        await tick(ann)
        assert (ann.frames, ann.close_code) == ([], None)


async def test_a_turn_goes_on_though_the_token_of_who_asked_for_it_ends() -> None:
    clock, script = Clock(), Script()
    async with gateway({"bot": script}, MemoryStore(), now=clock) as g:
        ann = client(g, NOON + 60)
        ann.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        clock.time = NOON + 60
        await tick(ann)
        said.say("all of it")
        said.end()
        again = client(g, NOON + 3600)
        again.put("attach", sessions=[{"session_id": "s"}], ref="a")
        await again.answer("a")
        await again.until(lambda frame: isinstance(frame, frames.Attached))
        await settle()
        assert (await g.runtime.store.history(Key("bot", "ann", "s"), 9)).messages[-1].record.content == (
            "all of it"
        )


# ── Its rights ──────────────────────────────────────────────────────────────────────────────────────────────


async def follow(client: Client, *session_ids: str, agent: str = "bot") -> None:
    targets = [{"session_id": one, "agent": agent, "create": True} for one in session_ids]
    client.put("attach", sessions=targets, ref=f"follow {agent}")
    await client.answer(f"follow {agent}")


async def test_what_a_renewed_token_does_not_cover_is_followed_no_more_and_looks_like_none() -> None:
    async with gatewayed(Clock()) as g:
        ann, other = client(g), client(g)
        await follow(ann, "s", "u")
        ann.put("hello", token="ann for s", ref="h")
        await ann.answer("h")
        assert [(error.session_id, error.code) for error in ann.of("u", frames.Error)] == [
            ("u", "session_not_found")
        ]
        assert ann.of("s", frames.Error) == []
        for session_id in ("u", "never-was"):
            ann.put("cancel", session_id=session_id, ref=f"cancel {session_id}")
            assert (await ann.answer(f"cancel {session_id}")).code == "session_not_found"
            ann.put("attach", sessions=[{"session_id": session_id, "cursor": "e.0.0"}], ref=f"a {session_id}")
            await ann.answer(f"a {session_id}")
        before = len(ann.of("u"))
        other.put("message", session_id="u", content="not for all", turn_id="t")
        await other.until(lambda frame: isinstance(frame, frames.Message))
        await settle()
        assert len(ann.of("u")) == before
        ann.put("cancel", session_id="s", ref="still there")
        assert isinstance(await ann.answer("still there"), frames.Ok)


async def test_the_agents_of_a_renewed_token_count_too() -> None:
    async with gatewayed(Clock()) as g:
        ann = client(g)
        await follow(ann, "s")
        await follow(ann, "o", agent="other")
        ann.put("hello", token="ann for bot", ref="h")
        await ann.answer("h")
        assert [error.code for error in ann.of("o", frames.Error)] == ["session_not_found"]
        ann.put("message", session_id="new", agent="other", content="x", ref="m")
        assert (await ann.answer("m")).code == "agent_not_found"


async def test_who_was_nobody_in_particular_and_becomes_a_user_keeps_that_ones_sessions_only() -> None:
    async with gatewayed(Clock()) as g:
        for user in ("user", "bob"):
            await g.make(Identity(user), "bot", f"{user}s")
        service = Client(g, identity=Identity("user", everyone=True, service=True), greeting=greet)
        service.put("attach", sessions=[{"session_id": "users"}, {"session_id": "bobs"}], ref="a")
        await service.answer("a")
        service.put("hello", token="service", ref="stays")
        await service.answer("stays")
        assert service.line.identity.everyone
        service.put("hello", token="user", ref="h")
        await service.answer("h")
        assert service.line.identity == Identity("user")
        assert [error.code for error in service.of("bobs", frames.Error)] == ["session_not_found"]
        assert service.of("users", frames.Error) == []


async def test_who_names_a_user_in_its_first_frame_keeps_its_other_rights() -> None:
    async with gatewayed(Clock()) as g:
        identity = Identity("user", everyone=True, service=True, agents=frozenset({"bot"}))
        service = Client(g, identity=identity, greeting=greet)
        service.put("hello", user_id="carl", ref="h")
        await service.answer("h")
        assert service.line.identity == Identity("carl", service=True, agents=frozenset({"bot"}))
