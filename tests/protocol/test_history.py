"""The rules of history that are tried apart from a store; the rest every store's suite holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.eliza import millis
from protocol.history import spaced
from protocol.records import Message, Record, Response, Started

times = st.floats(1_700_000_000, 1_700_000_000.01)


@given(st.lists(st.tuples(st.sampled_from("msr"), times)), times)
def test_no_two_messages_share_a_millisecond_and_no_record_is_before_the_last(
    kinds: list[tuple[str, float]], last: float
) -> None:
    made: list[Record] = []
    for number, (kind, at) in enumerate(kinds):
        turn_id = str(number)
        match kind:
            case "m":
                made.append(Message(turn_id, "hi", at))
            case "s":
                made.append(Started(turn_id, "n", at))
            case _:
                made.append(Response(turn_id, "hi", "completed", at))
    apart = spaced(made, last)
    assert [type(record) for record in apart] == [type(record) for record in made]
    said = [record.created_at for record in apart if not isinstance(record, Started)]
    shown = [millis(last), *map(millis, said)]
    assert shown == sorted(set(shown))
    assert [record.created_at for record in apart] == sorted(record.created_at for record in apart)


def test_what_is_a_millisecond_apart_already_is_left_as_it_is() -> None:
    made = (Message("a", "hi", 10.0), Response("a", "hi", "completed", 10.5))
    assert spaced(made, 9.0) == made
