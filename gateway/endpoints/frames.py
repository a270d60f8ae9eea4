"""`POST /frames`: the way up beside a stream. It answers the `ok` or `error` frame, with its HTTP status."""

from __future__ import annotations

import asyncio
import re

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.auth import Identity
from gateway.connection import Connection
from gateway.http import (
    OF_MESSAGE,
    OF_SESSION,
    Api,
    described,
    json_response,
    raw_body,
    read_body,
    read_query,
    refusal_of,
    retry_headers,
    route,
    shaped,
)
from gateway.interfaces import Key, NoSession, Unavailable
from gateway.opening import CREATE
from protocol import codec, frames, native, saying
from protocol.errors import Refused
from protocol.ids import check_session_id
from protocol.lifetime import Renew

__all__ = ["PATHS", "error_response", "routes"]

PATHS = re.compile(r"/frames/?|/api/sessions/[^/]+/cancel/?")
_ERRORS = ("bad_frame", "unknown_type", "session_conflict", "renewal_refused")

SessionFrame = frames.Send | frames.Cancel | frames.SetTyping | frames.Renew


def routes(api: Api) -> list[Route]:
    """`POST /frames`, and cancelling without a frame."""

    @described(body=SessionFrame, answer=frames.Ok, errors=(*OF_SESSION, *OF_MESSAGE, *_ERRORS))
    async def post(request: Request) -> Response:
        """Send a frame: the way up beside a stream, or without one."""
        frame: SessionFrame | None = None
        try:
            identity = await api.caller(request)
            frame = await _frame(api, request)
            return json_response(await _take(api, request, identity, frame))
        except (Refused, NoSession, Unavailable) as error:
            return _error(request, refusal_of(error), frame)

    @described(
        query=native.Which,
        body=saying.CancelTurn,
        optional=True,
        answer=frames.Ok,
        errors=(*OF_SESSION, "session_closed", "turn_not_found", "bad_frame"),
    )
    async def cancel(request: Request) -> Response:
        """Stop a turn."""
        cancelled: SessionFrame | None = None
        try:
            identity = await api.caller(request)
            body = await read_body(request, api, saying.CancelTurn, optional=True)
            agent = body.agent or read_query(request, native.Which).agent
            session_id = check_session_id(request.path_params["session_id"])
            cancelled = frames.Cancel(session_id, agent, body.turn_id, body.ref)
            return json_response(await _take(api, request, identity, cancelled))
        except (Refused, NoSession, Unavailable) as error:
            return _error(request, refusal_of(error), cancelled)

    return [route("/frames", POST=post), route("/api/sessions/{session_id}/cancel", POST=cancel)]


async def _frame(api: Api, request: Request) -> SessionFrame:
    return _checked(api, await raw_body(request, api.settings.max_body_bytes))


def _checked(api: Api, data: bytes) -> SessionFrame:
    """A frame for one session. Raises `Refused`."""
    frame = codec.decode_client_frame(data, api.supervisor.limits)
    if not isinstance(frame, SessionFrame):
        kind = frame.__struct_config__.tag
        raise Refused(
            "bad_frame", f"POST /frames takes message, cancel, typing and renew, not {kind}.", ref=frame.ref
        )
    return frame


async def _take(api: Api, request: Request, identity: Identity, frame: SessionFrame) -> frames.Ok:
    """Do what the frame says. Raises `Refused`."""
    line = _line(api, request, identity)
    key = await _key(api, identity, line, frame)
    match frame:
        case frames.Send():
            attached = line is not None and await _joined(line, key, frame)
            ok = await api.send(key, frame, request.state.request_id)
            return replace(ok, attached=attached)
        case frames.Cancel():
            return await api.cancel(key, frame.turn_id, frame.ref)
        case frames.SetTyping():
            await _set_typing(api, key, line, frame.state == "start")
        case frames.Renew():
            await api.ask(key, Renew())
    return frames.Ok(frame.ref, key.session_id)


def _line(api: Api, request: Request, identity: Identity) -> Connection | None:
    """The caller's own line that `X-Connection-Id` names, if this node holds it."""
    line = api.supervisor.lines.get(request.headers.get("x-connection-id", ""))
    return line if isinstance(line, Connection) and line.identity.user == identity.user else None


async def _key(api: Api, identity: Identity, line: Connection | None, frame: SessionFrame) -> Key:
    """Which session the frame means."""
    if frame.session_id is None:
        agent = None if frame.agent is None else api.agent(frame.agent, identity)
        return await api.supervisor.active(identity, agent or (line.agent if line is not None else None))
    if line is not None:
        return await line.resolve(frame.session_id, frame.agent, identity)
    return await api.supervisor.resolve(identity, frame.session_id, frame.agent)


async def _joined(line: Connection, key: Key, frame: frames.Send) -> bool:
    if not line.identity.may_touch(key):
        return False  # the request may say it, but the line may not hear it
    try:
        await line.join(key, CREATE[frame.create])
    except ConnectionError:
        return False  # the message is sent all the same
    return True


async def _set_typing(api: Api, key: Key, line: Connection | None, typing: bool) -> None:
    """Show that the user types, to all but `line`. Without one the session itself stands for whoever typed:
    a request that starts and one that stops have nothing else in common."""
    if line is not None:
        async with api.supervisor.opened(key) as session:
            line.set_typing(session, typing)
        return
    until = asyncio.get_running_loop().time() + api.settings.typing_timeout
    async with api.supervisor.opened(key) as session:
        session.log.set_typing(session, until if typing else None)


def _error(request: Request, refusal: Refused, frame: SessionFrame | None) -> Response:
    if frame is not None:
        refusal.ref = refusal.ref or frame.ref
        refusal.session_id = refusal.session_id or frame.session_id
    response: Response = request.state.shape(refusal)
    return response


@shaped(frames.Error)
def error_response(refusal: Refused) -> Response:
    """A refusal as an `error` frame."""
    return json_response(codec.error_frame(refusal), refusal.status, retry_headers(refusal))
