"""A terminal client on nothing but `protocol` and a WebSocket: the whole of what a client has to do.

    python examples/terminal_client.py ws://127.0.0.1:8080/ws my-session

It survives its line: it follows the session from where it was cut off, and says again what was not answered,
under the same turn_id. `protocol.transcript` keeps the position, and checks that nothing is lost or doubled.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from protocol import codec, frames
from protocol.transcript import Transcript


@dataclass
class Chat:
    transcript: Transcript
    asked: frames.Send | None = None
    printed: int = 0

    async def talk(self, socket: ClientConnection) -> None:
        """Follow the session on a new line; ask and answer until there is nothing more to ask."""
        target = frames.Target(self.transcript.session_id, cursor=self.transcript.cursor, create=True)
        await self.send(socket, frames.Hello(batch=True), frames.Attach([target]))
        while self.asked or await self.ask():
            assert self.asked is not None
            await self.send(socket, self.asked)  # said again, it still runs once
            while self.asked:
                for frame in codec.decode_batch(await socket.recv()):
                    self.show(frame)

    async def send(self, socket: ClientConnection, *said: frames.ClientFrame) -> None:
        for frame in said:
            await socket.send(codec.encode(frame), text=True)

    async def ask(self) -> bool:
        line = await asyncio.to_thread(sys.stdin.readline)
        self.asked = frames.Send(line.strip(), self.transcript.session_id, turn_id=str(uuid4()))
        self.printed = 0
        return bool(line)

    def show(self, frame: frames.ServerFrame) -> None:
        """Fold the frame in, and print what it adds to the answer."""
        if isinstance(frame, frames.Error) and frame.cursor is None:
            raise SystemExit(f"{frame.code}: {frame.content}")
        self.transcript.apply(frame)
        turn = self.transcript.turn((self.asked and self.asked.turn_id) or "")
        if turn is not None:
            print(turn.text[self.printed :], end="", flush=True)
            self.printed = max(self.printed, len(turn.text))
            if turn.over:
                end = "" if turn.status == "completed" else f" — {turn.status}: {turn.reason or turn.code}"
                print(end, flush=True)
                self.asked = None


async def main(url: str = "ws://127.0.0.1:8080/ws", session_id: str = "terminal") -> None:
    chat = Chat(Transcript(session_id))
    async for socket in connect(url, max_size=1 << 26):  # with back-off, one line after the other
        try:
            await chat.talk(socket)
            return
        except ConnectionClosed:
            chat.transcript.detach()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
