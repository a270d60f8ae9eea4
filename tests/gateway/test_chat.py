"""The terminal chat: the real one, at a keyboard and on paper that the test owns, and as a process."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from gateway.agents.echo import EchoAgent
from gateway.agents.function import FunctionAgent
from gateway.app import gateway_app
from gateway.chat import Chat
from gateway.chat_terminal import Keyboard, Screen
from gateway.client import Client
from gateway.interfaces import Agent, AgentError, Piece, ToolCall, ToolResult, Turn
from gateway.serve import Server, configure
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore

WAIT = 30.0
CHAT = ("-m", "gateway", "chat", "--url")
T = TypeVar("T")


async def within(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(WAIT):
        return await awaitable


async def no_wait(_: float) -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def gateway(**agents: Agent) -> AsyncIterator[str]:
    app = gateway_app(Settings(drain_timeout=0.01), agents=agents, store=MemoryStore())
    listening = asyncio.Event()
    server = Server(configure(app, port=0), drain=app.drain, ready=lambda _: listening.set())
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        await within(listening.wait())
        try:
            yield server.url
        finally:
            server.should_exit = True


class Paper(io.StringIO):
    """What the chat has printed."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def write(self, text: str) -> int:
        self._news.set()
        return super().write(text)

    async def until(self, text: str) -> None:
        """Wait until that stands there."""
        async with asyncio.timeout(WAIT):
            while text not in self.getvalue():
                self._news.clear()
                await self._news.wait()


class Seat:
    """Somebody at a terminal, or a script at a pipe."""

    def __init__(self, client: Client, chat: Chat, paper: Paper, fd: int) -> None:
        self.client = client
        self.chat = chat
        self.paper = paper
        self.fd = fd
        self.left: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def type(self, *lines: str) -> None:
        os.write(self.fd, "".join(f"{line}\n" for line in lines).encode())

    async def answer(self, line: str, wanted: str) -> None:
        self.type(line)
        await self.paper.until(wanted)

    async def run(self, name: str) -> None:
        self.left.set_result(await self.chat.run(name))


@contextmanager
def _ends(terminal: bool) -> Iterator[tuple[int, int]]:
    near, far = os.pipe()
    if terminal:
        for end in (near, far):
            os.close(end)
        far, near = os.openpty()
    try:
        yield near, far
    finally:
        for end in (near, far):
            try:
                os.close(end)
            except OSError:
                pass


@asynccontextmanager
async def seat(url: str, name: str = "main", *, terminal: bool = True) -> AsyncIterator[Seat]:
    """A chat that runs, in the session of that name."""
    paper = Paper()
    console = Console(file=paper, highlight=False, width=200)
    with _ends(terminal) as (near, far):
        async with Client(url, random=lambda: 0.0, sleep=no_wait) as client:
            sitting = Seat(client, Chat(client, Screen(console), Keyboard(near)), paper, far)
            async with asyncio.TaskGroup() as group:
                running = group.create_task(sitting.run(name))
                try:
                    yield sitting
                finally:
                    running.cancel()


def told() -> tuple[FunctionAgent, asyncio.Queue[str | None]]:
    """An agent that says what is put there, and comes to its end with None."""
    pieces: asyncio.Queue[str | None] = asyncio.Queue()

    async def agent(_: Turn) -> AsyncIterator[str]:
        while (piece := await pieces.get()) is not None:
            yield piece

    return FunctionAgent(agent), pieces


async def tools(turn: Turn) -> AsyncIterator[Piece]:
    yield "Let me see"
    yield ToolCall("c", "look", {"at": turn.content})
    yield ToolResult("c", "nothing there", is_error=True)
    yield ": no.\a\x1b[2J"


async def test_a_script_gets_the_answers_and_nothing_else() -> None:
    async with gateway(echo=EchoAgent()) as url, seat(url, terminal=False) as script:
        script.type("one", "", "two ")
        os.write(script.fd, "drei…".encode())
        os.close(script.fd)
        assert await within(script.left)
        assert script.paper.getvalue() == "one\ntwo \ndrei…\n"


async def test_a_script_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text("one\r\ntwo\n")
    with path.open() as file:
        keyboard = Keyboard(file.fileno())
        assert [await within(keyboard.line()) for _ in range(3)] == ["one", "two", None]


async def test_a_person_is_shown_a_prompt_and_on_coming_back_the_conversation() -> None:
    async with gateway(echo=EchoAgent()) as url:
        async with seat(url, "work") as person:
            await person.paper.until("› ")
            await person.answer("hello there", "hello there\n› ")
            os.write(person.fd, b"\x04")
            assert await within(person.left)
        async with seat(url, "work") as person:
            await person.paper.until("work · echo · /help\n› hello there\nhello there\n› ")


async def test_control_c_stops_the_answer_and_at_the_prompt_the_chat() -> None:
    bot, pieces = told()
    async with gateway(bot=bot) as url, seat(url) as person:
        await person.paper.until("› ")
        person.type("go on")
        pieces.put_nowait("so far")
        await person.paper.until("so far")
        person.chat.interrupt()
        await person.paper.until("so far\n— cancelled\n› ")
        person.chat.interrupt()
        assert await within(person.left)


async def test_how_an_answer_failed_is_said_and_retry_asks_again_in_its_place() -> None:
    asked: list[str] = []

    async def agent(turn: Turn) -> AsyncIterator[str]:
        asked.append(f"{turn.content} after {len(turn.history)}")
        yield "Well"
        if len(asked) == 1:
            raise AgentError("I am out of words.")

    async with gateway(bot=FunctionAgent(agent)) as url, seat(url) as person:
        await person.answer("/retry", "nothing to ask again")
        await person.answer("why?", "Well\n— agent_failed: I am out of words. /retry asks again.\n› ")
        await person.answer("/retry", "Well\n› ")
    assert asked == ["why? after 0", "why? after 0"]


async def test_tools_are_shown_in_a_line_and_no_agent_controls_the_terminal() -> None:
    async with gateway(bot=FunctionAgent(tools)) as url, seat(url) as person:
        await person.answer("here", "no.[2J\n› ")
        shown = 'Let me see\n⚙ look {"at": "here"}\n⚙ failed: nothing there\n: no.[2J\n'
        assert shown in person.paper.getvalue()


async def test_there_are_several_conversations_and_commands_to_go_between_them() -> None:
    async with gateway(echo=EchoAgent()) as url, seat(url, "one") as person:
        await person.answer("first", "first\n› ")
        await person.answer("/switch two", "two · ")
        await person.answer("second", "second\n› ")
        await person.answer("/switch one", "one · echo · /help\n› first\nfirst\n› ")
        await person.answer("/new", "chat-")
        await person.answer("/sessions", "→ chat-")
        assert "  one · 1 turns\n  two · 1 turns\n→ chat-" in person.paper.getvalue()
        await person.answer("/switch a/b", "bad_id: ")
        await person.answer("/help", "/retry        ask the last question again")
        await person.answer("/nonsense", "no command; there are /switch")
        person.type("/quit")
        assert await within(person.left)


async def test_an_answer_that_runs_when_somebody_comes_back_is_shown_to_its_end() -> None:
    bot, pieces = told()
    async with gateway(bot=bot) as url:
        async with seat(url, terminal=False) as first:
            first.type("tell me")
            pieces.put_nowait("once upon ")
            await first.paper.until("once upon ")
        async with seat(url) as second:
            await second.paper.until("› tell me\nonce upon ")
            pieces.put_nowait("a time")
            pieces.put_nowait(None)
            await second.paper.until("once upon a time\n› ")


async def test_where_no_gateway_listens_it_says_so_and_waits() -> None:
    async with seat("ws://127.0.0.1:1") as person:
        await person.paper.until("reconnecting … ")
        person.chat.interrupt()
        assert await within(person.left)


async def test_after_a_few_tries_it_says_where_there_is_no_gateway_and_how_to_start_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with process("-m", "gateway", "chat", "--port", str(port), stdin=PIPE) as chat:
        assert chat.stdout is not None
        first = (await within(chat.stdout.readline())).decode()
        assert first == f"reconnecting … (Nothing listens at 127.0.0.1:{port}.)\n"
        then = (await within(chat.stdout.readline())).decode()
        assert then.startswith(
            f"There is no gateway at ws://127.0.0.1:{port} yet: start one with `gateway serve`"
        )
        async with gateway_at(port):
            said, _ = await within(chat.communicate(b"hello\n"))
            assert said.decode() == "connected again\nhello\n"


@asynccontextmanager
async def gateway_at(port: int) -> AsyncIterator[None]:
    """One that comes late."""
    app = gateway_app(Settings(drain_timeout=0.01), agents={"echo": EchoAgent()}, store=MemoryStore())
    server = Server(configure(app, port=port), drain=app.drain)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        try:
            yield
        finally:
            server.should_exit = True


async def test_a_gateway_that_was_there_is_waited_for_without_advice() -> None:
    async with AsyncExitStack() as stack:
        async with gateway(echo=EchoAgent()) as url:
            person = await stack.enter_async_context(seat(url))
            await person.answer("hello", "hello\n› ")
        await person.paper.until("reconnecting … ")
        async with asyncio.timeout(WAIT):
            for _ in range(5):
                await anext(line async for line in person.client.states() if line.state == "waiting")
                await anext(line async for line in person.client.states() if line.state == "connecting")
        assert "gateway serve" not in person.paper.getvalue()


async def test_what_the_terminal_has_no_letters_for_costs_no_answer() -> None:
    async with gateway(echo=EchoAgent()) as url:
        ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
        async with process(*CHAT, url, "--session", "s", stdin=PIPE, env=ascii_only) as chat:
            said, _ = await within(chat.communicate("caf\u00e9 \U0001f600\nand bye\n".encode()))
            assert (said, chat.returncode) == (b"caf? ?\nand bye\n", 0)


async def test_a_notice_that_comes_while_somebody_types_leaves_them_a_prompt() -> None:
    async with AsyncExitStack() as stack:
        async with gateway(echo=EchoAgent()) as url:
            person = await stack.enter_async_context(seat(url))
            await person.answer("hello", "hello\n› ")
        await person.paper.until("hello\n› \nreconnecting … ")
        await person.paper.until(")\n› ")


SERVER = """
import sys
from gateway.agents.metronome import MetronomeAgent
from gateway.app import gateway_app
from gateway.serve import serve
from gateway.settings import Settings
from gateway.stores.sqlite import SqliteStore

class Slow(MetronomeAgent):
    def __call__(self, turn):
        turn.metadata = {"deltas": 1000, "interval_ms": 20}
        return super().__call__(turn)

settings = Settings(save_interval=1000.0)  # nothing of a running turn's text is kept
app = gateway_app(settings, agents={"slow": Slow()}, store=SqliteStore(sys.argv[1]))
serve(app, port=int(sys.argv[2]), drain=app.drain, ready=lambda url: print(url, flush=True))
"""


@asynccontextmanager
async def process(*arguments: str, **options: Any) -> AsyncIterator[Process]:
    running = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE, **options)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def url_of(server: Process) -> str:
    assert server.stdout is not None
    return (await within(server.stdout.readline())).decode().strip()


async def test_it_goes_on_by_itself_after_a_kill_and_says_how_the_answer_ended(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(process("-c", SERVER, str(tmp_path / "x.db"), "0"))
        url = await url_of(server)
        person = await stack.enter_async_context(seat(url))
        await person.answer("go", "0000010 ")
        server.kill()
        await person.paper.until("\nreconnecting … ")
        again = process("-c", SERVER, str(tmp_path / "x.db"), url.rpartition(":")[2])
        await stack.enter_async_context(again)
        await person.paper.until("connected again\n")
        await person.paper.until("— turn_interrupted: ")
        answer = person.paper.getvalue().partition("› ")[2].partition("\n")[0]
        assert f"\n— the last {len(answer)} characters above were not kept\n" in person.paper.getvalue()
        await person.answer("/help", "/quit")


async def test_the_command_talks_on_standard_input_and_output_and_says_when_it_may_not() -> None:
    async with gateway(echo=EchoAgent()) as url:
        async with process(*CHAT, url, "--session", "s", stdin=PIPE) as chat:
            said, _ = await within(chat.communicate(b"hello\nand bye\n"))
            assert (said, chat.returncode) == (b"hello\nand bye\n", 0)
        async with process(
            "-m", "gateway", "chat", "--url", f"{url}/api/agents/nobody/ws", stdin=PIPE, stderr=STDOUT
        ) as chat:
            said, _ = await within(chat.communicate(b""))
            assert said.startswith(b"There is no agent 'nobody'")
            assert chat.returncode == 1


async def test_the_command_takes_control_c_for_stopping_the_answer() -> None:
    bot, pieces = told()
    async with gateway(bot=bot) as url, process(*CHAT, url, stdin=PIPE) as chat:
        assert chat.stdin is not None
        assert chat.stdout is not None
        chat.stdin.write(b"go on\n")
        pieces.put_nowait("so far")
        assert await within(chat.stdout.readexactly(6)) == b"so far"
        chat.send_signal(signal.SIGINT)
        said, _ = await within(chat.communicate(b""))
        assert said.decode() == "\n— cancelled\n"
        assert chat.returncode == 0
