"""Logs: structured, with the ids that the context knows, and never what people wrote."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
import structlog

Logged = Callable[..., io.StringIO]
SECRET = "the butler did it"


def lines(logs: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in logs.getvalue().splitlines()]


def fail(confession: str) -> None:
    raise RuntimeError(f"{len(confession)} characters are too many")


def test_an_event_is_one_object_with_its_context_and_the_time_in_utc(logged: Logged) -> None:
    logs = logged()
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger("gateway.turn").warning("too late", turn_id="t1")
    [line] = lines(logs)
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() == timedelta(0)
    assert line == {
        "event": "too late",
        "turn_id": "t1",
        "request_id": "r1",
        "logger": "gateway.turn",
        "level": "warning",
    }


def test_other_libraries_logs_come_in_the_same_shape(logged: Logged) -> None:
    logs = logged()
    with structlog.contextvars.bound_contextvars(session_id="s1"):
        logging.getLogger("uvicorn.error").warning("%d tasks", 3)
    [line] = lines(logs)
    assert (line["event"], line["logger"], line["session_id"]) == ("3 tasks", "uvicorn.error", "s1")


def test_what_other_libraries_say_below_warning_is_not_heard(logged: Logged) -> None:
    logs = logged()
    for name in ("uvicorn.error", "websockets.server", "httpx", "asyncio"):
        logging.getLogger(name).info('"WebSocket /ws?token=%s" [accepted]', SECRET)
        logging.getLogger(name).debug("> TEXT %r", SECRET)
    structlog.get_logger("gateway.turn").debug("ours is")
    assert [line["event"] for line in lines(logs)] == ["ours is"]


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_traceback_says_where_but_not_with_what(logged: Logged, format_: str) -> None:
    logs = logged(format_)
    try:
        fail(SECRET)
    except RuntimeError:
        structlog.get_logger("gateway.turn").exception("agent failed")
        logging.getLogger("gateway.threads").exception("iterator failed")
    said = logs.getvalue()
    assert said.count("RuntimeError: 17 characters are too many") == 2
    assert "in fail" in said
    assert SECRET not in said


def test_a_value_cannot_forge_a_line(logged: Logged) -> None:
    logs = logged("text")
    structlog.get_logger("gateway.connection").warning("odd", cursor="x\n2026-01-01 [info] all is well")
    assert len(logs.getvalue().splitlines()) == 1
