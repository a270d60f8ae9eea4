"""What every server under test runs for a turn: the same generator, told by the message's `metadata`.

`{"deltas": n}`: n times `tok `, as fast as the consumer takes them.
`{"deltas": n, "interval_ms": i, "phase": p}`: one delta every i ms on an absolute schedule whose first is
due p intervals after the start. Each is the time it was due (monotonic, ns, 16 hex digits): a late agent
writes the time it should have written at, so that its lateness counts.
`{"silent": true}`: nothing, ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

TOKEN = "tok "


async def answer(metadata: Mapping[str, Any]) -> AsyncGenerator[str, None]:
    """The pieces of one turn."""
    if metadata.get("silent"):
        await asyncio.get_running_loop().create_future()
    deltas = int(metadata["deltas"])
    if "interval_ms" not in metadata:
        for _ in range(deltas):
            yield TOKEN
            await asyncio.sleep(0)
        return
    interval = metadata["interval_ms"] / 1000
    start = time.monotonic() + interval * metadata["phase"]
    for number in range(deltas):
        due = start + number * interval
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        yield f"{int(due * 1e9):016x}"
