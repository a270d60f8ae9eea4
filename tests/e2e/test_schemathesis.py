"""What a machine finds that reads the description of the API and tries it: every operation, with requests
that the description allows and with such that it does not.

Streams that do not end by themselves are left to their own tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.agents.echo import EchoAgent
from gateway.app import gateway_app
from gateway.stores.memory import MemoryStore
from protocol.errors import TABLE
from tests.e2e.process import gateway_serve, serving

WAIT = 30.0
EXAMPLES = 40
"""Per operation, and as many again of what is not allowed."""
ENDLESS = {("GET", "/api/sessions/{session_id}/events"), ("POST", "/events")}
KEY = "a-key-which-is-long-enough-for-anybody"
KNOWN = {"agent": "echo", "app_name": "echo", "user_id": "user", "session_id": "s", "conversation_id": "s"}
"""What is there: a request that names only what is not would not come far."""


def code_conformance(_: Any, response: Any, case: Any) -> None:
    """An error that names its code is one that the operation is told to have."""
    if response.status_code < 400 or not response.headers["content-type"][0].startswith("application/json"):
        return
    told = case.operation.definition.raw["responses"][str(response.status_code)].get("x-codes", ())
    code = response.json().get("code")
    assert code not in TABLE or code in told, f"{code} is not told of this operation"


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    ignored_auth,
    code_conformance,
]

DOCUMENT = gateway_app(agents={"echo": EchoAgent()}, store=MemoryStore()).openapi
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [
    operation
    for operation in (found.ok() for found in SCHEMA.get_all_operations())
    if (operation.method.upper(), operation.path) not in ENDLESS
]
ALLOWED, NOT_ALLOWED = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE

tried = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),  # a failure tells its request: there is no time to look for a smaller one
    suppress_health_check=list(HealthCheck),
)


class Caller(requests.Session):
    """Somebody with a service's key."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.key = {"Authorization": f"Bearer {KEY}"}

    def make_session(self) -> None:
        """Make the session that is known; another request may have deleted it."""
        made = self.post(f"{self.url}/api/agents/echo/sessions", json={"session_id": "s"}, headers=self.key)
        assert made.status_code in (200, 409)


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    folder = tmp_path_factory.mktemp("schemathesis")
    environment = {
        "GATEWAY_API_KEYS": f"test={KEY}",
        "GATEWAY_MAX_REQUESTS_PER_SECOND": "100000",
        "GATEWAY_MAX_MESSAGES_PER_MINUTE": "100000",
    }
    arguments = gateway_serve(folder / "gateway.db", {"echo": "echo"})
    with serving(arguments, folder / "log", environment) as process, Caller(process.url) as session:
        yield session


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method.upper()} {one.path}")
def test_every_operation_does_what_is_told_of_it(operation: Any, caller: Caller) -> None:
    @tried
    @given(case=operation.as_strategy(ALLOWED) | operation.as_strategy(NOT_ALLOWED), known=st.booleans())
    def try_it(case: Any, known: bool) -> None:
        if known:
            case.path_parameters |= {name: KNOWN[name] for name in case.path_parameters if name in KNOWN}
        caller.make_session()
        response = case.call(base_url=caller.url, session=caller, headers=caller.key, timeout=WAIT)
        case.validate_response(response, checks=CHECKS)

    try_it()
