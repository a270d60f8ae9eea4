"""The writer of a line: control frames first, sessions in turns by bytes, and lines that are stuck."""

from __future__ import annotations

import asyncio

from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from protocol import frames
from tests.harness import Client, Script, gateway, settle

SHARES = Settings(
    quantum_bytes=1_000, batch_bytes=4_000, max_delta_chars=500, max_control_bytes=2_000, drain_timeout=0.01
)  # fmt: skip


async def test_ready_sessions_share_the_line_by_bytes_in_turns() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore(), SHARES) as g:
        client = Client(g)
        for name in ("long", "wide", "short"):
            client.put("message", session_id=name, turn_id=name, content="hi")
            await script.given(name)
        await settle()
        client.stall()
        client.put("ping")
        await settle()
        (await script.given("long")).say("a" * 20_000)
        (await script.given("wide")).say("🙂" * 5_000)
        await settle()
        (await script.given("short")).say("b")
        await settle()
        client.frames.clear()
        client.resume()
        await client.until(lambda frame: getattr(frame, "cursor", "").endswith(".20000"))
        deltas = [frame for frame in client.frames if isinstance(frame, frames.TextDelta)]
        place = next(number for number, delta in enumerate(deltas) if delta.session_id == "short")
        before = [delta.session_id for delta in deltas[:place]]
        assert len(before) <= 8, "what has little to say waits for a quantum of each other, not for their end"
        sent = {name: sum(len(d.content.encode()) for d in deltas[:20] if d.session_id == name)
                for name in ("long", "wide")}  # fmt: skip
        assert abs(sent["long"] - sent["wide"]) <= 3_000
        assert client.broken is None


async def test_answers_go_before_the_text_of_sessions_but_do_not_starve_it() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore(), SHARES) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        await settle()
        client.stall()
        client.put("ping", ref="stuck")
        await settle()
        said.say("text")
        for number in range(60):
            client.put("ping", ref=f"{number:050}")
        await settle()
        client.frames.clear()
        client.resume()
        await client.until(lambda frame: getattr(frame, "ref", None) == f"{59:050}")
        kinds = [type(frame) for frame in client.frames]
        assert kinds[0] is frames.Pong
        assert frames.TextDelta in kinds[:-1]


async def test_a_client_that_sends_and_does_not_read_is_not_read() -> None:
    async with gateway({"bot": Script()}, MemoryStore(), SHARES) as g:
        client = Client(g)
        client.stall()
        while not client.line.full:
            client.put("ping", ref="x" * 100)
            await settle()
        async with asyncio.TaskGroup() as group:
            room = group.create_task(client.line.room())
            await settle()
            assert not room.done()
            client.resume()
            await asyncio.wait_for(room, 5)
        assert not client.line.full


async def test_a_quiet_line_is_sent_a_sign_of_life_and_a_stuck_one_is_closed() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        client = Client(g)
        now = asyncio.get_running_loop().time()
        client.line.tick(now + 17)
        await settle()
        assert not client.frames
        client.line.tick(now + 19)
        await client.until(lambda frame: isinstance(frame, frames.Pong))
        client.stall()
        client.put("ping")
        await settle()
        client.line.tick(now + 25)
        await settle()
        assert client.close_code is None
        client.line.tick(now + 60)
        async with asyncio.timeout(5):
            while client.close_code is None:
                await settle(1)
        assert client.close_code == 1013
        assert not g.lines
