"""How long a session lives: what the tiers say, what a client may ask for, and what time and activity do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json
from msgspec.structs import asdict, replace

from protocol.errors import Refused
from protocol.lifetime import (
    DEFAULTS,
    Bounds,
    Configure,
    Life,
    Renew,
    Tend,
    Terms,
    Tiers,
    after,
    asked,
    asked_anew,
    begin,
    due_at,
    is_near,
    is_over,
    needs,
    reconfigured,
    remaining,
    renewed,
    tiers,
    warn_at,
)

NOW = 1_700_000_000.0
WORLD = Tiers()


def at(minutes: float) -> float:
    return NOW + 60 * minutes


def born(**terms: Any) -> Life:
    """The life of a session that began `NOW`, under the defaults and these terms."""
    complete = WORLD.terms("bot", Terms(**terms))
    assert complete is not None
    return begin(complete, NOW, NOW)


def expires(life: Life | None) -> float:
    """Minutes from `NOW`."""
    assert life is not None
    return (life.expires_at - NOW) / 60


def environment(agent: str = "bot", **values: str) -> Tiers:
    return tiers(values, [agent])


# ── What a new session may ask for: it is clamped ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, Terms()),
        ({"timeoutMinutes": 1}, Terms(timeout_minutes=5)),
        ({"timeoutMinutes": 5}, Terms(timeout_minutes=5)),
        ({"timeoutMinutes": 4.99}, Terms(timeout_minutes=5)),
        ({"timeoutMinutes": 7.5}, Terms(timeout_minutes=7.5)),
        ({"timeoutMinutes": 1440}, Terms(timeout_minutes=1440)),
        ({"timeoutMinutes": 99999}, Terms(timeout_minutes=1440)),
        ({"timeoutMinutes": -(10**400)}, Terms(timeout_minutes=5)),
        ({"timeoutMinutes": 10**400}, Terms(timeout_minutes=1440)),
        ({"timeoutMinutes": "45"}, Terms(timeout_minutes=45)),
        ({"timeoutMinutes": " 45.5 "}, Terms(timeout_minutes=45.5)),
        ({"timeoutMinutes": "abc"}, Terms(timeout_minutes=30)),
        ({"timeoutMinutes": "NaN"}, Terms(timeout_minutes=30)),
        ({"timeoutMinutes": "Infinity"}, Terms(timeout_minutes=30)),
        ({"timeoutMinutes": "1" * 400}, Terms(timeout_minutes=30)),
        ({"timeoutMinutes": ["7"]}, Terms(timeout_minutes=30)),
        ({"timeoutMinutes": None}, Terms(timeout_minutes=5)),
        ({"autoRenew": False}, Terms(auto_renew=False)),
        ({"maxDurationMinutes": 2880}, Terms(max_duration_minutes=2880)),
        ({"maxDurationMinutes": 2881}, Terms(max_duration_minutes=2880)),
        ({"maxDurationMinutes": "90"}, Terms(max_duration_minutes=90)),
        ({"maxDurationMinutes": "abc"}, Terms(max_duration_minutes=720)),
        ({"maxDurationMinutes": -3}, Terms(max_duration_minutes=0)),
        ({"warningThresholdMinutes": 0}, Terms(warning_threshold_minutes=1)),
        ({"warningThresholdMinutes": -7}, Terms(warning_threshold_minutes=1)),
        ({"warningThresholdMinutes": None}, Terms(warning_threshold_minutes=1)),
        ({"warningThresholdMinutes": "2.5"}, Terms(warning_threshold_minutes=2.5)),
        ({"warningThresholdMinutes": {}}, Terms(warning_threshold_minutes=5)),
        ({"warningThresholdMinutes": 9999}, Terms(warning_threshold_minutes=9999)),
        ({"timeout": 3, "timeout_minutes": 3, "__proto__": {"timeoutMinutes": 3}}, Terms()),
    ],
)
def test_what_a_new_session_asks_for_is_clamped_and_never_refused(
    body: dict[str, Any], expected: Terms
) -> None:
    assert asked(body, WORLD) == expected


@pytest.mark.parametrize("body", [None, "30", 30, [], [{"timeoutMinutes": 7}], True])
def test_a_configuration_of_a_new_session_that_is_no_object_says_nothing(body: Any) -> None:
    assert asked(body, WORLD) == Terms()


@pytest.mark.parametrize("renew", ["false", "true", 0, 1, None, {}])
@pytest.mark.parametrize("ask", [asked, asked_anew])
def test_auto_renew_must_be_a_boolean_in_both(ask: Any, renew: Any) -> None:
    with pytest.raises(Refused, match="autoRenew") as refusal:
        ask({"autoRenew": renew}, WORLD)
    assert refusal.value.code == "bad_request"


def test_what_is_no_number_is_the_worlds_whatever_the_agent_says() -> None:
    known = environment(
        SESSION_DEFAULT_TIMEOUT_MINUTES="3",
        SESSION_MAX_DURATION_MINUTES="100",
        SESSION_WARNING_THRESHOLD_MINUTES="2",
        BOT_SESSION_TIMEOUT_MINUTES="60",
        BOT_SESSION_MAX_DURATION_MINUTES="70",
        BOT_SESSION_WARNING_THRESHOLD_MINUTES="9",
    )
    nonsense = dict.fromkeys(("timeoutMinutes", "maxDurationMinutes", "warningThresholdMinutes"), "abc")
    for ask in asked, asked_anew:
        assert ask(nonsense, known) == Terms(3, None, 100, 2), "below the least a session may ask for"


def test_the_bounds_of_what_a_session_may_ask_for_are_the_worlds() -> None:
    known = environment(SESSION_MIN_TIMEOUT_MINUTES="20", SESSION_MAX_TIMEOUT_MINUTES="60")
    assert asked({"timeoutMinutes": 10, "maxDurationMinutes": 999}, known) == Terms(20, None, 120)
    assert asked({"timeoutMinutes": 100}, known) == Terms(60)


# ── What a change may ask for: out of bounds is refused ─────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, Terms()),
        ({"timeoutMinutes": 5}, Terms(timeout_minutes=5)),
        ({"timeoutMinutes": 1440.0}, Terms(timeout_minutes=1440)),
        ({"timeoutMinutes": "45"}, Terms(timeout_minutes=45)),
        ({"timeoutMinutes": "abc"}, Terms(timeout_minutes=30)),
        ({"autoRenew": True}, Terms(auto_renew=True)),
        ({"maxDurationMinutes": 99999}, Terms(max_duration_minutes=2880)),
        ({"maxDurationMinutes": 10**400}, Terms(max_duration_minutes=2880)),
        ({"warningThresholdMinutes": 0}, Terms(warning_threshold_minutes=1)),
        ({"other": 1}, Terms()),
    ],
)
def test_what_a_change_says_within_the_bounds_holds(body: dict[str, Any], expected: Terms) -> None:
    assert asked_anew(body, WORLD) == expected


@pytest.mark.parametrize("timeout", [4.99, 0, -1, 1440.01, 99999, "3", "1441", 10**400])
def test_a_change_to_a_timeout_out_of_bounds_is_refused_with_the_bounds(timeout: Any) -> None:
    with pytest.raises(Refused, match="Timeout must be between 5 and 1440 minutes") as refusal:
        asked_anew({"timeoutMinutes": timeout}, WORLD)
    assert refusal.value.code == "bad_request"


@pytest.mark.parametrize("name", ["timeoutMinutes", "maxDurationMinutes", "warningThresholdMinutes"])
@pytest.mark.parametrize("value", [True, {}, [], None])
def test_a_change_to_what_is_neither_number_nor_text_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(Refused, match=name) as refusal:
        asked_anew({name: value}, WORLD)
    assert refusal.value.code == "bad_request"


@pytest.mark.parametrize("body", [None, "30", 30, []])
def test_a_change_that_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(Refused, match="must be an object"):
        asked_anew(body, WORLD)


@given(
    st.dictionaries(
        st.sampled_from(["timeoutMinutes", "maxDurationMinutes", "warningThresholdMinutes", "x"]),
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text() | st.lists(st.integers()),
    )
)  # fmt: skip
def test_whatever_is_asked_for_makes_a_life_that_can_be_kept(body: dict[str, Any]) -> None:
    terms = WORLD.terms("bot", asked(body, WORLD))
    assert terms is not None
    assert 5 <= (terms.timeout_minutes or 0) <= 1440
    assert (terms.warning_threshold_minutes or 0) >= 1
    life = begin(terms, NOW, NOW)
    assert json.decode(json.encode(life), type=Life) == life
    assert warn_at(life) < life.expires_at <= at(2880)


# ── Three tiers, field by field ─────────────────────────────────────────────────────────────────────────────

ALL = {
    "SESSION_DEFAULT_TIMEOUT_MINUTES": "11",
    "SESSION_MAX_DURATION_MINUTES": "111",
    "SESSION_WARNING_THRESHOLD_MINUTES": "2",
    "BOT_SESSION_TIMEOUT_MINUTES": "22",
    "BOT_SESSION_AUTO_RENEW": "false",
    "BOT_SESSION_MAX_DURATION_MINUTES": "222",
    "BOT_SESSION_WARNING_THRESHOLD_MINUTES": "3",
}


def test_the_session_is_over_its_agent_is_over_the_world_field_by_field() -> None:
    known = tiers(ALL, ["bot", "other"])
    assert known.terms("other", Terms()) == Terms(11, True, 111, 2)
    assert known.terms("bot", Terms()) == Terms(22, False, 222, 3)
    whole = Terms(33, True, 333, 4)
    assert known.terms("bot", whole) == whole
    for name, value in asdict(whole).items():
        expected = replace(Terms(22, False, 222, 3), **{name: value})
        assert known.terms("bot", Terms(**{name: value})) == expected


def test_without_any_tier_the_defaults_hold_for_who_asks_for_a_timeout() -> None:
    assert WORLD.terms("bot", Terms()) == DEFAULTS == Terms(30, True, 720, 5)


@pytest.mark.parametrize(
    ("environ", "terms"),
    [
        ({}, None),
        ({"SESSION_MAX_DURATION_MINUTES": "60"}, None),
        ({"SESSION_DEFAULT_TIMEOUT_MINUTES": "abc"}, None),
        ({"SESSION_DEFAULT_TIMEOUT_MINUTES": "30"}, DEFAULTS),
        ({"BOT_SESSION_TIMEOUT_MINUTES": "20"}, replace(DEFAULTS, timeout_minutes=20.0)),
        ({"BOT_SESSION_MAX_DURATION_MINUTES": "20"}, None),
        ({"OTHER_SESSION_TIMEOUT_MINUTES": "20"}, None),
    ],
)
def test_a_session_that_says_nothing_lives_for_ever_unless_its_agent_or_the_world_names_a_timeout(
    environ: dict[str, str], terms: Terms | None
) -> None:
    assert tiers(environ, ["bot", "other"]).terms("bot", None) == terms


def test_a_maximum_duration_is_raised_to_the_timeout_only_by_who_gives_it() -> None:
    assert expires(born(timeout_minutes=1440)) == 720, "the world's stays"
    assert expires(born(timeout_minutes=1440, max_duration_minutes=10)) == 1440
    assert expires(born(max_duration_minutes=10)) == 30
    known = environment(BOT_SESSION_TIMEOUT_MINUTES="60", BOT_SESSION_MAX_DURATION_MINUTES="10")
    terms = known.terms("bot", None)
    assert terms is not None
    assert expires(begin(terms, NOW, NOW)) == 10, "an agent's may be below its own timeout"


# ── What the environment says ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "default", "low", "high"),
    [
        ("SESSION_DEFAULT_TIMEOUT_MINUTES", 30, 1, 10_080),
        ("SESSION_MIN_TIMEOUT_MINUTES", 5, 1, 60),
        ("SESSION_MAX_TIMEOUT_MINUTES", 1440, 60, 10_080),
        ("SESSION_MAX_DURATION_MINUTES", 720, 60, 20_160),
        ("SESSION_WARNING_THRESHOLD_MINUTES", 5, 1, 60),
        ("SESSION_CLEANUP_INTERVAL_MINUTES", None, 1, 60),
    ],
)
def test_a_variable_of_the_world_has_a_default_and_is_clamped(
    name: str, default: float | None, low: float, high: float
) -> None:
    def says(value: str | None) -> float | None:
        known = tiers({} if value is None else {name: value}, [])
        return {
            "SESSION_DEFAULT_TIMEOUT_MINUTES": known.world.timeout_minutes,
            "SESSION_MIN_TIMEOUT_MINUTES": known.bounds.min_timeout,
            "SESSION_MAX_TIMEOUT_MINUTES": known.bounds.max_timeout,
            "SESSION_MAX_DURATION_MINUTES": known.world.max_duration_minutes,
            "SESSION_WARNING_THRESHOLD_MINUTES": known.world.warning_threshold_minutes,
            "SESSION_CLEANUP_INTERVAL_MINUTES": known.cleanup_minutes,
        }[name]

    assert says(None) == says("") == says("abc") == says("nan") == default
    assert says(str(low)) == says(str(low - 1)) == says("-5") == low
    assert says(str(high)) == says(str(high + 1)) == says("9" * 15) == high
    assert says("60") == 60
    assert says(" 60.0 ") == 60


def test_the_default_timeout_is_not_held_to_the_bounds_of_what_sessions_ask_for() -> None:
    known = environment(SESSION_DEFAULT_TIMEOUT_MINUTES="3")
    assert known.bounds == Bounds(5, 1440)
    terms = known.terms("bot", None)
    assert terms is not None
    assert expires(begin(terms, NOW, NOW)) == 3


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Terms()),
        ({"BOT_SESSION_TIMEOUT_MINUTES": "1"}, Terms(timeout_minutes=5)),
        ({"BOT_SESSION_TIMEOUT_MINUTES": "99999"}, Terms(timeout_minutes=1440)),
        ({"BOT_SESSION_TIMEOUT_MINUTES": "abc"}, Terms()),
        ({"BOT_SESSION_MAX_DURATION_MINUTES": "1"}, Terms(max_duration_minutes=5)),
        ({"BOT_SESSION_MAX_DURATION_MINUTES": "99999"}, Terms(max_duration_minutes=2880)),
        ({"BOT_SESSION_WARNING_THRESHOLD_MINUTES": "0"}, Terms(warning_threshold_minutes=1)),
        ({"BOT_SESSION_WARNING_THRESHOLD_MINUTES": "99999"}, Terms(warning_threshold_minutes=1440)),
        ({"BOT_SESSION_AUTO_RENEW": "true"}, Terms(auto_renew=True)),
        ({"BOT_SESSION_AUTO_RENEW": " False "}, Terms(auto_renew=False)),
        ({"BOT_SESSION_AUTO_RENEW": "maybe"}, Terms()),
        ({"CHARACTER.BOT.SESSION_TIMEOUT_MINUTES": "20"}, Terms(timeout_minutes=20)),
        ({"CHARACTER.BOT.SESSION_AUTO_RENEW": "false"}, Terms(auto_renew=False)),
        ({"SESSION_TIMEOUT_MINUTES": "20"}, Terms(timeout_minutes=20)),
        ({"SESSION_AUTO_RENEW": "false"}, Terms(auto_renew=False)),
        ({"SESSION_AUTO_RENEW": "false", "BOT_SESSION_AUTO_RENEW": "true"}, Terms(auto_renew=True)),
        ({"SESSION_TIMEOUT_MINUTES": "20", "BOT_SESSION_TIMEOUT_MINUTES": "9"}, Terms(timeout_minutes=9)),
        ({"SESSION_TIMEOUT_MINUTES": "20", "BOT_SESSION_TIMEOUT_MINUTES": "x"}, Terms(timeout_minutes=20)),
        ({"SESSION_MAX_DURATION_MINUTES": "90", "SESSION_WARNING_THRESHOLD_MINUTES": "9"}, Terms()),
    ],
)
def test_an_agents_settings_are_clamped_and_what_is_no_value_is_not_given(
    environ: dict[str, str], expected: Terms
) -> None:
    assert tiers(environ, ["bot"]).agents == {"bot": expected}


def test_what_an_agents_settings_are_clamped_to_are_the_worlds_bounds() -> None:
    bounds = {"SESSION_MIN_TIMEOUT_MINUTES": "20", "SESSION_MAX_TIMEOUT_MINUTES": "60"}
    for given_, expected in ("1", Terms(20, None, 20, 1)), ("9999", Terms(60, None, 120, 60)):
        names = ("TIMEOUT_MINUTES", "MAX_DURATION_MINUTES", "WARNING_THRESHOLD_MINUTES")
        known = environment(**bounds, **{f"BOT_SESSION_{name}": given_ for name in names})
        assert known.agents == {"bot": expected}


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("probe.two", "PROBE_TWO"),
        ("Probe-Two", "PROBE_TWO"),
        ("a:b@c", "A_B_C"),
        ("v2", "V2"),
        ("b850bc30-45f8-0041-a00a-83df46d8555d", "B850BC30_45F8_0041_A00A_83DF46D8555D"),
    ],
)
def test_an_agents_variables_have_its_name_in_capitals_and_underscores_for_all_else(
    agent: str, name: str
) -> None:
    for environ in (
        {f"{name}_SESSION_TIMEOUT_MINUTES": "7"},
        {f"CHARACTER.{name}.SESSION_TIMEOUT_MINUTES": "7"},
    ):
        assert tiers(environ, [agent]).agents[agent] == Terms(timeout_minutes=7)


# ── When it expires ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_life_begins_with_its_whole_timeout() -> None:
    life = born(timeout_minutes=30)
    assert (life.began, life.last_activity, life.renewal_count, life.warned) == (NOW, NOW, 0, False)
    assert expires(life) == 30
    assert remaining(life, at(10)) == 1200
    assert remaining(life, at(31)) == 0


@pytest.mark.parametrize(("minutes", "over"), [(0, False), (29.999, False), (30, True), (31, True)])
def test_it_is_over_from_the_moment_on_that_it_expires(minutes: float, over: bool) -> None:
    life = born(timeout_minutes=30)
    assert is_over(life, at(minutes)) is over


@pytest.mark.parametrize(
    ("minutes", "near"), [(0, False), (24.99, False), (25, True), (29.99, True), (30, False), (99, False)]
)
def test_it_is_near_its_end_while_no_more_than_the_threshold_is_left(minutes: float, near: bool) -> None:
    life = born(timeout_minutes=30)
    assert is_near(life, at(minutes)) is near
    assert is_near(replace(life, warned=True), at(minutes)) is near, "whether it was announced or not"


def test_a_timeout_that_is_no_longer_than_the_threshold_is_near_its_end_from_birth() -> None:
    assert is_near(born(timeout_minutes=5), NOW)
    assert is_near(born(timeout_minutes=30, warning_threshold_minutes=9999), NOW)


def test_what_lives_for_ever_is_never_over_nor_near_its_end() -> None:
    assert not is_over(None, 1e18)
    assert not is_near(None, 1e18)
    assert needs(None, 1e18) is None


# ── Renewal ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_activity_moves_the_expiry_counts_and_takes_the_warning_back() -> None:
    life = renewed(replace(born(timeout_minutes=30), warned=True), at(26))
    assert expires(life) == 56
    assert (life.last_activity, life.renewal_count, life.warned) == (at(26), 1, False)
    assert renewed(life, at(40)).renewal_count == 2


def test_without_auto_renewal_activity_is_noted_and_moves_nothing() -> None:
    life = replace(born(timeout_minutes=30, auto_renew=False), warned=True)
    assert renewed(life, at(26)) == replace(life, last_activity=at(26))


def test_without_auto_renewal_a_renewal_by_hand_counts_from_now() -> None:
    life = renewed(born(timeout_minutes=30, auto_renew=False), at(20), manual=True)
    assert (expires(life), life.renewal_count, life.warned) == (50, 1, False)
    assert renewed(life, at(40)).expires_at == life.expires_at
    assert expires(renewed(life, at(45), manual=True)) == 75


@pytest.mark.parametrize("auto_renew", [True, False])
def test_a_renewal_moves_the_expiry_up_to_the_maximum_duration_and_counts_then_too(auto_renew: bool) -> None:
    life = born(timeout_minutes=30, max_duration_minutes=40, auto_renew=auto_renew)
    life = renewed(life, at(20), manual=True)
    assert (expires(life), life.renewal_count) == (40, 1)


@pytest.mark.parametrize("auto_renew", [True, False])
def test_at_the_maximum_duration_a_renewal_by_hand_is_refused(auto_renew: bool) -> None:
    life = born(timeout_minutes=30, max_duration_minutes=40, auto_renew=auto_renew)
    life = replace(renewed(life, at(20), manual=True), warned=True)
    with pytest.raises(Refused) as refusal:
        renewed(life, at(39), manual=True)
    assert (refusal.value.code, refusal.value.details) == ("renewal_refused", {"expires_at": at(40)})
    assert renewed(life, at(39)) == replace(life, last_activity=at(39)), "activity is no renewal there"


# ── Other terms ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "life",
    [
        born(timeout_minutes=20, auto_renew=False, max_duration_minutes=50, warning_threshold_minutes=2),
        replace(born(timeout_minutes=30, warning_threshold_minutes=28), warned=True),
        renewed(born(timeout_minutes=30), at(7)),
        renewed(born(timeout_minutes=30, auto_renew=False), at(7), manual=True),
        renewed(renewed(born(timeout_minutes=30, auto_renew=False), at(7), manual=True), at(8)),
        begin(Terms(60, True, 10, 5), NOW, NOW),
    ],
)
def test_terms_that_say_nothing_change_nothing(life: Life) -> None:
    assert reconfigured(life, Terms(), at(9)) == life


def test_other_terms_are_merged_over_the_present_ones() -> None:
    life = born(timeout_minutes=20, auto_renew=False, max_duration_minutes=50, warning_threshold_minutes=2)
    changed = reconfigured(life, Terms(warning_threshold_minutes=9), at(1))
    assert changed.terms == Terms(20, False, 50, 9)
    assert reconfigured(changed, Terms(timeout_minutes=33), at(2)).terms == Terms(33, False, 50, 9)


def test_other_terms_move_the_expiry_and_nothing_else() -> None:
    life = renewed(born(timeout_minutes=30), at(10))
    changed = reconfigured(life, Terms(timeout_minutes=100), at(20))
    assert expires(changed) == 110, "from the last activity"
    assert replace(changed, terms=life.terms, expires_at=life.expires_at) == life


def test_without_auto_renewal_the_timeout_counts_from_the_beginning_or_the_last_renewal_by_hand() -> None:
    life = renewed(renewed(born(timeout_minutes=30), at(10)), at(12), manual=True)
    off = reconfigured(life, Terms(auto_renew=False), at(20))
    assert expires(off) == 30
    by_hand = renewed(off, at(25), manual=True)
    assert expires(reconfigured(by_hand, Terms(timeout_minutes=40), at(26))) == 65
    active = renewed(by_hand, at(30))
    assert expires(reconfigured(active, Terms(auto_renew=True), at(31))) == 60


def test_a_maximum_duration_given_later_is_never_below_the_present_timeout() -> None:
    life = renewed(born(timeout_minutes=30), at(10))
    assert expires(reconfigured(life, Terms(max_duration_minutes=0), at(11))) == 30
    assert expires(reconfigured(life, Terms(timeout_minutes=20, max_duration_minutes=1), at(11))) == 20
    assert expires(reconfigured(life, Terms(timeout_minutes=1440), at(11))) == 720


def test_a_warning_stays_said_while_the_end_is_near_and_else_may_be_said_again() -> None:
    life = replace(born(timeout_minutes=30), warned=True)
    assert reconfigured(life, Terms(timeout_minutes=31), at(27)).warned
    assert not reconfigured(life, Terms(timeout_minutes=60), at(27)).warned
    assert not reconfigured(life, Terms(warning_threshold_minutes=1), at(27)).warned


# ── What time demands ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("minutes", "warned", "demanded"),
    [
        (24.9, False, None),
        (25, False, "warning"),
        (29.9, False, "warning"),
        (25, True, None),
        (30, False, "expiry"),
        (30, True, "expiry"),
        (99, True, "expiry"),
    ],
)
def test_time_demands_one_warning_and_then_the_end(minutes: float, warned: bool, demanded: Any) -> None:
    life = replace(born(timeout_minutes=30), warned=warned)
    assert needs(life, at(minutes)) == demanded
    assert (due_at(life) <= at(minutes)) is (demanded is not None), "and the index says so"


lives = st.builds(
    lambda timeout, auto, longest, threshold, count, warned: replace(
        begin(Terms(timeout, auto, longest, threshold), NOW, NOW), renewal_count=count, warned=warned
    ),
    st.floats(0.1, 100), st.booleans(), st.floats(0.1, 200), st.floats(1, 200), st.integers(0, 3),
    st.booleans(),
)  # fmt: skip
partly = st.builds(
    Terms,
    st.none() | st.floats(5, 100),
    st.none() | st.booleans(),
    st.none() | st.floats(0, 200),
    st.none() | st.floats(1, 200),
)
commands = st.builds(Renew, st.booleans()) | st.builds(Configure, partly) | st.just(Tend())


@given(lives, st.lists(st.tuples(st.floats(0, 20), commands), max_size=12))
def test_whatever_happens_in_a_life_it_ends_within_its_maximum_duration_and_is_never_forgotten(
    life: Life, happens: list[tuple[float, Any]]
) -> None:
    now = NOW
    for minutes, command in happens:
        now += 60 * minutes
        if is_over(life, now):
            break
        try:
            lived = after(life, command, now, agent="bot", began=NOW, tiers=WORLD)
        except Refused as refusal:
            assert (refusal.code, command) == ("renewal_refused", Renew(manual=True))
            continue
        assert lived is not None
        life = lived
        assert life.began == NOW
        assert life.expires_at <= NOW + 60 * (life.terms.max_duration_minutes or 0)
        assert (due_at(life) <= now) is (needs(life, now) is not None)


# ── The commands ────────────────────────────────────────────────────────────────────────────────────────────


def lived(life: Life | None, command: Any, minutes: float, known: Tiers = WORLD) -> Life | None:
    return after(life, command, at(minutes), agent="bot", began=NOW, tiers=known)


def test_each_command_does_its_part() -> None:
    life = born(timeout_minutes=30, auto_renew=False)
    assert lived(life, Renew(), 3) == renewed(life, at(3))
    assert lived(life, Renew(manual=True), 3) == renewed(life, at(3), manual=True)
    terms = Terms(timeout_minutes=9)
    assert lived(life, Configure(terms), 3) == reconfigured(life, terms, at(3))
    assert lived(life, Tend(), 24) == life
    assert lived(life, Tend(), 25) == replace(life, warned=True)
    assert lived(lived(life, Tend(), 25), Tend(), 26) == replace(life, warned=True)


@pytest.mark.parametrize("command", [Renew(), Renew(manual=True), Tend(), Configure(Terms())])
@pytest.mark.parametrize("known", [WORLD, environment(SESSION_DEFAULT_TIMEOUT_MINUTES="30")])
def test_what_lives_for_ever_does_so_until_it_is_given_terms(command: Any, known: Tiers) -> None:
    assert lived(None, command, 1, known) is None


def test_terms_given_to_what_lived_for_ever_count_from_its_beginning() -> None:
    known = environment(SESSION_MAX_DURATION_MINUTES="60")
    life = lived(None, Configure(Terms(timeout_minutes=40)), 10, known)
    assert life == begin(Terms(40, True, 60, 5), NOW, at(10))
    assert expires(life) == 50
    assert expires(lived(None, Configure(Terms(auto_renew=False)), 10)) == 30
    assert expires(lived(None, Configure(Terms(timeout_minutes=40)), 30, known)) == 60


def test_terms_are_named_on_the_wire_as_clients_know_them() -> None:
    encoded: Mapping[str, Any] = json.decode(json.encode(DEFAULTS))
    assert encoded == {
        "timeoutMinutes": 30.0,
        "autoRenew": True,
        "maxDurationMinutes": 720.0,
        "warningThresholdMinutes": 5.0,
    }
    assert json.encode(Terms()) == b"{}"
