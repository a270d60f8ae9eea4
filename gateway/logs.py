"""Logs: one line per event to stderr, for people or as JSON, with the ids that the context knows.

What people say to agents and what proves who they are is never logged. An exception's text may be made of it:
so of an exception its type and where it was raised are logged, and the text only where a setting asks for it.
Tracebacks then come without local variables. Of other libraries only warnings are shown: below that, uvicorn
logs query strings, websockets logs frames, and httpx logs URLs.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Literal, TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

__all__ = ["configure_logs", "outline"]

Level = Literal["debug", "info", "warning", "error"]


_FRAMES = 5
"""Of each exception, the innermost frames that are named."""
_CHAIN = 5
"""How many exceptions that led to one another are named."""


def configure_logs(
    level: Level,
    format: Literal["text", "json"],  # noqa: A002
    stream: TextIO,
    *,
    exception_text: bool = False,
) -> None:
    """Send structlog's and the standard library's logs to `stream`, in one shape. `level` is that of this
    package; everything else is heard from `warning` on. With `exception_text`, exceptions are logged with
    their texts and tracebacks, else as their `outline`."""
    context: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *context,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=context,
            processors=[
                *([] if exception_text else [_outlined]),
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_as_text(stream) if format == "text" else _as_json()),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("gateway").setLevel(level.upper())


def outline(error: BaseException) -> str:
    """An exception without its text: its type, the places it passed, innermost first, and what led to it.

    ValueError at mine.py:7 look < mine.py:3 agent, after KeyError at mine.py:5 look
    """
    told: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(told) < _CHAIN:
        told.append(_outline_of_one(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return ", after ".join(told)


def _outline_of_one(error: BaseException) -> str:
    named = type(error).__qualname__
    if isinstance(error, BaseExceptionGroup):
        inner = error.exceptions[:_CHAIN]
        return f"{named} of ({'; '.join(outline(one) for one in inner)})"
    passed = [
        f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    return f"{named} at {' < '.join(passed[: -_FRAMES - 1 : -1])}" if passed else named


def _outlined(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Says of an exception only its outline."""
    info = event.pop("exc_info", None)
    if isinstance(info, tuple):
        info = info[1]
    elif info and not isinstance(info, BaseException):
        info = sys.exc_info()[1]
    if not info:
        return event
    event["error"] = outline(info)
    if not event["_from_structlog"]:
        # asyncio tells below its first line of the task that failed, with the exception, and on it of what a
        # callback was called with.
        event["event"] = event["event"].partition("\n")[0].partition("(")[0]
    return event


def _as_text(stream: TextIO) -> list[Processor]:
    # The default formatter shows local variables, and those hold what people wrote.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]


def _as_json() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
