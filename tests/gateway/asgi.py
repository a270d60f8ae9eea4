"""One end of an ASGI app in memory, below any HTTP library: streams and sockets are exchanges like any other.

They are played on a loop whose clock jumps: where nothing is left to do, the next timer is due. So everything
has come to rest when a short while has passed, and the same happens in the same order every time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

from gateway.app import Gateway

__all__ = ["Exchange", "Headers", "played"]

T = TypeVar("T")
Headers: TypeAlias = Sequence[tuple[str, str]]


class _Jumps(selectors.DefaultSelector):
    """Never waits: `passed` is how many seconds everybody believes to have waited."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            return super().select(1.0)  # no timer: a thread may still wake the loop
        ready = super().select(0)
        if not ready:
            self.passed += max(timeout, 0.0)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    """Its time passes only while everybody waits for that."""

    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.passed


def played(story: Coroutine[Any, Any, T]) -> T:
    """What comes of it, on a loop of its own whose clock begins at 0."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(story)


class Exchange:
    """A request, or a socket (`WS`): what is sent, and what came back so far."""

    def __init__(
        self, method: str, path: str, query: str = "", headers: Headers = (), body: bytes = b""
    ) -> None:
        self.method = method
        self.path = path
        self.status = 0
        """0: not answered yet."""
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.frames: list[str] = []
        """What came down a socket."""
        self.close_code: int | None = None
        self.over = False
        """The answer is whole, or the socket closed."""
        self._kind = "websocket" if method == "WS" else "http"
        self._scope: dict[str, Any] = {
            "type": self._kind,
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [
                (b"host", b"localhost"),
                *((name.encode(), value.encode("latin-1")) for name, value in headers),
            ],
            "client": ("127.0.0.1", 4711),
            "server": ("127.0.0.1", 80),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
            "state": {},
        }
        self._sent = [*headers, body]
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        request = {"type": "http.request", "body": body, "more_body": False}
        self._inbox.put_nowait({"type": "websocket.connect"} if method == "WS" else request)

    def __repr__(self) -> str:
        return f"{self.method} {self._scope['path']!r} {self._scope['query_string']!r} {self._sent!r}"

    @property
    def header(self) -> Mapping[str, str]:
        """The headers of the answer by their names."""
        return dict(self.headers)

    async def run(self, app: Gateway) -> None:
        """Have it answered."""
        await app(self._scope, self._inbox.get, self._take)
        self.over = True

    def say(self, text: str) -> None:
        """Send a frame up a socket."""
        self._inbox.put_nowait({"type": "websocket.receive", "text": text})

    def go(self) -> None:
        """The client is gone."""
        self._inbox.put_nowait({"type": f"{self._kind}.disconnect", "code": 1000})

    async def _take(self, message: Any) -> None:
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self.status = message["status"]
                pairs = message.get("headers", ())
                self.headers = [(name.decode().lower(), value.decode("latin-1")) for name, value in pairs]
            case "http.response.body" | "websocket.http.response.body":
                self.body += message.get("body", b"")
            case "websocket.accept":
                self.status = 101
            case "websocket.send":
                self.frames += message["text"].split("\n")
            case "websocket.close":
                self.close_code = message["code"]
