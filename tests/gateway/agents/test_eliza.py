"""The engine follows its script; the script is good company."""

from __future__ import annotations

import asyncio
import json
import re
from importlib.resources import files
from typing import Any

import msgspec
import pytest

from gateway.agents.eliza import ElizaAgent, Engine, Script, read_script
from gateway.interfaces import SessionRef, Turn

SCRIPT = """
lost = ["Go on.", "I see."]
silence = ["Speechless?"]
again = ["You said that."]
small = ["nobody", "the"]

[plain]
"i'm" = "I am"

[groups]
family = ["mother", "father"]

[mirror]
subject_after = ["because", "think", "are"]
subject_before = ["are", "do"]

[mirror.words]
i = "you"
me = "you"
my = "your"
am = "are"
your = "my"

[memories]
"* my @family *" = ["Earlier: your {2}.", "Before: your {2}."]

[keys.i]
rank = 2
[keys.i.rules]
"* i am/was *" = ["Why {2}?", "How long {2}?"]
"* i remember *" = ["goto memory"]
"* i * you *" = ["newkey"]
"* i *" = ["You {2}?"]

[keys.you]
rank = 1
[keys.you.rules]
"* you" = ["Me, {1}?"]

[keys.memory]
rank = 3
words = ["recall", "memory"]
[keys.memory.rules]
"recall *" = ["goto circle"]
"*" = ["Your memory."]

[keys.circle]
words = ["circle"]
[keys.circle.rules]
"*" = ["goto memory"]

[keys.family]
words = ["mother", "father"]
rank = 1
[keys.family.rules]
"* @family nobody" = ["{2}, {1}, nobody."]
"* @family" = ["A {2}."]
"""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(read_script(SCRIPT))


@pytest.fixture(scope="module")
def script() -> Script:
    return read_script(files("gateway.agents").joinpath("eliza.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def eliza(script: Script) -> Engine:
    return Engine(script)


def test_what_is_said_of_one_becomes_said_of_the_other(engine: Engine) -> None:
    assert engine.answer("I am sad because you left me", {}) == "Why sad because I left you?"


def test_a_rules_replies_come_round_in_turn(engine: Engine) -> None:
    state: dict[str, Any] = {}
    said = [engine.answer(f"I'm {word}", state) for word in ("a", "b", "c")]
    assert said == ["Why a?", "How long b?", "Why c?"]


def test_the_clause_with_the_highest_rank_is_answered(engine: Engine) -> None:
    assert engine.answer("A mother. I am late, and you", {}) == "Why late?"
    assert engine.answer("I am late. My memory", {}) == "Your memory."


def test_a_reply_can_go_to_another_key(engine: Engine) -> None:
    assert engine.answer("I remember Paris", {}) == "Your memory."


def test_a_reply_can_pass_to_the_next_key(engine: Engine) -> None:
    assert engine.answer("I like you", {}) == "Me, you like?"


def test_a_script_that_goes_in_circles_still_answers(engine: Engine) -> None:
    assert engine.answer("recall everything", {}) == "Go on."


def test_what_no_rule_matches_is_answered_all_the_same(engine: Engine) -> None:
    state: dict[str, Any] = {}
    assert [engine.answer(text, state) for text in ("bla", "blub")] == ["Go on.", "I see."]


def test_what_was_said_earlier_comes_back_once_when_nothing_matches(engine: Engine) -> None:
    state: dict[str, Any] = {}
    engine.answer("I like my mother", state)
    engine.answer("I like my father", state)
    assert [engine.answer(text, state) for text in ("bla", "blub", "bla blub")] == [
        "Earlier: your mother.",
        "Before: your father.",
        "Go on.",
    ]


def test_it_remembers_only_so_much(engine: Engine) -> None:
    state: dict[str, Any] = {}
    for number in range(100):
        engine.answer(f"number {number}: I like my mother", state)
    assert len(state["memories"]) < 10


def test_a_group_stands_for_any_of_its_words(engine: Engine) -> None:
    assert engine.answer("My Father, nobody", {}) == "A Father."
    assert engine.answer("my father Nobody", {}) == "Father, your, nobody."


@pytest.mark.parametrize("text", ["", "  \n", "?!", "👍"])
def test_no_words_are_noticed(engine: Engine, text: str) -> None:
    assert engine.answer(text, {}) == "Speechless?"


def test_the_same_thing_twice_is_noticed(engine: Engine) -> None:
    state: dict[str, Any] = {}
    engine.answer("I am so tired", state)
    assert engine.answer("i am so tired!", state) == "You said that."
    assert engine.answer("I am not so tired", state) == "How long not so tired?"


def test_a_short_answer_may_be_repeated(engine: Engine) -> None:
    state: dict[str, Any] = {}
    assert [engine.answer("no", state) for _ in range(2)] == ["Go on.", "I see."]


@pytest.mark.parametrize("text", ["I'm late", "I’m late", "i am late!"])
def test_words_are_read_as_the_script_spells_them(engine: Engine, text: str) -> None:
    assert engine.answer(text, {}) == "Why late?"


def test_a_capital_is_kept_unless_the_script_knows_that_it_is_no_name(engine: Engine) -> None:
    assert engine.answer("I am Nobody", {}) == "Why nobody?"
    assert engine.answer("I am Anna", {}) == "Why Anna?"


def test_a_wildcard_may_stand_for_nothing(engine: Engine) -> None:
    assert engine.answer("I am", {}) == "Why?"


def test_shouting_is_not_repeated(engine: Engine) -> None:
    assert engine.answer("I AM LATE", {}) == "Why late?"


def test_the_conversation_goes_on_from_a_state_that_was_stored(engine: Engine) -> None:
    texts = ["I am a", "I like my mother", "bla", "I am b", "blub", "I am b"]
    state: dict[str, Any] = {}
    stored = "{}"
    for text in texts:
        restored = json.loads(stored)
        assert engine.answer(text, state) == engine.answer(text, restored)
        stored = json.dumps(restored)


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("you are my friend", "I am your friend"),
        ("are you angry with me", "am I angry with you"),
        ("I was with you", "you were with me"),
        ("you were right", "I was right"),
        ("I think you hate me", "you think I hate you"),
        ("my mother told you that I am yours", "your mother told me that you are mine"),
        ("do you love me because I love you so much", "do I love you because you love me so much"),
        ("yourself and myself", "myself and yourself"),
        ("they were in Paris", "they were in Paris"),
    ],
)
def test_english_is_seen_from_the_other_side(eliza: Engine, said: str, seen: str) -> None:
    assert " ".join(eliza.mirror(said.split())) == seen


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (('"Why {2}?"', '"Why {3}?"'), r"i \* i am/was \*: nothing in the pattern is \{3\}"),
        (('"goto circle"', '"goto nowhere"'), "no key to goto nowhere"),
        (('"* @family"', '"* @friends"'), "no group @friends"),
    ],
)
def test_a_script_that_refers_to_what_it_lacks_is_refused(change: tuple[str, str], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Engine(read_script(SCRIPT.replace(*change)))


def test_a_script_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="colour"):
        read_script('colour = "blue"\n' + SCRIPT)


# ── Our own script ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_script_is_rich(script: Script) -> None:
    replies = {
        reply
        for key in script.keys.values()
        for said in key.rules.values()
        for reply in said
        if reply != "newkey" and not reply.startswith("goto ")
    }
    assert len(script.keys) >= 45
    assert len(replies) >= 400


def test_no_word_leads_to_two_keys(script: Script) -> None:
    words = [word for name, key in script.keys.items() for word in key.words or [name]]
    assert sorted(words) == sorted(set(words))


def test_every_reply_is_a_sentence(script: Script) -> None:
    replies = [r for key in script.keys.values() for said in key.rules.values() for r in said]
    sentences = [r for r in replies if r != "newkey" and not r.startswith("goto ")]
    sentences += script.lost + script.silence + script.again
    assert [r for r in sentences if not re.fullmatch(r"[A-Z{].*[.?!]", r)] == []


@pytest.mark.parametrize(
    ("said", "about"),
    [
        ("Who are you?", "Trunkline"),
        ("Are you a computer?", "rule"),
        ("hello", "Eliza"),
        ("I dreamt of you", "dream"),
        ("My boss is mean", "boss"),
        ("I always lose", "Always"),
        ("Why don't you help me?", "help you"),
        ("I can't swim", "swim"),
        ("I want a dog", "a dog"),
        ("I feel cold inside", "inside|weather"),
        ("sorry", "sorry"),
        ("thank you very much", "welcome"),
        ("goodbye", "Goodbye"),
        ("damn you", "angry"),
        ("you are stupid", "stupid"),
        ("What should I do?", "friend"),
        ("I want to kill myself", "crisis line"),
        ("I'm fine. I just want to die", "crisis line"),
        ("I don't want to live any more", "crisis line"),
        ("I wish I were dead", "crisis line"),
        ("My dog died", "dog"),
        ("Nobody likes me", "Nobody"),
    ],
)
def test_a_newcomer_is_understood(eliza: Engine, said: str, about: str) -> None:
    assert re.search(about, eliza.answer(said, {}))


def test_every_word_of_the_script_gets_an_answer(eliza: Engine, script: Script) -> None:
    for name, key in script.keys.items():
        for word in key.words or [name]:
            for text in (word, f"I {word} you", f"my {word} is not well"):
                reply = eliza.answer(text, {})
                assert re.fullmatch(r"[A-Z].*[.?!]", reply), (text, reply)
                assert "{" not in reply


@pytest.mark.parametrize(("filler", "most"), [("well ", 40), ("well. ", 340)])
def test_a_long_message_is_read_only_so_far(engine: Engine, filler: str, most: int) -> None:
    assert engine.answer(filler * 3 + "I am late", {}) == "Why late?"
    assert engine.answer(filler * most + "I am late", {}) == "Go on."


# ── The agent ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_it_types_word_by_word_and_keeps_its_state_with_the_session(eliza: Engine) -> None:
    turn = Turn("t1", "I am late", SessionRef("eliza", "user", "s1"))
    async with asyncio.timeout(5):
        pieces = [str(piece) async for piece in ElizaAgent(pace_ms=0)(turn)]
    state: dict[str, Any] = {}
    assert "".join(pieces) == eliza.answer("I am late", state)
    assert len(pieces) > 3
    assert turn.state == state


async def test_it_pauses_between_words() -> None:
    pieces = ElizaAgent(pace_ms=10_000)(Turn("t1", "hello", SessionRef("eliza", "user", "s1")))
    assert await anext(pieces) == "Hello. "
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await anext(pieces)


def test_a_pace_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed are 0 to 10,000"):
        ElizaAgent(pace_ms=-1)
