"""What is believed of what a request says of its way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import Networks
from gateway.forwarded import believed, peer_of
from protocol.errors import Refused

PROXIES = Networks(("10.0.0.0/8", "127.0.0.1"))
PROXY = "10.0.0.1"


def scope(peer: str | None = PROXY, kind: str = "http", **headers: str | list[str]) -> dict[str, Any]:
    """A request from `peer`: `x_forwarded_for="…"`, a list for several headers of one name."""
    pairs = [
        (name.replace("_", "-").encode(), value.encode())
        for name, values in headers.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    client = None if peer is None else (peer, 4711)
    return {"type": kind, "client": client, "scheme": "http", "headers": [(b"host", b"inner:8080"), *pairs]}


def way(given: dict[str, Any], proxies: Networks = PROXIES) -> tuple[str, str, str]:
    """Address, scheme and host."""
    found = believed(given, proxies)
    hosts = [value.decode() for name, value in found["headers"] if name == b"host"]
    assert len(hosts) == 1
    return str(peer_of(found)), found["scheme"], hosts[0]


PLAIN = ("10.0.0.1", "http", "inner:8080")


def test_a_trusted_proxy_is_believed() -> None:
    headers = {
        "x_forwarded_for": "192.0.2.9",
        "x_forwarded_proto": "https",
        "x_forwarded_host": "chat.example",
    }
    assert way(scope(**headers)) == ("192.0.2.9", "https", "chat.example")
    assert way(scope(kind="websocket", **headers)) == ("192.0.2.9", "wss", "chat.example")


def test_nobody_else_is() -> None:
    headers = {
        "x_forwarded_for": "192.0.2.9",
        "x_forwarded_proto": "https",
        "x_forwarded_host": "chat.example",
        "forwarded": 'for=192.0.2.9;proto=https;host="chat.example"',
    }
    given = scope("203.0.113.5", **headers)
    assert believed(given, PROXIES) is given
    assert believed(scope(**headers), Networks(())) == scope(**headers)


def test_of_a_list_of_addresses_the_last_that_is_no_trusted_proxy_is_the_client() -> None:
    assert way(scope(x_forwarded_for="6.6.6.6, 192.0.2.9, 10.0.0.3"))[0] == "192.0.2.9"
    assert way(scope(x_forwarded_for=["6.6.6.6", "192.0.2.9"]))[0] == "192.0.2.9"
    assert way(scope(x_forwarded_for="10.0.0.9, 10.0.0.3"))[0] == "10.0.0.9"


@given(st.lists(st.sampled_from(["10.0.0.7", "127.0.0.1", "6.6.6.6", "unknown", "", '"', "for=1"])))
def test_whatever_a_client_writes_it_is_the_address_that_the_proxy_saw(lies: list[str]) -> None:
    assert way(scope(x_forwarded_for=", ".join([*lies, "192.0.2.9"])))[0] == "192.0.2.9"
    assert way(scope(x_forwarded_for=[*lies, "192.0.2.9"]))[0] == "192.0.2.9"


@given(st.text(alphabet='for=";,\\ 1.2', max_size=20))
def test_with_forwarded_too_or_it_is_refused(lie: str) -> None:
    for forwarded in ([lie, "for=192.0.2.9"], [f"{lie}, for=192.0.2.9"]):
        try:
            address = way(scope(forwarded=forwarded))[0]
        except Refused as refusal:
            assert refusal.code == "bad_request"
        else:
            assert address == "192.0.2.9"


def test_a_client_that_is_hidden_counts_as_the_proxy_that_hides_it() -> None:
    assert way(scope(x_forwarded_for="6.6.6.6, unknown"))[0] == PROXY
    assert way(scope(forwarded="for=_secret, for=10.0.0.4"))[0] == "10.0.0.4"


def test_scheme_and_host_are_those_of_the_outermost_trusted_proxy() -> None:
    said = way(
        scope(
            x_forwarded_for="192.0.2.9, 10.0.0.3",
            x_forwarded_proto="gopher, https, http",
            x_forwarded_host="evil.example, chat.example, inner",
        )
    )
    assert said == ("192.0.2.9", "https", "chat.example")
    assert way(scope(x_forwarded_for="192.0.2.9, 10.0.0.3", x_forwarded_proto="https"))[1] == "https"


def test_a_scheme_that_is_none_is_not_believed() -> None:
    assert way(scope(x_forwarded_proto="javascript")) == PLAIN


def test_forwarded_is_read_as_its_rfc_says() -> None:
    assert way(scope(forwarded='For="[2001:db8::17]:4711";Proto=HTTPS;host="chat.example:444"')) == (
        "2001:db8::17",
        "https",
        "chat.example:444",
    )
    assert way(scope(forwarded='for=192.0.2.9;;host="a\\b.example" , for=10.0.0.2;by=x')) == (
        "192.0.2.9",
        "http",
        "ab.example",
    )


def test_where_a_proxy_writes_the_one_kind_a_clients_other_kind_does_not_count() -> None:
    lie = "for=6.6.6.6;proto=https;host=evil.example"
    assert way(scope(x_forwarded_for="192.0.2.9", forwarded=lie)) == ("192.0.2.9", "http", "inner:8080")
    assert way(scope(x_forwarded_proto="https", forwarded=lie)) == (PROXY, "https", "inner:8080")


@pytest.mark.parametrize("text", ['for="x', "for=a b", "=x", "for", 'for="a"b', "for=1;proto"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="Forwarded"):
        believed(scope(forwarded=text), PROXIES)


def test_a_proxy_that_says_nothing_changes_nothing() -> None:
    for headers in ({}, {"x_forwarded_for": ""}, {"forwarded": ""}):
        given = scope(**headers)
        assert believed(given, PROXIES) is given


def test_a_proxy_on_a_unix_socket_is_believed_if_it_is_said_so() -> None:
    given = scope(None, x_forwarded_for="192.0.2.9")
    assert believed(given, PROXIES) is given
    assert way(given, Networks(("unix",)))[0] == "192.0.2.9"
