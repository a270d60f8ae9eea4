"""The rules of a session: single rules by example, all of them together by a state machine against a log."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol.errors import Refused
from protocol.records import (
    CancelRequested,
    Entry,
    Failed,
    Message,
    Record,
    Response,
    Started,
    ToolCall,
    content_hash,
)
from protocol.session import (
    IDLE,
    Accepted,
    Cancel,
    Close,
    Command,
    Decided,
    End,
    KnownTurn,
    Lookup,
    Send,
    Settle,
    State,
    UseTool,
    decide,
    evolve,
    fold,
)


class Log:
    """A log in memory that decides as an actor does: looks up, decides, appends."""

    def __init__(self, node: str = "here") -> None:
        self.node = node
        self.state: State = IDLE
        self.records: list[Record] = []
        self.now = 100.0

    def do(self, command: Command, *, start: bool = True) -> Accepted:
        known: dict[str, KnownTurn | None] = {}
        self.now += 1
        while True:
            decision = decide(
                self.state, command, now=self.now, node=self.node, known=known, max_waiting=3, start=start
            )
            if isinstance(decision, Decided):
                break
            assert decision.turn_id not in known, "what was looked up is not asked for again"
            known[decision.turn_id] = self.known(decision.turn_id)
        if (
            isinstance(command, Send)
            and (turn := self.known(command.turn_id))
            and not decision.answer.duplicate
        ):
            # The store knows the turn: the append is refused as a duplicate, and decided again knowing it.
            known[command.turn_id] = turn
            decision = decide(self.state, command, now=self.now, node=self.node, known=known, max_waiting=3)
            assert isinstance(decision, Decided)
        for record in decision.records:
            self.state = evolve(self.state, record)
            self.records.append(record)
        return decision.answer

    def send(self, turn_id: str, content: str = "hi", **more: object) -> Accepted:
        return self.do(Send(turn_id, content, **more))  # type: ignore[arg-type]

    def complete(self, turn_id: str, content: str = "answer") -> None:
        self.do(End(Response(turn_id, content, "completed", self.now)))

    def known(self, turn_id: str) -> KnownTurn | None:
        status = None
        seq = 0
        digest = ""
        for at, record in enumerate(self.records, 1):
            match record:
                case Message() if record.turn_id == turn_id:
                    status, seq, digest = "waiting", at, content_hash(record.content)
                case Started() if record.turn_id == turn_id:
                    status = "running"
                case Response() if record.turn_id == turn_id:
                    status = record.status
                case Failed() if record.turn_id == turn_id:
                    status = "failed"
        return KnownTurn(turn_id, seq, digest, status, self.stands(seq)) if status else None  # type: ignore[arg-type]

    def hidden(self) -> set[int]:
        """The seqs of messages that later ones replaced."""
        hidden: set[int] = set()
        at = {
            record.turn_id: seq for seq, record in enumerate(self.records, 1) if isinstance(record, Message)
        }
        for seq, record in enumerate(self.records, 1):
            if isinstance(record, Message) and record.replaces is not None:
                hidden |= {other for other in at.values() if at[record.replaces] <= other < seq}
        return hidden

    def stands(self, seq: int) -> str:
        hidden = self.hidden()
        return next(
            record.turn_id
            for at, record in enumerate(self.records, 1)
            if isinstance(record, Message) and at >= seq and at not in hidden
        )

    def kinds(self) -> list[str]:
        return [type(record).__name__ for record in self.records]


def refusal(log: Log, command: Command) -> Refused:
    before = list(log.records)
    with pytest.raises(Refused) as caught:
        log.do(command)
    assert log.records == before
    return caught.value


def test_a_message_to_an_idle_session_starts_at_once() -> None:
    log = Log()
    assert log.send("a") == Accepted("a", "started")
    assert log.kinds() == ["Message", "Started"]
    assert log.records[1] == Started("a", "here", log.now)


def test_a_message_to_a_busy_session_waits_and_starts_in_the_append_that_ends_the_other() -> None:
    log = Log()
    log.send("a")
    assert log.send("b") == Accepted("b", "queued")
    log.complete("a")
    assert log.kinds() == ["Message", "Started", "Message", "Response", "Started"]
    assert log.state.running is not None
    assert log.state.running.turn_id == "b"


def test_the_queue_is_bounded_and_says_so() -> None:
    log = Log()
    for turn_id in "abcd":
        log.send(turn_id)
    assert refusal(log, Send("e", "hi")).code == "queue_full"
    log.complete("a")
    assert log.send("e").status == "queued"


def test_reject_refuses_while_a_turn_runs_but_never_a_message_known_already() -> None:
    log = Log()
    log.send("a")
    refused = refusal(log, Send("b", "hi", on_busy="reject"))
    assert (refused.code, refused.turn_id, refused.retryable) == ("session_busy", "b", True)
    log.complete("a")
    assert log.send("b", on_busy="reject").status == "started"
    assert log.send("a", on_busy="reject") == Accepted("a", "completed", duplicate=True)
    assert log.send("b", on_busy="reject") == Accepted("b", "started", duplicate=True)


def test_a_refused_message_does_not_use_up_its_turn_id() -> None:
    log = Log()
    log.send("a")
    refusal(log, Send("b", "one", on_busy="reject"))
    assert log.send("b", "another") == Accepted("b", "queued")


def test_interrupt_cancels_the_running_turn_and_goes_to_the_head_of_the_queue() -> None:
    log = Log()
    for turn_id in "abc":
        log.send(turn_id)
    assert log.send("x", on_busy="interrupt").status == "queued"
    assert [message.turn_id for message in log.state.waiting] == ["x", "b", "c"]
    assert log.state.running is not None
    assert log.state.running.cancelling
    log.send("y", on_busy="interrupt")
    assert [message.turn_id for message in log.state.waiting] == ["y", "b", "c"]
    assert sum(isinstance(record, CancelRequested) for record in log.records) == 1
    assert log.known("x") == KnownTurn("x", 6, content_hash("hi"), "cancelled", "x")


def test_an_idle_session_is_not_interrupted() -> None:
    log = Log()
    assert log.send("a", on_busy="interrupt") == Accepted("a", "started")
    assert log.kinds() == ["Message", "Started"]


def test_the_same_turn_id_never_runs_twice_and_another_content_is_a_conflict() -> None:
    log = Log()
    log.send("a", "one")
    log.send("b", "two")
    assert log.send("a", "one") == Accepted("a", "started", duplicate=True)
    assert log.send("b", "two") == Accepted("b", "queued", duplicate=True)
    assert refusal(log, Send("b", "other")).code == "turn_conflict"
    log.complete("a")
    assert log.send("a", "one") == Accepted("a", "completed", duplicate=True)
    assert refusal(log, Send("a", "other")).code == "turn_conflict"


def test_cancel_asks_the_running_turn_to_stop_once_and_ends_a_waiting_one_itself() -> None:
    log = Log()
    log.send("a")
    log.send("b")
    assert log.do(Cancel("b")) == Accepted("b")
    assert log.known("b") is not None
    assert log.known("b").status == "cancelled"  # type: ignore[union-attr]
    assert log.do(Cancel()) == Accepted("a")
    assert log.do(Cancel("a")) == Accepted("a")
    assert log.kinds() == ["Message", "Started", "Message", "Response", "CancelRequested"]


def test_cancel_is_ok_when_there_is_nothing_to_stop_and_refused_for_a_turn_never_seen() -> None:
    log = Log()
    assert log.do(Cancel()) == Accepted()
    log.send("a")
    log.complete("a")
    assert log.do(Cancel("a")) == Accepted("a")
    assert refusal(log, Cancel("zzz")).code == "turn_not_found"


def test_a_cancelled_turn_ends_as_cancelled_whatever_its_agent_says() -> None:
    for end in (
        Response("a", "all of it", "completed", 1.0, state_delta={"n": 2}, state_undo={"n": 1}),
        Failed("a", "boom", "agent_failed", True, "all of it", 1.0),
    ):
        log = Log()
        log.send("a")
        log.do(Cancel())
        log.do(End(end))
        last = log.records[-1]
        assert isinstance(last, Response)
        assert (last.status, last.content) == ("cancelled", "all of it")
        assert (last.state_delta, last.state_undo) == (None, None), "it has changed nothing"


def test_an_end_that_comes_late_is_no_end() -> None:
    log = Log()
    log.send("a")
    log.complete("a")
    log.complete("a", "again")
    assert log.kinds() == ["Message", "Started", "Response"]


def test_tools_speak_only_for_the_turn_that_runs_and_is_not_cancelled() -> None:
    tool = ToolCall("a", 0, "1", "search", {}, 1.0)
    log = Log()
    log.do(UseTool(tool))
    log.send("a")
    log.do(UseTool(tool))
    log.do(Cancel())
    log.do(UseTool(tool))
    assert log.kinds() == ["Message", "Started", "ToolCall", "CancelRequested"]


def test_what_starts_says_who_waits_behind_it_in_the_order_in_which_they_will_run() -> None:
    log = Log()
    for turn_id in "abc":
        log.send(turn_id)
    log.send("d", on_busy="interrupt")
    log.complete("a")
    assert log.records[-1] == Started("d", "here", log.now, ("b", "c"))
    log.do(Cancel("b"))
    assert log.state.running is not None
    assert log.state.running.behind == ("b", "c")


def test_replaces_names_a_turn_that_is_over() -> None:
    log = Log()
    log.send("a")
    assert refusal(log, Send("b", "hi", replaces="a")).code == "session_busy"
    assert refusal(log, Send("b", "hi", replaces="zzz")).code == "turn_not_found"
    log.complete("a")
    log.send("b", replaces="a")
    assert isinstance(log.records[-2], Message)
    assert log.records[-2].replaces == "a"


def test_replacing_what_was_replaced_replaces_what_stands_in_its_place() -> None:
    log = Log()
    for turn_id, replaces in (("a", None), ("b", "a"), ("c", "a")):
        log.send(turn_id, replaces=replaces)
        log.complete(turn_id)
    assert [record.replaces for record in log.records if isinstance(record, Message)] == [None, "a", "b"]
    assert log.hidden() == {1, 4}


def test_an_orphan_ends_as_interrupted_with_what_was_saved_and_the_next_one_starts() -> None:
    log = Log(node="there")
    log.send("a")
    log.send("b")
    log.node = "here"
    log.do(Settle(orphan="a", text="so f"))
    end, started = log.records[-2:]
    assert isinstance(end, Failed)
    assert (end.code, end.partial, end.retryable) == ("turn_interrupted", "so f", True)
    assert started == Started("b", "here", log.now)


def test_an_orphan_that_was_asked_to_stop_ends_as_cancelled_with_what_was_saved() -> None:
    for stop in (Cancel(), Send("b", "instead", on_busy="interrupt")):
        log = Log(node="there")
        log.send("a")
        log.do(stop)
        log.node = "here"
        log.do(Settle(orphan="a", text="so f"))
        [end] = [record for record in log.records if isinstance(record, Response | Failed)]
        assert end == Response("a", "so f", "cancelled", log.now)
        assert isinstance(stop, Cancel) or log.records[-1] == Started("b", "here", log.now)


def test_settle_leaves_a_turn_alone_that_is_not_the_orphan() -> None:
    log = Log()
    log.send("a")
    log.do(Settle())
    log.do(Settle(orphan="before"))
    assert log.kinds() == ["Message", "Started"]


def test_a_node_that_stops_starts_nothing_and_the_next_one_does() -> None:
    log = Log()
    log.send("a")
    log.send("b")
    log.do(End(Response("a", "", "completed", 1.0)), start=False)
    assert log.state.running is None
    log.do(Settle())
    assert log.state.running is not None
    assert log.state.running.turn_id == "b"


def test_closing_ends_every_turn_and_starts_none() -> None:
    log = Log()
    for turn_id in "abc":
        log.send(turn_id)
    log.do(Close("so far"))
    ends = [record for record in log.records if isinstance(record, Response)]
    assert [(end.turn_id, end.status, end.content) for end in ends] == [
        ("a", "cancelled", "so far"),
        ("b", "cancelled", ""),
        ("c", "cancelled", ""),
    ]
    assert not log.state.busy


def test_a_decision_is_asked_for_only_what_it_needs() -> None:
    assert isinstance(decide(IDLE, Send("a", "hi"), now=0, node="n", known={}), Decided)
    assert decide(IDLE, Cancel("a"), now=0, node="n", known={}) == Lookup("a")
    assert decide(IDLE, Send("a", "hi", replaces="b"), now=0, node="n", known={}) == Lookup("b")


turn_ids = st.sampled_from("abcdefgh")
contents = st.sampled_from(["one", "two"])


class Rules(RuleBasedStateMachine):
    """Any commands in any order, on two nodes: the log never says anything it must not."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()

    @rule(node=st.sampled_from(["here", "there"]))
    def on(self, node: str) -> None:
        self.log.node = node

    @rule(
        turn_id=turn_ids,
        content=contents,
        on_busy=st.sampled_from(["enqueue", "reject", "interrupt"]),
        replaces=st.none() | turn_ids,
    )
    def send(self, turn_id: str, content: str, on_busy: str, replaces: str | None) -> None:
        before = self.log.known(turn_id)
        records = len(self.log.records)
        try:
            accepted = self.log.send(turn_id, content, on_busy=on_busy, replaces=replaces)
        except Refused as refused:
            assert len(self.log.records) == records
            if refused.code == "turn_conflict":
                assert before is not None
                assert before.content_hash != content_hash(content)
            else:
                assert before is None
                assert refused.code in ("session_busy", "queue_full", "turn_not_found")
            return
        assert accepted.turn_id == turn_id
        assert accepted.duplicate == (before is not None)
        if before is not None:
            assert len(self.log.records) == records
            assert before.content_hash == content_hash(content)

    @rule(turn_id=st.none() | turn_ids)
    def cancel(self, turn_id: str | None) -> None:
        try:
            self.log.do(Cancel(turn_id))
        except Refused as refused:
            assert refused.code == "turn_not_found"
            assert self.log.known(turn_id or "") is None

    @rule(turn_id=turn_ids, failed=st.booleans())
    def end(self, turn_id: str, failed: bool) -> None:
        if failed:
            self.log.do(End(Failed(turn_id, "boom", "agent_failed", True, "text", self.log.now)))
        else:
            self.log.complete(turn_id)

    @rule(turn_id=turn_ids)
    def use_tool(self, turn_id: str) -> None:
        self.log.do(UseTool(ToolCall(turn_id, 0, "1", "tool", None, self.log.now)))

    @precondition(lambda self: self.log.state.running is not None)
    @rule(right=st.booleans())
    def settle(self, right: bool) -> None:
        running = self.log.state.running
        assert running is not None
        self.log.do(Settle(orphan=running.turn_id if right else None))

    @rule()
    def close(self) -> None:
        self.log.do(Close())
        assert not self.log.state.busy

    @invariant()
    def every_turn_is_told_in_order(self) -> None:
        """message, then maybe started, then at most one end; tools and cancels only while it runs."""
        phase: dict[str, str] = {}
        running: str | None = None
        for record in self.log.records:
            match record:
                case Message():
                    assert record.turn_id not in phase
                    phase[record.turn_id] = "waiting"
                case Started():
                    assert running is None
                    assert phase[record.turn_id] == "waiting"
                    phase[record.turn_id] = "running"
                    assert {*record.behind} == {turn for turn, now in phase.items() if now == "waiting"}
                    running = record.turn_id
                case Response() | Failed():
                    assert phase[record.turn_id] in ("waiting", "running")
                    running = None if running == record.turn_id else running
                    phase[record.turn_id] = "over"
                case ToolCall() | CancelRequested():
                    assert running == record.turn_id
                case _:
                    raise AssertionError(record)

    @invariant()
    def nothing_waits_while_nothing_runs(self) -> None:
        assert self.log.state.running is not None or not self.log.state.waiting
        assert len(self.log.state.waiting) <= 3

    @invariant()
    def the_state_is_what_a_reload_finds(self) -> None:
        over = Counter(r.turn_id for r in self.log.records if isinstance(r, Response | Failed))
        entries = [
            Entry(seq, record)
            for seq, record in enumerate(self.log.records, 1)
            if getattr(record, "turn_id", None) not in over
        ]
        assert fold(entries, len(self.log.records)) == self.log.state


TestRules = Rules.TestCase
