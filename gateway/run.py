"""One gateway as a process of its own: from settings to a server that runs until it is told to stop.

Everything that can be wrong is found out before anything starts: parts, address, certificate, store.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from . import __version__
from .app import Gateway
from .interfaces import StoreError
from .parts import CannotStart, load_app
from .serve import Server, configure
from .settings import OPTIONS, Settings

__all__ = ["run", "settle_memory"]

logger = structlog.get_logger("gateway.run")


def run(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return. `say` is told, once it listens, where, and what
    is there. Raises `CannotStart`."""
    app = load_app(settings, os.environ)

    def ready(url: str) -> None:
        settle_memory()
        store = OPTIONS["store"].show(settings.store)
        agents = ", ".join(app.supervisor.runtime.agents)
        say(f"Trunkline {__version__} on {url} — agents {agents} — store {store}")

    sockets = _listen(settings)
    try:
        config = configure(
            app,
            host=settings.host,
            port=settings.port,
            uds=settings.uds,
            ssl_certfile=settings.ssl_certfile,
            ssl_keyfile=settings.ssl_keyfile,
            root_path=settings.root_path,
        )
        config.ws_max_size = settings.max_message_bytes
        config.lifespan = "off"  # entered by `_live`: what it raises arrives there as it was raised
        try:
            config.load()
        except OSError as error:
            why = error.strerror or str(error)
            raise CannotStart(f"The certificate {settings.ssl_certfile} cannot be used: {why}.") from error
        server = Server(config, drain=app.drain, ready=ready)
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_live(app, server, sockets))
    finally:
        _close(sockets)
        if settings.uds is not None:
            Path(settings.uds).unlink(missing_ok=True)


async def _live(app: Gateway, server: Server, sockets: list[socket.socket]) -> None:
    last_resort = _last_resort(2 * app.supervisor.runtime.settings.cleanup_timeout)
    async with AsyncExitStack() as stack:
        stack.callback(last_resort.cancel)
        try:
            await stack.enter_async_context(app.lifespan())
        except StoreError as error:
            raise CannotStart(str(error)) from error
        await server.serve(sockets)
        last_resort.start()


def _last_resort(seconds: float) -> threading.Timer:
    """Ends the process when it is started and not cancelled in time: an agent that does not stop, however
    often it is told to, would keep it for ever."""

    def end() -> None:
        logger.error("an agent does not stop and is left behind", seconds=seconds)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    return timer


def settle_memory() -> None:
    """What is there now stays: look for garbage among what comes, and, since of what lives long (a session, a
    line) there may be 100,000s, through all of that seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


# ── The address ─────────────────────────────────────────────────────────────────────────────────────────────


def _listen(settings: Settings) -> list[socket.socket]:
    """The open sockets of the address. Raises `CannotStart`."""
    try:
        if settings.uds is not None:
            return [_listen_unix(Path(settings.uds))]
        return _listen_tcp(settings.host, settings.port)
    except OSError as error:
        where = settings.uds or f"{settings.host}:{settings.port}"
        if error.errno == errno.EADDRINUSE:
            why = f"{where} is in use: stop what listens there, or choose another with --port or --uds."
        else:
            why = f"Cannot listen on {where}: {_reason(error)}."
        raise CannotStart(why) from error


def _reason(error: OSError) -> str:
    """Why, without the address, which `create_server` puts into its errors."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return str(error.strerror or error)
    return os.strerror(error.errno)


def _listen_tcp(host: str, port: int) -> list[socket.socket]:
    """One socket for each address of `host` that this machine has: `localhost` has two, or one."""
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            sockets.append(socket.create_server((address[0], port), family=family))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                _close(sockets)
                raise
            absent = error
        else:
            port = sockets[0].getsockname()[1]
    if absent is not None and not sockets:
        raise absent
    return sockets


def _listen_unix(path: Path) -> socket.socket:
    """A socket at `path`, for its owner and group; one that a dead process left there is replaced."""
    listening = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket() and not _answers(path):
            path.unlink()
        listening.bind(str(path))
        path.chmod(0o660)
    except OSError:
        listening.close()
        raise
    return listening


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(str(path)) == 0


def _close(sockets: list[socket.socket]) -> None:
    for listening in sockets:
        listening.close()
