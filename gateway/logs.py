"""Logs: one line per event to stderr, for people or as JSON, with the ids that the context knows.

What people say to agents and what proves who they are is never logged. So tracebacks come without local
variables, and of other libraries only warnings are shown: below that, uvicorn logs query strings, websockets
logs frames, and httpx logs URLs.
"""

from __future__ import annotations

import logging
from typing import Literal, TextIO

import structlog
from structlog.types import Processor

__all__ = ["configure_logs"]

Level = Literal["debug", "info", "warning", "error"]


def configure_logs(level: Level, format: Literal["text", "json"], stream: TextIO) -> None:  # noqa: A002
    """Send structlog's and the standard library's logs to `stream`, in one shape. `level` is that of this
    package; everything else is heard from `warning` on."""
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
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_as_text(stream) if format == "text" else _as_json()),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("gateway").setLevel(level.upper())


def _as_text(stream: TextIO) -> list[Processor]:
    # The default formatter shows local variables, and those hold what people wrote.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]


def _as_json() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
