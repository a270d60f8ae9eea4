"""The promises of the protocol, held in every interleaving: two gateways on one store, clients that come,
vanish and resume with any cursor their line ever gave them, agents that write in any cut. The oracle is the
transcript."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway import AgentError, Thought, ToolCall, ToolResult
from gateway.interfaces import Key, NoSession
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.supervisor import Supervisor
from protocol import frames, records
from tests.harness import Client, Said, Script, gateway, settle

AGENTS = ("a", "b")
SESSIONS = {"s1": "a", "s2": "b"}
PIECES = ["", "tok ", "é", "🙂", "\ud83d", "\ude42", "x" * 40, "line\nline", "\x00"]

clients = st.integers(0, 3)
sessions = st.sampled_from(sorted(SESSIONS))
histories = st.sampled_from([0, 2, 50])


class Promises(RuleBasedStateMachine):
    """Anything in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = MemoryStore(generation="g")
        self.script = Script()
        self.stop = asyncio.Event()
        self.gateways: list[Supervisor] = []
        self.clients: list[Client] = []
        self.given: list[tuple[str, str]] = []
        """Every (session, cursor) that any line ever gave."""
        self.accepted: set[tuple[str, str]] = set()
        self.deleted: set[str] = set()
        """Sessions that were deleted: what they accepted before is gone on purpose."""
        self.refs = 0
        # Task groups live and die in one task: the gateways have one of their own, from start to end.
        self.life = self.loop.create_task(self.live())
        self.do(settle(100))

    def do(self, step: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(asyncio.wait_for(step, 20))

    async def live(self) -> None:
        quiet = Settings(
            save_interval=1000.0, due_interval=1000.0, drain_timeout=0.01, tail_bytes=400, page_bytes=300,
            quantum_bytes=64, batch_bytes=200, max_delta_chars=30, max_waiting=3,
        )  # fmt: skip
        agents = dict.fromkeys(AGENTS, self.script)
        async with gateway(agents, self.store, quiet) as one, gateway(agents, self.store, quiet) as two:
            self.gateways = [one, two]
            self.clients = [Client(self.gateways[number % 2]) for number in range(4)]
            await self.stop.wait()

    def put(self, number: int, type: str, **fields: Any) -> str:  # noqa: A002
        self.refs += 1
        ref = str(self.refs)
        client = self.clients[number]
        self.loop.call_soon(
            lambda: client.put(type, ref=ref, **fields)
        )  # with the next pass, whatever else is in it
        return ref

    def note(self) -> None:
        """What the lines have given and accepted so far."""
        for client in self.clients:
            for session, cursors in client.cursors.items():
                self.given += [(session, cursor) for cursor in cursors if (session, cursor) not in self.given]
            for frame in client.frames:
                if isinstance(frame, frames.Ok) and frame.turn_id and frame.status and frame.session_id:
                    self.accepted.add((frame.session_id, frame.turn_id))

    # ── What clients do ──────────────────────────────────────────────────────────────────────────────────

    @rule(
        client=clients,
        session=sessions,
        number=st.integers(0, 7),
        on_busy=st.sampled_from(["enqueue", "enqueue", "reject", "interrupt"]),
        replaces=st.none() | st.integers(0, 7),
        wait=st.booleans(),
    )
    def send(
        self, client: int, session: str, number: int, on_busy: str, replaces: int | None, wait: bool
    ) -> None:
        """A new message, or one sent before under its turn_id, on this line or another."""
        turn = f"{session}-t{number}"
        fields: dict[str, Any] = {"session_id": session, "turn_id": turn, "content": f"say {turn}"}
        if replaces is not None and replaces != number:
            fields["replaces"] = f"{session}-t{replaces}"
        self.put(client, "message", agent=SESSIONS[session], on_busy=on_busy, create=True, **fields)
        if wait:
            self.do(settle())

    @rule(client=clients, session=sessions, number=st.none() | st.integers(0, 7))
    def cancel(self, client: int, session: str, number: int | None) -> None:
        named = {} if number is None else {"turn_id": f"{session}-t{number}"}
        self.put(client, "cancel", session_id=session, agent=SESSIONS[session], **named)

    @rule(client=clients, session=sessions, history=histories)
    def attach(self, client: int, session: str, history: int) -> None:
        target = {"session_id": session, "agent": SESSIONS[session], "create": True, "history": history}
        self.put(client, "attach", sessions=[target])

    @rule(client=clients, session=sessions)
    def detach(self, client: int, session: str) -> None:
        self.put(client, "detach", session_ids=[session])

    @rule(client=clients)
    def stall(self, client: int) -> None:
        self.clients[client].stall()

    @rule(client=clients)
    def read_again(self, client: int) -> None:
        self.clients[client].resume()

    @rule(client=clients, data=st.data(), other_node=st.booleans())
    def vanish_and_resume(self, client: int, data: st.DataObject, other_node: bool) -> None:
        """The line dies; a new one, here or there, resumes with any cursor that any line ever gave."""
        self.note()
        self.do(self.replace_line(client, other_node))
        targets = []
        for session, agent in SESSIONS.items():
            known = [cursor for whose, cursor in self.given if whose == session]
            cursor = data.draw(st.sampled_from([None, "nonsense", *known[-20:]]))
            target: dict[str, Any] = {"session_id": session, "agent": agent, "create": True}
            target["history"] = data.draw(histories)
            targets.append(target if cursor is None else {**target, "cursor": cursor})
        self.put(client, "attach", sessions=targets)

    async def replace_line(self, client: int, other_node: bool) -> None:
        self.clients[client].vanish()
        self.clients[client] = Client(self.gateways[(client + other_node) % 2])

    @rule(client=clients, session=sessions)
    def delete(self, client: int, session: str) -> None:
        self.do(settle())
        before = [said for said in self.script.turns if said.turn.session.session_id == session]

        async def step() -> None:
            supervisor = self.gateways[client % 2]
            try:
                await supervisor.delete(Key(SESSIONS[session], "ann", session))
            except Exception as error:
                assert getattr(error, "code", "") in ("session_not_found", "session_closed"), error
            await settle()

        self.do(step())
        self.note()
        self.deleted.add(session)
        self.script.turns = [said for said in self.script.turns if said not in before]

    # ── What agents do ───────────────────────────────────────────────────────────────────────────────────

    @property
    def open_turns(self) -> list[Said]:
        return [said for said in self.script.turns if not (said.last or said.closed.is_set())]

    @precondition(lambda self: self.open_turns)
    @rule(data=st.data(), pieces=st.lists(st.sampled_from(PIECES), max_size=6), wait=st.booleans())
    def say(self, data: st.DataObject, pieces: list[str], wait: bool) -> None:
        said = data.draw(st.sampled_from(self.open_turns))
        for piece in pieces:
            said.say(piece)
        if wait:
            self.do(settle())

    @precondition(lambda self: self.open_turns)
    @rule(data=st.data(), then=st.sampled_from(PIECES))
    def use_tool(self, data: st.DataObject, then: str) -> None:
        said = data.draw(st.sampled_from(self.open_turns))
        said.say(ToolCall(f"c{len(said.text)}", "look", {"at": len(said.text)}))
        said.say(then)
        said.say(ToolResult(f"c{len(said.text)}", ["found"]))

    @precondition(lambda self: self.open_turns)
    @rule(data=st.data())
    def think(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.open_turns)).say(Thought("hm "))

    @precondition(lambda self: self.open_turns)
    @rule(data=st.data(), fail=st.booleans(), wait=st.booleans())
    def end(self, data: st.DataObject, fail: bool, wait: bool) -> None:
        said = data.draw(st.sampled_from(self.open_turns))
        if fail:
            said.fail(AgentError("It went wrong."))
        else:
            said.end()
        if wait:
            self.do(settle())

    # ── What time does ───────────────────────────────────────────────────────────────────────────────────

    @rule()
    def pass_time(self) -> None:
        self.do(settle())

    @rule(node=st.integers(0, 1))
    def save(self, node: int) -> None:
        self.do(self.gateways[node].save())

    @invariant()
    def no_line_was_told_anything_it_must_not(self) -> None:
        for client in self.clients:
            if client.broken is not None:
                raise client.broken

    # ── In the end ───────────────────────────────────────────────────────────────────────────────────────

    def teardown(self) -> None:
        try:
            self.do(self.finish())
            self.do(self.check())
        finally:
            self.stop.set()
            self.loop.run_until_complete(self.life)
            self.loop.close()

    async def finish(self) -> None:
        """Every client reads, every agent comes to its end, until nothing is left to run."""
        for client in self.clients:
            client.resume()
        for _ in range(60):
            await settle()
            for supervisor in self.gateways:
                await supervisor.save()
            if not self.open_turns:
                break
            for said in self.open_turns:
                said.end()
        await settle(200)
        self.note()

    async def check(self) -> None:
        self.no_line_was_told_anything_it_must_not()
        assert not any(supervisor.runtime.metrics.crashes for supervisor in self.gateways)
        assert not any(supervisor.runtime.metrics.refusals.get("internal") for supervisor in self.gateways)
        for session, agent in SESSIONS.items():
            await self.check_log(Key(agent, "ann", session))
        asked = [(said.turn.session, said.turn.turn_id) for said in self.script.turns]
        assert len(asked) == len(set(asked)), "a turn ran twice"

    async def check_log(self, key: Key) -> None:
        """The log is what the promises say, and every client that follows it sees just that."""
        try:
            entries = await self.store.read(key, 0, 100_000, 1 << 30)
            head = (await self.store.load(key)).head
        except NoSession:
            return
        assert entries is not None
        ends: dict[str, records.Terminal] = {}
        messages: list[str] = []
        for _, record in entries:
            if isinstance(record, records.Message):
                assert record.turn_id not in messages
                messages.append(record.turn_id)
            elif isinstance(record, records.Response | records.Failed):
                assert record.turn_id not in ends
                ends[record.turn_id] = record
        assert set(messages) == set(ends), "every accepted turn has one end"
        lost = {turn for whose, turn in self.accepted if whose == key.session_id} - set(messages)
        assert not lost or key.session_id in self.deleted, "an accepted message is never lost"
        for said in self.script.turns:
            end = ends.get(said.turn.turn_id)
            if end is not None and said.turn.session.session_id == key.session_id:
                self.check_text(said, end)
        page = await self.store.history(key, 1000)
        for client in self.clients:
            transcript = client.transcripts.get(key.session_id)
            if transcript is None or not transcript.attached:
                continue
            assert transcript.running is None
            assert not transcript.queue
            assert not transcript.agent_typing
            shown = [turn.turn_id for turn in transcript.turns if turn.content is not None]
            told = [one.record.turn_id for one in page.messages if isinstance(one.record, records.Message)]
            assert shown == told[len(told) - len(shown) :]
            assert transcript.cursor is not None
            assert transcript.cursor.startswith(f"{head.epoch}.")
            for turn in transcript.turns:
                end = ends[turn.turn_id]
                whole = end.content if isinstance(end, records.Response) else end.partial
                assert turn.text == whole
                assert turn.status == (end.status if isinstance(end, records.Response) else "failed")

    def check_text(self, said: Said, end: records.Terminal) -> None:
        """What is kept is what the agent said, or the beginning of it if it was stopped."""
        whole = said.text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        kept = end.content if isinstance(end, records.Response) else end.partial
        if isinstance(end, records.Response) and end.status == "completed":
            assert kept == whole
        else:
            assert whole.startswith(kept.removesuffix("\ufffd"))


TestPromises = Promises.TestCase
TestPromises.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
