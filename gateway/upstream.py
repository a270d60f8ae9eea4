"""The servers that agents call: one HTTP client each, failures in the words of the error table.

Nothing of one turn reaches another through it: no cookies are kept. No redirect takes the key elsewhere.
Silence is timed by the turn, not here; cancelling closes the response, and the server sees it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
import msgspec

from gateway.interfaces import AgentError, Piece
from gateway.lines import BODY_LIMIT, Reader, truncated

__all__ = ["Upstream", "error_message", "secret", "within"]

_ERROR_BODY_LIMIT = 64 << 10
_MESSAGE_LIMIT = 200
_CHECK_TIMEOUT = 5.0
_REST_TIMEOUT = 0.2
_MAX_RETRY_AFTER = 24 * 3600.0
_PASSING = (408, 425, 429)
# Node and uvicorn drop an idle line after 5 s: let go of it first, or a turn now and then meets its end.
_KEEP_ALIVE = 3.0
# With more lines than this, none is kept for the next turn. At every turn httpcore looks at every line for
# every idle one: without a limit, 1,000 turns at once cost the loop 14 s, with it 1.5 s.
_MAX_IDLE = 50


class Upstream:
    """One server. `who` is the subject of what people are told about it: "The model's server"."""

    def __init__(self, who: str, url: str, key: str = "", connect_timeout: float = 10.0) -> None:
        within("connect_timeout", connect_timeout, 0.1, 600)
        self._who = who
        self._url = _url(url)
        self._key = key
        # Made here, not at the first turn, which would have to wait 30 ms for the certificates.
        self._client = httpx.AsyncClient(
            headers={"User-Agent": "trunkline", "Accept-Encoding": "identity"}
            | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx.Timeout(None, connect=connect_timeout),
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=_MAX_IDLE, keepalive_expiry=_KEEP_ALIVE
            ),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    @property
    def address(self) -> str:
        """Where it is, without what may be secret in a URL."""
        return f"{self._url.scheme}://{self._url.netloc.decode()}{self._url.path}"

    async def ask(
        self, path: str, body: Any, request_id: str | None, readers: Mapping[str, Callable[[], Reader]]
    ) -> AsyncGenerator[Piece, None]:
        """POST `body` as JSON and yield what the reader for the answer's media type makes of it.

        Raises `AgentError`: `agent_unavailable` if it cannot be reached or is busy, `upstream_truncated` if
        the answer stops short, `agent_failed` if it refuses or answers what cannot be read.
        """
        async with self._open("POST", path, msgspec.json.encode(body), request_id) as reply:
            if reply.status >= 300:
                raise self.refusal(
                    reply.status, _body_message(await reply.body(_ERROR_BODY_LIMIT)), reply.retry_after_ms
                )
            if reply.media_type not in readers:
                raise AgentError(
                    f"{self._who} answered {self._short(reply.media_type) or 'without a content type'}, "
                    f"not {' or '.join(filter(None, readers))}.",
                    retryable=False,
                )
            reader = readers[reply.media_type]()
            async for chunk in reply:
                for piece in reader.feed(chunk):
                    yield piece
                if reader.over:
                    break
            if reply.broken and not reader.delimited:
                raise truncated()
            for piece in reader.end():
                yield piece
            await reply.rest()

    async def get(self, path: str = "") -> tuple[int, bytes]:
        """Status and body of a GET, within 5 s. Raises `AgentError` with the address and the reason."""
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT), self._open("GET", path) as reply:
                return reply.status, await reply.body(BODY_LIMIT)
        except AgentError as error:
            reason = str(error.__cause__) or type(error.__cause__).__name__
            raise AgentError(f"{self.address} cannot be reached: {reason}", error.code) from error
        except TimeoutError as exc:
            raise AgentError(
                f"{self.address} did not answer in {_CHECK_TIMEOUT:g} s.", "agent_unavailable"
            ) from exc

    def refusal(self, status: int, message: str = "", retry_after_ms: int | None = None) -> AgentError:
        """What an HTTP status, or an error that amounts to one, means for the turn.

        `message` is the server's own: told where it is about the request, in short and without the key.
        """
        if status in (401, 403):
            why = "refuses the gateway's key" if self._key else "wants a key, and the gateway has none"
            return AgentError(f"{self._who} {why} ({status}).", retryable=False)
        if status in _PASSING or status >= 500:
            why = "has too much to do, or its quota is used up" if status == 429 else "is out of order"
            content = f"{self._who} {why} ({status}): try again later."
            return AgentError(content, "agent_unavailable", retry_after_ms=retry_after_ms)
        if status < 400:
            return AgentError(f"{self._who} has another address ({status}).", retryable=False)
        said = self._short(message)
        return AgentError(
            f"{self._who} refused the request ({status}){f': {said}' if said else '.'}", retryable=False
        )

    async def aclose(self) -> None:
        """Close every line to it."""
        await self._client.aclose()

    @asynccontextmanager
    async def _open(
        self, method: str, path: str, content: bytes | None = None, request_id: str | None = None
    ) -> AsyncIterator[_Reply]:
        url = self._url.copy_with(path=self._url.path.rstrip("/") + path) if path else self._url
        headers = {"Content-Type": "application/json"} if content is not None else {}
        if request_id and request_id.isascii() and request_id.isprintable():
            headers["X-Request-Id"] = request_id
        request = self._client.build_request(method, url, content=content, headers=headers)
        try:
            response = await self._client.send(request, stream=True)
        except httpx.RequestError as exc:
            raise AgentError(f"{self._who} cannot be reached.", "agent_unavailable") from exc
        try:
            yield _Reply(response)
        finally:
            await response.aclose()

    def _short(self, message: str) -> str:
        """One line of the server's own words."""
        if self._key:
            message = message.replace(self._key, "…")
        message = " ".join("".join(c if c.isprintable() else " " for c in message).split())
        return message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…"


class _Reply:
    """An answer whose head is here. Iterate it for its body, chunk by chunk; a lost line ends it `broken`."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.retry_after_ms = _retry_after_ms(response.headers)
        self.broken = False
        self._chunks = response.aiter_bytes()

    def __aiter__(self) -> _Reply:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except httpx.RequestError:
            self.broken = True
            raise StopAsyncIteration from None

    async def body(self, limit: int) -> bytes:
        """The body, or somewhat more than `limit` bytes of it."""
        body = bytearray()
        async for chunk in self:
            body += chunk
            if len(body) > limit:
                break
        return bytes(body)

    async def rest(self) -> None:
        """Read on to the end, if it is near: only then can the line carry another turn."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_REST_TIMEOUT):
                async for _ in self:
                    pass


def within(option: str, value: float, least: float, most: float) -> None:
    """Raises `ValueError` if that option is out of its bounds."""
    if not least <= value <= most:
        raise ValueError(f"{option} is {value:g}; it must be from {least:g} to {most:g}")


def secret(variable: str) -> str:
    """The key in that environment variable. Raises `ValueError` that names it, never what it holds."""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(f"key_env={variable!r}: the environment variable {variable} is not set")
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"key_env={variable!r}: what {variable} holds is no key: it has characters beyond ASCII"
        )
    return key


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as exc:
        raise ValueError(f"{text!r} is no address: {exc}") from exc
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{text!r} is no address: expected http://host… or https://host…")
    return url


def error_message(error: Any) -> str:
    """The sentence in an error as servers send it: a string, or an object with `message`. Else nothing."""
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""


def _body_message(body: bytes) -> str:
    try:
        answer = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return ""
    return error_message(answer.get("error")) if isinstance(answer, dict) else ""


def _retry_after_ms(headers: httpx.Headers) -> int | None:
    """`Retry-After` (RFC 9110, 10.2.3): seconds, or a date, which counts from the server's own `Date`."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            due, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("date", ""))
            seconds = (due - now).total_seconds()
        except (ValueError, TypeError):
            return None
    return round(min(seconds, _MAX_RETRY_AFTER) * 1000) if seconds >= 0 else None
