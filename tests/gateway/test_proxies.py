"""Which proxy is used for which address."""

from __future__ import annotations

import pytest

from gateway.proxies import Proxy, proxy_for

PROXY = "http://proxy.example:3128"
ALL = {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY}


@pytest.mark.parametrize(
    ("scheme", "environ", "expected"),
    [
        ("http", {}, None),
        ("http", {"HTTP_PROXY": PROXY}, Proxy(PROXY, "HTTP_PROXY")),
        ("https", {"HTTP_PROXY": PROXY}, None),
        ("https", {"HTTPS_PROXY": PROXY}, Proxy(PROXY, "HTTPS_PROXY")),
        ("http", {"http_proxy": PROXY, "HTTP_PROXY": "http://other"}, Proxy(PROXY, "http_proxy")),
        ("http", {"http_proxy": "", "HTTP_PROXY": PROXY}, Proxy(PROXY, "HTTP_PROXY")),
        ("http", {"ALL_PROXY": PROXY}, Proxy(PROXY, "ALL_PROXY")),
        ("http", {"ALL_PROXY": "http://other", "HTTP_PROXY": PROXY}, Proxy(PROXY, "HTTP_PROXY")),
        ("http", {"HTTP_PROXY": "proxy.example:3128"}, Proxy(PROXY, "HTTP_PROXY")),
        ("http", {"HTTP_PROXY": " "}, None),
        ("https", {"ALL_PROXY": "socks5h://[::1]:1080"}, Proxy("socks5h://[::1]:1080", "ALL_PROXY")),
    ],
)
def test_the_environment_names_the_proxy(
    scheme: str, environ: dict[str, str], expected: Proxy | None
) -> None:
    assert proxy_for(scheme, "model.example", 80, environ) == expected


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_is_called_directly(host: str) -> None:
    assert proxy_for("http", host, 11_434, ALL) is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("*", "model.example", True),
        ("model.example", "model.example", True),
        ("model.example", "a.model.example", True),
        (".model.example", "model.example", True),
        ("*.model.example", "a.model.example", True),
        ("MODEL.example", "Model.Example.", True),
        ("other, model.example", "model.example", True),
        ("other model.example", "model.example", True),
        ("http://model.example", "model.example", True),
        ("model.example:8000", "model.example", True),
        ("model.example:8001", "model.example", False),
        ("odel.example", "model.example", False),
        ("example.com", "model.example", False),
        (".", "model.example", False),
        (",, ", "model.example", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:8000", "10.1.2.3", True),
        ("10.1", "10.1.2.3", False),
        ("localhost,127.0.0.1,::1,[::1]", "10.1.2.3", False),
        ("fd07::1", "fd07::1", True),
        ("[fd07::1]", "fd07::1", True),
        ("[fd07::1]:8000", "fd07::1", True),
        ("[fd07::1]:8001", "fd07::1", False),
        ("localhost,fd07:b51a:cc66:f0::/64", "fd07:b51a:cc66:f0::7", True),
        ("localhost,fd07:b51a:cc66:f0::/64", "fd07:b51a:cc66:f1::7", False),
        ("[fd07:b51a:cc66:f0::]/64", "fd07:b51a:cc66:f0::7", True),
        ("10.0.0.0/99", "10.1.2.3", False),
    ],
)
def test_no_proxy_names_what_is_called_directly(no_proxy: str, host: str, direct: bool) -> None:
    assert (proxy_for("http", host, 8_000, {**ALL, "NO_PROXY": no_proxy}) is None) is direct
