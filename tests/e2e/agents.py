"""What the gateways of these tests run: answers that a test can foretell from the turn alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from zlib import crc32

from gateway import ToolCall, ToolResult, Turn
from gateway.interfaces import Piece

TURNS = "TEST_TURNS"
"""The environment variable that names the file into which `writer` writes every turn that it is given."""


def pieces(turn_id: str) -> list[str]:
    """What `writer` answers."""
    return [f"{turn_id}.{number} é🙂 " for number in range(5 + crc32(turn_id.encode()) % 60)]


async def writer(turn: Turn) -> AsyncIterator[Piece]:
    """A few dozen pieces, 3 ms apart, and a tool in the middle of every third answer."""
    file = os.open(os.environ[TURNS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{turn.turn_id}\n".encode())
    os.close(file)
    answer = pieces(turn.turn_id)
    for number, piece in enumerate(answer):
        if number == len(answer) // 2 and len(answer) % 3 == 0:
            yield ToolCall("c", "look", {"at": number})
            yield ToolResult("c", number)
        yield piece
        await asyncio.sleep(0.003)
