"""What one client sees, with both ends in memory."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any

from gateway import Thought, ToolCall, ToolResult, Usage
from gateway.auth import Identity
from gateway.interfaces import Key
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol import frames
from tests.harness import WAIT, Client, Said, Script, gateway, settle


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


class Slow(MemoryStore):
    """A store that finds no session, and reads no history, before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()
        self.may.set()

    async def find(self, *args: Any) -> Any:
        await self.may.wait()
        return await super().find(*args)

    async def history(self, *args: Any, **options: Any) -> Any:
        await self.may.wait()
        return await super().history(*args, **options)


def answered(client: Client) -> list[str]:
    """The refs of what was answered so far, in that order."""
    return [ref for frame in client.frames if (ref := getattr(frame, "ref", None)) is not None]


async def test_a_pending_errand_delays_only_the_frames_of_its_own_sessions() -> None:
    script, store = Script(), Slow()
    async with gateway({"bot": script}, store) as g:
        client = Client(g)
        for session_id in ("s", "idle"):
            client.put("message", session_id=session_id, turn_id=session_id, content="hi", ref=session_id)
            await client.answer(session_id)
        await script.given("s")
        store.may.clear()
        client.put("attach", sessions=[{"session_id": "other", "create": True}], ref="attach")
        client.put("cancel", session_id="other", ref="cancel of another")
        client.put("detach", session_ids=["idle", "other"], ref="detach of both")
        client.put("renew", session_id="s", ref="renew")
        client.put("cancel", session_id="s", ref="cancel")
        assert (await client.terminal("s")).status == "cancelled"
        client.put("detach", session_ids=["s"], ref="detach")
        await client.answer("detach")
        assert answered(client) == ["s", "idle", "renew", "cancel", "detach"]
        store.may.set()
        await client.answer("detach of both")
        await client.answer("attach")
        assert [ref for ref in answered(client)[5:] if ref != "attach"] == [
            "cancel of another", "detach of both",
        ]  # fmt: skip
        assert client.broken is None


async def test_nothing_passes_a_pending_hello() -> None:
    may = asyncio.Event()

    async def greet(_: frames.Hello, identity: Identity) -> Identity:
        await may.wait()
        return identity._replace(sessions=frozenset({"other"}))

    async with gateway({"bot": Script()}, MemoryStore()) as g:
        client = Client(g, greeting=greet)
        client.put("attach", sessions=[{"session_id": "s", "create": True}], ref="attach")
        await client.answer("attach")
        client.put("hello", token="other", ref="hello")
        client.put("renew", session_id="s", ref="renew")
        client.put("detach", session_ids=["s"], ref="detach")
        await settle()
        assert answered(client) == ["attach"]
        may.set()
        assert (await client.answer("renew")).code == "session_not_found"
        await client.answer("detach")
        assert answered(client) == ["attach", "hello", "renew", "detach"]


async def test_a_session_that_is_followed_is_joined_at_once_though_an_errand_waits() -> None:
    store = Slow()
    async with gateway({"bot": Script()}, store) as g:
        client = Client(g)
        client.put("attach", sessions=[{"session_id": "s", "create": True}], ref="attach")
        await client.answer("attach")
        store.may.clear()
        client.put("attach", sessions=[{"session_id": "other", "create": True}], ref="other")
        async with asyncio.timeout(WAIT):
            await client.line.join(Key("bot", "ann", "s"), "never")
        assert answered(client) == ["attach"]
        store.may.set()
        await client.answer("other")


# ── What one bug costs ──────────────────────────────────────────────────────────────────────────────────────


async def two_lines(g: Supervisor, script: Script) -> tuple[Client, Client, Said]:
    """Two clients that follow a session and are shown a running turn."""
    broken, whole = Client(g), Client(g)
    for client in (broken, whole):
        client.put("attach", sessions=[{"session_id": "s", "create": True}], ref="a")
        await client.answer("a")
    whole.put("message", session_id="s", turn_id="t", content="hi")
    for client in (broken, whole):
        await client.until(lambda frame: isinstance(frame, frames.Typing))
    return broken, whole, await script.given("t")


async def closed(client: Client) -> None:
    """The line is closed because of a bug, and nothing is left of it."""
    async with asyncio.timeout(WAIT):
        while client.close_code is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert client.close_code == 1011
    assert client.line.left


async def test_an_exception_while_the_writer_fills_closes_that_line_with_1011_and_no_other(
    logged: Callable[[], io.StringIO],
) -> None:
    script, logs = Script(), logged()
    async with gateway({"bot": script}, MemoryStore()) as g:
        broken, whole, said = await two_lines(g, script)
        [mine] = [
            reader for reader in g.sessions[Key("bot", "ann", "s")].log.readers if is_of(broken, reader)
        ]
        mine.offset = None  # type: ignore[attr-defined]
        said.say("text")
        await closed(broken)
        said.end()
        assert (await whole.terminal("t")).content == "text"
        assert whole.close_code is None
        assert [*g.lines.values()] == [whole.line]
        assert not [
            reader for reader in g.sessions[Key("bot", "ann", "s")].log.readers if is_of(broken, reader)
        ]
    [line] = [line for line in logs.getvalue().splitlines() if '"line broke"' in line]
    assert broken.line.connection_id in line
    assert "TypeError" in line


def is_of(client: Client, reader: Any) -> bool:
    return reader.owner is client.line


async def test_an_exception_while_a_batch_is_sent_closes_that_line_with_1011_and_no_other() -> None:
    class Deaf(Client):
        async def send(self, batch: list[bytes]) -> None:
            if any(b"text_delta" in data for data in batch):
                raise ValueError
            await super().send(batch)

    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        broken, whole = Deaf(g), Client(g)
        for client in (broken, whole):
            client.put("attach", sessions=[{"session_id": "s", "create": True}], ref="a")
            await client.answer("a")
        whole.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        said.say("text")
        await closed(broken)
        said.end()
        assert (await whole.terminal("t")).content == "text"


async def test_an_exception_while_a_frame_is_taken_or_answered_closes_that_line_with_1011_and_no_other() -> (
    None
):
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        taken, answered, errand, whole = Client(g), Client(g), Client(g), Client(g)
        for client in (taken, answered, whole):
            client.put("attach", sessions=[{"session_id": "s", "create": True}], ref="a")
            await client.answer("a")
        taken.line.identity = None  # type: ignore[assignment]
        taken.put("renew", session_id="s")
        # What is answered to these cannot be encoded; the session of the second must be found first.
        answered.line.take(frames.Renew("s", ref=object()))  # type: ignore[arg-type]
        errand.line.take(frames.Renew("none", ref=object()))  # type: ignore[arg-type]
        for client in (taken, answered, errand):
            await closed(client)
        whole.put("renew", session_id="s", ref="r")
        await whole.answer("r")
        assert [*g.lines.values()] == [whole.line]


async def test_an_exception_in_one_lines_tick_closes_it_and_the_next_line_has_its_turn() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        broken = Client(g, identity=Identity("ann", expires_at="never"))  # type: ignore[arg-type]
        whole = Client(g)
        now = asyncio.get_running_loop().time()
        for line in [*g.lines.values()]:
            line.tick(now + 19)
        await whole.until(lambda frame: isinstance(frame, frames.Pong))
        await closed(broken)


async def test_an_exception_while_a_page_is_read_closes_that_line_with_1011_and_no_other() -> None:
    class Odd(MemoryStore):
        odd = False

        async def read(self, *args: Any) -> Any:
            if self.odd:
                raise RuntimeError
            return await super().read(*args)

    script, store = Script(), Odd()
    async with gateway({"bot": script}, store, Settings(tail_bytes=500, drain_timeout=0.01)) as g:
        fast, slow = Client(g), Client(g)
        slow.put("attach", sessions=[{"session_id": "s", "create": True}], ref="a")
        await slow.answer("a")
        slow.stall()
        slow.put("ping")
        for number in range(5):
            fast.put("message", session_id="s", turn_id=f"t{number}", content="x" * 300)
            (await script.given(f"t{number}")).end()
            await fast.terminal(f"t{number}")
        store.odd = True
        slow.resume()
        await closed(slow)
        fast.put("renew", session_id="s", ref="r")
        await fast.answer("r")


# ── What is forgotten ───────────────────────────────────────────────────────────────────────────────────────


async def test_where_a_user_typed_is_forgotten_when_that_ends() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        watching, client = Client(g), Client(g)
        for number in range(20):
            await g.make(Identity("ann"), "bot", f"s{number}")
        watching.put("attach", sessions=[{"session_id": "s0"}], ref="a")
        await watching.answer("a")
        for number in range(20):
            client.put("typing", session_id=f"s{number}", state="start")
        await watching.until(lambda frame: isinstance(frame, frames.Typing) and frame.state == "start")
        await settle(200)
        client.line.tick(asyncio.get_running_loop().time())
        assert [session.key.session_id for session in client.line._typing or ()] == ["s0"]
        client.put("typing", session_id="s0", state="stop")
        await watching.until(lambda frame: isinstance(frame, frames.Typing) and frame.state == "stop")
        client.line.tick(asyncio.get_running_loop().time())
        assert client.line._typing is None
