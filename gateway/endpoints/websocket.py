"""`GET /ws` and `GET /api/agents/{agent}/ws`: frames over a WebSocket.

Raw ASGI below any middleware: an idle connection costs one parked task, a batch one `send`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, TypeAlias

import structlog

from gateway.auth import Identity, authenticate, identify, renew
from gateway.connection import Connection
from gateway.http import Api, error_response, headers_of, query_of
from protocol import codec, frames
from protocol.errors import TABLE, Refused, Violated
from protocol.openfang import Tools

__all__ = ["SUBPROTOCOL", "refuse", "websocket"]

logger = structlog.get_logger("gateway.websocket")

SUBPROTOCOL = "gateway.v1"
EXTENSION = "trunkline.cork"
_OVERLOAD = ("rate_limited", "too_many_connections", "overloaded")

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class Line:
    """A WebSocket as a transport. Every sign that the peer is gone becomes `ConnectionError`."""

    __slots__ = ("_cork", "_send", "batch", "closed")

    def __init__(self, send: Send, cork: Callable[[list[bytes]], bool] | None) -> None:
        self._send = send
        self._cork = cork
        """What the server below offers to send at once with; see `gateway.cork`."""
        self.batch = False
        self.closed = False

    def send_nowait(self, frames: list[bytes]) -> bool:
        if self._cork is None:
            return False
        return self._cork([b"\n".join(frames)] if self.batch and len(frames) > 1 else frames)

    async def send(self, frames: list[bytes]) -> None:
        if self.batch and len(frames) > 1:
            frames = [b"\n".join(frames)]
        try:
            if self._cork is not None:
                await self._send({"type": "websocket.send", "utf8": frames})
            else:
                for frame in frames:
                    await self._send({"type": "websocket.send", "text": frame.decode()})
        except (OSError, RuntimeError) as error:
            raise ConnectionError from error

    async def close(self, code: int, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": _short(reason)})
        except (OSError, RuntimeError):
            pass


class AgentLine(Line):
    """The socket of one agent: tools are told in OpenFang's words, too."""

    __slots__ = ("_tools",)

    def __init__(self, send: Send, cork: Callable[[list[bytes]], bool] | None) -> None:
        super().__init__(send, cork)
        self._tools = Tools()

    def send_nowait(self, frames: list[bytes]) -> bool:
        return super().send_nowait(self._tools.told(frames))

    async def send(self, frames: list[bytes]) -> None:
        await super().send(self._tools.told(frames))


async def websocket(
    api: Api,
    scope: MutableMapping[str, Any],
    receive: Receive,
    send: Send,
    agent: str | None,
    kind: type[Connection] = Connection,
) -> None:
    """Serve one WebSocket, bound to `agent` if that is given, as a connection of that `kind`. Of the upgrade
    nothing is kept but what is needed: this frame lives as long as the line."""
    connection = await _open(api, scope, receive, send, agent, kind)
    if connection is None:
        return
    try:
        while not connection.left:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None:
                connection.refuse(Refused("bad_frame", "Frames are text, not binary."))
                await connection.close(1003, "Frames are text, not binary.")
                return
            connection.receive(text)
            if connection.full:  # the client is not read while its answers cannot be sent
                await connection.room()
    finally:
        connection.leave()


async def _open(
    api: Api,
    scope: MutableMapping[str, Any],
    receive: Receive,
    send: Send,
    agent: str | None,
    kind: type[Connection],
) -> Connection | None:
    """The connection, greeted; None if it was refused, or went."""
    await receive()  # websocket.connect
    headers, query = headers_of(scope), query_of(scope)
    cork = scope.get("extensions", {}).pop(EXTENSION, None)
    line = (Line if agent is None else AgentLine)(send, None if cork is None else cork["send_nowait"])
    accept = _accept(scope)
    try:
        identity = await _knock(api, headers, query, agent)
    except Refused as refusal:
        api.runtime.metrics.refused(refusal.code)
        await _refuse_upgrade(refusal, headers, scope, send)
        return None
    first: frames.Hello | None = None
    if identity is None:
        if cork is not None:
            cork["limit"](api.settings.max_hello_bytes)
        await send(accept)
        try:
            first, identity = await _owed_hello(api, headers, query, receive)
            _check_bound(api, agent, identity)
        except Refused as refusal:
            api.runtime.metrics.refused(refusal.code)
            await _refuse(line, refusal)
            return None
        except ConnectionError:
            return None
        if cork is not None:
            cork["limit"](None)
    else:
        await send(accept)
    greeting = None if api.authenticator is None else partial(_renewed, api, headers)
    try:
        if api.runtime.draining:  # since it was asked who this is: nobody would say goaway any more
            raise Refused("draining", "The gateway stops.")
        connection = kind(api.supervisor, line, identity, agent=agent, greeting=greeting)
    except Refused as refusal:  # one connection too many, or none for operators
        api.runtime.metrics.refused(refusal.code)
        await _refuse(line, refusal)
        return None
    if first is None:
        connection.greet()
    else:
        connection.welcome(first)
    return connection


async def _knock(
    api: Api, headers: dict[str, str], query: dict[str, str], agent: str | None
) -> Identity | None:
    """Who this is, by the upgrade alone; None if `hello` has to say. Raises `Refused`."""
    api.knock.check_origin(headers, changes=True)
    if api.runtime.draining:
        raise Refused("draining", "The gateway stops.")
    if api.authenticator is not None and api.token(headers, query, of_line=True) is None:
        return None
    identity = await api.identity(headers, query, of_line=True)
    _check_bound(api, agent, identity)
    api.supervisor.usage.check(identity)
    return identity


def _check_bound(api: Api, agent: str | None, identity: Identity) -> None:
    """Raises `Refused`, if that is no agent which the caller may use. Not before it is known who calls: the
    names of agents are not for everybody."""
    if agent is not None and not (agent in api.runtime.agents and identity.may_use(agent)):
        raise Refused("agent_not_found", f"There is no agent {agent[:64]!r}.")


async def _owed_hello(
    api: Api, headers: dict[str, str], query: dict[str, str], receive: Receive
) -> tuple[frames.Hello, Identity]:
    """The `hello` that says who this is. Raises `Violated`, or `Refused` for a token that is none."""
    try:
        async with asyncio.timeout(api.settings.hello_timeout):
            data = _data(await receive(), api.settings.max_hello_bytes)
    except TimeoutError:
        seconds = api.settings.hello_timeout
        raise Violated("unauthenticated", f"No hello came within {seconds:g} s.", close=4408) from None
    try:
        frame = codec.decode_client_frame(data, api.supervisor.limits)
    except Refused as refusal:
        raise Violated(refusal.code, refusal.content, close=4400, ref=refusal.ref) from None
    if not isinstance(frame, frames.Hello):
        raise Violated("unauthenticated", "The first frame must be hello, with a token.", close=4400)
    caller = await authenticate(api.authenticator, frame.token, headers)
    named = frame.user_id or headers.get("x-user-id") or query.get("user_id")
    return frame, identify(caller, named)


async def _renewed(api: Api, headers: dict[str, str], hello: frames.Hello, present: Identity) -> Identity:
    """A later `hello` with a token: for the same user, or refused."""
    return renew(present, await authenticate(api.authenticator, hello.token, headers))


def _data(message: Message, limit: int) -> str:
    """The text of a message that may have `limit` bytes. Raises `Violated`, or `ConnectionError` at the
    end."""
    if message["type"] == "websocket.disconnect":
        raise ConnectionError
    text = message.get("text")
    if text is None:
        raise Violated("bad_frame", "Frames are text, not binary.", close=1003)
    if message.get("exceeded") or len(text) > limit or len(text.encode()) > limit:
        raise Violated("frame_too_large", f"Before hello a client may send {limit:,} bytes.", close=4400)
    assert isinstance(text, str)
    return text


async def _refuse(line: Line, refusal: Refused) -> None:
    """Say why, then close with the code's close code."""
    close = refusal.close if isinstance(refusal, Violated) else TABLE[refusal.code].close or 4400
    try:
        await line.send([codec.encode(codec.error_frame(refusal))])
    except ConnectionError:
        return
    await line.close(close, refusal.content)


def _short(reason: str) -> str:
    """As much of it as a close frame holds: 123 bytes (RFC 6455, 5.5)."""
    return reason.encode()[:123].decode(errors="ignore")


async def refuse(refusal: Refused, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Refuse an upgrade, whatever else it says."""
    await receive()  # websocket.connect
    await _refuse_upgrade(refusal, headers_of(scope), scope, send)


async def _refuse_upgrade(
    refusal: Refused, headers: dict[str, str], scope: MutableMapping[str, Any], send: Send
) -> None:
    # A browser cannot read an HTTP refusal; but who is refused for being too many should cost little.
    plain = "origin" not in headers or refusal.code in _OVERLOAD
    if plain and "websocket.http.response" in scope.get("extensions", {}):
        await _answer_http(refusal, send)
    else:
        await send(_accept(scope))
        await _refuse(Line(send, None), refusal)


def _accept(scope: MutableMapping[str, Any]) -> Message:
    """A browser gives up, untold, on a socket that does not name the subprotocol it asked for."""
    offered = SUBPROTOCOL in scope.get("subprotocols", ())
    return {"type": "websocket.accept", "subprotocol": SUBPROTOCOL if offered else None}


async def _answer_http(refusal: Refused, send: Send) -> None:
    """Refuse the upgrade as an HTTP request."""
    response = error_response(refusal)
    await send(
        {
            "type": "websocket.http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
    )
    await send({"type": "websocket.http.response.body", "body": response.body})
