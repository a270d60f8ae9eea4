"""What runs an app: uvicorn with corked WebSocket writes, and a shutdown that drains first.

`serve` runs an app until it is told to stop. `Server` rests on uvicorn's private code: pyproject pins one
minor of it, and `tests/test_pins.py` has each name that is used, and what it is assumed to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import anyio
import uvicorn

from .cork import Corked

__all__ = ["MAX_SIZE", "Server", "configure", "serve"]

MAX_SIZE = 1024 * 1024
"""Bytes of an incoming message; over it the peer is closed with 1009."""
PING = 20.0
"""Seconds between WebSocket pings, and again until a missing answer ends the line."""
GRACE = 5
"""Seconds for requests and sockets to finish after the drain, before they are cancelled."""


class Server(uvicorn.Server):
    """uvicorn's server, which drains before it closes anything, and says where it listens.

    The first SIGTERM or SIGINT starts `drain`; requests and sockets are still taken meanwhile, so that they
    can be told. A second one, of either kind, forces: the drain is cancelled, and the lifespan does not end.
    Other than uvicorn's, it does not raise the signal again afterwards: `serve` returns.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        drain: Callable[[], Awaitable[None]] | None = None,
        ready: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._ready = ready

    async def startup(self, sockets: Any = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._draining = anyio.CancelScope()
        await super().startup(sockets)
        if self.started and self._ready is not None:
            self._ready(self.url)

    @property
    def url(self) -> str:
        """Where it listens: `http://127.0.0.1:8080/prefix`, with the port it really got, or `unix:/path`."""
        if self.config.uds is not None:
            return f"unix:{self.config.uds}"
        port = self.servers[0].sockets[0].getsockname()[1]
        scheme = "https" if self.config.is_ssl else "http"
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"{scheme}://{host}:{port}{self.config.root_path}"

    async def shutdown(self, sockets: Any = None) -> None:
        # uvicorn sends 1012 to every WebSocket before the lifespan ends: what is to be said is said before.
        try:
            with self._draining:
                if self._drain is not None:
                    await self._drain()
        finally:
            await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.force_exit = self.should_exit
        self.should_exit = True
        if self.force_exit:
            self._loop.call_soon_threadsafe(self._draining.cancel)


def configure(
    app: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    uds: str | None = None,
    ssl_certfile: str | None = None,
    ssl_keyfile: str | None = None,
    root_path: str = "",
) -> uvicorn.Config:
    """uvicorn's settings as the gateway needs them. `port` 0 takes a free one; `uds` wins over both."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        uds=uds,
        ssl_certfile=ssl_certfile,
        ssl_keyfile=ssl_keyfile,
        root_path=root_path,
        loop="uvloop",
        http="httptools",
        ws=Corked,
        ws_max_size=MAX_SIZE,
        ws_per_message_deflate=False,
        ws_ping_interval=PING,
        ws_ping_timeout=PING,
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )


def serve(
    app: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    uds: str | None = None,
    ssl_certfile: str | None = None,
    ssl_keyfile: str | None = None,
    root_path: str = "",
    drain: Callable[[], Awaitable[None]] | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Run the ASGI app `app` until SIGTERM or SIGINT, then `drain` it, and return. Prints nothing.

    `ready` is called with the URL once it listens. Raises `SystemExit` if the app's lifespan fails to start
    or the address cannot be taken; why is in the log `uvicorn.error`.
    """
    config = configure(
        app,
        host=host,
        port=port,
        uds=uds,
        ssl_certfile=ssl_certfile,
        ssl_keyfile=ssl_keyfile,
        root_path=root_path,
    )
    Server(config, drain=drain, ready=ready).run()
