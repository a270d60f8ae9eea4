"""The terminal as the chat uses it: lines in, without a thread that waits for them; text and lines out."""

from __future__ import annotations

import os
from collections import deque

import anyio
from rich.console import Console
from rich.text import Text

__all__ = ["Keyboard", "Screen"]

# What an agent says must not move the cursor or ring the bell: no control characters but line ends and tabs.
_CONTROL = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)]) | {0x09: "\t", 0x0A: "\n"}


class Keyboard:
    """Lines of a file descriptor, read when they are there: no thread waits for them."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: deque[str] = deque()
        self._rest = b""
        self._ended = False
        self.interactive = os.isatty(fd)
        """Somebody sits there."""

    async def line(self) -> str | None:
        """The next line, without its end; None after the last one."""
        while not self._lines:
            if self._ended:
                return None
            await self._more()
        return self._lines.popleft()

    async def _more(self) -> None:
        try:
            await anyio.wait_readable(self._fd)
        except PermissionError:
            pass  # a file: it is always ready, and epoll will not have it
        data = os.read(self._fd, 1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data:
            self._ended = True
            lines = [self._rest] if self._rest else []
        self._lines += [line.decode(errors="replace").rstrip("\r") for line in lines]


class Screen:
    """What is shown: an answer as it comes, and whole lines, which never begin in the middle of one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._prompt = ""
        self._midline = False

    def write(self, text: str) -> None:
        """A piece of an answer."""
        if text := text.translate(_CONTROL):
            self._console.out(text, end="", highlight=False)
            self._midline = not text.endswith("\n")

    def end_line(self) -> None:
        """What comes next begins a line."""
        if self._midline:
            self._console.out("", highlight=False)
            self._midline = False

    def say(self, text: str, style: str = "dim") -> None:
        """A line of its own; if a prompt stands, it stands again below."""
        prompt = self._prompt
        self.end_line()
        self._console.print(Text(text.translate(_CONTROL), style), soft_wrap=True)
        if prompt:
            self.prompt(prompt)

    def prompt(self, text: str) -> None:
        """Ask for a line, until `answered`."""
        self._prompt, self._midline = text, True
        self._console.print(Text(text, "bold cyan"), end="")

    def answered(self) -> None:
        """The line is there, and its end was echoed."""
        self._prompt, self._midline = "", False
