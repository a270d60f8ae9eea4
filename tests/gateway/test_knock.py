"""Who may knock, and what browsers are told about it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.knock import Knock, host_name
from gateway.settings import BadSetting, Settings
from protocol.errors import Refused

PAGE = {"host": "localhost:8080", "origin": "http://localhost:8080", "sec-fetch-site": "same-origin"}
THERE = "https://chat.example"
ELSEWHERE = {**PAGE, "origin": THERE, "sec-fetch-site": "cross-site"}


def knock(*origins: str, authenticated: bool = True, **settings: Any) -> Knock:
    return Knock(Settings(allow_origins=origins, **settings), authenticated=authenticated)


def refused(headers: dict[str, str], *origins: str) -> Refused:
    with pytest.raises(Refused) as refused:
        knock(*origins).check_origin(headers, changes=True)
    assert refused.value.code == "forbidden"
    return refused.value


# ── Host ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("host", "name"),
    [("Localhost:80", "localhost"), ("[::1]:80", "::1"), ("127.0.0.1", "127.0.0.1"), ("a:b:c", ""), ("", "")],
)
def test_the_name_in_a_host_header(host: str, name: str) -> None:
    assert host_name(host) == name


def arrived(peer: str, host: str, forwarded: str | None = None, **settings: Any) -> dict[str, str]:
    """The headers of a request that came in."""
    headers = [(b"host", host.encode())] if host else []
    if forwarded is not None:
        headers.append((b"x-forwarded-host", forwarded.encode()))
    scope = {"type": "http", "client": (peer, 1), "scheme": "http", "path": "/", "headers": headers}
    found = knock(**settings).arrived(scope)
    return {name.decode(): value.decode() for name, value in found["headers"]}


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:1", "[::1]:1", "a.localhost", "Proxy.example"])
def test_it_answers_to_this_machine_and_to_names_that_are_allowed(host: str) -> None:
    assert arrived("127.0.0.1", host, allow_hosts=("proxy.example",))["host"] == host


@pytest.mark.parametrize("host", ["", "evil.example", "localhost.evil.example", "::1"])
def test_it_answers_to_no_other_name(host: str) -> None:
    with pytest.raises(Refused, match="--allow-host"):
        arrived("127.0.0.1", host)
    assert arrived("127.0.0.1", "evil.example", allow_hosts=("*",))


def test_a_proxys_name_is_held_to_the_same_and_the_one_that_it_calls_by_too() -> None:
    settings: dict[str, Any] = {"trusted_proxies": ("127.0.0.1",), "allow_hosts": ("chat.example",)}
    assert arrived("127.0.0.1", "localhost", "chat.example", **settings)["host"] == "chat.example"
    for host, forwarded in (("localhost", "evil.example"), ("evil.example", "localhost")):
        with pytest.raises(Refused, match=r"'evil\.example'"):
            arrived("127.0.0.1", host, forwarded, **settings)
    assert arrived("192.0.2.1", "localhost", "evil.example", **settings)["host"] == "localhost"


# ── Where nobody has to say who they are ────────────────────────────────────────────────────────────────────


def goes_through(
    path: str = "/api/sessions",
    *,
    host: str = "localhost:8080",
    version: str = "1.1",
    peer: tuple[str, int] | None = ("127.0.0.1", 1),
    authenticated: bool = False,
    header: tuple[str, str] | None = None,
    **settings: Any,
) -> str | None:
    """Why that request is refused; None if it is not."""
    headers = [(b"host", host.encode())]
    if header is not None:
        headers.append((header[0].lower().encode(), header[1].encode()))
    scope = {"type": "http", "client": peer, "scheme": "http", "http_version": version, "path": path}
    try:
        knock(authenticated=authenticated, **settings).arrived({**scope, "headers": headers})
    except Refused as refusal:
        assert refusal.code == "forbidden"
        return refusal.content
    return None


FORWARDED = [
    ("X-Forwarded-For", "192.0.2.9"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "localhost"),
    ("X-Forwarded-Port", "443"),
    ("X-Forwarded-Prefix", ""),
    ("Forwarded", "for=192.0.2.9"),
    ("Via", "1.1 proxy"),
    ("X-Real-IP", "127.0.0.1"),
]


@pytest.mark.parametrize("header", FORWARDED)
@pytest.mark.parametrize("peer", [("127.0.0.1", 1), ("10.0.0.7", 1), None])
def test_what_came_through_a_proxy_is_refused_where_nobody_says_who_they_are(
    header: tuple[str, str], peer: tuple[str, int] | None
) -> None:
    why = goes_through(header=header, peer=peer)
    assert why is not None
    assert header[0].lower() in why.lower()
    for way_out in ("GATEWAY_JWT_SECRET", "GATEWAY_API_KEYS", "--guests", "--allow-anonymous"):
        assert way_out in why
    assert goes_through(header=header, peer=peer, trusted_proxies=("127.0.0.1", "10.0.0.7", "unix"))


@pytest.mark.parametrize("header", FORWARDED)
def test_with_authentication_or_where_everybody_is_let_in_it_is_not(header: tuple[str, str]) -> None:
    assert goes_through(header=header, authenticated=True) is None
    assert goes_through(header=header, allow_anonymous=True) is None


@pytest.mark.parametrize("host", ["chat.example", "192.0.2.1:8080", "0.0.0.0", "gateway", ""])
def test_so_is_a_host_that_is_not_this_machine_even_if_its_name_is_allowed(host: str) -> None:
    for allowed in ((), ("chat.example", "192.0.2.1", "0.0.0.0", "gateway"), ("*",)):
        why = goes_through(host=host, allow_hosts=allowed)
        assert why is not None
        assert repr(host_name(host)) in why
        assert "--allow-anonymous" in why
    assert goes_through(host=host, allow_hosts=("*",), authenticated=True) is None
    assert goes_through(host=host, allow_hosts=("*",), allow_anonymous=True) is None


def test_so_is_http_1_0_which_proxies_speak_that_add_no_header() -> None:
    assert "HTTP/1.0" in (goes_through(version="1.0") or "")
    assert goes_through(version="1.0", authenticated=True) is None
    assert goes_through(version="1.0", allow_anonymous=True) is None


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("header", [None, *FORWARDED[:1]])
def test_probes_are_let_through_whichever_way_they_come(path: str, header: tuple[str, str] | None) -> None:
    for authenticated in (True, False):
        let = goes_through(path, header=header, host="10.0.0.7:8080", authenticated=authenticated)
        assert let is None
    assert goes_through(path + "/x", header=FORWARDED[0])


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:1", "[::1]:1", "a.localhost"])
def test_this_machine_is_let_in(host: str) -> None:
    assert goes_through(host=host) is None
    assert goes_through(host=host, peer=None) is None
    assert goes_through(host=host, header=("X-Request-Id", "1")) is None


# ── Origin ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "headers",
    [
        PAGE,
        {"host": "127.0.0.1:1"},
        {"host": "chat.example", "origin": "https://chat.example"},
        {"host": "chat.example:443", "origin": "https://chat.example"},
        {"host": "chat.example", "origin": "http://chat.example:80"},
    ],
)
def test_programs_and_own_pages_may_change_things(headers: dict[str, str]) -> None:
    knock().check_origin(headers, changes=True)


@pytest.mark.parametrize(
    "headers",
    [
        {**PAGE, "origin": "http://evil.example"},
        {**PAGE, "origin": "http://localhost:9999"},
        {**PAGE, "origin": "null"},
        {"host": "127.0.0.1:1", "origin": "file://127.0.0.1:1"},
        {"host": "127.0.0.1:1", "origin": "chrome-extension://127.0.0.1:1"},
        {"host": "127.0.0.1:1", "origin": "127.0.0.1:1"},
        {"host": "", "origin": "file://"},
        {**PAGE, "sec-fetch-site": "cross-site"},
        {"host": "localhost", "sec-fetch-site": "cross-site"},
        {"host": "localhost", "sec-fetch-site": "same-site"},
    ],
)
def test_no_other_page_may_change_anything(headers: dict[str, str]) -> None:
    assert "--allow-origin" in refused(headers).content
    assert "--allow-origin" in refused(headers, THERE).content


def test_whoever_only_reads_may_come_from_a_link() -> None:
    knock().check_origin({**PAGE, "sec-fetch-site": "cross-site"}, changes=False)


def test_pages_of_an_allowed_origin_may() -> None:
    for origin in (THERE, "HTTPS://Chat.example"):
        knock(origin).check_origin(ELSEWHERE, changes=True)
    for origin in ("http://chat.example", "https://chat.example:8443", "https://sub.chat.example"):
        assert refused(ELSEWHERE, origin)


def test_with_a_star_every_page_may() -> None:
    for headers in (
        ELSEWHERE,
        {**PAGE, "origin": "null"},
        {"host": "localhost", "sec-fetch-site": "cross-site"},
    ):
        knock("*").check_origin(headers, changes=True)


@pytest.mark.parametrize("origin", ["chat.example", "https://chat.example/", "null", "https://", "**"])
def test_what_is_no_origin_cannot_be_allowed(origin: str) -> None:
    with pytest.raises(BadSetting, match="allow_origins"):
        knock(origin)


@pytest.mark.parametrize("proxy", ["chat.example", "10.0.0.0/33", "10.0.0", "fd00::/129"])
def test_what_is_no_network_cannot_be_trusted(proxy: str) -> None:
    with pytest.raises(BadSetting, match=f"^trusted_proxies is '{proxy}'; allowed is an address like"):
        knock(trusted_proxies=(proxy,))


# ── CORS ────────────────────────────────────────────────────────────────────────────────────────────────────


def told(headers: dict[str, str], *origins: str) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in knock(*origins).cors(headers)}


def test_an_allowed_origin_is_told_so_and_no_other_is() -> None:
    assert told(ELSEWHERE, "https://a.example", THERE) == {
        "access-control-allow-origin": THERE,
        "access-control-expose-headers": "X-Request-Id, X-Session-Id, Link, Retry-After",
        "vary": "Origin",
    }
    for headers in (PAGE, {}, {"origin": "null"}):
        assert told(headers, THERE) == {"vary": "Origin"}
    assert told(ELSEWHERE) == {}


def test_with_a_star_every_origin_is_told_the_same() -> None:
    assert told({}, "*") == told(ELSEWHERE, THERE, "*")
    assert told({}, "*")["access-control-allow-origin"] == "*"
    assert "vary" not in told({}, "*")


def test_credentials_of_a_browsers_own_are_never_asked_for() -> None:
    asked = {**ELSEWHERE, "access-control-request-method": "POST"}
    said = told(ELSEWHERE, THERE) | dict(knock(THERE).preflight("OPTIONS", asked) or {})
    assert "access-control-allow-credentials" not in {name.lower() for name in said}


def test_only_a_browser_that_asks_whether_it_may_ask_is_answered_that() -> None:
    asked = {**ELSEWHERE, "access-control-request-method": "DELETE"}
    assert knock(THERE).preflight("OPTIONS", asked)
    assert knock(THERE).preflight("POST", asked) is None
    assert knock(THERE).preflight("OPTIONS", ELSEWHERE) is None
    with pytest.raises(Refused):
        knock().preflight("OPTIONS", asked)
