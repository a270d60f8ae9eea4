"""The server is killed in the middle of everything, again and again; nothing that it accepted is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from websockets.exceptions import WebSocketException

from protocol import frames
from protocol.transcript import Transcript
from tests.e2e.agents import TURNS, pieces
from tests.e2e.line import Line, ends, opened
from tests.e2e.process import gateway_runner, gateway_serve, serving

KILLS = 8
SESSIONS = [f"s{number}" for number in range(6)]
AT_ONCE = 2
"""Messages that one person has under way in one session."""


class Person:
    """Somebody who talks in every session, and comes back after every crash."""

    def __init__(self, name: str) -> None:
        self.transcripts: dict[str, Transcript] = {}
        self.unanswered: dict[str, str] = {}
        """The messages (their turn, their session) of which no `ok` came yet."""
        self.accepted: set[str] = set()
        self._name = name
        self._sent = 0

    @property
    def content(self) -> bool:
        """Everything that was said is answered to the end."""
        return (
            len(self.transcripts) == len(SESSIONS)
            and not self.unanswered
            and not any(seen.running or seen.queue for seen in self.transcripts.values())
        )

    async def visit(self, url: str, *, talking: bool, heard: Callable[[], None]) -> None:
        """Take up every session where the last line broke off, repeat what was not acknowledged, and talk
        until the line dies; or only listen, until everything is answered."""
        async with opened(f"{url}/ws?user_id=ann", self.transcripts) as line:
            await line.put("hello", batch=True)
            targets = [
                {"session_id": session, "create": True, "history": 0, "cursor": self.cursor(session)}
                for session in SESSIONS
            ]
            await line.put("attach", sessions=targets, ref="attach")
            for turn_id, session in self.unanswered.items():
                await self.say(line, session, turn_id)
            await line.answer("attach")
            missing = [session for session in SESSIONS * AT_ONCE if talking and self._sent == 0]
            for session in missing:
                await self.say(line, session)
            while talking or not self.content:
                frame = await line.next()
                heard()
                await self.hear(line, frame, talking)

    def cursor(self, session: str) -> str | None:
        seen = self.transcripts.get(session)
        return None if seen is None else seen.cursor

    async def say(self, line: Line, session: str, turn_id: str | None = None) -> None:
        if turn_id is None:
            self._sent += 1
            turn_id = f"{self._name}-{session}-{self._sent}"
            self.unanswered[turn_id] = session
        await line.put("message", session_id=session, turn_id=turn_id, content=f"say {turn_id}")

    async def hear(self, line: Line, frame: frames.ServerFrame, talking: bool) -> None:
        if isinstance(frame, frames.Ok) and frame.turn_id is not None:
            self.unanswered.pop(frame.turn_id, None)
            self.accepted.add(frame.turn_id)
        assert not isinstance(frame, frames.Error) or frame.code == "turn_interrupted", frame
        if talking and isinstance(frame, frames.Response | frames.Error) and ends(frame):
            session = frame.session_id
            if session is not None and str(frame.turn_id).startswith(f"{self._name}-"):
                await self.say(line, session)


async def test_what_was_accepted_is_answered_once_however_often_the_server_is_killed(tmp_path: Path) -> None:
    dice = Random(2)
    given = tmp_path / "turns"
    arguments = gateway_serve(tmp_path / "store.db", {"writer": "tests.e2e.agents:writer"})
    people = [Person(name) for name in ("ann", "bob", "eve")]
    for last_words in [dice.randint(1, 4000) for _ in range(KILLS)]:
        await _talk_until_killed(arguments, tmp_path, people, last_words)
    with serving(arguments, tmp_path / "log", {TURNS: str(given)}) as server:
        async with asyncio.timeout(15), asyncio.TaskGroup() as group:
            for person in people:
                group.create_task(person.visit(server.ws, talking=False, heard=lambda: None))
        newcomer = await _snapshot(server.ws)
    _check(people, newcomer, Counter(given.read_text().split()))
    assert "Traceback" not in (tmp_path / "log").read_text()


async def _talk_until_killed(
    arguments: list[str], tmp_path: Path, people: list[Person], last_words: int
) -> None:
    """Serve and talk until `last_words` frames were heard; then the server dies."""
    with serving(arguments, tmp_path / "log", {TURNS: str(tmp_path / "turns")}) as server:
        heard = 0

        def count() -> None:
            nonlocal heard
            heard += 1
            if heard == last_words:
                server.kill()

        async def visit(person: Person) -> None:
            try:
                await person.visit(server.ws, talking=True, heard=count)
            except (WebSocketException, OSError, EOFError):
                pass

        async with asyncio.timeout(15), asyncio.TaskGroup() as group:
            for person in people:
                group.create_task(visit(person))


async def _snapshot(url: str) -> dict[str, Transcript]:
    """What somebody sees who comes when all is over."""
    async with opened(f"{url}/ws?user_id=ann") as line:
        targets = [{"session_id": session, "history": 200} for session in SESSIONS]
        await line.put("attach", sessions=targets, ref="attach")
        await line.answer("attach")
        return line.transcripts


def _check(people: list[Person], newcomer: dict[str, Transcript], given: Counter[str]) -> None:
    assert max(given.values()) == 1, "a turn ran twice"
    accepted = set().union(*(person.accepted for person in people))
    told = {turn.turn_id for seen in newcomer.values() for turn in seen.turns}
    assert accepted <= told, "an accepted message was lost"
    interrupted = 0
    for session in SESSIONS:
        turns = newcomer[session].turns
        failed = [turn for turn in turns if turn.status == "failed"]
        interrupted += len(failed)
        assert len(failed) <= KILLS, "only the turn that ran is interrupted; those that waited run"
        for turn in turns:
            whole = "".join(pieces(turn.turn_id))
            if turn.status == "failed":
                assert turn.code == "turn_interrupted"
                assert whole.startswith(turn.text)
            else:
                assert (turn.status, turn.text, given[turn.turn_id]) == ("completed", whole, 1)
        for person in people:
            shown = [(turn.turn_id, turn.status, turn.text) for turn in person.transcripts[session].turns]
            assert shown == [(turn.turn_id, turn.status, turn.text) for turn in turns]
    assert interrupted, "no turn was interrupted: the test has shown nothing"


async def test_a_turn_whose_cancel_was_answered_ok_ends_as_cancelled_though_the_server_was_killed(
    tmp_path: Path,
) -> None:
    store, log, seen = str(tmp_path / "store.db"), tmp_path / "log", dict[str, Transcript]()
    fields = {"session_id": "s", "agent": "held", "content": "hi", "metadata": {"pieces": 3, "size": 100}}
    whole = "".join(f"{number:07d} ".ljust(100, ".") for number in range(3))
    with serving(gateway_runner(store=store, endless=True), log) as server:
        async with opened(f"{server.ws}/ws?user_id=ann", seen) as line:
            await line.put("message", turn_id="t1", **fields)
            await line.read(lambda: "s" in seen and any(turn.text == whole for turn in seen["s"].turns))
            await line.put("cancel", session_id="s", turn_id="t1", ref="c")
            assert isinstance(await line.answer("c"), frames.Ok)
            server.kill()
        await server.ended()
    with serving(gateway_runner(store=store), log) as server:
        async with opened(f"{server.ws}/ws?user_id=ann", seen) as line:
            await line.put("attach", sessions=[{"session_id": "s", "cursor": seen["s"].cursor}])
            end = await line.terminal("t1")
            assert isinstance(end, frames.Response)
            assert (end.status, end.content) == ("cancelled", whole)
