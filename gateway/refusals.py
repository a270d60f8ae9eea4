"""What a server says went wrong, in many shapes: the sentence, and the HTTP status that it amounts to.

    {"error": {"message": "…", "code": 400}}     OpenAI and most others
    [{"error": {"message": "…", "status": "…"}}] Gemini's endpoint
    {"object": "error", "message": "…"}          vLLM, SGLang
    {"detail": "…"}, {"detail": [{"msg": "…"}]}  whatever is made with FastAPI
    {"error": "…"}                               Ollama

Pure: takes what JSON was decoded to, and trusts none of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

__all__ = ["code", "is_error", "sentence", "status"]

_SENTENCES = ("message", "msg", "detail", "error", "errors", "error_msg")
"""Where the sentence may be, or what holds it. `message` comes first: beside it `error` may be no more than
the name of the status."""
_KINDS = ("code", "status", "status_code", "type")
_DEPTH = 4
_FEW = 3
"""Of so many errors at once the sentences are told."""

_STATUS_OF_KIND = (
    ("invalidapikey", 401),
    ("authentication", 401),
    ("unauthorized", 401),
    ("permission", 403),
    ("ratelimit", 429),
    ("toomanyrequests", 429),
    ("quota", 429),
    ("exhausted", 429),
    ("overload", 503),
    ("unavailable", 503),
    ("timeout", 504),
    ("deadline", 504),
    ("connection", 502),
    ("upstream", 502),
    ("internal", 500),
    ("servererror", 500),
    ("apierror", 500),
)
"""What servers call a failure for which there is a status; part of its name, of which only the letters count:
`rate_limit_exceeded`, `RateLimitError`."""


def is_error(document: dict[str, Any]) -> bool:
    """Is it the report of a failure, and no part of an answer? One whose status is 200 has to be told by its
    looks: it says so, or it says something and answers nothing."""
    if document.get("error") or "error" in (document.get("object"), document.get("type")):
        return True
    return not (document.get("choices") or document.get("usage")) and bool(sentence(document))


def sentence(error: Any, depth: int = _DEPTH) -> str:
    """What it says to people, as the server wrote it; nothing if there is no such thing."""
    if isinstance(error, str):
        return error
    if isinstance(error, dict) and depth:
        return next(filter(None, (sentence(error.get(field), depth - 1) for field in _SENTENCES)), "")
    if isinstance(error, list) and depth:
        return "; ".join(filter(None, (sentence(one, depth - 1) for one in error[:_FEW])))
    return ""


def status(error: Any) -> int:
    """The HTTP status, 400 to 599, that its code or its kind amounts to; 400 if it names none."""
    for kind in _kinds(error, _DEPTH):
        if re.fullmatch("[45][0-9][0-9]", str(kind)):
            return int(kind)
        letters = "".join(filter(str.isalpha, str(kind).lower()))
        for name, number in _STATUS_OF_KIND:
            if name in letters:
                return number
    return 503 if "overloaded" in sentence(error).lower() else 400


def code(error: Any) -> str | None:
    """The word or number that names its kind; None if there is none. Never a text that somebody wrote."""
    return next(
        (str(kind) for kind in _kinds(error, _DEPTH) if re.fullmatch(r"[\w.-]{1,64}", str(kind))), None
    )


def _kinds(error: Any, depth: int) -> Iterator[str | int]:
    """What may name its kind: of what it wraps first."""
    if isinstance(error, list):
        error = next(iter(error), None)
    if isinstance(error, dict) and depth:
        yield from _kinds(error.get("error"), depth - 1)
        for field in _KINDS:
            if isinstance(kind := error.get(field), str | int):
                yield kind
