"""What a request of ElizaOS's clients means, what is refused in which words, and how sessions and their
messages are shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import eliza, frames, records
from protocol.errors import TABLE, Refused
from protocol.lifetime import DEFAULTS, Terms, begin, renewed

NOON = 1_800_000_000.0
CHANNEL = eliza.channel("bot", "ann", "s", {"topic": "x"}, None)

# ── Names and numbers ───────────────────────────────────────────────────────────────────────────────────────

words = st.text("abc/.-:@1", min_size=1, max_size=6)


@given(st.lists(st.tuples(words, words, words), min_size=2, max_size=2, unique=True))
def test_a_channel_belongs_to_one_session(keys: list[tuple[str, str, str]]) -> None:
    one, other = (eliza.channel_id(*key) for key in keys)
    slashed = ["/".join(key) for key in keys]
    assert (one == other) is (slashed[0] == slashed[1])  # agents and users have no slash
    assert str(UUID(one)) == one


def test_both_messages_of_a_turn_have_ids_of_their_own_which_last() -> None:
    ids = [eliza.message_id(CHANNEL.id, turn, is_agent=agent) for turn in "ab" for agent in (True, False)]
    assert len({*ids, CHANNEL.id, eliza.agent_uuid("bot")}) == 6
    assert ids[0] == eliza.message_id(CHANNEL.id, "a", is_agent=True)


@given(st.integers(0, 4_000_000_000_000))
def test_a_time_given_in_milliseconds_is_shown_as_it_was_given(at: int) -> None:
    assert eliza.millis(at / 1000) == at
    date = eliza.date(at / 1000)
    assert date.endswith("Z")
    assert round(datetime.fromisoformat(date).timestamp() * 1000) == at


@given(st.floats(1e9, 4e9), st.integers(-3, 3))
def test_what_is_shown_before_or_after_a_moment_is_so_in_seconds_too(seconds: float, apart: int) -> None:
    shown = eliza.millis(seconds)
    earlier, later = eliza.between(shown + apart, shown + apart)
    assert earlier is not None
    assert later is not None
    assert (seconds < earlier) is (apart > 0)
    assert (seconds > later) is (apart < 0)


def test_a_moment_that_is_not_given_bounds_nothing() -> None:
    assert eliza.between(None, None) == (None, None)


@given(st.text())
def test_lengths_are_those_of_javascript(text: str) -> None:
    assert eliza.units(text) == len(text.encode("utf-16-le", "surrogatepass")) // 2


# ── What a request means ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("agents", [["bot"], ["echo", "bot"]])
def test_an_agent_is_found_by_its_name_or_its_uuid(agents: list[str]) -> None:
    for name in ("bot", eliza.agent_uuid("bot"), eliza.agent_uuid("bot").upper()):
        assert eliza.agent_named(name, agents) == "bot"
    for name in ("BOT", "other", eliza.agent_uuid("other"), str(UUID(int=0)), ""):
        with pytest.raises(Refused) as refused:
            eliza.agent_named(name, agents)
        assert refused.value.code == "agent_not_found"


@pytest.mark.parametrize(
    ("value", "mode", "transport"),
    [
        (None, None, "websocket"), ("http", None, "http"), ("sync", None, "http"), (None, "sync", "http"),
        ("sse", "sync", "sse"), ("stream", None, "sse"), (None, "stream", "sse"), (None, "http", "http"),
        ("websocket", "sync", "websocket"),
    ],
)  # fmt: skip
def test_transport_and_mode_share_their_words_and_transport_wins(
    value: Any, mode: Any, transport: str
) -> None:
    assert eliza.transport(value, mode) == transport


@pytest.mark.parametrize("value", ["", "HTTP", "polling", 1, True, [], {}, ["http"]])
def test_any_other_transport_is_refused(value: Any) -> None:
    for both in ((value, None), (value, "http"), (None, value)):
        with pytest.raises(Refused, match="Must be one of: http, sse, websocket, sync, stream"):
            eliza.transport(*both)


def test_content_has_one_to_four_thousand_units() -> None:
    for text in (" ", "x" * 4000, "\U0001f600" * 2000):
        eliza.check_content(text)
    for text in ("", "x" * 4001, "\U0001f600" * 2000 + "x"):
        with pytest.raises(Refused, match=r"^Invalid content: Content "):
            eliza.check_content(text)
    with pytest.raises(Refused, match=r"^Invalid content: Invalid message request format"):
        eliza.content_of({"content": 1})


@given(st.text("xé\U0001f600", min_size=10_200 // 2, max_size=10_300))
def test_metadata_is_measured_as_json(text: str) -> None:
    metadata = {"k": text}
    size = len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode("utf-16-le")) // 2
    try:
        eliza.check_metadata(metadata)
    except Refused as refused:
        assert text not in str((refused.content, refused.details))
        assert size > 10_240
    else:
        assert size <= 10_240


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@given(anything | st.dictionaries(st.sampled_from(["\0", "k"]), anything))
def test_metadata_comes_back_as_it_was_given_and_nothing_as_an_empty_object(metadata: Any) -> None:
    kept = eliza.kept(metadata)
    assert isinstance(kept, dict)
    assert eliza.given(kept) == (metadata or {})


@pytest.mark.parametrize(
    ("limit", "size"),
    [(None, 50), ("", 50), ("abc", 50), ("0", 1), ("-5", 1), ("1", 1), ("7.9", 7), (" 8x", 8), ("100", 100),
     ("101", 100), ("9" * 5000, 100), ("+3", 3), ("٣", 50)],
)  # fmt: skip
def test_a_page_has_one_to_a_hundred_messages(limit: str | None, size: int) -> None:
    assert eliza.page_size(limit) == size


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.timezones() | st.just(UTC)))
def test_a_moment_may_be_any_date(date: datetime) -> None:
    at = eliza.moment("before", date.isoformat())
    assert at is not None
    assert abs(at - date.timestamp() * 1000) <= 1


@pytest.mark.parametrize(
    ("value", "at"),
    [(None, None), ("", None), ("0", 0), ("-5", -5), ("1800000000000", 1_800_000_000_000),
     ("2027-01-15T08:00:00Z", 1_800_000_000_000), ("2027-01-15T08:00:00.123", 1_800_000_000_123),
     ("2027-01-15", 1_799_971_200_000), ("8640000000000000", 8_640_000_000_000_000)],
)  # fmt: skip
def test_a_moment_is_milliseconds_or_a_date(value: str | None, at: int | None) -> None:
    assert eliza.moment("after", value) == at


@pytest.mark.parametrize(
    "value",
    ["abc", "1.5", "1e3", "8640000000000001", "-8640000000000001", "9" * 400, "2027-02-30", "٣", "null"],
)
def test_any_other_moment_is_refused(value: str) -> None:
    with pytest.raises(Refused, match=r"^Invalid pagination parameter 'after': ") as refused:
        eliza.moment("after", value)
    assert refused.value.details["details"]["parameter"] == "after"


@given(st.text(max_size=30))
def test_whatever_is_given_as_a_moment_is_one_or_is_refused(value: str) -> None:
    try:
        assert isinstance(eliza.moment("before", value), int | None)
    except Refused as refused:
        assert refused.code == "bad_request"


# ── What is refused ─────────────────────────────────────────────────────────────────────────────────────────


def test_every_code_has_a_name_here() -> None:
    names = {code: eliza.error_code(code) for code in TABLE}
    assert all(name == name.upper() for name in names.values())
    assert {code for code, name in names.items() if name == "VALIDATION_ERROR"} == {
        "bad_request", "bad_frame", "bad_id", "frame_too_large", "message_too_large",
    }  # fmt: skip
    assert names["renewal_refused"] == "SESSION_RENEWAL_FAILED"
    assert names["internal"] == "INTERNAL_SERVER_ERROR"
    assert names["agent_failed"] == "AGENT_FAILED"


@pytest.mark.parametrize("code", ["session_not_found", "session_closed"])
def test_what_was_deleted_and_what_never_was_look_the_same(code: str) -> None:
    refusal = eliza.reworded(Refused(code, "Why."), "s")
    assert (refusal.code, refusal.content) == ("session_not_found", "Session with ID 's' not found")


def test_what_expired_says_when() -> None:
    refusal = eliza.reworded(Refused("session_expired", "Why.", expires_at=NOON), "s")
    date = "2027-01-15T08:00:00.000Z"
    assert (refusal.code, refusal.content) == ("session_expired", f"Session 's' expired at {date}")
    assert refusal.details == {"details": {"sessionId": "s", "expiresAt": date}}


def test_other_refusals_keep_their_words() -> None:
    refusal = Refused("forbidden", "Why.")
    assert eliza.reworded(refusal, "s") is refusal


def test_who_cannot_renew_is_told_why() -> None:
    refusal = eliza.cannot_renew("s", begin(DEFAULTS, NOON, NOON), NOON + 60.5)
    assert (refusal.code, refusal.status) == ("renewal_refused", 422)
    created = {"maxDuration": 720.0, "createdAt": "2027-01-15T08:00:00.000Z", "timeSinceCreation": 60_500}
    assert refusal.details["details"] == created


# ── How sessions are shown ──────────────────────────────────────────────────────────────────────────────────


def test_a_session_is_shown_as_it_stands() -> None:
    life = renewed(begin(DEFAULTS, NOON, NOON), NOON + 60)
    shown = eliza.session_info("bot", "ann", "s", NOON, NOON + 90, {"k": 1}, life, NOON + 60 * 29)
    assert msgspec.to_builtins(shown) == {
        "sessionId": "s", "channelId": CHANNEL.id, "agentId": "bot", "userId": "ann",
        "createdAt": "2027-01-15T08:00:00.000Z", "lastActivity": "2027-01-15T08:01:00.000Z",
        "metadata": {"k": 1}, "expiresAt": "2027-01-15T08:31:00.000Z",
        "timeoutConfig": {
            "timeoutMinutes": 30, "autoRenew": True, "maxDurationMinutes": 720, "warningThresholdMinutes": 5,
        },
        "renewalCount": 1, "timeRemaining": 120_000, "isNearExpiration": True,
    }  # fmt: skip


def test_one_that_lives_for_ever_says_so() -> None:
    shown = eliza.session_info("bot", "ann", "s", NOON, NOON + 90, {}, None, NOON + 1e9)
    assert shown.last_activity == "2027-01-15T08:01:30.000Z"
    assert (shown.expires_at, shown.time_remaining, shown.timeout_config) == (None, None, Terms())
    assert (shown.renewal_count, shown.is_near_expiration) == (0, False)


def test_a_message_renews_or_does_not() -> None:
    before = begin(DEFAULTS, NOON, NOON)
    status = eliza.status_of(before, renewed(before, NOON + 60), NOON + 60)
    assert (status.was_renewed, status.renewal_count) == (True, 1)
    assert status.expires_at == "2027-01-15T08:31:00.000Z"
    assert not eliza.status_of(before, before, NOON).was_renewed
    assert not eliza.status_of(None, None, NOON).was_renewed
    assert eliza.status_of(before, before, NOON + 60 * 26).is_near_expiration


# ── How messages are shown ──────────────────────────────────────────────────────────────────────────────────


def test_what_all_messages_have_gives_way_to_their_own_except_whose_they_are() -> None:
    claims = {"agentId": "other", "sessionId": "other", "topic": "x"}
    where = eliza.channel("bot", "ann", "s", claims, begin(DEFAULTS, NOON, NOON))
    assert where.metadata == {
        "agentId": "other", "userId": "ann", "timeoutConfig": DEFAULTS, "topic": "x", "sessionId": "s",
    }  # fmt: skip
    said = frames.Message("c", "s", "t", "Hi", NOON, metadata={"topic": "y"})
    assert eliza.user_message(where, said).metadata == {**where.metadata, "topic": "y"}
    bare = eliza.channel("bot", "ann", "s", eliza.kept("any"), None)
    assert bare.metadata == {"agentId": "bot", "userId": "ann", "sessionId": "s"}


def test_a_message_is_the_same_when_it_is_sent_and_when_it_is_read() -> None:
    own = {"attachments": [1]}
    sent = eliza.user_message(CHANNEL, frames.Message("c", "s", "t", "Hi", NOON, metadata=own))
    shown = eliza.shown(CHANNEL, records.Message("t", "Hi", NOON, metadata=own), ())
    assert (sent.id, sent.content, sent.authorId, sent.createdAt, sent.metadata) == (
        shown.id, shown.content, shown.author_id, shown.created_at, shown.metadata,
    )  # fmt: skip
    assert (sent.created_at, sent.raw_message) == (1_800_000_000_000, {"content": "Hi", **own})
    assert not shown.is_agent


@pytest.mark.parametrize(
    ("record", "content", "metadata"),
    [
        (
            records.Response("t", "Hi", "completed", NOON, thought="Hm.", metadata={"k": 1}),
            "Hi", {"status": "completed", "thought": "Hm.", "k": 1},
        ),
        (records.Response("t", "H", "cancelled", NOON), "H", {"status": "cancelled"}),
        (
            records.Failed("t", "No.", "agent_failed", False, "H", NOON),
            "H", {"status": "failed", "code": "AGENT_FAILED"},
        ),
    ],
)  # fmt: skip
def test_how_a_turn_ended_stands_in_the_metadata(
    record: records.Terminal, content: str, metadata: dict[str, Any]
) -> None:
    tools: list[records.ToolCall | records.ToolResult] = [
        records.ToolCall("t", 0, "c", "look", None, NOON),
        records.ToolResult("t", 0, "c", "", False, NOON),
    ]
    shown = eliza.shown(CHANNEL, record, tools)
    assert (shown.content, shown.author_id, shown.is_agent) == (content, "bot", True)
    assert shown.metadata == {**CHANNEL.metadata, **metadata, "actions": ["look"]}
    assert "actions" not in eliza.shown(CHANNEL, record, ()).metadata
