"""One gateway as a process of its own: from settings to a server that runs until it is told to stop.

Everything that can be wrong is found out before anything starts: agents, address, certificate, store.
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

from protocol.lifetime import tiers

from . import __version__
from .app import Gateway, gateway_app
from .http import is_loopback
from .interfaces import Store, StoreError
from .load import BadSpec, load_agents
from .serve import Server, configure
from .settings import OPTIONS, Settings
from .stores.memory import MemoryStore
from .stores.sqlite import SqliteStore

__all__ = ["CannotStart", "load_store", "run", "say_bad_spec", "settle_memory"]

logger = structlog.get_logger("gateway.run")

_SYNCHRONOUS = {"": False, "synchronous=normal": False, "synchronous=full": True}


class CannotStart(Exception):
    """The gateway cannot start. The sentence says why, and what to do about it."""


def run(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return. `say` is told, once it listens, where, and what
    is there. Raises `CannotStart`."""
    _only_loopback(settings)
    try:
        agents = load_agents(settings.agents)
    except BadSpec as error:
        raise CannotStart(say_bad_spec(error)) from error
    lifetimes = tiers(os.environ, agents)
    app = gateway_app(settings, agents=agents, store=load_store(settings), tiers=lifetimes)

    def ready(url: str) -> None:
        settle_memory()
        store = OPTIONS["store"].show(settings.store)
        say(f"Trunkline {__version__} on {url} — agents {', '.join(agents)} — store {store}")

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


# ── The store ───────────────────────────────────────────────────────────────────────────────────────────────


def load_store(settings: Settings) -> Store:
    """The store that `settings` name; it is not opened yet. Raises `CannotStart`."""
    place, _, query = settings.store.partition("?")
    if place == "memory:" and not query:
        return MemoryStore(keep_days=settings.keep_days, keep_records=settings.keep_records)
    file = place.removeprefix("sqlite:///")
    if file in ("", place) or query not in _SYNCHRONOUS:
        shown = OPTIONS["store"].show(settings.store)
        raise CannotStart(
            f"The store {shown} means nothing; allowed is sqlite:///FILE (an absolute path makes it four "
            "slashes), sqlite:///FILE?synchronous=full, or memory:."
        )
    return SqliteStore(
        file,
        synchronous_full=_SYNCHRONOUS[query],
        keep_days=settings.keep_days,
        keep_records=settings.keep_records,
    )


def say_bad_spec(error: BadSpec) -> str:
    """What is wrong with an agent's spec, without its options' values."""
    return f"The agent {OPTIONS['agents'].show(error.spec)} cannot be loaded: {error.why}."


# ── The address ─────────────────────────────────────────────────────────────────────────────────────────────


def _only_loopback(settings: Settings) -> None:
    if settings.uds is None and not is_loopback(settings.host):
        raise CannotStart(
            f"This gateway has no authentication yet, and everybody who can reach {settings.host} could read "
            "and write every conversation: it listens on loopback only. Let a tunnel or a reverse proxy with "
            "authentication run on this machine, and name the outer host with --allow-host."
        )


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
