"""The tail of a session: what it keeps, for whom, and whom it wakes."""

from __future__ import annotations

from gateway.log import Log
from gateway.text import Text
from protocol.records import Message, Record, Response, Started

TAIL = 1_000


class Ear:
    """A follower that counts how often it was woken."""

    def __init__(self, seq: int = 0, *, congested: bool = False) -> None:
        self.seq = seq
        self.ready = False
        self.owed: Text | None = None
        self.congested = congested
        self.woken = 0
        self.met: list[Text | None] = []

    def wake(self) -> None:
        self.ready = True
        self.woken += 1

    def meet(self, text: Text | None) -> None:
        self.met.append(text)


def make(*ears: Ear) -> Log:
    log = Log("s", "bot")
    log.start("e", 0)
    log.readers += ears
    return log


def message(number: int, size: int = 10) -> Message:
    return Message(f"t{number}", "x" * size, 1.0)


def kept(log: Log, seq: int) -> Record:
    """The record of that number, which is in memory."""
    assert log.kept is not None
    return log.kept[seq - log.base - 1][0]


def test_a_follower_is_woken_once_until_it_has_read() -> None:
    ear = Ear()
    log = make(ear)
    log.append(message(1), TAIL)
    log.append(Started("t1", "n", 1.0), TAIL)
    log.wake()
    log.extend("a")
    log.extend("b")
    assert ear.woken == 1
    ear.ready = False
    log.extend("c")
    assert ear.woken == 2


def test_without_followers_nothing_is_kept() -> None:
    log = make()
    log.append(message(1), TAIL)
    assert (log.seq, log.base, log.kept) == (1, 1, None)


def test_for_one_who_lags_only_the_newest_records_are_kept_and_one_of_any_size() -> None:
    log = make(Ear())
    for number in range(20):
        log.append(message(number, 100), TAIL)
    assert 0 < log.base < log.seq == 20
    assert kept(log, 20) == message(19, 100)
    assert kept(log, log.base + 1) == message(log.base, 100)
    log.append(message(20, 50 * TAIL), TAIL)
    assert log.base == 20
    assert kept(log, 21) == message(20, 50 * TAIL)


def test_records_are_released_when_every_follower_was_sent_them() -> None:
    here, behind = Ear(), Ear()
    log = make(here, behind)
    log.append(message(1), TAIL)
    here.seq = 1
    log.release()
    assert log.base == 0
    behind.seq = 1
    log.release()
    assert (log.base, log.kept) == (1, None)


def test_at_the_end_of_a_turn_only_who_kept_up_is_owed_the_rest_of_its_text() -> None:
    prompt, late = Ear(), Ear(congested=True)
    log = make(prompt, late)
    log.append(message(1), TAIL)
    log.append(Started("t1", "n", 1.0), TAIL)
    log.extend("answer")
    text = log.text
    assert text is not None
    log.append(Response("t1", "answer", "completed", 2.0), TAIL)
    assert (prompt.owed, late.owed, log.text) == (text, None, None)
    assert text.closed


def test_the_end_written_elsewhere_completes_the_text_that_is_known_here() -> None:
    ear = Ear()
    log = make(ear)
    log.append(message(1), TAIL)
    log.append(Started("t1", "elsewhere", 1.0), TAIL)
    log.extend("ans")
    log.append(Response("t1", "answer", "completed", 2.0), TAIL)
    assert ear.owed is not None
    assert ear.owed.whole() == "answer"


def test_a_user_is_typing_until_that_stops_or_its_time_is_over() -> None:
    ear = Ear()
    log = make(ear)
    log.set_typing("ann", 10.0)
    log.set_typing("bob", 20.0)
    log.stop_typing(10.0)
    assert log.typing == {"bob": 20.0}
    log.set_typing("bob", None)
    assert log.typing is None
    ear.ready = False
    log.set_typing("bob", None)
    assert not ear.ready


def test_followers_meet_the_text_that_is_taken_up_anew() -> None:
    ear = Ear()
    log = make(ear)
    text = Text("e", "s", "t", 1, "saved")
    log.adopt(text)
    assert (log.text, ear.met) == (text, [text])
