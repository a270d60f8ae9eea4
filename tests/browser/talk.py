"""What users say to a gateway while a test looks at it from elsewhere."""

from __future__ import annotations

from uuid import uuid4

from protocol.frames import Response
from tests.browser.served import Served
from tests.e2e.line import Line

__all__ = ["answered", "says", "where"]


def where(gateway: Served, user: str) -> str:
    """Where that user's frames go."""
    return f"{gateway.url.replace('http', 'ws', 1)}/ws?user_id={user}"


async def says(line: Line, session: str, text: str, agent: str = "one") -> None:
    """Says that in that session, which is made if there is none, and waits until it is taken."""
    ref = uuid4().hex
    await line.put("message", session_id=session, agent=agent, content=text, ref=ref)
    await line.answer(ref)


async def answered(line: Line, times: int = 1) -> None:
    """Waits until that many of its answers are there."""
    await line.read(lambda: sum(isinstance(frame, Response) for frame in line.frames) == times)
