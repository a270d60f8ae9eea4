"""A whole gateway in memory, below any HTTP library: what a test sends and gets is ASGI's own messages, so that
streams and sockets are exchanges like any other.

All of it runs on a loop whose clock jumps: where nothing is left to do, the next timer is due. So it is known
when everything has come to rest, and the same things happen in the same order every time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from gateway.app import Gateway

__all__ = ["Exchange", "Headers", "played"]

T = TypeVar("T")
Headers = Sequence[tuple[str, str | bytes]]
SECOND = 1.0


class _Jumps(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Does not wait: `passed` is how much longer everybody believes to have waited."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            return super().select(SECOND)  # a thread may still wake it
        ready = super().select(0)
        if not ready:
            self.passed += max(timeout, 0.0)
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """Time passes only while everybody waits for it."""

    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.passed


def played(story: Coroutine[Any, Any, T]) -> T:
    """What comes of it on a loop of its own."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(story)


class Exchange:
    """One request, or one socket: what was sent, and what came back so far."""

    def __init__(
        self,
        method: str,
        path: str,
        query: str | bytes = b"",
        headers: Headers = (),
        body: bytes = b"",
    ) -> None:
        self.method = method
        self.path = path
        self.status = 0
        """0: not answered yet."""
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.over = False
        """The answer is complete."""
        self.frames: list[str] = []
        """What came down a socket."""
        self.close_code: int | None = None
        self._scope = {
            "type": "websocket" if method == "WS" else "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": query.encode() if isinstance(query, str) else query,
            "root_path": "",
            "headers": [(b"host", b"localhost"), *_encoded(headers)],
            "client": ("127.0.0.1", 4711),
            "server": ("127.0.0.1", 80),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
            "state": {},
        }
        if method == "WS":
            del self._scope["method"]
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        if method == "WS":
            self._inbox.put_nowait({"type": "websocket.connect"})
        else:
            self._inbox.put_nowait({"type": "http.request", "body": body, "more_body": False})

    @property
    def header(self) -> Mapping[str, str]:
        """The headers by their names; of several the last."""
        return dict(self.headers)

    async def run(self, app: Gateway) -> None:
        """Have it answered; raises what the app raises."""
        try:
            await app(self._scope, self._receive, self._send)
        finally:
            self.over = True

    def say(self, text: str) -> None:
        """Send a frame up a socket."""
        self._inbox.put_nowait({"type": "websocket.receive", "text": text})

    def go(self) -> None:
        """The client is gone."""
        kind = "websocket" if self._scope["type"] == "websocket" else "http"
        self._inbox.put_nowait({"type": f"{kind}.disconnect", "code": 1000})

    async def _receive(self) -> dict[str, Any]:
        return await self._inbox.get()

    async def _send(self, message: Any) -> None:
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self.status = message["status"]
                pairs = message.get("headers", ())
                self.headers = [(name.decode().lower(), value.decode("latin-1")) for name, value in pairs]
            case "http.response.body" | "websocket.http.response.body":
                self.body += message.get("body", b"")
                self.over = not message.get("more_body", False)
            case "websocket.accept":
                self.status = 101
            case "websocket.send":
                self.frames += message["text"].split("\n")
            case "websocket.close":
                self.close_code = message["code"]
                self.over = True


def _encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode("latin-1", "replace"))
        for name, value in headers
    ]


Story = Callable[[], Awaitable[None]]
