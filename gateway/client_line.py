"""One line of the client: one WebSocket, its one reader and its one writer, from the upgrade to the close."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections import deque
from collections.abc import Callable
from socket import gaierror
from ssl import SSLCertVerificationError
from urllib.parse import urlsplit, urlunsplit

import anyio
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.http11 import Response
from websockets.uri import parse_uri

from protocol import frames

__all__ = ["FINAL", "Backoff", "Line", "LineClosed", "socket_url"]

FINAL = {
    1000: "The gateway closed the line.",
    1003: "The gateway takes text frames only.",
    1007: "The gateway was sent what is not UTF-8.",
    1009: "A message was larger than the gateway or this client takes.",
    4400: "The gateway does not understand this client.",
    4401: "The token is missing, bad or expired; get a new one.",
    4403: "This is not allowed.",
    4404: "There is no such agent, or no gateway, at this address.",
}
"""Close codes after which the same would only happen again. After any other one comes the next line."""

WAITS = {4429: 20.0}
"""Close codes after which to wait so many seconds at the least."""

STATUSES = {401: 4401, 403: 4403, 404: 4404, 408: 1013, 425: 1013, 429: 1013}
"""What an HTTP refusal of the upgrade means, as a close code; any other 4xx is 4400, and the rest 1013."""

BROKEN = 1006
_OPENING = 10.0
"""Seconds for the upgrade, and from then to the first frame."""


class LineClosed(Exception):
    """There is no line to the gateway. `content` says why: a sentence.

    `close_code` is the WebSocket's (an HTTP refusal counts as the one that means the same), `code` that of
    the error table, if the gateway said one. Whoever waits for something gets it only if trying again would
    not help.
    """

    def __init__(self, close_code: int, content: str, code: str | None = None) -> None:
        super().__init__(content)
        self.close_code = close_code
        self.content = content
        self.code = code


class Backoff:
    """Full jitter: anything up to 0.5 s, then twice as much each time, up to 20 s.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    __slots__ = ("_random", "_tries")

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._tries = 0

    def next(self, least: float = 0.0) -> float:
        """Seconds to wait now, on top of the `least` that the gateway asks for."""
        span = min(20.0, 0.5 * 2.0 ** min(self._tries, 6))
        self._tries += 1
        return least + self._random() * span

    def reset(self) -> None:
        """All is well again."""
        self._tries = 0


class Line:
    """One WebSocket. `receive` is called with each frame, and may raise `LineClosed` to end it."""

    def __init__(
        self, url: str, max_size: int, receive: Callable[[bytes], None], token: str | None = None
    ) -> None:
        self._url = url
        self._token = (token or "").strip()
        self._max_size = max_size
        self._receive = receive
        self._socket: ClientConnection | None = None
        self._outbox: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self.quiet = _OPENING
        """Seconds without a sign of life after which it is dead."""
        self.error: frames.Error | None = None
        """The last error that was not about one frame."""
        self.goaway: frames.Goaway | None = None

    def put(self, data: bytes) -> None:
        """Send this frame."""
        self._outbox.append(data)
        self._wake.set()

    async def run(self) -> LineClosed:
        """Open it and talk until it ends; how it ended."""
        if not (self._token.isascii() and self._token.isprintable()):
            return LineClosed(4401, "The token has characters that no token has; copy it again.")
        try:
            self._socket = await connect(
                self._url,
                additional_headers={"Authorization": f"Bearer {self._token}"} if self._token else None,
                compression=None,
                max_size=self._max_size,
                open_timeout=_OPENING,
                ping_interval=None,  # the gateway says something at least every heartbeat
            )
        except InvalidStatus as refused:
            return self._refusal(refused.response)
        except SSLCertVerificationError as error:
            return LineClosed(4403, f"The gateway's certificate is not good: {error.verify_message}.")
        except (UnicodeError, ImportError) as error:  # of no host's name; python-socks for a SOCKS proxy
            return LineClosed(4400, f"{_host(self._url)} cannot be reached: {error}.")
        except (OSError, WebSocketException) as error:
            return LineClosed(BROKEN, _unreachable(_host(self._url), error))
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, self._socket)
                closed = await self._read(self._socket)
                tasks.cancel_scope.cancel()
            return closed
        finally:
            self._socket.transport.abort()

    async def close(self) -> None:
        """Say goodbye, for a second at the most."""
        if self._socket is not None:
            with anyio.move_on_after(1, shield=True):
                await self._socket.close()

    @property
    def patience(self) -> float:
        """Seconds that the gateway wants to be left alone."""
        if self.goaway is not None:
            return self.goaway.reconnect_after_ms / 1000
        if self.error is not None and self.error.retry_after_ms is not None:
            return self.error.retry_after_ms / 1000
        code = self._socket.close_code if self._socket is not None else None
        return WAITS.get(code or BROKEN, 0.0)

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while True:
                while self._outbox:
                    await socket.send(self._outbox.popleft(), text=True)
                self._wake.clear()
                await self._wake.wait()
        except ConnectionClosed:
            pass  # the reader says why

    async def _read(self, socket: ClientConnection) -> LineClosed:
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(self.quiet) as alarm:
                while True:
                    data = await socket.recv(decode=False)
                    for frame in data.split(b"\n"):
                        self._receive(frame)
                    alarm.reschedule(now() + self.quiet)
        except TimeoutError:
            return LineClosed(BROKEN, f"Nothing was heard for {self.quiet:g} s.")
        except ConnectionClosed as closed:
            return self._why(closed)
        except LineClosed as closed:
            return closed

    def _why(self, closed: ConnectionClosed) -> LineClosed:
        """How it ended: in the words of the gateway's last `error`, if it said one."""
        end = closed.rcvd or closed.sent
        if end is None:
            return LineClosed(BROKEN, "The line broke.")
        if self.error is not None:
            return LineClosed(end.code, self.error.content, self.error.code)
        return LineClosed(end.code, FINAL.get(end.code) or end.reason or "The gateway closed the line.")

    def _refusal(self, response: Response) -> LineClosed:
        """How it ended before it began."""
        status = response.status_code
        close = STATUSES.get(status, 4400 if 400 <= status < 500 else 1013)
        try:
            said = msgspec.json.decode(response.body or b"{}", type=_Refusal)
        except (msgspec.MsgspecError, RecursionError):
            content = FINAL.get(close, "The gateway takes no more lines now.")
            return LineClosed(close, f"{content} (HTTP status {status})")
        self.error = frames.Error(
            content=said.content,
            code=said.code,
            retryable=close not in FINAL,
            retry_after_ms=said.retry_after_ms,
        )
        return LineClosed(close, said.content, said.code)


class _Refusal(msgspec.Struct):
    """What the gateway says instead of opening a line."""

    content: str
    code: str
    retry_after_ms: int | None = None


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _unreachable(host: str, error: OSError | WebSocketException) -> str:
    """Why no line could be opened, as a sentence."""
    if isinstance(error, WebSocketException):
        return f"What answers at {host} is no gateway: {error}."
    if isinstance(error, TimeoutError):
        return f"{host} did not answer within {_OPENING:g} s."
    if isinstance(error, gaierror):
        return f"There is no host {host}."
    # Of a name with several addresses, asyncio says only in words what became of each.
    told = re.search(r"\[Errno (\d+)\]", str(error))
    number = error.errno or (int(told[1]) if told else None)
    if number == errno.ECONNREFUSED:
        return f"Nothing listens at {host}."
    return f"{host} cannot be reached: {os.strerror(number) if number else error}."


def socket_url(url: str) -> str:
    """`http://host:8080/prefix` → `ws://host:8080/prefix/ws`. Raises `ValueError`."""
    try:
        parts = urlsplit(url)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        path = parts.path.rstrip("/")
        path = path if path.endswith("/ws") else f"{path}/ws"
        socket = urlunsplit((scheme, parts.netloc, path, parts.query, ""))
        parse_uri(socket)
    except (ValueError, InvalidURI) as error:
        raise ValueError(f"{url!r} is no URL of a gateway: {error}") from None
    return socket
