"""The baseline: a Starlette WebSocket handler with a task per turn that sends each delta, keeping none."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Struct, json
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from tests.bench.servers.agents import answer
from tests.bench.servers.run import run


class Message(Struct):
    """What a client asks: one turn."""

    session_id: str
    content: str
    metadata: dict[str, Any]


class Delta(Struct, tag_field="type", tag="text_delta"):
    """One piece of an answer."""

    session_id: str
    turn_id: str
    content: str


class Response(Struct, tag_field="type", tag="response"):
    """The end of an answer."""

    session_id: str
    turn_id: str
    status: str = "completed"


decoder = json.Decoder(Message)
encode = json.Encoder().encode


async def take_turn(socket: WebSocket, message: Message, turn: str) -> None:
    async for piece in answer(message.metadata):
        await socket.send_text(encode(Delta(message.session_id, turn, piece)).decode())
    await socket.send_text(encode(Response(message.session_id, turn)).decode())


async def chat(socket: WebSocket) -> None:
    await socket.accept()
    async with asyncio.TaskGroup() as turns:
        number = 0
        async for text in socket.iter_text():
            number += 1
            turns.create_task(take_turn(socket, decoder.decode(text), f"turn-{number}"))


if __name__ == "__main__":
    run(Starlette(routes=[WebSocketRoute("/ws", chat)]))
