"""`http`: an agent in any language, behind a URL. This page is its whole contract.

    gateway serve --agent "mine=http?url=http://127.0.0.1:9000/"

**The turn** comes as `POST` to that URL, `Content-Type: application/json`, `Authorization: Bearer …` if there
is a key, and `X-Request-Id` if the client's request had one (worth a line in your log):

    {"turn_id": "…",                                        this answer's name, unique in its session
     "content": "what the user wrote",
     "session": {"agent": "mine", "user": "ann", "session_id": "s1"},
     "metadata": {…},                                       what the client sent along
     "parts": […],                                          what it sent beside the text
     "history": [{"role": "user" | "agent",                 oldest first, as many as the option says
                  "content": "…", "turn_id": "…",
                  "created_at": 1700000000.5,               Unix seconds
                  "status"?: "completed" | "cancelled" | "failed",      of an agent's message
                  "tools"?: [{"type": "tool_call", …} | {"type": "tool_result", …}],
                  "metadata"?: {…}}],
     "state": {…},                                          this session's state, as you left it
     "replaces"?: "…"}                                      the turn that this one is run instead of: `state`
                                                            is as it was before, and `history` ends there

Fields that you do not know: ignore them. Turns of different sessions come at the same time, on several
connections; those of one session come one after the other.

**The answer** is `200` with `Content-Type: application/x-ndjson`: one JSON object per line, in UTF-8, ended
by LF or CRLF, sent as soon as there is something to say. A line has one or more of these keys, which count
in this order; another key fails the turn, so that a misspelt one does not get lost:

    {"thought": "…"}                                        a piece of reasoning, shown beside the text
    {"text": "…"}                                           the next piece of the answer
    {"tool_call": {"tool_call_id": "…", "name": "…", "input": any}}
    {"tool_result": {"tool_call_id": "…", "content": any, "is_error"?: true}}
    {"usage": {"input_tokens": 12, "output_tokens": 34}}    several add up
    {"state": {…}}                                          replaces the session's state if this completes
    {"metadata": {…}}                                       for the response; later ones win, key by key
    {"error": {"content": "a sentence for the user", "code"?: "…", "retryable"?: true,
               "retry_after_ms"?: 1000}}                    the turn has failed; what was said stays
    {"done": true}                                          the answer is complete

**The last line is `{"done": true}`**, else the turn ends as `upstream_truncated`: a crash never looks like an
end. After `done` or `error`, nothing counts. `code` is `agent_failed` (default, and for any other word),
`agent_unavailable`, `agent_timeout`, `agent_stalled`, `upstream_truncated` or `answer_too_large`; `retryable`
counts with `agent_failed` only; `content` has at most 2,000 characters. A line has at most 1 MiB.

**While you have nothing to say**, send an empty line or `{}` now and then: nobody is shown it, and it says
that you are still at work. Otherwise an agent that is silent for a minute is given up; its options
`first_output` and `silence`, or GATEWAY_FIRST_OUTPUT_TIMEOUT and GATEWAY_SILENCE_TIMEOUT, make that longer.

Two simpler answers, for agents that need no more: `text/plain` is the text itself, streamed as it comes (its
end is the end of the body: only chunked encoding or a `Content-Length` tell it from a crash);
`application/json` is one object with the keys above, at most 4 MiB, `done` not needed.

**Another status** fails the turn: 408, 425, 429 and 5xx as `agent_unavailable` (`Retry-After` is passed on),
others as `agent_failed`. All but 401 and 403 may say why, in a sentence of at most 200 characters that the
user is shown: `{"error": {"message": "…"}}`.

**Cancelling**: the gateway closes the connection. Stop then; nothing you send is read any more. It also does
so when the agent has been silent for too long, or the turn as a whole took too long.

**`gateway check`** sends `GET` to the URL; any answer below 500 but 401 and 403 will do, 404 and 405 too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway.interfaces import AgentError, Note, Piece, Thought, ToolCall, ToolResult, Turn, Usage
from gateway.lines import Lines, PlainText, Reader, Unreadable, Whole, decode, mend, truncated
from gateway.upstream import Upstream, secret, within

__all__ = ["HttpAgent"]

_MAX_CONTENT = 2_000
_CODES = (
    "agent_failed",
    "agent_unavailable",
    "agent_timeout",
    "agent_stalled",
    "upstream_truncated",
    "answer_too_large",
)


class HttpAgent:
    """Answers with whatever listens at `url`, in the words of this module's contract.

    `key_env`: the environment variable with the key to send, if any; it must be set. `history`: how many
    earlier messages go along (0–1000). `connect_timeout`: seconds. Raises `ValueError` that says which option
    is wrong.
    """

    def __init__(
        self,
        url: str,
        key_env: str = "",
        history: int = 100,
        connect_timeout: float = 10.0,
    ) -> None:
        within("history", history, 0, 1000)
        self.history = history
        self._upstream = Upstream(
            "The agent's server", url, secret(key_env) if key_env else "", connect_timeout
        )

    def __call__(self, turn: Turn) -> AsyncGenerator[Piece, None]:
        return self._upstream.ask("", _request(turn), turn.request_id, partial(self._reader_of, turn))

    async def check(self) -> str:
        """Sends `GET` to the URL, which starts no turn."""
        status, _ = await self._upstream.get()
        if status in (401, 403) or status >= 500:
            raise AgentError(f"{self._upstream.address} answers {status}", "agent_unavailable")
        return f"{self._upstream.address} is there"

    async def aclose(self) -> None:
        await self._upstream.aclose()

    def _reader_of(self, turn: Turn, media_type: str) -> Reader:
        match media_type:
            case "application/x-ndjson":
                return _Answer(turn)
            case "text/plain":
                return PlainText()
            case "application/json":
                return Whole(_Answer(turn).take)
            case _:
                types = "application/x-ndjson", "text/plain", "application/json"
                raise self._upstream.mistyped(media_type, *types)


def _request(turn: Turn) -> dict[str, Any]:
    request: dict[str, Any] = {
        "turn_id": turn.turn_id,
        "content": turn.content,
        "session": turn.session,
        "metadata": turn.metadata,
        "parts": turn.parts,
        "history": turn.history,
        "state": turn.state,
    }
    if turn.replaces is not None:
        request["replaces"] = turn.replaces
    return request


class _Error(Struct):
    content: str
    code: str = "agent_failed"
    retryable: bool | None = None
    retry_after_ms: Annotated[int, Meta(ge=0)] | None = None


class _Usage(Struct):
    input_tokens: Annotated[int, Meta(ge=0)] = 0
    output_tokens: Annotated[int, Meta(ge=0)] = 0


class _Line(Struct, forbid_unknown_fields=True):
    thought: str = ""
    text: str = ""
    tool_call: ToolCall | None = None
    tool_result: ToolResult | None = None
    usage: _Usage | None = None
    state: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    error: _Error | None = None
    done: bool = False


_line: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(_Line)


class _Answer:
    """Reads the lines of one answer."""

    delimited = True

    def __init__(self, turn: Turn) -> None:
        self.over = False
        self._turn = turn
        self._lines = Lines()

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        for line in self._lines.feed(chunk):
            if line.strip():
                yield from self.take(line)
            if self.over:
                return

    def end(self) -> Iterator[Piece]:
        if self.over:
            return
        try:
            last = decode(_line, self._lines.rest())
        except Unreadable:
            raise truncated() from None
        yield from self._say(last)
        if not self.over:
            raise truncated()

    def take(self, data: bytes) -> Iterator[Piece]:
        """What one line says. Raises the `AgentError` that it reports."""
        yield from self._say(decode(_line, data))

    def _say(self, line: _Line) -> Iterator[Piece]:
        if line.thought:
            yield Thought(line.thought)
        if line.text:
            yield line.text
        if line.tool_call:
            yield line.tool_call
        if line.tool_result:
            yield line.tool_result
        if line.usage:
            yield Usage(line.usage.input_tokens, line.usage.output_tokens)
        if line.state is not None:
            self._turn.state.clear()
            self._turn.state.update(line.state)
        if line.metadata:
            yield Note(line.metadata)
        if line.error:
            raise _failure(line.error)
        self.over = line.done


def _failure(error: _Error) -> AgentError:
    code = error.code if error.code in _CODES else "agent_failed"
    return AgentError(
        mend(error.content[:_MAX_CONTENT]),
        code,
        retryable=error.retryable,
        retry_after_ms=error.retry_after_ms,
    )
