"""Logs: structured, with the ids that the context knows, and never what people wrote."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from gateway import Turn
from gateway.agents.function import FunctionAgent
from gateway.logs import outline
from gateway.stores.memory import MemoryStore
from tests.harness import Client, gateway

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
def test_of_an_exception_its_type_and_its_place_are_logged_and_not_its_text(
    logged: Logged, format_: str
) -> None:
    logs = logged(format_)
    try:
        try:
            fail(SECRET)
        except RuntimeError as error:
            raise ExceptionGroup(SECRET, [ValueError(SECRET)]) from error
    except ExceptionGroup as error:
        structlog.get_logger("gateway.turn").exception("agent failed")
        structlog.get_logger("gateway.turn").error("agent failed", exc_info=error)
        logging.getLogger("gateway.threads").exception("iterator failed")
        logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=error)
    said = logs.getvalue()
    assert said.count("ExceptionGroup of (ValueError), after RuntimeError at ") == 4
    assert said.count(f"{__file__}:{fail.__code__.co_firstlineno + 1} fail < {__file__}:") == 4
    assert len(said.splitlines()) == 4
    assert SECRET not in said
    assert "characters" not in said


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_setting_lets_the_text_in_but_no_local_variables(logged: Logged, format_: str) -> None:
    logs = logged(format_, exception_text=True)
    try:
        fail(SECRET)
    except RuntimeError:
        structlog.get_logger("gateway.turn").exception("agent failed")
        logging.getLogger("gateway.threads").exception("iterator failed")
    said = logs.getvalue()
    assert said.count("RuntimeError: 17 characters are too many") == 2
    assert "in fail" in said
    assert SECRET not in said


def test_exceptions_that_led_to_one_another_without_end_are_named_a_few_times() -> None:
    error = cause = ValueError()
    for _ in range(1_000):
        cause.__cause__ = ValueError()
        cause = cause.__cause__
    assert outline(error) == ", after ".join(["ValueError"] * 5)


async def test_what_the_loop_says_of_a_task_that_failed_holds_no_text_either(logged: Logged) -> None:
    logs, loop = logged(), asyncio.get_running_loop()

    async def confess() -> None:
        raise RuntimeError(SECRET)

    tasks = [loop.create_task(confess())]
    await asyncio.wait(tasks)
    tasks.clear()
    gc.collect()
    loop.call_soon(fail, f"{SECRET} {SECRET}")
    await asyncio.sleep(0)
    never_asked, in_callback = lines(logs)
    assert never_asked["event"] == "Task exception was never retrieved"
    assert never_asked["error"].startswith(f"RuntimeError at {__file__}:")
    assert in_callback["event"] == "Exception in callback fail"
    assert SECRET not in logs.getvalue()


async def confess_late(turn: Turn) -> AsyncIterator[str]:
    try:
        yield "so far"
        if turn.content:
            raise LookupError(turn.content)
    finally:
        await asyncio.sleep(0)
        raise ValueError(turn.content)


def confess_in_a_thread(turn: Turn) -> Iterator[str]:
    yield "so far"
    raise ValueError(turn.content)


async def confess_at_once(turn: Turn) -> str:
    raise ValueError(turn.content)


@pytest.mark.parametrize("agent", [confess_late, confess_in_a_thread, confess_at_once])
async def test_an_agent_that_raises_what_it_was_told_puts_it_into_no_log(logged: Logged, agent: Any) -> None:
    logs = logged()
    async with gateway({"bot": FunctionAgent(agent)}, MemoryStore()) as g:
        client = Client(g)
        client.put("message", session_id="s", turn_id="t", content=SECRET)
        end = await client.terminal("t")
    assert end.content == "The agent failed; the gateway's log says why. Send the message again."
    [line] = lines(logs)
    assert (line["event"], line["turn_id"], line["session_id"]) == ("agent failed", "t", "s")
    assert line["error"].startswith(f"ValueError at {__file__}:")
    assert agent.__name__ in line["error"]
    assert SECRET not in logs.getvalue()


def test_a_value_cannot_forge_a_line(logged: Logged) -> None:
    logs = logged("text")
    structlog.get_logger("gateway.connection").warning("odd", cursor="x\n2026-01-01 [info] all is well")
    assert len(logs.getvalue().splitlines()) == 1
