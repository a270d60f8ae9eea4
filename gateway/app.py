"""Wires what it is given into an ASGI app, which mounts into anybody's Starlette or FastAPI."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property, partial
from time import time
from typing import TYPE_CHECKING, Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from protocol.components import Json
from protocol.errors import Refused, code_of_status
from protocol.lifetime import Tiers

from .addresses import caller_at
from .api import Api
from .console import Console
from .endpoints import (
    adk,
    agents,
    conversations,
    descriptions,
    frames,
    guests,
    messages,
    messaging,
    operations,
    pages,
    runs,
    sessions,
    sse,
)
from .endpoints.websocket import Receive, Send, refuse, websocket
from .forwarded import Scope, peer_of
from .http import error_response, headers_of, refusal_of, request_id
from .interfaces import Agent, Authenticator, NoSession, Store, Unavailable
from .limits import Usage
from .openapi import openapi
from .runtime import Runtime
from .settings import Settings
from .supervisor import Supervisor
from .watchdog import Watchdog

if TYPE_CHECKING:
    from .guests import Guests

__all__ = ["Gateway", "gateway_app"]

logger = structlog.get_logger("gateway.http")

_ENDPOINTS = (
    *(pages, descriptions, sse, frames, agents, messages, sessions, guests),
    *(adk, messaging, conversations, runs, operations),
)
_SHAPES = tuple((one.PATHS, one.error_response) for one in _ENDPOINTS if hasattr(one, "PATHS"))
"""How errors look under which paths, where that is not the native shape."""
_AGENT_SOCKET = re.compile(r"/api/agents/([^/]+)/ws/?")
_SAFE = ("GET", "HEAD", "OPTIONS")
_NOSNIFF = (b"x-content-type-options", b"nosniff")
"""Browsers are to believe what an answer says it is, whatever a stranger's text in it looks like."""


class Gateway:
    """The ASGI app. Mounted in another app it needs that app's lifespan:
    `FastAPI(lifespan=gateway.lifespan)`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._running = False
        self._http = Starlette(
            routes=[route for endpoint in _ENDPOINTS for route in endpoint.routes(api)],
            exception_handlers={
                HTTPException: _http_error,
                Refused: _refused,
                NoSession: _refused,
                Unavailable: _refused,
                Exception: _bug,
            },
        )

        self._http.state.openapi = lambda: self.openapi

    @property
    def supervisor(self) -> Supervisor:
        """The live sessions and lines."""
        return self._api.supervisor

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """What answers HTTP requests, by path."""
        return self._http.routes

    @cached_property
    def openapi(self) -> Json:
        """The HTTP API as an OpenAPI 3.1 document."""
        return openapi(self.routes, _SHAPES)

    @asynccontextmanager
    async def lifespan(self, _: Any = None) -> AsyncIterator[None]:
        """Open the store, run until the block is left, drain. What an app that mounts this one passes as
        lifespan."""
        async with AsyncExitStack() as stack:
            for agent in self._api.runtime.agents.values():
                stack.push_async_callback(agent.aclose)
            if (aclose := getattr(self._api.authenticator, "aclose", None)) is not None:
                stack.push_async_callback(aclose)
            await stack.enter_async_context(self.supervisor.running())
            stack.enter_context(Watchdog(self._api.runtime.metrics).watching())
            self._running = True
            try:
                yield
            finally:
                self._running = False

    async def drain(self) -> None:
        """Say goodbye to the clients and let turns end, before the sockets are closed."""
        await self.supervisor.drain()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if not self._running:
            raise RuntimeError(
                "The gateway is not running: give its lifespan to the app that mounts it, as lifespan=."
            )
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._request(scope, receive, send)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope, caller = self._let_in(scope)
        except Refused as refusal:
            await refuse(refusal, scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        try:
            if path.rstrip("/") == "/ws":
                await websocket(self._api, scope, receive, send, None)
            elif path.rstrip("/") == "/console/ws":
                await websocket(self._api, scope, receive, send, None, Console)
            elif bound := _AGENT_SOCKET.fullmatch(path):
                await websocket(self._api, scope, receive, send, bound[1])
            else:
                missing = Refused("not_found", "There is no WebSocket here; see /ws.")
                await refuse(missing, scope, receive, send)
        finally:
            self.supervisor.usage.went(caller)

    def _let_in(self, scope: Scope) -> tuple[Scope, str | None]:
        """The scope as the client caused it, and as whom the client counts until it `went`. Raises
        `Refused`."""
        try:
            scope = self._api.knock.arrived(scope)
            caller = caller_at(peer_of(scope))
            self.supervisor.usage.came(caller)
        except Refused as refusal:
            self._api.runtime.metrics.refused(refusal.code)
            raise
        return scope, caller

    def _counted(self, shape: Callable[[Refused], Response], refusal: Refused) -> Response:
        self._api.runtime.metrics.refused(refusal.code)
        return shape(refusal)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:
            if self._running:
                raise
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})

    async def _request(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        made = request_id(headers, self._api.runtime.new_id())
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        # By the path, before anything is asked: whatever is refused is refused in the words of that surface.
        shape = next((respond for paths, respond in _SHAPES if paths.fullmatch(path)), error_response)
        scope.setdefault("state", {}).update(request_id=made, shape=partial(self._counted, shape))
        named, cors = (b"x-request-id", made.encode()), self._api.knock.cors(headers)

        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = [*message.get("headers", ())]
                message["headers"] = [*own, named, _NOSNIFF, *([] if _says_who_may_read(own) else cors)]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=made):
            try:
                scope, caller = self._let_in(scope)
            except Refused as refusal:
                respond = pages.refusal_page if pages.wants_page(scope["method"], headers) else shape
                await respond(refusal)(scope, receive, answer)
                return
            try:
                await (self._at_the_door(scope) or self._http)(scope, receive, answer)
            finally:
                self.supervisor.usage.went(caller)

    def _at_the_door(self, scope: Scope) -> Response | None:
        """What is answered to web pages that only ask whether they may ask, or may not."""
        headers, method, knock = headers_of(scope), scope["method"], self._api.knock
        try:
            if (allowed := knock.preflight(method, headers)) is not None:
                return Response(status_code=204, headers=allowed)
            knock.check_origin(headers, changes=method not in _SAFE)
        except Refused as refusal:
            response: Response = scope["state"]["shape"](refusal)
            return response
        return None


def _says_who_may_read(headers: list[tuple[bytes, bytes]]) -> bool:
    """Is it known already which web pages may read this answer? Saying it twice allows none."""
    return any(name == b"access-control-allow-origin" for name, _ in headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused | NoSession | Unavailable)
    return _shaped(request, refusal_of(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _shaped(request, Refused(code_of_status(error.status_code), f"{error.detail}."))
    response.headers.update(error.headers or {})
    return response


async def _bug(request: Request, error: Exception) -> Response:
    logger.error("request failed", exc_info=error)
    return _shaped(request, Refused("internal", "A bug in the gateway; it was logged."))


def _shaped(request: Request, refusal: Refused) -> Response:
    response: Response = request.state.shape(refusal)
    return response


def gateway_app(
    settings: Settings | None = None,
    *,
    agents: Mapping[str, Agent],
    store: Store,
    authenticator: Authenticator | None = None,
    guests: Guests | None = None,
    tiers: Tiers | None = None,
    now: Callable[[], float] = time,
) -> Gateway:
    """The gateway as an ASGI app. The first agent is the default one; without an `authenticator` it lets
    everybody in. `guests` lets visitors in, and knows the authenticator for all others: it is asked first
    then, and `settings` must say so, too. `tiers` say how long sessions live; `now` is Unix seconds."""
    if not agents:
        raise ValueError("A gateway needs at least one agent.")
    runtime = Runtime(settings or Settings(), agents, store, tiers=tiers, now=now)
    door = guests or authenticator
    usage = Usage(runtime.settings, known_users=door is not None)
    return Gateway(Api(Supervisor(runtime, next(iter(agents)), usage), door, guests))
