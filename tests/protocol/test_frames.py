from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
from msgspec import json

from protocol.codec import Limits, decode_client_frame, decode_server_frame, encode
from protocol.frames import ClientFrame, ServerFrame

CLIENT = get_args(ClientFrame)
SERVER = get_args(ServerFrame)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("struct", CLIENT)
def test_every_client_frame_comes_back_as_it_was_sent(
    struct: type[Any], full: bool, sample: Callable[..., Any]
) -> None:
    frame = sample(struct, full=full)
    assert decode_client_frame(encode(frame), Limits()) == frame
    assert decode_client_frame(encode(frame).decode(), Limits()) == frame


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("struct", SERVER)
def test_every_server_frame_comes_back_as_it_was_sent(
    struct: type[Any], full: bool, sample: Callable[..., Any]
) -> None:
    frame = sample(struct, full=full)
    assert decode_server_frame(encode(frame)) == frame


@pytest.mark.parametrize("struct", [*CLIENT, *SERVER])
def test_what_has_nothing_to_say_is_left_out(struct: type[Any], sample: Callable[..., Any]) -> None:
    assert None not in json.decode(encode(sample(struct, full=False))).values()


@pytest.mark.parametrize("struct", [struct for struct in SERVER if "cursor" in struct.__struct_fields__])
def test_what_moves_the_reader_says_so_first(struct: type[Any], sample: Callable[..., Any]) -> None:
    tag = struct.__struct_config__.tag.encode()
    frame = encode(sample(struct))
    if struct.__name__ == "Error":
        assert b'"cursor":"e1.17.512"' in frame
    else:
        assert frame.startswith(b'{"type":"%b","cursor":"e1.17.512"' % tag)


@pytest.mark.parametrize("side", [CLIENT, SERVER])
def test_no_two_frames_of_one_direction_have_one_type(side: tuple[type[Any], ...]) -> None:
    assert len({struct.__struct_config__.tag for struct in side}) == len(side)


@pytest.mark.parametrize("struct", CLIENT)
def test_every_client_frame_may_carry_a_ref(struct: type[Any]) -> None:
    assert "ref" in struct.__struct_fields__
