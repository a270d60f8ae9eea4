"""The client against the real gateway over a line that the test cuts, and against one that the test plays."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import sys
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from gateway.agents.echo import EchoAgent
from gateway.agents.metronome import MetronomeAgent
from gateway.app import Gateway, gateway_app
from gateway.client import Client, LineClosed, Session, Turn, TurnFailed
from gateway.client_feed import Feed, Lagged
from gateway.client_line import Backoff
from gateway.interfaces import Agent, ToolCall, ToolResult
from gateway.serve import Server, configure
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from protocol import codec, frames
from protocol.errors import Refused
from protocol.records import Timing
from tests.harness import Said, Script

WAIT = 30.0


async def no_wait(_: float) -> None:
    await asyncio.sleep(0)


def client(url: str, **options: Any) -> Client:
    return Client(url, **{"random": lambda: 0.0, "sleep": no_wait, **options})


async def within(awaitable: Any) -> Any:
    async with asyncio.timeout(WAIT):
        return await awaitable


async def state(client: Client, wanted: str) -> None:
    """Wait until the line is so."""
    async with asyncio.timeout(WAIT):
        async for line in client.states():
            if line.state == wanted:
                return


async def reached(session: Session, cursor: str) -> None:
    """Wait until the session stands there."""
    seen = session.frames()
    while session.transcript.cursor != cursor:
        await within(anext(seen))


async def spoken(turn: Turn) -> None:
    """Wait until something of the answer is there."""
    while not isinstance(await within(anext(aiter(turn))), frames.TextDelta):
        pass


async def collect(turn: Turn) -> list[Any]:
    async with asyncio.timeout(WAIT):
        return [frame async for frame in turn]


def shown(seen: list[Any]) -> str:
    return "".join(frame.content for frame in seen if isinstance(frame, frames.TextDelta))


def kinds(seen: list[Any]) -> list[str]:
    return [type(frame).__name__ for frame in seen if not isinstance(frame, frames.Typing)]


# ── The real gateway, and a line that the test owns ──


@asynccontextmanager
async def serving(app: Gateway) -> AsyncIterator[str]:
    listening = asyncio.Event()
    server = Server(configure(app, port=0), drain=app.drain, ready=lambda _: listening.set())
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        await within(listening.wait())
        try:
            yield server.url
        finally:
            server.should_exit = True


@asynccontextmanager
async def gateway(settings: Settings | None = None, **agents: Agent) -> AsyncIterator[str]:
    """A gateway with these agents; its URL."""
    quick = settings or Settings(drain_timeout=0.01)
    async with serving(gateway_app(quick, agents=agents, store=MemoryStore())) as url:
        yield url


class Cable:
    """A TCP line that the test cuts, holds and refuses."""

    def __init__(self, target: str, group: asyncio.TaskGroup) -> None:
        self.target = int(target.rpartition(":")[2])
        self.group = group
        self.url = ""
        self.connections = 0
        self.lives: int | None = None
        """Bytes that a connection carries downwards before it is cut."""
        self.refusing = False
        self.flows = asyncio.Event()
        self.flows.set()
        self._ended = False
        self._writers: list[asyncio.StreamWriter] = []
        self._pumps: list[asyncio.Task[None]] = []

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self.connections += 1
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        if self._ended:
            writer.transport.abort()
            up_writer.transport.abort()
            return
        self._writers += [writer, up_writer]
        self._pumps += [
            self.group.create_task(self._pump(reader, up_writer, None)),
            self.group.create_task(self._pump(up_reader, writer, self.lives)),
        ]

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lives: int | None
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                await self.flows.wait()
                writer.write(data[:lives])
                await writer.drain()
                if lives is not None and (lives := lives - len(data)) <= 0:
                    self.cut()
        except OSError:
            pass
        writer.close()

    def hold(self) -> None:
        """Nothing gets through, and nobody is told."""
        self.flows.clear()

    def cut(self) -> None:
        """Every connection dies at once."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self.flows.set()

    def end(self) -> None:
        self._ended = True
        self.cut()
        for pump in self._pumps:
            pump.cancel()


@asynccontextmanager
async def cable(url: str) -> AsyncIterator[Cable]:
    async with asyncio.TaskGroup() as group:
        line = Cable(url, group)
        server = await asyncio.start_server(line.take, "127.0.0.1", 0)
        line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield line
        finally:
            server.close()
            line.end()


async def test_a_turn_is_iterated_from_its_message_to_its_response() -> None:
    script = Script()
    async with gateway(bot=script) as url, client(url) as c:
        turn = c.session("a", agent="bot").send("hi", turn_id="t", metadata={"mood": "good"})
        said = await script.given("t")
        assert (said.turn.content, said.turn.metadata) == ("hi", {"mood": "good"})
        for piece in ("Hel", "lo", ToolCall("c", "add", 1), ToolResult("c", 2), " you"):
            said.say(piece)
        said.end()
        seen = await collect(turn)
    steps = [kind for kind, before in zip(kinds(seen), ["", *kinds(seen)], strict=False) if kind != before]
    assert steps == ["Message", "TextDelta", "ToolCall", "ToolResult", "TextDelta", "Response"]
    assert shown(seen) == turn.text == seen[-1].content == "Hello you"


async def test_awaiting_a_turn_gives_its_response_or_raises_its_error() -> None:
    script = Script()
    async with gateway(bot=script) as url, client(url) as c:
        session = c.session("a")
        good, bad = session.send("hi", turn_id="1"), session.send("hi", turn_id="2")
        (await script.given("1")).say("yes")
        (await script.given("1")).end()
        assert (await within(good)).content == "yes"
        (await script.given("2")).say("no")
        (await script.given("2")).fail()
        with pytest.raises(TurnFailed, match="It went wrong") as failed:
            await within(bad)
        assert (failed.value.frame.code, failed.value.frame.partial) == ("agent_failed", "no")
        again = session.send("hi", turn_id="3", replaces="2")
        (await script.given("3")).end()
        await within(again)
        assert [turn.turn_id for turn in session.history] == ["1", "3"]


@pytest.mark.parametrize("by", ["turn", "session", "session of another client"])
async def test_cancelling_ends_the_turn_with_the_text_so_far(by: str) -> None:
    script = Script()
    async with gateway(bot=script) as url, client(url) as c, client(url) as other:
        session = c.session("a")
        turn = session.send("hi", turn_id="t")
        (await script.given("t")).say("so far")
        await spoken(turn)
        if by == "turn":
            turn.cancel()
        elif by == "session":
            session.cancel()
        else:
            await within(other.session("a").ready())
            other.session("a").cancel()
        end = await within(turn)
        assert (end.status, end.content) == ("cancelled", "so far")


async def test_a_refused_message_ends_its_turn_with_the_refusal() -> None:
    script = Script()
    async with gateway(bot=script) as url, client(url) as c:
        session = c.session("a")
        running = session.send("hi", turn_id="1")
        await script.given("1")
        refused = session.send("hi", on_busy="reject")
        (end,) = await collect(refused)
        assert end.code == "session_busy"
        interrupting = session.send("stop", turn_id="2", on_busy="interrupt")
        assert (await within(running)).status == "cancelled"
        (await script.given("2")).end()
        await within(interrupting)


async def test_a_session_keeps_no_messages_that_were_refused() -> None:
    script = Script()
    async with gateway(bot=script) as url, client(url) as c:
        session = c.session("a")
        running = session.send("hi", turn_id="1")
        await script.given("1")
        left: list[weakref.ref[Turn]] = []
        for content in "no", "no", "x" * 300_000:  # the last one is too large for the line
            refused = session.send(content, on_busy="reject")
            await collect(refused)
            left.append(weakref.ref(refused))
        del refused
        gc.collect()
        assert [turn() for turn in left] == [None] * 3
        assert session.pending == [running]


async def test_a_session_knows_its_history_and_what_runs_when_it_is_ready() -> None:
    script = Script()
    async with gateway(bot=script) as url:
        async with client(url) as first:
            session = first.session("a")
            await within(session.ready())
            assert session.history == []
            turn = session.send("one", turn_id="1")
            (await script.given("1")).say("answer")
            (await script.given("1")).end()
            await within(turn)
            begun = session.send("two", turn_id="2")
            (await script.given("2")).say("begun, ")
            await spoken(begun)
        async with client(url) as second:
            session = second.session("a")
            await within(session.ready())
            assert [(turn.content, turn.status) for turn in session.history] == [
                ("one", "completed"),
                ("two", "running"),
            ]
            following = session.follow()
            assert following is not None
            (await script.given("2")).say("ended")
            (await script.given("2")).end()
            assert shown(await collect(following)) == "begun, ended"
            assert session.follow() is None


async def test_sessions_share_a_line_and_a_user_of_another_name_sees_none_of_them() -> None:
    async with (
        gateway(echo=EchoAgent()) as url,
        client(url, user="ann") as ann,
        client(url, user="béa") as bea,
    ):
        turns = [ann.session(name).send(f"I am {name}") for name in "abc"]
        assert [(await within(turn)).content for turn in turns] == ["I am a", "I am b", "I am c"]
        await within(bea.session("a").ready())
        assert bea.session("a").history == []
        assert bea.connected is not None
        assert bea.connected.user_id == "béa"


async def test_who_types_is_shown_to_other_readers_and_a_detached_session_shows_nothing() -> None:
    async with gateway(echo=EchoAgent()) as url, client(url) as c, client(url) as other:
        session = c.session("a")
        await within(session.send("hi"))
        watched = other.session("a")
        await within(watched.ready())
        seen = watched.frames()
        session.typing(True)
        assert (await within(anext(seen))).state == "start"
        session.typing(False)
        assert (await within(anext(seen))).state == "stop"
        waiting = watched.send("more")
        watched.detach()
        with pytest.raises(LineClosed, match="detached"):
            await within(waiting)
        with pytest.raises(LineClosed):
            await within(anext(seen))
        assert other.sessions == []
        assert other.session("a") is not watched


async def test_ids_and_agents_are_checked_before_anything_is_sent() -> None:
    c = client("ws://127.0.0.1:1")
    for bad in ("", "..", "a/b"):
        with pytest.raises(Refused, match="session_id"):
            c.session(bad)
    c.session("a", agent="x")
    with pytest.raises(Refused, match="followed with the agent x"):
        c.session("a", agent="y")


async def test_what_the_block_raises_is_not_wrapped() -> None:
    async with gateway(bot=Script()) as url:
        with pytest.raises(TurnFailed, match="bad_frame"):
            async with client(url) as c:
                await within(c.session("a").send("hi", metadata={"large": "x" * 20_000}))


# ── When the line breaks ──


async def test_every_character_comes_exactly_once_however_often_the_line_is_cut() -> None:
    chance = random.Random(20)
    async with gateway(metronome=MetronomeAgent()) as url, cable(url) as line, client(line.url) as c:

        async def talk(name: str) -> None:
            session = c.session(name)
            for number in range(6):
                metadata = {"deltas": 400, "size": 9, "tool_at": chance.randrange(400)}
                seen = await collect(session.send(str(number), metadata=metadata))
                assert isinstance(seen[-1], frames.Response), seen[-1]
                assert shown(seen) == seen[-1].content == "".join(f"{n:07} ." for n in range(400))
                assert [type(frame) for frame in seen].count(frames.ToolCall) == 1
                assert [type(frame) for frame in seen].count(frames.ToolResult) == 1
            assert [turn.content for turn in session.history] == [str(number) for number in range(6)]

        async def cut() -> None:
            while True:
                line.lives = int(200 * 1000 ** chance.random())  # now and then enough for a whole batch
                await asyncio.sleep(0)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            cutting = group.create_task(cut())
            async with asyncio.TaskGroup() as talks:
                for name in "abcde":
                    talks.create_task(talk(name))
            cutting.cancel()
        assert line.connections > 10, line.connections


async def test_a_message_of_which_no_answer_came_is_sent_again_and_runs_once() -> None:
    script = Script()
    async with gateway(bot=script) as url, cable(url) as line, client(line.url) as c:
        session = c.session("a")
        await state(c, "connected")
        await within(session.ready())
        turn = session.send("hi", turn_id="t")
        said = await script.given("t")
        line.hold()
        said.say("x")
        said.end()
        line.cut()
        assert shown(await collect(turn)) == "x"
        assert len(script.turns) == 1


async def test_a_client_that_starts_before_the_gateway_waits_for_it() -> None:
    async with gateway(echo=EchoAgent()) as url, cable(url) as line:
        line.refusing = True
        async with client(line.url) as c:
            turn = c.session("a").send("hi")
            await state(c, "waiting")
            assert c.state.reason
            line.refusing = False
            assert (await within(turn)).content == "hi"


async def test_a_line_on_which_nothing_is_heard_for_two_heartbeats_is_dead() -> None:
    async with (
        gateway(Settings(heartbeat=0.05, drain_timeout=0.01), echo=EchoAgent()) as url,
        cable(url) as line,
        client(line.url) as c,
    ):
        await state(c, "connected")
        line.hold()
        await state(c, "waiting")
        assert "Nothing was heard for 0.1 s" in c.state.reason
        line.flows.set()
        assert (await within(c.session("a").send("hi"))).content == "hi"
        assert line.connections > 1


SERVER = """
import sys
from gateway.agents.metronome import MetronomeAgent
from gateway.app import gateway_app
from gateway.serve import serve
from gateway.stores.sqlite import SqliteStore
app = gateway_app(agents={"metronome": MetronomeAgent()}, store=SqliteStore(sys.argv[1]))
serve(app, port=int(sys.argv[2]), drain=app.drain, ready=lambda url: print(url, flush=True))
"""


@asynccontextmanager
async def process(path: Path, port: int = 0) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A gateway of its own process, which can be killed; and its URL."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, str(path), str(port), stdout=PIPE
    )
    assert server.stdout is not None
    try:
        yield server, (await within(server.stdout.readline())).decode().strip()
    finally:
        if server.returncode is None:
            server.kill()
        await server.communicate()


async def test_after_a_kill_every_turn_ends_once_and_waiting_ones_run(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server, url = await stack.enter_async_context(process(tmp_path / "x.db"))
        c = await stack.enter_async_context(client(url))
        session = c.session("a")
        running = session.send("one", metadata={"deltas": 1000, "interval_ms": 20})
        waiting = session.send("two", metadata={"deltas": 3})
        seen: list[Any] = []
        while len(shown(seen)) < 80 or not waiting.acknowledged:
            seen.append(await within(anext(aiter(running))))
        server.kill()
        await state(c, "waiting")
        await stack.enter_async_context(process(tmp_path / "x.db", int(url.rpartition(":")[2])))
        rest = await collect(running)
        assert rest[-1].code == "turn_interrupted"
        whole = "".join(f"{n:07} " for n in range(1000))
        assert whole.startswith(running.text)
        assert whole.startswith(shown(seen + rest))
        assert running.text == rest[-1].partial
        assert (await within(waiting)).content == "0000000 0000001 0000002 "


# ── A gateway that the test plays ──


class PlayedLine:
    """One line as the gateway has it."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    async def say(self, *said: frames.ServerFrame) -> None:
        await self.socket.send(b"\n".join(codec.encode(frame) for frame in said), text=True)

    async def hear(self, kind: type) -> Any:
        """The client's next frame, which is such a one."""
        frame = codec.decode_client_frame(await within(self.socket.recv()), codec.Limits())
        assert isinstance(frame, kind), frame
        return frame

    async def greet(self, max_frame_bytes: int = 1 << 18) -> frames.Hello:
        hello: frames.Hello = await self.hear(frames.Hello)
        await self.say(
            frames.Connected("c", 1, "user", 20_000, max_frame_bytes, 1 << 25, 1000, "memory", ref="hello")
        )
        return hello

    async def attached(self, cursor: str = "e.0.0", **fields: Any) -> frames.Attach:
        """Hear one `attach`, and answer it for each of its sessions."""
        attach: frames.Attach = await self.hear(frames.Attach)
        said = {"mode": "snapshot", "status": "idle", "queued": [], **fields}
        await self.say(*(frames.Attached(cursor, one.session_id, "bot", **said) for one in attach.sessions))
        return attach


class Played:
    """A gateway that says what the test tells it to."""

    def __init__(self) -> None:
        self.url = ""
        self.lines: asyncio.Queue[PlayedLine] = asyncio.Queue()
        self.refusals: list[tuple[int, str]] = []
        self.knocks = 0

    async def line(self) -> PlayedLine:
        return await within(self.lines.get())  # type: ignore[no-any-return]

    async def take(self, socket: ServerConnection) -> None:
        self.lines.put_nowait(PlayedLine(socket))
        await socket.wait_closed()

    def knock(self, socket: ServerConnection, _: Any) -> Any:
        self.knocks += 1
        return (
            socket.respond(HTTPStatus(self.refusals[0][0]), self.refusals.pop(0)[1])
            if self.refusals
            else None
        )


@asynccontextmanager
async def playing() -> AsyncIterator[Played]:
    played = Played()
    async with serve(played.take, "127.0.0.1", 0, process_request=played.knock) as server:
        played.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield played


def message(turn_id: str, cursor: str = "e.1.0") -> frames.Message:
    return frames.Message(cursor, "a", turn_id, "hi", 1.0)


def delta(turn_id: str, content: str, offset: int, seq: int = 1) -> frames.TextDelta:
    return frames.TextDelta(f"e.{seq}.{offset}", "a", turn_id, content)


def response(turn_id: str, content: str, cursor: str = "e.9.0") -> frames.Response:
    return frames.Response(cursor, "a", turn_id, content, "completed", 0, 0, Timing(), 1.0)


def refused(code: str, **fields: Any) -> frames.Error:
    return frames.Error(content="Not now.", code=code, retryable=True, **fields)


def told(role: Any, turn_id: str, content: str, **fields: Any) -> frames.HistoryMessage:
    return frames.HistoryMessage(role, turn_id, content, 1.0, **fields)


async def test_every_line_begins_with_one_attach_of_all_sessions_from_where_each_stands() -> None:
    async with playing() as gateway, client(gateway.url, user="ann") as c:
        for name in ("a", "b"):
            c.session(name, agent="bot", history=7)
        line = await gateway.line()
        hello = await line.greet()
        assert (hello.user_id, hello.batch) == ("ann", True)
        attach = await line.attached("e.3.0")
        assert [(one.session_id, one.agent, one.cursor, one.history) for one in attach.sessions] == [
            ("a", "bot", None, 7),
            ("b", "bot", None, 7),
        ]
        await within(c.session("b").ready())
        await line.say(message("x", "e.4.0"))
        await reached(c.session("a"), "e.4.0")
        await line.socket.close(1011)
        again = await gateway.line()
        await again.greet()
        attach = await again.hear(frames.Attach)
        assert [one.cursor for one in attach.sessions] == ["e.4.0", "e.3.0"]


async def test_an_attach_that_were_too_large_is_sent_in_parts() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        names = [f"session-{number}" for number in range(5)]
        for name in names:
            c.session(name)
        line = await gateway.line()
        await line.greet(max_frame_bytes=120)
        heard: list[frames.Target] = []
        while len(heard) < 5:
            attach = await line.hear(frames.Attach)
            assert len(codec.encode(attach)) <= 120
            heard += attach.sessions
        assert [target.session_id for target in heard] == names


async def test_what_is_not_acknowledged_is_sent_again_under_the_same_turn_id_and_what_is_is_not() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        session = c.session("a")
        first, second, third = session.send("1"), session.send("2"), session.send("3")
        line = await gateway.line()
        await line.greet()
        await line.attached()
        sent = [await line.hear(frames.Send) for _ in range(3)]
        assert [frame.turn_id for frame in sent] == [turn.turn_id for turn in (first, second, third)]
        third.cancel()
        assert (await line.hear(frames.Cancel)).turn_id == third.turn_id
        await line.say(frames.Ok(sent[0].ref, "a", first.turn_id, "started"), message(second.turn_id))
        await line.socket.close(1012)
        again = await gateway.line()
        await again.greet()
        await again.hear(frames.Attach)
        assert (await again.hear(frames.Send)).turn_id == third.turn_id
        assert (await again.hear(frames.Cancel)).turn_id == third.turn_id


@pytest.mark.parametrize("code", ["store_unavailable", "overloaded", "draining", "rate_limited"])
async def test_a_message_refused_for_now_is_sent_again_after_the_time_it_says(code: str) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with playing() as gateway, client(gateway.url, sleep=sleep) as c:
        turn = c.session("a").send("hi")
        line = await gateway.line()
        await line.greet()
        await line.attached()
        for _ in range(2):
            sent = await line.hear(frames.Send)
            assert sent.turn_id == turn.turn_id
            await line.say(
                refused(code, ref=sent.ref, session_id="a", turn_id=turn.turn_id, retry_after_ms=1500)
            )
        await line.hear(frames.Send)
        assert slept == [1.5, 1.5]
        await line.say(message(turn.turn_id), response(turn.turn_id, "x"))
        assert (await within(turn)).content == "x"


@pytest.mark.parametrize("names", ["the session", "the attach frame"])
async def test_an_attach_refused_for_now_is_tried_again(names: str) -> None:
    async with playing() as gateway, client(gateway.url) as c:
        session = c.session("a")
        line = await gateway.line()
        await line.greet()
        attach = await line.hear(frames.Attach)
        which = {"session_id": "a"} if names == "the session" else {"ref": attach.ref}
        await line.say(refused("store_unavailable", retry_after_ms=1, **which))
        await line.attached(messages=[told("user", "t", "hi"), told("agent", "t", "yes", status="completed")])
        await within(session.ready())
        assert [turn.text for turn in session.history] == ["yes"]


@pytest.mark.parametrize("code", ["session_closed", "session_expired", "session_not_found"])
async def test_a_session_that_is_gone_ends_the_turn_that_ran_in_it(code: str) -> None:
    async with playing() as gateway, client(gateway.url) as c:
        session = c.session("a")
        turn = session.send("hi")
        line = await gateway.line()
        await line.greet()
        await line.attached()
        sent = await line.hear(frames.Send)
        await line.say(frames.Ok(sent.ref, "a", turn.turn_id, "started"))
        await line.socket.close(1011)
        again = await gateway.line()
        await again.greet()
        await again.hear(frames.Attach)
        await again.say(refused(code, session_id="a"))
        with pytest.raises(TurnFailed) as failed:
            await within(turn)
        assert failed.value.frame.code == code


async def test_a_session_that_cannot_be_followed_says_so() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        session = c.session("a")
        line = await gateway.line()
        await line.greet()
        await line.hear(frames.Attach)
        await line.say(refused("agent_not_found", session_id="a"))
        with pytest.raises(Refused) as refusal:
            await within(session.ready())
        assert refusal.value.code == "agent_not_found"


async def test_a_session_deleted_under_a_turn_ends_it_as_cancelled() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        turn = c.session("a").send("hi")
        line = await gateway.line()
        await line.greet()
        await line.attached()
        await line.hear(frames.Send)
        await line.say(
            message(turn.turn_id), delta(turn.turn_id, "so far", 6), frames.Session("a", "closed", 0)
        )
        end = await within(turn)
        assert (end.status, end.content) == ("cancelled", "so far")


async def begun(gateway: Played, turn: Turn) -> PlayedLine:
    """The turn has said "Hello", and its line breaks. The next one, greeted."""
    line = await gateway.line()
    await line.greet()
    await line.attached()
    await line.hear(frames.Send)
    await line.say(message(turn.turn_id), delta(turn.turn_id, "Hello", 5))
    await line.socket.close(1011)
    again = await gateway.line()
    await again.greet()
    return again


async def test_a_turn_that_ended_in_another_epoch_ends_in_the_words_of_the_history() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        turn = c.session("a").send("hi")
        line = await begun(gateway, turn)
        user, agent = (
            told("user", turn.turn_id, "hi"),
            told("agent", turn.turn_id, "Hello you", status="completed"),
        )
        await line.attached("f.3.0", reason="epoch", messages=[user, agent])
        seen = await collect(turn)
        assert (seen[-1].content, seen[-1].status, shown(seen)) == ("Hello you", "completed", "Hello you")


async def test_a_turn_that_failed_in_another_epoch_does_so_with_its_code() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        turn = c.session("a").send("hi")
        line = await begun(gateway, turn)
        failed = told("agent", turn.turn_id, "Hel", status="failed", code="turn_interrupted")
        await line.attached("f.3.0", reason="epoch", messages=[told("user", turn.turn_id, "hi"), failed])
        end = (await collect(turn))[-1]
        assert (end.code, end.partial, end.retryable, turn.text) == ("turn_interrupted", "Hel", True, "Hel")


async def test_a_turn_that_goes_on_in_a_new_view_shows_nothing_twice() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        turn = c.session("a").send("hi")
        line = await begun(gateway, turn)
        user = told("user", turn.turn_id, "hi")
        await line.attached(
            "e.1.0", reason="trimmed", status="running", turn_id=turn.turn_id, messages=[user]
        )
        await line.say(delta(turn.turn_id, "Hel", 3), delta(turn.turn_id, "lo you", 9))
        await line.say(response(turn.turn_id, "Hello you"))
        seen = await collect(turn)
        assert shown(seen) == turn.text == "Hello you"


async def test_a_turn_that_the_gateway_forgot_ends_when_nothing_can_tell_of_it_any_more() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        turn = c.session("a").send("hi")
        line = await begun(gateway, turn)
        other = told("user", "other", "yo")
        await line.attached("f.1.0", reason="epoch", status="running", turn_id="other", messages=[other])
        await line.say(frames.Message("f.2.0", "a", "late", "hm", 1.0))
        await reached(c.session("a"), "f.2.0")
        assert not turn.over
        await line.say(response("other", "", "f.3.0"))
        assert (await collect(turn))[-1].code == "turn_not_found"


async def test_a_turn_accepted_after_a_snapshot_is_not_lost_because_the_next_line_finds_all_over() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        session, line = c.session("a"), await gateway.line()
        await line.greet()
        other = told("user", "other", "yo")
        await line.attached("e.1.0", status="running", turn_id="other", messages=[other])
        turn = session.send("hi")
        sent = await line.hear(frames.Send)
        accepted = frames.Ok(sent.ref, "a", turn.turn_id, "queued")
        await line.say(accepted, delta("other", "Yo", 2))
        await reached(session, "e.1.2")
        await line.socket.close(1011)
        again = await gateway.line()
        await again.greet()
        await again.hear(frames.Attach)
        await again.say(
            frames.Attached("e.1.2", "a", "bot", "replay", "idle", []), response("other", "Yo", "e.3.0")
        )
        await again.say(
            frames.Message("e.4.0", "a", turn.turn_id, "hi", 1.0),
            response(turn.turn_id, "Hello you", "e.5.0"),
        )
        assert (await collect(turn))[-1].content == "Hello you"


async def test_a_turn_sent_before_by_another_process_is_found_in_the_history() -> None:
    async with gateway(echo=EchoAgent()) as url:
        async with client(url) as first:
            await within(first.session("a").send("hi", turn_id="mine"))
            for number in range(3):
                await within(first.session("a").send(str(number)))
        async with client(url) as second:
            assert (await within(second.session("a").send("hi", turn_id="mine"))).content == "hi"
        async with client(url) as third:
            session = third.session("a", history=2)
            await within(session.ready())
            with pytest.raises(TurnFailed) as lost:
                await within(session.send("hi", turn_id="mine"))
            assert lost.value.frame.code == "turn_not_found"
            assert (await within(session.send("new"))).content == "new"


async def test_what_a_laggard_was_not_sent_is_shown_before_the_end() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        turn = c.session("a").send("hi")
        line = await begun(gateway, turn)
        attach = await line.hear(frames.Attach)
        await line.say(
            frames.Attached(attach.sessions[0].cursor or "", "a", "bot", "replay", "idle", []),
            response(turn.turn_id, "Hello you"),
        )
        assert shown(await collect(turn)) == "Hello you"


async def test_a_gateway_that_breaks_the_protocol_is_told_of_instead_of_shown() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        turn = c.session("a").send("hi")
        line = await gateway.line()
        await line.greet()
        await line.attached()
        await line.hear(frames.Send)
        await line.say(message(turn.turn_id), delta(turn.turn_id, "Hello", 7))
        with pytest.raises(ValueError, match="offset 7 instead of 5"):
            await collect(turn)
        assert (await line.hear(frames.Detach)).session_ids == ["a"]


async def test_frames_of_a_newer_gateway_are_passed_over() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        turn = c.session("a").send("hi")
        line = await gateway.line()
        await line.greet()
        await line.attached()
        await line.hear(frames.Send)
        await line.say(
            message(turn.turn_id), {"type": "hologram", "session_id": "a"}, response(turn.turn_id, "x")
        )  # type: ignore[arg-type]
        assert (await within(turn)).content == "x"


async def test_a_message_larger_than_the_gateway_takes_is_not_sent() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        session = c.session("a")
        line = await gateway.line()
        await line.greet(max_frame_bytes=1000)
        await line.attached()
        with pytest.raises(TurnFailed) as failed:
            await within(session.send("x" * 1000))
        assert (failed.value.frame.code, failed.value.frame.limit) == ("frame_too_large", 1000)
        session.send("small")
        assert (await line.hear(frames.Send)).content == "small"


# ── What cannot be sent ──


def nested() -> dict[str, Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return {"deep": deep}


WRONG: list[dict[str, Any]] = [
    {"metadata": {"what": object()}},
    {"metadata": {(1, 2): "no key"}},
    {"metadata": {"digits": 10**5000}},
    {"metadata": nested()},
    {"metadata": "no object"},
    {"content": 5},
    {"content": b"bytes"},
    {"content": None},
    {"content": "\ud83d", "metadata": {"what": object()}},
    {"on_busy": "whatever"},
    {"replaces": 7},
    {"turn_id": ["no text"]},
    {"turn_id": "x" * 1000},
]


@pytest.mark.parametrize("open_before", [True, False])
async def test_what_cannot_be_sent_ends_its_turn_and_no_other(open_before: bool) -> None:
    async with gateway(echo=EchoAgent()) as url, client(url) as c:
        session = c.session("a")
        if open_before:
            await within(session.ready())
        turns = [session.send(**{"content": "hi", **wrong}) for wrong in WRONG]
        assert (await within(session.send("all the same"))).content == "all the same"
        for turn, wrong in zip(turns, WRONG, strict=True):
            with pytest.raises(TurnFailed) as failed:
                await within(turn)
            assert failed.value.frame.code in ("bad_frame", "bad_id"), [*wrong]
            assert not failed.value.frame.retryable
        assert c.state.state == "connected"


@pytest.mark.parametrize("open_before", [True, False])
async def test_half_an_emoji_is_sent_as_a_replacement_character_and_both_halves_as_the_emoji(
    open_before: bool,
) -> None:
    async with playing() as gateway, client(gateway.url) as c:
        session = c.session("a")
        if open_before:
            line = await gateway.line()
            await line.greet()
            await line.attached()
        halves = {"\udc00": ["\ud83d", 1]}
        turn = session.send("half \ud83d, whole \ud83d\ude00", metadata=halves, turn_id="t\ud83d")
        if not open_before:
            line = await gateway.line()
            await line.greet()
            await line.attached()
        sent = await line.hear(frames.Send)
        assert sent.content == turn.message.content == "half \ufffd, whole \U0001f600"
        assert sent.metadata == {"\ufffd": ["\ufffd", 1]}
        assert sent.turn_id == turn.turn_id == "t\ufffd"
        await line.say(message(turn.turn_id), response(turn.turn_id, "x"))
        assert (await within(turn)).content == "x"


async def test_a_turn_id_used_again_is_the_same_turn_and_of_another_message_a_conflict() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        session = c.session("a")
        turn = session.send("hi", turn_id="t")
        line = await gateway.line()
        await line.greet()
        await line.attached()
        await line.hear(frames.Send)
        assert session.send("hi", turn_id="t") is turn
        with pytest.raises(TurnFailed, match="turn_conflict"):
            await within(session.send("something else", turn_id="t"))
        session.send("next")
        assert (await line.hear(frames.Send)).content == "next"
        await line.say(message("t"), response("t", "x"))
        assert (await within(turn)).content == "x"


@pytest.mark.parametrize("id_", [b"xyz", 5, None, "\ud83d", "no id"])
async def test_an_id_that_is_none_is_refused_where_it_is_given(id_: Any) -> None:
    async with client("ws://127.0.0.1:1") as c:
        with pytest.raises((Refused, TypeError)):
            c.session(id_)
        assert c.sessions == []


@pytest.mark.parametrize("wanted", [-1, 201, "many", pytest.param(10**5000, id="huge")])
async def test_a_session_that_cannot_be_asked_for_is_refused_where_it_is_asked_for(wanted: Any) -> None:
    async with playing() as gateway, client(gateway.url) as c:
        with pytest.raises(Refused):
            c.session("bad", history=wanted)
        c.session("good", history=200)
        line = await gateway.line()
        await line.greet()
        assert [one.session_id for one in (await line.attached()).sessions] == ["good"]


async def test_a_session_that_the_gateway_does_not_understand_holds_up_no_other() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        bad, good = c.session("bad", history=200), c.session("good")
        line = await gateway.line()
        await line.greet()
        await line.hear(frames.Attach)
        await line.say(refused("bad_frame", ref="attach", session_id="bad"))
        assert [one.session_id for one in (await line.attached()).sessions] == ["good"]
        await within(good.ready())
        with pytest.raises(Refused):
            await within(bad.ready())


@pytest.mark.parametrize("user", ["", "x" * 1000, "a\nb", 5, b"bytes"])
def test_a_user_that_cannot_be_is_refused_before_there_is_a_line(user: Any) -> None:
    with pytest.raises(Refused):
        client("ws://127.0.0.1:1", user=user)


@pytest.mark.parametrize(
    "url", ["ws://[bad", "ws://h:99999", "ws://h:x", "http://\ud800", "ws://", "mailto:a@b"]
)
def test_a_url_that_is_none_is_refused_before_there_is_a_line(url: str) -> None:
    with pytest.raises(ValueError, match="is no URL of a gateway"):
        client(url)


async def test_frames_that_nobody_can_read_are_passed_over() -> None:
    async with playing() as gateway, client(gateway.url) as c:
        turn = c.session("a").send("hi")
        line = await gateway.line()
        await line.greet()
        await line.attached()
        await line.hear(frames.Send)
        deep = b'{"type":"tool_call","input":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        for data in (deep, b"\xff", b"", b'{"type":"text_delta","content":"\\ud83d"}'):
            await line.socket.send(data, text=True) if data != b"\xff" else None
        await line.say(message(turn.turn_id), response(turn.turn_id, "x"))
        assert (await within(turn)).content == "x"


# ── What to do when a line ends ──


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1009, 4400, 4401, 4403, 4404])
async def test_a_close_that_would_only_happen_again_is_told_to_everybody_who_waits(code: int) -> None:
    async with playing() as gateway, client(gateway.url) as c:
        session = c.session("a")
        turn, watched = session.send("hi"), session.frames()
        line = await gateway.line()
        await line.say(refused("token_expired"))
        await line.socket.close(code)
        waits: list[Callable[[], Any]] = [
            lambda: turn,
            lambda: anext(aiter(turn)),
            session.ready,
            lambda: anext(watched),
        ]
        for wait in [*waits, lambda: session.send("more"), lambda: c.session("b").ready()]:
            with pytest.raises(LineClosed, match="Not now") as closed:
                await within(wait())
            assert (closed.value.close_code, closed.value.code) == (code, "token_expired")
        assert (c.state.state, gateway.knocks) == ("closed", 1)


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013, 4408, 4429, 4999])
async def test_after_any_other_close_comes_the_next_line(code: int) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with playing() as gateway, client(gateway.url, sleep=sleep) as c:
        await (await gateway.line()).socket.close(code)
        await (await gateway.line()).greet()
        await state(c, "connected")
        assert slept == [20.0 if code == 4429 else 0.0]


@pytest.mark.parametrize(
    ("status", "close"),
    [(400, 4400), (401, 4401), (403, 4403), (404, 4404), (429, None), (500, None), (503, None)],
)
async def test_an_upgrade_refused_over_http_counts_as_the_close_that_means_the_same(
    status: int, close: int | None
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with playing() as gateway:
        said = '{"content": "Not you.", "code": "overloaded", "retryable": true, "retry_after_ms": 7000}'
        gateway.refusals = [(status, said), (status, "<html>")]
        async with client(gateway.url, sleep=sleep) as c:
            if close is None:
                await (await gateway.line()).greet()
                assert slept == [7.0, 0.0]
                return
            with pytest.raises(LineClosed, match="Not you") as closed:
                await within(c.session("a").ready())
            assert (closed.value.close_code, gateway.knocks) == (close, 1)


async def test_a_hello_that_is_refused_is_the_end() -> None:
    async with playing() as gateway, client(gateway.url, user="bob") as c:
        turn = c.session("a").send("hi")
        line = await gateway.line()
        hello = await line.hear(frames.Hello)
        await line.say(refused("forbidden", ref=hello.ref))
        with pytest.raises(LineClosed) as closed:
            await within(turn)
        assert closed.value.code == "forbidden"


async def test_goaway_says_how_long_to_stay_away() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with playing() as gateway, client(gateway.url, sleep=sleep, random=lambda: 0.5) as c:
        line = await gateway.line()
        await line.greet()
        await line.say(frames.Goaway("The gateway stops.", 3000))
        await line.socket.close(1001)
        await (await gateway.line()).greet()
        await state(c, "connected")
        assert slept == [3.25]


async def test_lines_that_die_young_are_tried_at_growing_distances_and_one_that_lived_begins_anew() -> None:
    slept: list[float] = []
    now = 0.0

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with playing() as gateway:
        options: dict[str, Any] = {"sleep": sleep, "random": lambda: 1.0, "clock": lambda: now}
        async with client(gateway.url, **options):
            for _ in range(8):
                await (await gateway.line()).socket.close(1012)
            line = await gateway.line()
            now = 60.0
            await line.socket.close(1012)
            await gateway.line()
            assert slept == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0, 0.5]


def test_the_distance_is_anything_up_to_its_bound() -> None:
    chance = random.Random(1)
    backoff = Backoff(chance.random)
    delays = [backoff.next(1.0) for _ in range(2000)]
    assert max(delays[100:]) > 20
    assert min(delays[100:]) < 1.5


# ── Whoever does not take what comes ──


async def test_text_that_waits_for_its_iterator_is_one_delta() -> None:
    feed = Feed(limit=5)
    for number in range(1, 1001):
        feed.put(delta("t", "x", number))
    feed.put(frames.ThoughtDelta("a", "t", "hm"))
    feed.put(frames.ThoughtDelta("a", "t", "!"))
    feed.put(delta("u", "y", 1))
    feed.put(delta("v", "z", 1))
    feed.close()
    seen = [frame async for frame in feed]
    assert seen == [
        delta("t", "x" * 1000, 1000),
        frames.ThoughtDelta("a", "t", "hm!"),
        delta("u", "y", 1),
        delta("v", "z", 1),
    ]


async def test_a_watcher_who_takes_nothing_is_let_go_of() -> None:
    feed = Feed(limit=3)
    for number in range(5):
        feed.put(frames.Typing("a", "start", "user", str(number)))
    with pytest.raises(Lagged, match="More than 3"):
        await anext(feed)


async def test_a_turn_that_nobody_iterates_is_still_there_to_be_iterated() -> None:
    script = Script()
    async with gateway(bot=script) as url, client(url) as c:
        turn = c.session("a").send("hi", turn_id="t")
        said: Said = await script.given("t")
        for _ in range(1000):
            said.say("tok ")
        said.end()
        await within(turn)
        seen = await collect(turn)
        assert shown(seen) == "tok " * 1000
        assert kinds(seen) == ["Message", "TextDelta", "Response"]


class Tokens:
    """A function that gets a token: a new one every time."""

    def __init__(self) -> None:
        self.given = 0

    async def __call__(self) -> str:
        self.given += 1
        return f"token-{self.given}"


async def test_a_token_that_ends_soon_is_replaced_on_the_same_line() -> None:
    async with playing() as gateway, client(gateway.url, token=Tokens()):
        line = await gateway.line()
        assert line.socket.request is not None
        assert line.socket.request.headers["Authorization"] == "Bearer token-1"
        await line.greet()
        await line.say(frames.Token(99.0))
        assert (await line.hear(frames.Hello)).token == "token-2"


async def test_a_line_whose_token_ran_out_is_followed_by_one_with_a_new_token() -> None:
    async with playing() as gateway, client(gateway.url, token=Tokens()):
        line = await gateway.line()
        await line.greet()
        await line.socket.close(4401)
        again = await gateway.line()
        assert again.socket.request is not None
        assert again.socket.request.headers["Authorization"] == "Bearer token-2"


@pytest.mark.parametrize(("token", "greeted"), [(Tokens(), False), ("fixed", True)])
async def test_a_token_that_was_never_good_or_cannot_be_renewed_is_the_end(token: Any, greeted: bool) -> None:
    async with playing() as gateway, client(gateway.url, token=token) as c:
        line = await gateway.line()
        if greeted:
            await line.greet()
            await state(c, "connected")
        await line.socket.close(4401)
        await state(c, "closed")
        assert gateway.knocks == 1


class Unsure:
    """A function that gets a token only every other time."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        if self.asked % 2:
            raise OSError("no network")
        return f"token-{self.asked}"


async def test_where_no_token_can_be_got_it_is_asked_for_again() -> None:
    async with playing() as gateway, client(gateway.url, token=Unsure()) as c:
        await state(c, "waiting")
        assert c.state.reason == "No token could be got."
        line = await gateway.line()
        assert line.socket.request is not None
        assert line.socket.request.headers["Authorization"] == "Bearer token-2"
        await line.greet()
        await line.say(frames.Token(99.0))  # there is none this time, and the line goes on
        turn = c.session("a").send("hi")
        await line.attached()
        await line.hear(frames.Send)
        await line.say(message(turn.turn_id), response(turn.turn_id, "x"))
        assert (await within(turn)).content == "x"


async def test_a_token_is_sent_without_the_line_break_that_was_read_with_it() -> None:
    async with playing() as gateway, client(gateway.url, token="secret\n"):
        line = await gateway.line()
        assert line.socket.request is not None
        assert line.socket.request.headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("token", ["se\r\ncret: x", "\ud83d", "gehei\u0308m", "\x00"])
async def test_a_token_that_cannot_be_sent_is_the_end_and_says_so(token: str) -> None:
    async with playing() as gateway, client(gateway.url, token=token) as c:
        with pytest.raises(LineClosed, match="characters that no token has") as closed:
            await within(c.session("a").ready())
        assert closed.value.close_code == 4401
        assert gateway.knocks == 0


# ── Why there is no line, in a sentence ──


async def reason(url: str) -> str:
    """Why there is no line there, as soon as that is known."""
    async with client(url) as c:
        async with asyncio.timeout(WAIT):
            async for line in c.states():
                if line.state in ("waiting", "closed"):
                    return line.reason
    raise AssertionError("there is a line")


async def test_an_address_at_which_nobody_answers_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert await reason(f"ws://127.0.0.1:{port}") == f"Nothing listens at 127.0.0.1:{port}."
    assert await reason(f"ws://localhost:{port}") == f"Nothing listens at localhost:{port}."
    assert await reason("ws://nowhere.invalid") == "There is no host nowhere.invalid."
    assert (await reason("ws://a..b")).startswith("a..b cannot be reached: ")


async def test_something_else_that_answers_is_told_from_a_gateway() -> None:
    hung_up = asyncio.Event()

    async def other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    async with await asyncio.start_server(other, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        said = await reason(f"ws://127.0.0.1:{port}")
        assert said.startswith(f"What answers at 127.0.0.1:{port} is no gateway: ")
        await within(hung_up.wait())


@pytest.mark.parametrize(
    "body", ['{"content":"x","code":"y","retry_after_ms":"soon"}', '{"content":7}', "[" * 100_000, "\udcff"]
)
async def test_a_refusal_in_anybody_elses_words_is_told_in_our_own(body: str) -> None:
    async with playing() as gateway:
        gateway.refusals = [(503, body.encode(errors="surrogateescape").decode("latin-1"))]
        assert await reason(gateway.url) == "The gateway takes no more lines now. (HTTP status 503)"


async def test_the_wall_clock_may_jump_while_a_client_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = iter([1e9, 0.0, 2e9, -1e9])
    monkeypatch.setattr(time, "time", lambda: next(jumps, 0.0))
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    async with playing() as gateway, client(gateway.url, sleep=sleep, random=lambda: 1.0) as c:
        for _ in range(3):
            line = await gateway.line()
            await line.greet()
            await state(c, "connected")
            await line.socket.close(1012)
        await gateway.line()
        assert slept == [0.5, 1.0, 2.0]
