"""Eliza: a listener made of rules, in the manner of Joseph Weizenbaum's ELIZA (CACM 9:1, January 1966).

The engine knows no word of what it says: `eliza.toml` is the script. A message is cut into clauses; the one
with the highest ranked keyword is answered. The keyword's rules are tried in order: the first whose pattern
matches gives its next reply, with the matched words put in as seen from the other side ("my" → "your"). A
reply may instead go to another keyword, or to the next one in the clause. What was said of things close to
the speaker is kept, and comes back when there is nothing to answer. Nothing is random: the same words in the
same state get the same answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from importlib.resources import files
from typing import Any

import msgspec
from msgspec import Struct

from gateway.interfaces import Piece, Turn

__all__ = ["ElizaAgent", "Engine", "Script", "read_script"]

# A pattern with three wildcards costs the cube of the clause's length: this bounds what a message can cost.
_MAX_CHARS = 2_000
_MAX_WORDS = 40
_MAX_MEMORIES = 8

_CLAUSE = re.compile(r"[.!?;:,()\n]+|\s[-–—]+\s|\bbut\b", re.IGNORECASE)
_WORD = re.compile(r"\w+(?:['-]\w+)*")
_SLOT = re.compile(r"\{(\d)\}")


class ElizaAgent:
    """Eliza as an agent. `pace_ms`: how long it types at a word, about, 0 to 10,000; 0 is all at once."""

    history = 0

    def __init__(self, *, pace_ms: float = 36.0) -> None:
        if not 0 <= pace_ms <= 10_000:
            raise ValueError(f"pace_ms is {pace_ms}; allowed are 0 to 10,000")
        self._pace = pace_ms / 1000
        self._engine = Engine(read_script(files(__package__).joinpath("eliza.toml").read_text("utf-8")))

    async def __call__(self, turn: Turn) -> AsyncGenerator[Piece, None]:
        for word in re.findall(r"\S+\s*", self._engine.answer(turn.content, turn.state)):
            yield word
            await asyncio.sleep(self._pace * (0.8 + min(len(word), 12) / 25))

    async def check(self) -> str:
        return "eliza: always there to listen"

    async def aclose(self) -> None:
        return None


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """What to do about some words. `rules`: pattern → replies, in the order in which they are tried.

    A pattern is words, `*` for any number of them, `this/that` for one of several, `@family` for one of the
    script's group of that name. A reply holds `{1}` for what the first `*` or `@` stood for, and so on; or it
    is `goto key`, to answer as that key would, or `newkey`, to try the clause's next one.
    """

    rules: dict[str, list[str]]
    words: list[str] = []
    """The keywords; if empty, the key's own name."""
    rank: int = 0


class Mirror(Struct, frozen=True, forbid_unknown_fields=True):
    """How English looks from the other side."""

    words: dict[str, str]
    """`my` → `your`. `you` is not here: it is either "I" or "me"."""
    subject_after: list[str]
    """After one of these, `you` is whoever does it: "because you left" → "because I left"."""
    subject_before: list[str]
    """Likewise before one of these: "you are" → "I am"."""


class Script(Struct, frozen=True, forbid_unknown_fields=True):
    """All that Eliza knows."""

    plain: dict[str, str]
    """Words to read as others: `can't` for `cannot`, `I am` for `I'm`."""
    small: list[str]
    """Words that are no names, and lose the capital of a sentence's beginning."""
    groups: dict[str, list[str]]
    mirror: Mirror
    keys: dict[str, Key]
    memories: dict[str, list[str]]
    """Pattern → what to say of it later."""
    lost: list[str]
    """When nothing matches, and nothing is remembered."""
    silence: list[str]
    """When there was no word."""
    again: list[str]
    """When the same thing is said twice in a row."""


def read_script(text: str) -> Script:
    """A script from TOML. Raises `msgspec.DecodeError` if it is none."""
    return msgspec.toml.decode(text, type=Script)


class _Rule:
    """One pattern and its replies."""

    def __init__(self, name: str, pattern: str, replies: list[str], groups: dict[str, list[str]]) -> None:
        self.name = name
        self.replies = replies
        self._pattern = re.compile(_regex(pattern, groups), re.IGNORECASE)
        for reply in replies:
            for slot in _SLOT.findall(reply):
                if not 1 <= int(slot) <= self._pattern.groups:
                    raise ValueError(f"{name}: nothing in the pattern is {{{slot}}}")

    def match(self, words: list[str]) -> list[slice] | None:
        """Which words each wildcard stands for, or None."""
        text = "".join(f" {word}" for word in words)
        match = self._pattern.fullmatch(text)
        if not match:
            return None
        spans = [match.span(group) for group in range(1, self._pattern.groups + 1)]
        return [slice(text.count(" ", 0, start), text.count(" ", 0, stop)) for start, stop in spans]


class Engine:
    """Answers, by a script. Raises `ValueError` if the script refers to what it does not have."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._rules = {
            name: [_Rule(f"{name} {p}", p, replies, script.groups) for p, replies in key.rules.items()]
            for name, key in script.keys.items()
        }
        self._memories = [_Rule(f"memory {p}", p, s, script.groups) for p, s in script.memories.items()]
        self._keyword = {word: name for name, key in script.keys.items() for word in key.words or [name]}
        self._small = frozenset(script.small)
        self._subject_after = frozenset(script.mirror.subject_after)
        self._subject_before = frozenset(script.mirror.subject_before)
        for rule in (rule for rules in self._rules.values() for rule in rules):
            for reply in rule.replies:
                if reply.startswith("goto ") and reply.removeprefix("goto ") not in script.keys:
                    raise ValueError(f"{rule.name}: there is no key to {reply}")

    def answer(self, text: str, state: dict[str, Any]) -> str:
        """What to say to `text`. `state` is the conversation's, as JSON: kept here between its messages."""
        text = text[:_MAX_CHARS].replace("’", "'")
        clauses = list(self._clauses(text.lower() if text.isupper() else text))
        said = " ".join(word.lower() for clause in clauses for word in clause)[:200]
        repeated, state["said"] = said.count(" ") > 1 and said == state.get("said"), said
        if not clauses:
            return self._next("silence", self._script.silence, state)
        if repeated:
            return self._next("again", self._script.again, state)
        reply = self._reply(clauses, state) or self._recall(state)
        self._remember(clauses, state)
        return reply or self._next("lost", self._script.lost, state)

    def _clauses(self, text: str) -> Iterator[list[str]]:
        """The text's clauses as words, the way the script spells them."""
        for clause in _CLAUSE.split(text):
            words = []
            for word in _WORD.findall(clause):
                plain = self._script.plain.get(word.lower(), word)
                words += [w.lower() if w.lower() in self._small else w for w in plain.split()]
            if words:
                yield words[:_MAX_WORDS]

    def _reply(self, clauses: list[list[str]], state: dict[str, Any]) -> str | None:
        """The answer to the clause with the best keyword; None if no clause has any that knows an answer."""
        ranked = [(self._keys(clause), clause) for clause in clauses]
        ranked.sort(key=lambda item: -max((self._script.keys[key].rank for key in item[0]), default=-1))
        for keys, clause in ranked:
            for key in keys:
                reply = self._follow(key, clause, state)
                if reply:
                    return reply
        return None

    def _keys(self, clause: list[str]) -> list[str]:
        """The keys of a clause's words, best first; of equals, the one said first."""
        found = dict.fromkeys(self._keyword[w.lower()] for w in clause if w.lower() in self._keyword)
        return sorted(found, key=lambda name: -self._script.keys[name].rank)

    def _follow(self, key: str, clause: list[str], state: dict[str, Any]) -> str | None:
        """What a key answers, by way of others if it says so; None to try the next."""
        for _ in self._rules:  # a script that goes in circles ends all the same
            rule, parts = self._matching(key, clause)
            if not rule:
                return None
            reply = self._next(rule.name, rule.replies, state)
            if not reply.startswith("goto "):
                return None if reply == "newkey" else self._fill(reply, clause, parts)
            key = reply.removeprefix("goto ")
        return None

    def _matching(self, key: str, clause: list[str]) -> tuple[_Rule | None, list[slice]]:
        for rule in self._rules[key]:
            parts = rule.match(clause)
            if parts is not None:
                return rule, parts
        return None, []

    def _remember(self, clauses: list[list[str]], state: dict[str, Any]) -> None:
        memories: list[str] = state.setdefault("memories", [])
        for clause in clauses:
            for rule in self._memories:
                parts = rule.match(clause)
                if parts is not None:
                    memories.append(self._fill(self._next(rule.name, rule.replies, state), clause, parts))
                    break
        del memories[:-_MAX_MEMORIES]

    def _recall(self, state: dict[str, Any]) -> str | None:
        memories: list[str] = state.get("memories", [])
        return memories.pop(0) if memories else None

    def _next(self, name: str, replies: list[str], state: dict[str, Any]) -> str:
        """The next of `replies`, round and round."""
        used: dict[str, int] = state.setdefault("used", {})
        used[name] = used.get(name, -1) + 1
        return replies[used[name] % len(replies)]

    def _fill(self, reply: str, clause: list[str], parts: list[slice]) -> str:
        mirrored = self.mirror(clause)
        text = _SLOT.sub(lambda slot: " ".join(mirrored[parts[int(slot[1]) - 1]]), reply)
        text = re.sub(r"\s+([.,;:!?])", r"\1", " ".join(text.split()))  # what an empty part leaves behind
        return text[:1].upper() + text[1:]

    def mirror(self, words: list[str]) -> list[str]:
        """The words as said from the other side: "you left me" → "I left you"."""
        lower = ["", *(word.lower() for word in words), ""]
        return [self._mirrored(word, lower[i], lower[i + 2]) for i, word in enumerate(words)]

    def _mirrored(self, word: str, before: str, after: str) -> str:
        low = word.lower()
        if low == "you":
            acts = not before or before in self._subject_after or after in self._subject_before
            return "I" if acts and after else "me"
        if low in ("are", "were") and "you" in (before, after):
            return "am" if low == "are" else "was"
        if low == "was" and "i" in (before, after):
            return "were"
        return self._script.mirror.words.get(low, word)


def _regex(pattern: str, groups: dict[str, list[str]]) -> str:
    """A pattern as a regular expression over words that each have a space before them."""
    return "".join(_piece(token, groups) for token in pattern.split())


def _piece(token: str, groups: dict[str, list[str]]) -> str:
    if token == "*":
        return r"((?: \S+)*?)"
    if token.startswith("@"):
        if token[1:] not in groups:
            raise ValueError(f"there is no group {token}")
        return f"( (?:{'|'.join(map(re.escape, groups[token[1:]]))}))"
    return f" (?:{'|'.join(map(re.escape, token.split('/')))})"
