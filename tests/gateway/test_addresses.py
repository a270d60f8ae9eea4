"""Addresses: read from what servers and proxies write, and what they count as."""

from __future__ import annotations

import pytest

from gateway.addresses import UNIX, Networks, caller_at, is_loopback, is_network, read_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:8080", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:8080", "2001:db8::1"),
        ("192.0.2.1:_hidden", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", "None"),
        ("unknown", "None"),
        ("_hidden", "None"),
        ("[]", "None"),
        ("[192.0.2.1", "None"),
        ("192.0.2.1.5", "None"),
        ("testclient", "None"),
    ],
)
def test_an_address_is_read_with_and_without_its_port(text: str, address: str) -> None:
    assert str(read_address(text)) == address


def test_what_is_this_machine() -> None:
    for name in ("localhost", "a.localhost", "127.0.0.1", "127.1.2.3", "::1"):
        assert is_loopback(name)
    for name in ("", "localhost.example", "0.0.0.0", "192.0.2.1", "::2"):
        assert not is_loopback(name)


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.0/33", "::/129", "name", "10.0.0.0/x", "1.2.3.4:5"])
def test_what_is_no_network(text: str) -> None:
    assert not is_network(text)


def test_networks_hold_addresses_networks_and_the_unix_socket() -> None:
    networks = Networks(("10.1.2.3/8", "fd00::/8", "192.0.2.7", UNIX))
    for text in ("10.200.0.1", "fd12::1", "192.0.2.7", "::ffff:10.0.0.1"):
        assert read_address(text) in networks
    for text in ("11.0.0.1", "fe80::1", "192.0.2.8"):
        assert read_address(text) not in networks
    assert None in networks
    assert None not in Networks(("10.0.0.0/8",))
    assert not Networks(())


def test_an_address_of_ipv6_counts_as_its_64() -> None:
    ours = {caller_at(read_address(text)) for text in ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2")}
    assert ours == {"2001:db8:0:1::/64"}
    assert caller_at(read_address("2001:db8:0:2::1")) not in ours
    assert caller_at(read_address("192.0.2.1")) == "192.0.2.1"


def test_this_machines_own_addresses_count_as_nobodys() -> None:
    assert caller_at(None) is None
    assert caller_at(read_address("127.0.0.1")) is None
    assert caller_at(read_address("::1")) is None
    assert caller_at(read_address("::ffff:127.0.0.1")) is None
