"""The answer to one message over HTTP: a session is followed, the message is left with it, and what its turn
says is shown in the words of whoever asked. Who stops listening stops nothing."""

from __future__ import annotations

from typing import Any

from starlette.types import Receive, Send

from protocol import codec, frames
from protocol.errors import Refused
from protocol.records import Terminal
from protocol.view import frame_of

from .api import Api
from .auth import Identity
from .interfaces import Key
from .opening import CREATE
from .stream import Stream, connected, ends

__all__ = ["Reply", "reply"]


class Reply(Stream):
    """The answer to one turn; frames of other turns are not shown."""

    __slots__ = ("_session_id", "_turn_id")

    def __init__(self, send: Send, session_id: str, turn_id: str) -> None:
        super().__init__(send)
        self._session_id = session_id
        self._turn_id = turn_id

    def mine(self, frame: bytes) -> frames.ServerFrame | None:
        """The frame, if it says something of this turn; the end of its session counts as an error."""
        kind, _ = codec.head(frame)
        if kind == "session" and ends(frame):
            return codec.error_frame(Refused("session_closed", "The session was deleted."))
        told = codec.decode_server_frame(frame)
        if isinstance(told, frames.Error) and told.cursor is None:
            return told  # this line asks for one thing only, and it was refused
        return told if getattr(told, "turn_id", None) == self._turn_id else None

    def names(self) -> dict[str, Any]:
        """Whose answer it is."""
        return {"session_id": self._session_id, "turn_id": self._turn_id}

    def failure(self, error: frames.Error) -> Refused:
        """What a failed turn is told as."""
        partial = {} if error.partial is None else {"partial": error.partial}
        return Refused(
            error.code,
            error.content,
            retry_after_ms=error.retry_after_ms,
            **self.names(),
            retryable=error.retryable,  # the agent may have overruled the table
            **partial,
        )


async def reply(
    api: Api,
    identity: Identity,
    key: Key,
    message: frames.Send,
    stream: Reply,
    request_id: str,
    receive: Receive,
    **beside: Any,
) -> None:
    """Follow the session, then leave the message with it: so nothing of the answer is missed. `beside` is
    what `Api.send` takes beside the message, which names its turn. Raises `Refused`, until the answer has
    begun."""
    async with connected(api.supervisor, stream, identity, receive) as connection:
        await connection.follow(key, CREATE[message.create], None, 0)
        ok = await api.send(key, message, request_id, **beside)
        connection.put(ok)
        if ok.status in ("completed", "cancelled", "failed"):  # it was sent before
            connection.put(await _end_of(api, key, message.turn_id or ""))


async def _end_of(api: Api, key: Key, turn_id: str) -> frames.ServerFrame:
    """How a turn ended that is over. Raises `Refused` if that is not kept any more."""
    store, page_bytes = api.runtime.store, api.settings.page_bytes
    turn = await store.turn(key, turn_id)
    seq = 0 if turn is None else turn.seq
    while entries := await store.read(key, seq, 100, page_bytes):
        for entry in entries:
            if isinstance(entry.record, Terminal) and entry.record.turn_id == turn_id:
                return _shown(entry.record, key.session_id)
        seq = entries[-1].seq
    raise Refused(
        "turn_not_found", "The turn is over, and its records are not kept any more.", turn_id=turn_id
    )


def _shown(record: Terminal, session_id: str) -> frames.ServerFrame:
    frame = frame_of(record, session_id, "")
    assert frame is not None
    return frame
