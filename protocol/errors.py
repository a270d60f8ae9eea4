"""The one table of errors: code → HTTP status, close code, whether to try again.

An error has one of three reaches. `Refused` costs one request: the connection lives on. `Violated` costs the
connection: an `error` frame, then a close. Any other exception is a crash of whatever actor it happened in.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["TABLE", "Code", "Refused", "Violated", "code_of_status", "retry_after"]


class Code(NamedTuple):
    """What a code means on each transport."""

    status: int
    """HTTP status, the same on every REST surface."""
    retryable: bool
    """On a refusal: the same frame may be sent again. On a terminal error: the content, under a new
    `turn_id`."""
    close: int | None = None
    """The WebSocket close code when it ends a connection; None where it never does."""
    retry_after_ms: int | None = None
    """How long to wait at the least, where a default makes sense."""


TABLE: dict[str, Code] = {
    "bad_frame": Code(400, False, 4400),
    "unknown_type": Code(400, False, 4400),
    "bad_id": Code(400, False, 4400),
    "bad_request": Code(400, False),
    "frame_too_large": Code(413, False, 4400),
    "message_too_large": Code(413, False),
    "unauthenticated": Code(401, False, 4401),
    "token_expired": Code(401, False, 4401),
    "forbidden": Code(403, False, 4403),
    "not_found": Code(404, False),
    "session_not_found": Code(404, False),
    "agent_not_found": Code(404, False, 4404),
    "turn_not_found": Code(404, False),
    "method_not_allowed": Code(405, False),
    "unsupported_media_type": Code(415, False),
    "session_exists": Code(409, False),
    "session_conflict": Code(409, False),
    "session_ambiguous": Code(409, False),
    "turn_conflict": Code(409, False),
    "session_busy": Code(409, True),
    "session_expired": Code(410, False),
    "session_closed": Code(410, False),
    "renewal_refused": Code(422, False),
    "queue_full": Code(429, True, None, 1000),
    "rate_limited": Code(429, True, 4429, 1000),
    "too_many_sessions": Code(429, True, None, 1000),
    "too_many_connections": Code(429, True, 1013, 1000),
    "agent_failed": Code(502, True),
    "answer_too_large": Code(502, False),
    "agent_unavailable": Code(502, True),
    "upstream_truncated": Code(502, True),
    "agent_timeout": Code(504, True),
    "agent_stalled": Code(504, True),
    "turn_deadline": Code(504, True),
    "turn_interrupted": Code(503, True),
    "store_unavailable": Code(503, True, None, 1000),
    "overloaded": Code(503, True, 1013, 1000),
    "draining": Code(503, True, 1001, 1000),
    "internal": Code(500, True, 1011),
}
"""`agent_failed` is the one code whose `retryable` the agent may overrule."""


class Refused(Exception):
    """This request is refused; nothing else is touched.

    `content` is a sentence for people that names the next move. `details` are further fields of the answer
    (`expires_at`, a limit); `ref`, `session_id` and `turn_id` say which request it was, where that is known.
    """

    def __init__(
        self,
        code: str,
        content: str,
        *,
        retry_after_ms: int | None = None,
        session_id: str | None = None,
        turn_id: str | None = None,
        ref: str | None = None,
        **details: Any,
    ) -> None:
        super().__init__(content)
        self.code = code
        self.content = content
        self.retry_after_ms = retry_after(code) if retry_after_ms is None else retry_after_ms
        self.session_id = session_id
        self.turn_id = turn_id
        self.ref = ref
        self.details = details

    @property
    def status(self) -> int:
        """The HTTP status of this refusal."""
        return TABLE[self.code].status

    @property
    def retryable(self) -> bool:
        """May the same request be sent again?"""
        return TABLE[self.code].retryable


class Violated(Refused):
    """This connection is refused: it is told why, then closed with `close` (the table's code if not
    given)."""

    def __init__(self, code: str, content: str, *, close: int | None = None, **fields: Any) -> None:
        super().__init__(code, content, **fields)
        self.close = close if close is not None else (TABLE[code].close or 4400)


def retry_after(code: str) -> int | None:
    """Milliseconds to wait at the least before trying again, if the table names any."""
    return TABLE[code].retry_after_ms


def code_of_status(status: int) -> str:
    """The code of an HTTP refusal that came from the framework (404, 405 …) and has only a status."""
    match status:
        case 404:
            return "not_found"
        case 405:
            return "method_not_allowed"
        case 413:
            return "frame_too_large"
        case 415:
            return "unsupported_media_type"
        case _:
            return "internal" if status >= 500 else "bad_request"
