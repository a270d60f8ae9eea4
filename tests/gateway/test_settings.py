"""Settings: from flags and environment, each explained, none accepted that makes no sense."""

from __future__ import annotations

import pytest

from gateway.options import Option
from gateway.settings import DEFAULT, OPTIONS, BadSetting, Settings, load

NUMBERS = [option for option in OPTIONS.values() if option.kind in (int, float)]


def test_nothing_given_makes_the_defaults() -> None:
    settings, origins = load({}, {})
    assert settings == Settings()
    assert set(origins.values()) == {DEFAULT}


def test_a_flag_wins_over_the_environment_and_that_over_the_default() -> None:
    environ = {"GATEWAY_PORT": "1", "GATEWAY_MAX_WAITING": "3", "PORT": "9"}
    settings, origins = load({"port": "2", "host": None}, environ)
    assert (settings.port, origins["port"]) == (2, "--port")
    assert (settings.max_waiting, origins["max_waiting"]) == (3, "GATEWAY_MAX_WAITING")
    assert (settings.host, origins["host"]) == ("127.0.0.1", DEFAULT)


def test_an_empty_variable_counts_as_not_given() -> None:
    settings, origins = load({"agents": ()}, {"GATEWAY_PORT": "", "GATEWAY_AGENTS": ""})
    assert (settings.port, settings.agents, origins["port"]) == (8080, (), DEFAULT)


def test_several_are_repeated_flags_or_separated_by_spaces_in_the_environment() -> None:
    assert load({"agents": ("a=x", "b=y")}, {})[0].agents == ("a=x", "b=y")
    assert load({}, {"GATEWAY_AGENTS": "a=x  b=y"})[0].agents == ("a=x", "b=y")


def test_a_flag_without_a_value_says_yes_and_a_variable_says_which() -> None:
    settings, origins = load({"allow_anonymous": True, "allow_query_token": False}, {})
    assert (settings.allow_anonymous, origins["allow_anonymous"]) == (True, "--allow-anonymous")
    assert (settings.allow_query_token, origins["allow_query_token"]) == (False, DEFAULT)
    for text, meant in (("true", True), ("1", True), ("false", False), ("0", False)):
        assert load({}, {"GATEWAY_ALLOW_ANONYMOUS": text})[0].allow_anonymous is meant


def test_numbers_are_read_as_what_they_are() -> None:
    settings, _ = load(
        {}, {"GATEWAY_KEEP_DAYS": "0.5", "GATEWAY_KEEP_RECORDS": "7", "GATEWAY_HEARTBEAT": "3"}
    )
    assert (settings.keep_days, settings.keep_records, settings.heartbeat) == (0.5, 7, 3.0)


@pytest.mark.parametrize(
    ("flags", "environ", "sentence"),
    [
        ({"port": "65536"}, {}, "--port is '65536'; allowed is a whole number from 0 to 65,535."),
        ({"port": "http"}, {}, "--port is 'http'; allowed is a whole number from 0 to 65,535."),
        ({"port": "8080.0"}, {}, "--port is '8080.0'; allowed is a whole number from 0 to 65,535."),
        (
            {},
            {"GATEWAY_TURN_TIMEOUT": "nan"},
            "GATEWAY_TURN_TIMEOUT is 'nan'; allowed is a number of seconds from 0.001 to 86,400.",
        ),
        (
            {},
            {"GATEWAY_LOG_FORMAT": "xml"},
            "GATEWAY_LOG_FORMAT is 'xml'; allowed is text or json.",
        ),
        (
            {},
            {"GATEWAY_ALLOW_ANONYMOUS": "perhaps"},
            "GATEWAY_ALLOW_ANONYMOUS is 'perhaps'; allowed is true or false.",
        ),
        ({}, {"GATEWAY_API_KEYS": "geheim"}, "GATEWAY_API_KEYS is '…'; allowed is NAME=KEY."),
        ({"root_path": "gw/"}, {}, "--root-path is 'gw/'; allowed is /this or /this/that."),
        (
            {"ssl_keyfile": "key.pem"},
            {},
            "ssl_keyfile is given without ssl_certfile; allowed is both, or the latter.",
        ),
        (
            {},
            {"GATEWAY_MAX_FRAME_BYTES": "2000", "GATEWAY_MAX_MESSAGE_BYTES": "1000"},
            "max_frame_bytes is 2,000; allowed is at most max_message_bytes, which is 1,000.",
        ),
    ],
)
def test_a_bad_value_says_which_what_it_was_and_what_is_allowed(
    flags: dict[str, str], environ: dict[str, str], sentence: str
) -> None:
    with pytest.raises(BadSetting) as error:
        load(flags, environ)
    assert str(error.value) == sentence


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
def test_every_number_has_bounds_and_keeps_to_them(option: Option) -> None:
    for value in (option.about.low, option.about.high):
        option.check(option.kind(value), option.name)
    for value in (option.about.low - 1, option.about.high + 1, float("nan"), "1"):
        with pytest.raises(BadSetting, match=f"^{option.name} is "):
            option.check(value, option.name)


def test_settings_made_in_python_are_held_to_the_same() -> None:
    with pytest.raises(BadSetting, match=r"^max_waiting is '-1'; allowed is"):
        Settings(max_waiting=-1)


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_setting_says_what_it_means_and_is_set_by_one_variable_and_at_most_one_flag(
    option: Option,
) -> None:
    assert option.about.what.endswith(".")
    assert option.variable == f"GATEWAY_{option.name.upper()}"
    assert [other.about.flag for other in OPTIONS.values()].count(option.about.flag) == 1 or (
        option.about.flag is None
    )


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("store", "redis://ann:geheim@host/0", "redis://…@host/0"),
        ("agents", ("a=eliza", "b=http?url=https://x:geheim@y&key=geheim"), "a=eliza b=http?url=…&key=…"),
        ("jwt_secret", "geheim", "…"),
        ("jwt_public_key", "-----BEGIN", "…"),
        ("jwks_url", "https://ann:geheim@id.example/keys?key=geheim", "https://…@id.example/keys?key=…"),
        ("api_keys", ("ops=geheim", "ci=geheim="), "ops=… ci=…"),
        ("allow_anonymous", False, "false"),
        ("keep_days", None, ""),
        ("heartbeat", 20.0, "20.0"),
    ],
)
def test_what_may_be_secret_is_not_shown(name: str, value: object, shown: str) -> None:
    assert OPTIONS[name].show(value) == shown
