"""The servers that agents call: one HTTP client each, failures in the words of the error table.

Nothing of one turn reaches another through it: no cookies are kept. No redirect takes the key elsewhere.
Silence is timed by the turn, not here; cancelling closes the response, and the server sees it. Of the
environment count the proxies (`proxies.py`), and `SSL_CERT_FILE` or `SSL_CERT_DIR`: the authorities to trust.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.util import find_spec
from typing import Any

import httpx
import msgspec
import structlog

from gateway.interfaces import AgentError, Alive, Piece
from gateway.lines import BODY_LIMIT, BOM, Reader, truncated
from gateway.proxies import Proxy, proxy_for
from gateway.refusals import code, sentence

__all__ = ["BadEnvironment", "Upstream", "secret", "within"]

logger = structlog.get_logger("gateway.upstream")

_ERROR_BODY_LIMIT = 1 << 20  # some servers repeat the whole request in it
_MESSAGE_LIMIT = 200
_LOOKED_AT = 4_000  # of a sentence that may be a whole request
_CHECK_TIMEOUT = 5.0
_REST_TIMEOUT = 0.2
_MAX_RETRY_AFTER = 24 * 3600.0
_PASSING = (408, 425, 429)
# Node and uvicorn drop an idle line after 5 s: let go of it first, or a turn now and then meets its end.
_KEEP_ALIVE = 3.0
# With more lines than this, none is kept for the next turn. At every turn httpcore looks at every line for
# every idle one: without a limit, 1,000 turns at once cost the loop 14 s, with it 1.5 s.
_MAX_IDLE = 50


class BadEnvironment(ValueError):
    """The environment says how the server is to be called, and that cannot be done. The sentence names the
    variable, and never shows what may be secret in it."""


class Upstream:
    """One server. `who` is the subject of what people are told about it: "The model's server". Raises
    `ValueError` for what is no address, and `BadEnvironment`."""

    def __init__(self, who: str, url: str, key: str = "", connect_timeout: float = 10.0) -> None:
        within("connect_timeout", connect_timeout, 0.1, 600)
        self._who = who
        self._url = _url(url)
        self._key = key
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        self._proxy = proxy_for(self._url.scheme, self._url.host, port, os.environ)
        # Made here, not at the first turn, which would have to wait 30 ms for the certificates.
        self._client = httpx.AsyncClient(
            **_route(self._url, self._proxy),
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
        self, path: str, body: Any, request_id: str | None, reader_of: Callable[[str], Reader]
    ) -> AsyncGenerator[Piece, None]:
        """POST `body` as JSON and yield what the reader for the answer's media type makes of it, and `Alive`
        for whatever came that it makes nothing of.

        Raises `AgentError`: `agent_unavailable` if it cannot be reached or is busy, `upstream_truncated` if
        the answer stops short, `agent_failed` if it refuses or answers what cannot be read.
        """
        try:
            async with self._open("POST", path, msgspec.json.encode(body), request_id) as reply:
                if reply.status >= 300:
                    error = _json(await reply.body(_ERROR_BODY_LIMIT))
                    raise self.refusal(reply.status, error, reply.retry_after_ms)
                reader = reader_of(reply.media_type)
                async for chunk in reply:
                    piece: Piece | None = None
                    for piece in reader.feed(chunk):
                        yield piece
                    if reader.over:
                        break
                    if piece is None:
                        yield Alive()
                if reply.broken and not reader.delimited:
                    raise truncated()
                for piece in reader.end():
                    yield piece
                await reply.rest()
        except httpx.RequestError as exc:
            why = self._unreached(exc)
            logger.warning("upstream not reached", url=self.address, why=why)
            raise AgentError(f"{self._who} {why}.", "agent_unavailable") from exc

    async def get(self, path: str = "") -> tuple[int, bytes]:
        """Status and body of a GET, within 5 s. Raises `AgentError` with the address and the reason."""
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT), self._open("GET", path) as reply:
                return reply.status, await reply.body(BODY_LIMIT)
        except httpx.RequestError as exc:
            why = f"{self._unreached(exc)}: {str(exc) or type(exc).__name__}"
            raise AgentError(f"{self.address} {why}", "agent_unavailable") from exc
        except TimeoutError as exc:
            raise AgentError(
                f"{self.address} did not answer in {_CHECK_TIMEOUT:g} s.", "agent_unavailable"
            ) from exc

    def refusal(self, status: int, error: Any = None, retry_after_ms: int | None = None) -> AgentError:
        """What an HTTP status, or an error that amounts to one, means for the turn. It is logged.

        `error` is the server's own report: its sentence is passed on in short and without the key, unless it
        is about the key. It may repeat what the user wrote: hence it is logged as an exception's text is.
        """
        refusal = self._refusal(status, self._short(sentence(error)), retry_after_ms)
        logger.warning(
            "upstream refused", url=self.address, status=status, code=code(error), exc_info=refusal
        )
        return refusal

    def _refusal(self, status: int, said: str, retry_after_ms: int | None) -> AgentError:
        if status in (401, 403):
            why = "refuses the gateway's key" if self._key else "wants a key, and the gateway has none"
            return AgentError(f"{self._who} {why} ({status}).", retryable=False)
        if status in _PASSING or status >= 500:
            why = "has too much to do, or its quota is used up" if status == 429 else "is out of order"
            content = f"{self._who} {why} ({status}): try again later.{f' It says: {said}' if said else ''}"
            return AgentError(content, "agent_unavailable", retry_after_ms=retry_after_ms)
        if status < 400:
            return AgentError(f"{self._who} has another address ({status}).", retryable=False)
        return AgentError(
            f"{self._who} refused the request ({status}){f': {said}' if said else '.'}", retryable=False
        )

    def empty(self) -> AgentError:
        """It has answered, and there was nothing in it."""
        return AgentError(f"{self._who} sent an answer with nothing in it.")

    def mistyped(self, media_type: str, *expected: str) -> AgentError:
        """It has answered in a form that cannot be read."""
        came = self._short(media_type) or "without a content type"
        return AgentError(f"{self._who} answered {came}, not {' or '.join(expected)}.", retryable=False)

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
        response = await self._client.send(request, stream=True)
        try:
            yield _Reply(response)
        finally:
            await response.aclose()

    def _unreached(self, exc: httpx.RequestError) -> str:
        """Why it could not be reached, as far as that can be mended here."""
        tls = next((cause for cause in _causes(exc) if isinstance(cause, ssl.SSLError)), None)
        if isinstance(tls, ssl.SSLCertVerificationError):
            return (
                f"cannot be trusted: {tls.verify_message}; SSL_CERT_FILE may name a file with the "
                "certificate of its authority"
            )
        if self._proxy is None:
            return "cannot be reached"
        if tls is None and isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            return (
                f"cannot be reached: the proxy that {self._proxy.variable} names is not there, or refuses; "
                "NO_PROXY may name what is called without it"
            )
        return f"cannot be reached through the proxy that {self._proxy.variable} names"

    def _short(self, message: str) -> str:
        """One line of the server's own words."""
        if self._key:
            message = message.replace(self._key, "…")
        message = message[:_LOOKED_AT]
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
        """The body, or somewhat more than `limit` bytes of it; without a byte order mark."""
        body = bytearray()
        async for chunk in self:
            body += chunk
            if len(body) > limit:
                break
        return bytes(body).removeprefix(BOM)

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


def _route(url: httpx.URL, proxy: Proxy | None) -> dict[str, Any]:
    """How an address is called: through which proxy, and trusting whom. Raises `BadEnvironment`."""
    # Where nothing is encrypted, no certificates are needed, and none that are missing are missed.
    encrypted = url.scheme == "https" or (proxy is not None and proxy.url.startswith("https:"))
    trusted = _trusted() if encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    route: dict[str, Any] = {"trust_env": False, "verify": trusted}
    if proxy is None:
        return route
    try:
        with_tls = trusted if proxy.url.startswith("https:") else None
        route["proxy"] = httpx.Proxy(proxy.url, ssl_context=with_tls)
    except (ValueError, httpx.InvalidURL):  # which show it, and what may be secret in it
        raise BadEnvironment(
            f"{proxy.variable} names no proxy for it: expected http://host:port, https:// or socks5://"
        ) from None
    if proxy.url.startswith("socks5") and find_spec("socksio") is None:
        raise BadEnvironment(
            f"{proxy.variable} names a SOCKS proxy, which takes the package httpx[socks]: install that, or "
            f"name {url.host} in NO_PROXY"
        )
    return route


def _trusted() -> ssl.SSLContext:
    """The authorities that are trusted: those that the environment names, else certifi's."""
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if path := os.environ.get(variable):
            try:
                os.stat(path)  # ssl would not say what is missing
                if variable == "SSL_CERT_FILE":
                    return ssl.create_default_context(cafile=path)
                return ssl.create_default_context(capath=path)
            except ssl.SSLError as exc:
                raise BadEnvironment(f"{variable} is {path!r}: there are no certificates in it") from exc
            except OSError as exc:
                raise BadEnvironment(f"{variable} is {path!r}: {exc.strerror}") from exc
    return httpx.create_ssl_context(trust_env=False)


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None


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
