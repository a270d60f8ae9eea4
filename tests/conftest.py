"""What every test may use, and the rule that nothing is skipped where CI runs."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Generator, Iterator
from typing import Any, Literal

import pytest
import structlog

from gateway.logs import configure_logs


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _fail_if_skipped((yield))


def _fail_if_skipped(report: Any) -> Any:
    """Where `CI=true`, what was skipped has failed: nobody would notice otherwise."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        *_, reason = report.longrepr
        report.outcome, report.longrepr = "failed", f"{reason}: in CI that is a failure."
    return report


@pytest.fixture
def logged() -> Iterator[Callable[..., io.StringIO]]:
    """`logged(format="json", **options)`: from here on what is logged, from debug on."""
    root, ours = logging.getLogger(), logging.getLogger("gateway")
    before = root.handlers[:], root.level, ours.level

    def start(format: Literal["text", "json"] = "json", **options: bool) -> io.StringIO:  # noqa: A002
        stream = io.StringIO()
        configure_logs("debug", format, stream, **options)
        return stream

    yield start
    structlog.reset_defaults()
    root.handlers[:], root.level, ours.level = before
