"""Run a baseline: the gateway's own uvicorn settings, with uvicorn's own WebSocket protocol."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from gateway.serve import Server, configure


def announce(url: str) -> None:
    """Tell the bench where to connect: the first line on stdout."""
    print(url, flush=True)


def run(app: Any) -> None:
    """Serve `app` on a free port until SIGTERM."""
    config = configure(app, port=0)
    config.ws = WebSocketsSansIOProtocol
    Server(config, ready=announce).run()
