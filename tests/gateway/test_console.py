"""An operator's line: what it asks, what it is told, and who gets none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.auth import Identity
from gateway.connection import Greeting
from gateway.console import Console
from gateway.interfaces import Key
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol.errors import Refused
from tests.harness import WAIT, Client, Script, gateway, settle

SERVICE = Identity("user", everyone=True, service=True)
WHERE = {"agent": "bot", "user": "ann", "session_id": "s"}


class Operator:
    """One operator's line, in memory."""

    batch = False

    def __init__(self, g: Supervisor, identity: Identity = SERVICE, greeting: Greeting | None = None) -> None:
        self.told: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self._came = asyncio.Condition()
        self._open = asyncio.Event()
        self._open.set()
        self._number = 0
        self.line = Console(g, self, identity, greeting=greeting)

    def send_nowait(self, frames: list[bytes]) -> bool:  # noqa: ARG002
        return False

    async def send(self, frames: list[bytes]) -> None:
        self.told += map(json.loads, frames)
        async with self._came:
            self._came.notify_all()
        await self._open.wait()

    async def close(self, code: int, reason: str) -> None:  # noqa: ARG002
        self.close_code = code

    def stall(self) -> None:
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    async def until(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(WAIT), self._came:
            await self._came.wait_for(lambda: any(map(fits, self.told)))
        return next(filter(fits, self.told))

    async def ask(self, type: str, **fields: Any) -> dict[str, Any]:  # noqa: A002
        self._number += 1
        ref = f"r{self._number}"
        self.line.receive(json.dumps({"type": type, "ref": ref, **fields}))
        return await self.until(lambda frame: frame.get("ref") == ref)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.told if frame["type"] == kind]


@pytest.mark.parametrize(
    "identity",
    [
        Identity("ann"),
        Identity("user", everyone=True),
        SERVICE._replace(agents=frozenset({"bot"})),
        SERVICE._replace(sessions=frozenset({"s"})),
    ],
)
async def test_it_is_for_services_only_and_not_for_those_that_are_narrowed(identity: Identity) -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        with pytest.raises(Refused, match="service keys") as refused:
            Operator(g, identity)
        assert refused.value.code == "forbidden"
        assert not g.lines


async def test_it_says_what_is_watched_and_then_figures_whenever_the_wheel_turns() -> None:
    async with gateway({"bot": Script()}, MemoryStore(), now=lambda: 9.0) as g:
        operator = Operator(g)
        operator.line.greet()
        about = await operator.until(lambda frame: frame["type"] == "about")
        assert (about["agents"], about["contents"], about["node"]) == (["bot"], False, g.runtime.node)
        operator.line.tick(0.0)
        figures = await operator.until(lambda frame: frame["type"] == "figures")
        assert (figures["at"], figures["connections"], figures["sessions"], figures["errors"]) == (
            9,
            1,
            0,
            {},
        )
        await operator.ask("cancel", **WHERE)
        operator.line.tick(1.0)
        await operator.until(lambda frame: frame.get("errors") == {"session_not_found": 1})


async def test_figures_are_not_kept_for_who_does_not_take_them() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        operator = Operator(g)
        operator.stall()
        for moment in range(100):
            operator.line.tick(float(moment))
            await settle()
        operator.resume()
        await operator.ask("unwatch")
        assert len(operator.of("figures")) <= 3


@pytest.mark.parametrize("contents", [False, True])
async def test_a_watched_session_is_told_from_before_and_live_and_what_is_said_only_if_that_is_set(
    contents: bool,
) -> None:
    bot = Script()
    settings = Settings(console_contents=contents, drain_timeout=0.01)
    async with gateway({"bot": bot}, MemoryStore(), settings) as g:
        ann = Client(g)
        for number in range(2):
            ann.put("message", session_id="s", turn_id=f"t{number}", content="my secret")
            said = await bot.given(f"t{number}")
            if number:
                break
            said.say("your secret")
            said.end()
            await ann.terminal("t0")
        operator = Operator(g)
        assert (await operator.ask("watch", **WHERE))["type"] == "ok"
        said.say("no secret")
        said.end()
        last = await operator.until(lambda one: one["type"] == "response" and one["turn_id"] == "t1")
        moving = [one for one in operator.told if "cursor" in one]
        assert [one["type"] for one in moving] == [
            "attached", "message", "response", "message", "text_delta", "response",
        ]  # fmt: skip
        assert [one["turn_id"] for one in moving[1:]] == ["t0", "t0", "t1", "t1", "t1"]
        assert ("secret" in json.dumps(operator.told)) == contents
        assert last["content"] == ("no secret" if contents else {"hidden": 9})
        assert last["timing"]["total_ms"] >= 0


async def test_one_session_is_watched_at_a_time_also_if_another_has_the_same_id() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        keys = [Key("bot", "ann", "s"), Key("bot", "bob", "s"), Key("bot", "bob", "other")]
        for key in keys:
            await g.make(Identity(key.user), *key[::2])
        operator = Operator(g)
        for key in (*keys, keys[0]):
            assert (await operator.ask("watch", **key._asdict()))["type"] == "ok"
            await settle()
            assert list(g.sessions) == [key]
        assert (await operator.ask("unwatch"))["type"] == "ok"
        await settle()
        assert not g.sessions


async def test_the_turn_is_cancelled_that_is_named_or_that_runs() -> None:
    bot = Script()
    async with gateway({"bot": bot}, MemoryStore()) as g:
        ann = Client(g)
        for turn_id in ("t1", "t2", "t3"):
            ann.put("message", session_id="s", turn_id=turn_id, content="x", ref=turn_id)
            await ann.answer(turn_id)
        await bot.given("t1")
        operator = Operator(g)
        for turn_id, fields in (("t2", {"turn_id": "t2"}), ("t1", {})):
            assert (await operator.ask("cancel", **WHERE, **fields))["type"] == "ok"
            assert (await ann.terminal(turn_id)).status == "cancelled"
        await bot.given("t3")
        refused = await operator.ask("cancel", **WHERE, turn_id="t9")
        assert (refused["type"], refused["code"]) == ("error", "turn_not_found")


async def test_a_session_is_closed_and_who_follows_is_told() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        await g.make(Identity("ann"), "bot", "s")
        ann, operator = Client(g), Operator(g)
        ann.put("attach", sessions=[{"session_id": "s"}], ref="a")
        await ann.answer("a")
        await operator.ask("watch", **WHERE)
        assert (await operator.ask("close", **WHERE))["type"] == "ok"
        await ann.until(lambda frame: getattr(frame, "status", None) == "closed")
        await operator.until(lambda frame: frame["type"] == "session" and frame["status"] == "closed")
        again = await operator.ask("watch", **WHERE)
        assert (again["type"], again["code"]) == ("error", "session_closed")


async def test_the_sessions_are_those_of_everybody() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        for user in ("ann", "bob"):
            await g.make(Identity(user), "bot", f"of-{user}")
        operator = Operator(g, SERVICE._replace(everyone=False, user="ann"))
        answer = await operator.ask("list", search="OF-")
        assert {row["user"] for row in answer["sessions"]} == {"ann", "bob"}
        assert answer["complete"]
        assert (await operator.ask("watch", agent="bot", user="bob", session_id="of-bob"))["type"] == "ok"


async def test_what_is_no_command_is_an_error_and_the_line_lives() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        operator = Operator(g)
        for bad in ("{", '{"type":"message","session_id":"s","content":"x"}'):
            operator.told.clear()
            operator.line.receive(bad)
            assert (await operator.until(lambda frame: frame["type"] == "error"))["code"] == "bad_frame"
        assert not g.sessions
        assert (await operator.ask("ping"))["type"] == "pong"


async def test_it_is_metered_like_any_other_line() -> None:
    async with gateway({"bot": Script()}, MemoryStore(), Settings(max_frames_per_second=2)) as g:
        operator = Operator(g)
        answers = [await operator.ask(kind) for kind in ("list", "unwatch", "list")]
        assert answers[-1]["code"] == "rate_limited"
        assert answers[0]["type"] == "sessions"


async def test_it_ends_with_its_token_and_goes_on_with_a_new_one_of_a_service_only() -> None:
    async def greeting(hello: Any, _: Identity) -> Identity:
        return Identity("eve", service=hello.token == "service", expires_at=100.0)

    now = 0.0
    async with gateway({"bot": Script()}, MemoryStore(), now=lambda: now) as g:
        await g.make(Identity("ann"), "bot", "s")
        operator = Operator(g, SERVICE._replace(expires_at=10.0), greeting)
        await operator.ask("watch", **WHERE)
        refused = await operator.ask("hello", token="user")
        assert (refused["type"], refused["code"]) == ("error", "forbidden")
        assert (await operator.ask("hello", token="service"))["type"] == "connected"
        assert list(g.sessions) == [Key(**WHERE)], "it is still watched, though it is not eve's"
        now = 50.0
        assert (await operator.ask("unwatch"))["type"] == "ok"
        now = 101.0
        operator.line.receive('{"type":"list"}')
        await operator.until(lambda frame: frame.get("code") == "token_expired")
        async with asyncio.timeout(WAIT):
            while operator.close_code is None:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert operator.close_code == 4401
        assert not operator.of("sessions")
