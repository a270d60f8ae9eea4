"""The document of the HTTP API: whole, valid, and made of the gateway itself."""

from __future__ import annotations

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from gateway.agents.echo import EchoAgent
from gateway.app import Gateway, gateway_app
from gateway.described import SURFACES
from gateway.stores.memory import MemoryStore
from protocol.codec import decode_client_frame
from protocol.errors import TABLE


def an_app() -> Gateway:
    return gateway_app(agents={"echo": EchoAgent()}, store=MemoryStore())


APP = an_app()
DOCUMENT = APP.openapi
OPERATIONS = {
    (method.upper(), path): operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
of_each = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=map(" ".join, OPERATIONS))

OF_BODIES = {"bad_request", "frame_too_large", "unsupported_media_type"}


def codes(operation: dict[str, Any]) -> set[str]:
    return {code for response in operation["responses"].values() for code in response.get("x-codes", ())}


def test_it_is_an_openapi_3_1_document() -> None:
    OpenAPIV31SpecValidator({**DOCUMENT, "servers": [{"url": "/"}]}).validate()  # type: ignore[arg-type]


def test_every_route_is_in_it() -> None:
    told = {(method, path) for method, path in OPERATIONS}
    untold = []
    for route in APP.routes:
        assert isinstance(route, Route)
        path = re.sub(r":\w+}", "}", route.path)
        for method in (route.methods or set()) - {"HEAD"}:
            if not {(method, path), (method, path.rstrip("/"))} & told:
                untold.append((method, path))
    assert untold == []


def test_every_code_of_the_table_is_in_it() -> None:
    # Not allowed is an answer of methods that are in no document.
    assert set().union(*map(codes, OPERATIONS.values())) == TABLE.keys() - {"method_not_allowed"}


@of_each
def test_every_code_is_told_under_its_status(operation: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        assert {str(TABLE[code].status) for code in response.get("x-codes", ())} <= {status}
        assert all(f"`{code}`" in response["description"] for code in response.get("x-codes", ()))


@of_each
def test_what_comes_with_an_endpoints_kind_is_told(operation: dict[str, Any]) -> None:
    told = codes(operation)
    assert {"forbidden", "internal", "rate_limited"} <= told
    assert {"unauthenticated", "token_expired", "store_unavailable"} <= told or not operation["security"]
    where = {parameter.get("in") for parameter in operation["parameters"]}
    assert "bad_request" in told or "query" not in where
    assert "bad_id" in told or "path" not in where
    assert told >= OF_BODIES or "requestBody" not in operation


@of_each
def test_what_to_do_after_an_error_is_told_in_headers(operation: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        waits = any(TABLE[code].retry_after_ms for code in response.get("x-codes", ()))
        assert "X-Request-Id" in response["headers"]
        assert ("Retry-After" in response["headers"]) == waits
        assert ("WWW-Authenticate" in response["headers"]) == (status == "401")


@of_each
def test_it_says_what_it_is_for_and_what_its_errors_look_like(operation: dict[str, Any]) -> None:
    assert re.fullmatch(r"[A-Z].*\.", operation["summary"])
    assert operation["tags"][0] in {name for name, _ in SURFACES.values()}
    for response in operation["responses"].values():
        if "x-codes" in response:
            assert response["content"]["application/json"]["schema"] != {"type": "object"}


def test_no_two_operations_are_called_the_same() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(names) == len(set(names))


def test_path_parameters_are_the_protocols_ids() -> None:
    for (_, path), operation in OPERATIONS.items():
        named = [parameter for parameter in operation["parameters"] if parameter.get("in") == "path"]
        assert [parameter["name"] for parameter in named] == re.findall(r"{(\w+)}", path)
        for parameter in named:
            assert parameter["required"]
            assert {"pattern", "minLength", "maxLength"} <= parameter["schema"].keys(), (path, parameter)


def test_query_parameters_tell_their_bounds_and_what_holds_without_them() -> None:
    parameters = OPERATIONS["GET", "/api/sessions"]["parameters"]
    [limit] = [parameter for parameter in parameters if parameter.get("name") == "limit"]
    assert (limit["in"], limit["required"], limit["description"]) == ("query", False, "How many at the most.")
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    [cursor] = [parameter for parameter in parameters if parameter.get("name") == "cursor"]
    assert cursor["schema"] == {"type": "string"}


def test_who_may_ask_is_told() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert (schemes["bearer"]["scheme"], schemes["key"]["name"]) == ("bearer", "X-API-KEY")
    assert OPERATIONS["GET", "/healthz"]["security"] == []
    assert OPERATIONS["GET", "/api/sessions"]["security"] == [{"bearer": []}, {"key": []}]


def test_a_body_that_may_be_left_out_says_so() -> None:
    assert not OPERATIONS["POST", "/api/agents/{agent}/sessions"]["requestBody"]["required"]
    assert OPERATIONS["POST", "/frames"]["requestBody"]["required"]


def test_a_body_is_what_the_endpoint_reads() -> None:
    schema = OPERATIONS["POST", "/frames"]["requestBody"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    frame = {"type": "message", "content": "x", "session_id": "s"}
    assert validator.is_valid(frame)
    assert decode_client_frame(b'{"type":"message","content":"x","session_id":"s"}', APP.supervisor.limits)
    assert not validator.is_valid(frame | {"session_id": "a b"})


def test_streams_tell_the_shape_of_what_each_event_holds() -> None:
    content = OPERATIONS["POST", "/events"]["responses"]["200"]["content"]["text/event-stream"]
    data = content["schema"]["properties"]["data"]
    assert data["contentMediaType"] == "application/json"
    assert {"$ref": "#/components/schemas/TextDelta"} in data["contentSchema"]["oneOf"]


def test_it_is_the_same_every_time() -> None:
    assert an_app().openapi == DOCUMENT
