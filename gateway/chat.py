"""The terminal chat: answers stream, Ctrl-C stops one, conversations are taken up again where they stood.

Where its input is no terminal it reads lines and prints answers plainly, one after the other, and ends after
the last one: what scripts and demonstrations use.
"""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from anyio.lowlevel import checkpoint
from rich.console import Console

from protocol import frames
from protocol.errors import Refused

from .chat_terminal import Keyboard, Screen
from .client import Client, LineClosed, Session, Turn

__all__ = ["Chat", "chat"]

DEFAULT_SESSION = "main"
HISTORY = 5
"""Turns shown of a conversation that is taken up again."""
_WIDTH = 100
"""Characters shown of a tool's input."""
_TRIES = 3
"""After so many in vain it is said what to do about it."""


class Chat:
    """One person at one terminal, in one conversation at a time."""

    def __init__(self, client: Client, screen: Screen, keyboard: Keyboard, agent: str | None = None) -> None:
        self._client = client
        self._screen = screen
        self._keyboard = keyboard
        self._agent = agent
        self._session: Session | None = None
        self._turn: Turn | None = None
        self._scope = anyio.CancelScope()
        self._commands: dict[str, tuple[Callable[[str], Awaitable[None]], str]] = {
            "/switch": (self._switch, "/switch name  go to another conversation, new or old"),
            "/new": (self._new, "/new [name]   begin a conversation"),
            "/sessions": (self._sessions, "/sessions     the conversations of this chat"),
            "/retry": (self._retry, "/retry        ask the last question again"),
            "/help": (self._help, "/help         this"),
            "/quit": (self._quit, "/quit         leave; so does Ctrl-D"),
        }

    async def run(self, name: str) -> bool:
        """Talk, beginning in that session, until the input ends. False if there is no line any more."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            try:
                with self._scope:
                    await self._switch(name)
                    await self._talk()
            except LineClosed as closed:
                self._screen.say(closed.content, "red")
                return False
            finally:
                self._screen.end_line()
                tasks.cancel_scope.cancel()
        return True

    def interrupt(self) -> None:
        """Ctrl-C: stops the answer; where there is none to stop, the chat."""
        if self._turn is not None and not self._turn.cancelling:
            self._turn.cancel()
        else:
            self._scope.cancel()

    async def _talk(self) -> None:
        while (line := await self._ask()) is not None:
            name, _, argument = line.strip().partition(" ")
            if name.startswith("/"):
                command, _ = self._commands.get(name, (self._unknown, ""))
                await command(argument.strip())
            elif name and self._session is not None:
                await self._answer(self._session.send(line))

    async def _ask(self) -> str | None:
        if not self._keyboard.interactive:
            return await self._keyboard.line()
        self._screen.prompt("› ")
        line = await self._keyboard.line()
        if line is not None:
            self._screen.answered()
        return line

    async def _watch(self) -> None:
        """Say when the line breaks, and when it is there again."""
        tries = 0
        async for line in self._client.states():
            if line.state == "waiting":
                tries += 1
                if tries == 1:
                    self._screen.say(f"reconnecting … ({line.reason})", "yellow")
                elif tries == _TRIES and self._client.connected is None:
                    self._screen.say(
                        f"There is no gateway at {self._client.url.removesuffix('/ws')} yet: start one with "
                        "`gateway serve`, or name another with --port or --url. Still trying.",
                        "yellow",
                    )
            elif line.state == "connected":
                if tries:
                    self._screen.say("connected again", "green")
                tries = 0

    # ── An answer ───────────────────────────────────────────────────────────────────────────────────────────

    async def _answer(self, turn: Turn) -> None:
        self._turn, shown = turn, 0
        try:
            async for frame in turn:
                match frame:
                    case frames.TextDelta():
                        self._screen.write(frame.content)
                        shown += len(frame.content)
                    case frames.ToolCall():
                        self._screen.say(f"⚙ {frame.name} {_brief(frame.input)}")
                    case frames.ToolResult(is_error=True):
                        self._screen.say(f"⚙ failed: {_brief(frame.content)}")
                    case frames.Response() | frames.Error():
                        self._screen.end_line()
                        self._end(frame, shown - len(turn.text))
                    case _:
                        pass
        finally:
            self._turn = None

    def _end(self, frame: frames.Response | frames.Error, lost: int) -> None:
        """How the answer ended, unless it is simply complete."""
        if isinstance(frame, frames.Response):
            if frame.status == "cancelled":
                self._screen.say("— cancelled", "yellow")
            return
        if frame.partial is not None and lost > 0:
            self._screen.say(f"— the last {lost} characters above were not kept", "yellow")
        hint = " /retry asks again." if frame.retryable else ""
        self._screen.say(f"— {frame.code}: {frame.content}{hint}", "red")

    # ── Commands ────────────────────────────────────────────────────────────────────────────────────────────

    async def _switch(self, name: str) -> None:
        try:
            session = self._client.session(name, self._agent)
            await session.ready()
        except Refused as refusal:
            self._screen.say(f"{refusal.code}: {refusal.content}", "red")
            return
        self._session = session
        if self._keyboard.interactive:
            self._show_history(session)
        running = session.follow()
        if running is not None:
            await self._answer(running)

    def _show_history(self, session: Session) -> None:
        agent = session.transcript.agent or self._agent or "the default agent"
        self._screen.say(f"{session.session_id} · {agent} · /help", "bold")
        for turn in session.history[-HISTORY:]:
            if turn.content is not None:
                self._screen.say(f"› {turn.content}")
            if turn.over:
                self._screen.say(turn.text if turn.status == "completed" else f"{turn.text} — {turn.status}")

    async def _new(self, name: str) -> None:
        await self._switch(name or f"chat-{secrets.token_hex(3)}")

    async def _sessions(self, _: str) -> None:
        for session in self._client.sessions:
            here = "→" if session is self._session else " "
            busy = " · answering" if session.transcript.running else ""
            self._screen.say(f"{here} {session.session_id} · {len(session.history)} turns{busy}")

    async def _retry(self, _: str) -> None:
        last = self._session.history[-1] if self._session is not None and self._session.history else None
        if self._session is None or last is None or last.content is None:
            self._screen.say("There is nothing to ask again.")
        else:
            await self._answer(self._session.send(last.content, replaces=last.turn_id))

    async def _help(self, _: str) -> None:
        for _command, text in self._commands.values():
            self._screen.say(text)

    async def _quit(self, _: str) -> None:
        self._scope.cancel()
        await checkpoint()

    async def _unknown(self, _: str) -> None:
        self._screen.say(f"That is no command; there are {', '.join(self._commands)}.")


def _brief(value: Any) -> str:
    """A tool's input or output in a line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


@contextmanager
def _on_interrupt(callback: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, callback)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def chat(
    url: str,
    agent: str | None = None,
    session: str | None = None,
    user: str | None = None,
    token: str | None = None,
) -> None:
    """`gateway chat`: talk on standard input and output. Raises `SystemExit` with 1 if there is no line, and
    `Refused` if there can be none to that URL, or for that user."""
    try:
        client = Client(url, token, user)
    except ValueError as error:
        raise Refused("bad_request", f"{error}.") from error
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what the terminal has no letters for costs no answer
    keyboard, screen = Keyboard(sys.stdin.fileno()), Screen(Console(highlight=False))
    async with client:
        talk = Chat(client, screen, keyboard, agent)
        with _on_interrupt(talk.interrupt):
            well = await talk.run(session or DEFAULT_SESSION)
    if not well:
        sys.exit(1)
