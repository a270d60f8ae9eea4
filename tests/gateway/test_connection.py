"""What one client sees, with both ends in memory."""

from __future__ import annotations

import asyncio

from gateway import Thought, ToolCall, ToolResult, Usage
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from protocol import frames
from tests.harness import Client, Script, gateway, settle


def kinds(client: Client, session_id: str) -> list[str]:
    return [type(frame).__name__ for frame in client.of(session_id)]


async def test_a_turn_is_told_from_its_message_to_its_response() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi", ref="1")
        assert await client.answer("1") == frames.Ok("1", "s", "t", "started")
        said = await script.given("t")
        for piece in ("Hel", "lo", Thought("hm"), ToolCall("c", "add", {"a": 1}), ToolResult("c", 2), " you"):
            said.say(piece)
            await settle()
        said.say(Usage(3, 4))
        said.end()
        end = await client.terminal("t")
        assert (end.content, end.status, end.input_tokens, end.output_tokens) == (
            "Hello you",
            "completed",
            3,
            4,
        )
        assert end.thought == "hm"
        shown = [kind for kind in kinds(client, "s") if kind != "Ok"]
        assert shown == [
            "Attached", "Message", "Typing", "TextDelta", "TextDelta", "ThoughtDelta",
            "ToolCall", "ToolResult", "TextDelta", "Typing", "Response",
        ]  # fmt: skip
        assert client.broken is None


async def test_text_that_agents_write_while_the_socket_is_full_comes_as_one_delta() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        await client.until(lambda frame: isinstance(frame, frames.Typing))
        client.stall()
        said.say("a")
        await client.until(lambda frame: isinstance(frame, frames.TextDelta))
        for piece in "bcdef":
            said.say(piece)
            await settle()
        assert len(client.of("s", frames.TextDelta)) == 1
        client.resume()
        await client.until(lambda frame: isinstance(frame, frames.TextDelta) and frame.content == "bcdef")


async def test_a_reader_who_kept_up_gets_the_rest_of_the_text_before_its_end() -> None:
    class Hasty(Script):
        async def __call__(self, _):  # type: ignore[no-untyped-def, override]
            yield "all "
            yield "at once"

    async with gateway({"bot": Hasty()}, MemoryStore()) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        await client.terminal("t")
        assert "".join(delta.content for delta in client.of("s", frames.TextDelta)) == "all at once"


async def test_a_reader_who_lagged_gets_the_records_without_the_rest_of_the_text() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        said.say("a")
        await client.until(lambda frame: isinstance(frame, frames.TextDelta))
        client.stall()
        said.say("b")
        await client.until(lambda frame: isinstance(frame, frames.TextDelta) and frame.content == "b")
        said.say("c" * 1000)
        said.end()
        await settle()
        client.resume()
        end = await client.terminal("t")
        assert end.content == "ab" + "c" * 1000
        assert [delta.content for delta in client.of("s", frames.TextDelta)] == ["a", "b"]


async def test_resuming_in_mid_answer_continues_the_text_where_it_broke_off() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        first = Client(g)
        first.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        said.say("one ")
        await first.until(lambda frame: isinstance(frame, frames.TextDelta))
        cursor = first.cursors["s"][-1]
        first.vanish()
        said.say("two ")
        await settle()
        second = Client(g)
        second.put("attach", sessions=[{"session_id": "s", "cursor": cursor}], ref="a")
        await second.answer("a")
        said.say("three")
        await settle()
        said.end()
        await second.terminal("t")
        attached = second.of("s", frames.Attached)[0]
        assert (attached.mode, attached.cursor, attached.status, attached.turn_id) == (
            "replay", cursor, "running", "t",
        )  # fmt: skip
        assert "".join(delta.content for delta in second.of("s", frames.TextDelta)) == "two three"


async def test_a_snapshot_holds_the_messages_up_to_the_running_turn_and_then_its_text() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        first = Client(g)
        first.put("message", session_id="s", turn_id="t1", content="one")
        said = await script.given("t1")
        said.say("answer")
        said.end()
        await first.terminal("t1")
        first.put("message", session_id="s", turn_id="t2", content="two")
        said = await script.given("t2")
        said.say("so far")
        await settle()
        second = Client(g)
        second.put("attach", sessions=[{"session_id": "s"}], ref="a")
        await second.answer("a")
        await second.until(lambda frame: isinstance(frame, frames.TextDelta))
        attached = second.of("s", frames.Attached)[0]
        assert attached.mode == "snapshot"
        assert [(m.role, m.turn_id, m.content) for m in attached.messages] == [
            ("user", "t1", "one"), ("agent", "t1", "answer"), ("user", "t2", "two"),
        ]  # fmt: skip
        said.end()
        await second.terminal("t2")
        assert second.broken is None


async def test_what_a_laggard_missed_beyond_memory_is_read_from_the_store() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore(), Settings(tail_bytes=2_000, drain_timeout=0.01)) as g:
        fast, slow = Client(g), Client(g)
        slow.put("attach", sessions=[{"session_id": "s", "create": True}], ref="a")
        await slow.answer("a")
        slow.stall()
        for number in range(30):
            fast.put("message", session_id="s", turn_id=f"t{number}", content="x" * 300)
            said = await script.given(f"t{number}")
            said.say("y" * 300)
            said.end()
            await fast.terminal(f"t{number}")
        slow.resume()
        await slow.terminal("t29")
        assert [m.turn_id for m in slow.of("s", frames.Message)] == [f"t{number}" for number in range(30)]
        assert slow.broken is None
        assert fast.broken is None


async def test_cancel_ends_the_turn_at_once_and_the_next_waits_for_the_clean_up() -> None:
    cleaning, clean = asyncio.Event(), asyncio.Event()

    class Slow(Script):
        async def __call__(self, turn):  # type: ignore[no-untyped-def, override]
            yield "begun"
            if turn.turn_id == "t2":
                assert clean.is_set()
                return
            try:
                await asyncio.Event().wait()
            finally:
                cleaning.set()
                await clean.wait()

    async with gateway({"bot": Slow()}, MemoryStore()) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t1", content="one")
        await client.until(lambda frame: isinstance(frame, frames.TextDelta))
        client.put("message", session_id="s", turn_id="t2", content="two")
        client.put("cancel", session_id="s", ref="c")
        assert await client.answer("c") == frames.Ok("c", "s", "t1")
        end = await client.terminal("t1")
        assert (end.status, end.content) == ("cancelled", "begun")
        await asyncio.wait_for(cleaning.wait(), 5)
        clean.set()
        assert (await client.terminal("t2")).status == "completed"


async def test_the_next_message_is_never_refused_as_busy_once_the_end_was_seen() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        client = Client(g)
        script = g.runtime.agents["bot"]
        assert isinstance(script, Script)
        for number in range(20):
            client.put(
                "message",
                session_id="s",
                turn_id=f"t{number}",
                content="x",
                on_busy="reject",
                ref=str(number),
            )
            assert (await client.answer(str(number))).status == "started"
            (await script.given(f"t{number}")).end()
            await client.terminal(f"t{number}")


async def test_deleting_ends_every_turn_and_then_says_closed() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t1", content="one", ref="1")
        client.put("message", session_id="s", turn_id="t2", content="two", ref="2")
        await client.answer("2")
        await g.delete(next(iter(g.sessions)))
        closed = await client.until(lambda frame: isinstance(frame, frames.Session))
        assert isinstance(closed, frames.Session)
        assert closed.status == "closed"
        assert [end.turn_id for end in client.of("s", frames.Response)] == ["t1", "t2"]
        client.put("message", session_id="s", content="again", ref="3")
        assert (await client.answer("3")).code == "session_closed"
        client.put("message", session_id="s", content="again", ref="4", create=True)
        assert (await client.answer("4")).status == "started"


async def test_detach_is_followed_by_no_frame_of_that_session_and_cancels_nothing() -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        client, other = Client(g), Client(g)
        other.put("attach", sessions=[{"session_id": "s", "create": True}])
        client.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        client.put("detach", session_ids=["s"], ref="d")
        await client.answer("d")
        count = len(client.of("s"))
        said.say("more")
        said.end()
        assert (await other.terminal("t")).content == "more"
        assert len(client.of("s")) == count


async def test_the_users_typing_is_shown_to_the_others_until_their_line_dies() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        ann, bob = Client(g), Client(g)
        for client in (ann, bob):
            client.put("attach", sessions=[{"session_id": "s", "create": True}], ref="a")
            await client.answer("a")
        ann.put("typing", session_id="s", state="start")
        typing = await bob.until(lambda frame: isinstance(frame, frames.Typing))
        assert typing == frames.Typing("s", "start", "user")
        ann.vanish()
        await bob.until(lambda frame: isinstance(frame, frames.Typing) and frame.state == "stop")
        assert not ann.of("s", frames.Typing)


async def test_two_agents_may_have_a_session_of_the_same_id_and_then_it_must_be_named() -> None:
    async with gateway({"a": Script(), "b": Script()}, MemoryStore()) as g:
        one, two = Client(g), Client(g)
        one.put("attach", sessions=[{"session_id": "s", "agent": "a", "create": True}], ref="1")
        two.put("attach", sessions=[{"session_id": "s", "agent": "b", "create": True}], ref="1")
        await one.answer("1")
        await two.answer("1")
        three = Client(g)
        three.put("message", session_id="s", content="hi", ref="1")
        assert (await three.answer("1")).code == "session_ambiguous"
        one.put("message", session_id="s", agent="b", content="hi", ref="2")
        assert (await one.answer("2")).code == "session_conflict"
        stranger = Client(g, "eve")
        stranger.put("attach", sessions=[{"session_id": "s"}], ref="1")
        refused = await stranger.until(lambda frame: isinstance(frame, frames.Error))
        assert isinstance(refused, frames.Error)
        assert refused.code == "session_not_found"
