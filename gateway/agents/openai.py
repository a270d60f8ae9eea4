"""`openai`: any server that speaks `/v1/chat/completions` and streams: OpenAI, Ollama, vLLM, llama.cpp …

    gateway serve --agent "gpt=openai?model=gpt-4o-mini"
    gateway serve --agent "local=openai?model=llama3.2&base_url=http://127.0.0.1:11434/v1"

What goes up is text alone: the system prompt, the history, the message. `metadata`, `parts` and the tools
of earlier turns stay here. What comes back: text, reasoning as thoughts, tool calls (shown, not executed),
usage; and a note `finish_reason` if the answer was cut: `length` or `content_filter`, also where the server
has another word for it. An answer in which nothing is said, and a reason to finish that means a failure, fail
the turn. Comments of the stream and chunks without content are signs of life.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from functools import partial
from itertools import dropwhile, groupby
from operator import itemgetter
from typing import Any

import msgspec
from msgspec import Struct

from gateway.completions import reader_of
from gateway.interfaces import AgentError, Piece, Turn
from gateway.upstream import Upstream, secret, within

__all__ = ["OpenAIAgent"]

_DEFAULT_KEY_ENV = "OPENAI_API_KEY"
_ROLES = {"user": "user", "agent": "assistant"}


class OpenAIAgent:
    """Answers with a model behind an OpenAI-compatible server.

    - `model`: its name there. `base_url`: up to and with `/v1`; a query (`?api-version=…`) is kept.
    - `key_env`: the environment variable that holds the key, which must be set then. Not given,
      OPENAI_API_KEY is sent if it is set; `key_env=` sends none.
    - `history`: how many earlier messages the model sees (0–1000). `system`: the system prompt.
    - `temperature`, `max_tokens`: left to the server if not given.
    - `extra`: a JSON object laid over the request's body; null takes a field out:
      `{"stream_options": null}` for servers that do not know it.
    - `connect_timeout`: seconds.

    Raises `ValueError` that says which option is wrong and what is allowed.
    """

    def __init__(
        self,
        model: str,
        base_url: str = "https://api.openai.com/v1",
        key_env: str | None = None,
        history: int = 100,
        system: str = "",
        temperature: float | None = None,
        max_tokens: int | None = None,
        extra: str = "{}",
        connect_timeout: float = 10.0,
    ) -> None:
        if key_env is None:
            key_env = _DEFAULT_KEY_ENV if os.environ.get(_DEFAULT_KEY_ENV) else ""
        within("history", history, 0, 1000)
        self.history = history
        self._key_env = key_env
        self._model = model
        self._system = system
        self._settings: dict[str, Any] = {
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": temperature,
            "max_tokens": max_tokens,
        } | _object("extra", extra)
        self._upstream = Upstream(
            "The model's server", base_url, secret(key_env) if key_env else "", connect_timeout
        )

    def __call__(self, turn: Turn) -> AsyncGenerator[Piece, None]:
        return self._upstream.ask(
            "/chat/completions", self._body(turn), turn.request_id, partial(reader_of, self._upstream)
        )

    async def check(self) -> str:
        """Asks for the list of models, and looks whether this one is in it."""
        address = self._upstream.address
        status, body = await self._upstream.get("/models")
        if status in (401, 403):
            key = f"refuses the key in {self._key_env}" if self._key_env else "wants a key: name its key_env"
            raise AgentError(f"{address} {key} ({status})", retryable=False)
        if status >= 500:
            raise AgentError(f"{address} is out of order ({status})", "agent_unavailable")
        if self._model in _model_ids(body):
            return f"{address} offers {self._model}"
        return f"{address} answers, but does not list {self._model} ({status})"

    async def aclose(self) -> None:
        await self._upstream.aclose()

    def _body(self, turn: Turn) -> dict[str, Any]:
        body = {"model": self._model, "messages": _messages(self._system, turn), **self._settings}
        return {field: value for field, value in body.items() if value is not None}


def _messages(system: str, turn: Turn) -> list[dict[str, str]]:
    """The conversation in the one form that every server accepts: user and assistant strictly in turns, from
    a user's message to this one. Neighbours of one role are joined, as around an answer that failed, which is
    left out. Of a cancelled one the model sees what the user saw.
    """
    said = [(past.role, past.content) for past in turn.history if past.content and past.status != "failed"]
    said = [*dropwhile(lambda message: message[0] == "agent", said), ("user", turn.content)]
    messages = [{"role": "system", "content": system}] if system else []
    for role, together in groupby(said, key=itemgetter(0)):
        messages.append({"role": _ROLES[role], "content": "\n\n".join(content for _, content in together)})
    return messages


def _object(option: str, text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"{option}={text!r}: expected a JSON object ({exc})") from exc


class _Models(Struct):
    class Model(Struct):
        id: str

    data: list[Model]


def _model_ids(body: bytes) -> list[str]:
    try:
        return [model.id for model in msgspec.json.decode(body, type=_Models).data]
    except (ValueError, RecursionError):
        return []
