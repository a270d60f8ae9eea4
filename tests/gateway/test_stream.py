"""An answer over HTTP that is written as things happen, as a connection's transport."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.auth import Identity
from gateway.interfaces import Key
from gateway.stores.memory import MemoryStore
from gateway.stream import Events, Stream, connected
from gateway.supervisor import Supervisor
from protocol import codec, frames
from protocol.errors import Refused
from tests.harness import WAIT, Client, Script, gateway


class Peer:
    """A client of HTTP, as its server sees it."""

    def __init__(self) -> None:
        self.body = b""
        self.over = asyncio.Event()

    async def send(self, message: Any) -> None:
        self.body += message.get("body", b"")
        if message["type"] == "http.response.body" and not message["more_body"]:
            self.over.set()

    async def receive(self) -> Any:
        """A server says so when the answer is whole, too."""
        await self.over.wait()
        return {"type": "http.disconnect"}


class Odd(Events):
    """Cannot show text."""

    __slots__ = ()

    def show(self, frame: bytes) -> bytes:
        if codec.head(frame)[0] == "text_delta":
            raise ValueError
        return super().show(frame)


class Whole(Stream):
    """Shows nothing before the end, and cannot show that."""

    __slots__ = ()

    def show(self, frame: bytes) -> bytes:
        if codec.head(frame)[0] == "response":
            raise ValueError
        return b""

    def unfinished(self, refusal: Refused) -> bytes:
        return refusal.code.encode()


async def follow(g: Supervisor, stream: Stream, peer: Peer) -> None:
    async with connected(g, stream, Identity("ann"), peer.receive) as line:
        await line.follow(Key("bot", "ann", "s"), "new", None, None)


@pytest.mark.parametrize("kind", [Odd, Whole])
async def test_an_exception_while_a_stream_is_written_ends_that_stream_and_no_other(
    kind: type[Stream],
) -> None:
    script = Script()
    async with gateway({"bot": script}, MemoryStore()) as g:
        other, peer = Client(g), Peer()
        stream = Odd(peer.send, numbered=True) if kind is Odd else Whole(peer.send)
        other.put("message", session_id="s", turn_id="t", content="hi")
        said = await script.given("t")
        async with asyncio.timeout(WAIT), asyncio.TaskGroup() as group:
            group.create_task(follow(g, stream, peer))
            while len(g.sessions[Key("bot", "ann", "s")].log.readers) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
            said.say("text")
            said.end()
        assert (await other.terminal("t")).content == "text"
        assert [*g.lines.values()] == [other.line]
        assert peer.body.startswith(b"retry:" if kind is Odd else b"internal")


async def test_the_end_of_a_stream_that_is_drained_says_so() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        peer = Peer()
        async with asyncio.timeout(WAIT), asyncio.TaskGroup() as group:
            group.create_task(follow(g, Whole(peer.send), peer))
            while not g.lines:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await g.drain()
        assert peer.body == b"draining"


async def test_nothing_precedes_connected_on_a_stream_of_many_sessions() -> None:
    async with gateway({"bot": Script()}, MemoryStore()) as g:
        peer = Peer()
        soon = Identity("ann", expires_at=g.runtime.now() + 30)

        async def stream() -> None:
            async with connected(g, Events(peer.send, numbered=False), soon, peer.receive) as line:
                line.greet()
                line.take(frames.Attach([frames.Target("s", create=True)]))

        async with asyncio.timeout(WAIT), asyncio.TaskGroup() as group:
            group.create_task(stream())
            while b"event: ok" not in peer.body:  # noqa: ASYNC110
                await asyncio.sleep(0)
            peer.over.set()
        kinds = [line for line in peer.body.splitlines() if line.startswith(b"event: ")]
        assert kinds == [b"event: connected", b"event: token", b"event: attached", b"event: ok"]
