"""SIGTERM: clients are told, turns may end, what cannot is told as interrupted, and what waits runs later."""

from __future__ import annotations

from pathlib import Path

from protocol import frames
from tests.e2e.agents import TURNS, pieces
from tests.e2e.line import opened
from tests.e2e.process import gateway_serve, serving


async def test_what_ends_in_time_ends_whole_what_does_not_is_interrupted_and_what_waits_runs_later(
    tmp_path: Path,
) -> None:
    agents = {"metronome": "metronome", "writer": "tests.e2e.agents:writer"}
    arguments = gateway_serve(tmp_path / "store.db", agents)
    environment = {"GATEWAY_DRAIN_TIMEOUT": "1", TURNS: str(tmp_path / "turns")}
    with serving(arguments, tmp_path / "log", environment) as server:
        async with opened(f"{server.ws}/ws?user_id=ann") as line:
            pace = {"deltas": 10_000, "interval_ms": 5}
            await line.put("message", session_id="long", turn_id="t1", content="play", metadata=pace)
            await line.put("message", session_id="long", turn_id="t2", content="wait", ref="2")
            await line.until(lambda frame: isinstance(frame, frames.TextDelta) and frame.turn_id == "t1")
            await line.answer("2")
            await line.put("message", session_id="short", turn_id="t3", content="write", agent="writer")
            await line.until(lambda frame: isinstance(frame, frames.TextDelta) and frame.turn_id == "t3")
            server.terminate()
            goaway = await line.until(lambda frame: isinstance(frame, frames.Goaway))
            assert isinstance(goaway, frames.Goaway)
            assert goaway.reconnect_after_ms == 1000
            await line.put("message", session_id="short", content="too late", ref="4")
            assert (await line.answer("4")).code == "draining"
            assert (await line.terminal("t3")).content == "".join(pieces("t3"))
            cut = await line.terminal("t1")
            assert cut.code == "turn_interrupted"
            deltas = [frame for frame in line.frames if isinstance(frame, frames.TextDelta)]
            assert cut.partial == "".join(delta.content for delta in deltas if delta.turn_id == "t1")
            assert await line.closed() == 1001
            transcripts = line.transcripts
        assert await server.ended() == 0
    assert transcripts["long"].queue == ["t2"]
    with serving(arguments, tmp_path / "log", environment) as server:
        async with opened(f"{server.ws}/ws?user_id=ann", transcripts) as line:
            resumed = [{"session_id": name, "cursor": seen.cursor} for name, seen in transcripts.items()]
            await line.put("attach", sessions=resumed)
            end = await line.terminal("t2")
            assert (end.status, len(end.content)) == ("completed", 20 * 8)
            assert {frame.mode for frame in line.frames if isinstance(frame, frames.Attached)} == {"replay"}
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_a_second_signal_does_not_wait_for_anything(tmp_path: Path) -> None:
    arguments = gateway_serve(tmp_path / "store.db", {"metronome": "metronome"})
    with serving(arguments, tmp_path / "log", {"GATEWAY_DRAIN_TIMEOUT": "60"}) as server:
        async with opened(f"{server.ws}/ws") as line:
            pace = {"deltas": 10_000, "interval_ms": 5}
            await line.put("message", session_id="s", turn_id="t", content="play", metadata=pace)
            await line.until(lambda frame: isinstance(frame, frames.TextDelta))
            server.terminate()
            await line.until(lambda frame: isinstance(frame, frames.Goaway))
            server.terminate()
            await line.closed()
        await server.ended()
