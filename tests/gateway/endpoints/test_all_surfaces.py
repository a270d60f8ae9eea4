"""One conversation through every surface: what one creates, every other one, and the socket, can see,
continue and delete."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.auth import Identity
from tests.harness import Client

USER = "user"


class Surface:
    """One way to talk to a gateway."""

    def __init__(self, rig: Any) -> None:
        self.rig = rig
        self.http = rig.http

    async def create(self) -> str:
        """Make a session with the agent `echo`; its id."""
        raise NotImplementedError

    async def say(self, session_id: str, text: str) -> str:
        """Say something; the answer."""
        raise NotImplementedError

    async def read(self, session_id: str) -> list[str]:
        """What was said, oldest first."""
        raise NotImplementedError

    async def delete(self, session_id: str) -> None:
        raise NotImplementedError


class Native(Surface):
    async def create(self) -> str:
        made = await self.http.post("/api/agents/echo/sessions", json={})
        return str(made.json()["session_id"])

    async def say(self, session_id: str, text: str) -> str:
        path = f"/api/agents/echo/sessions/{session_id}/message"
        return str((await self.http.post(path, json={"message": text})).json()["response"])

    async def read(self, session_id: str) -> list[str]:
        messages = (await self.http.get(f"/api/sessions/{session_id}")).json()["messages"]
        return [message["content"] for message in messages]

    async def delete(self, session_id: str) -> None:
        assert (await self.http.delete(f"/api/sessions/{session_id}")).status_code == 200


class Adk(Surface):
    prefix = ""

    def path(self, session_id: str = "") -> str:
        return f"{self.prefix}/apps/echo/users/{USER}/sessions" + (f"/{session_id}" if session_id else "")

    async def create(self) -> str:
        return str((await self.http.post(self.path())).json()["id"])

    async def say(self, session_id: str, text: str) -> str:
        asked = {"appName": "echo", "userId": USER, "sessionId": session_id}
        message = {"role": "user", "parts": [{"text": text}]}
        events = (await self.http.post(f"{self.prefix}/run", json={**asked, "newMessage": message})).json()
        return text_of(events[-1])

    async def read(self, session_id: str) -> list[str]:
        events = (await self.http.get(self.path(session_id))).json()["events"]
        return [text_of(event) for event in events]

    async def delete(self, session_id: str) -> None:
        assert (await self.http.delete(self.path(session_id))).status_code == 200


class AdkUnderApi(Adk):
    prefix = "/api"


def text_of(event: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in event["content"]["parts"])


class Eliza(Surface):
    base = "/api/messaging/sessions"

    async def create(self) -> str:
        made = await self.http.post(self.base, json={"agentId": "echo", "userId": USER})
        return str(made.json()["sessionId"])

    async def say(self, session_id: str, text: str) -> str:
        said = await self.http.post(
            f"{self.base}/{session_id}/messages", json={"content": text, "transport": "http"}
        )
        return str(said.json()["agentResponse"]["text"])

    async def read(self, session_id: str) -> list[str]:
        messages = (await self.http.get(f"{self.base}/{session_id}/messages")).json()["messages"]
        return [message["content"] for message in reversed(messages)]

    async def delete(self, session_id: str) -> None:
        assert (await self.http.delete(f"{self.base}/{session_id}")).status_code == 200


class Potpie(Surface):
    base = "/api/v1/conversations"

    async def create(self) -> str:
        """A conversation is made by its first message."""
        await self.say("potpie-1", "made")
        return "potpie-1"

    async def say(self, session_id: str, text: str) -> str:
        said = await self.http.post(
            f"{self.base}/{session_id}/message?stream=false&agent=echo", files={"content": (None, text)}
        )
        assert said.status_code == 200, said.text
        return str(said.json()["message"])

    async def read(self, session_id: str) -> list[str]:
        messages = (await self.http.get(f"{self.base}/{session_id}/messages?start=0&limit=100")).json()
        return [message["content"] for message in messages]

    async def delete(self, session_id: str) -> None:
        """It has no deleting: its clients leave that to others."""
        await Native(self.rig).delete(session_id)


class Socket(Surface):
    def __init__(self, rig: Any) -> None:
        super().__init__(rig)
        self.client = Client(rig.app.supervisor, USER)
        self.client.line.identity = Identity(USER, everyone=True, service=True)
        self.turns = 0

    async def create(self) -> str:
        self.client.put(
            "attach", sessions=[{"session_id": "ws-1", "agent": "echo", "create": True}], ref="new"
        )
        await self.client.answer("new")
        return "ws-1"

    async def say(self, session_id: str, text: str) -> str:
        self.turns += 1
        turn_id = f"ws-{self.turns}"
        self.client.put("message", session_id=session_id, content=text, turn_id=turn_id, create=False)
        ended = await self.client.terminal(turn_id)
        return str(ended.content)

    async def read(self, session_id: str) -> list[str]:
        self.client.put("attach", sessions=[{"session_id": session_id}], ref="again")
        attached = await self.client.until(
            lambda frame: getattr(frame, "messages", None) is not None and frame.session_id == session_id
        )
        return [message.content for message in attached.messages]  # type: ignore[union-attr]

    async def delete(self, session_id: str) -> None:
        """The socket has no deleting either."""
        await Native(self.rig).delete(session_id)


SURFACES = [Native, Adk, AdkUnderApi, Eliza, Potpie, Socket]


@pytest.mark.parametrize("maker", SURFACES)
async def test_what_one_surface_creates_every_other_one_sees_continues_and_deletes(
    maker: type[Surface], in_memory: Any
) -> None:
    for deleter in SURFACES:
        async with in_memory() as rig:
            session_id = await maker(rig).create()
            said = await Native(rig).read(session_id)  # some are made by their first message
            for number, speaker in enumerate(SURFACES):
                text = f"word {number}"
                answer = await speaker(rig).say(session_id, text)
                said += [text, answer]
                assert text in answer
            for reader in SURFACES:
                assert await reader(rig).read(session_id) == said, reader.__name__
            await deleter(rig).delete(session_id)
            assert (await rig.http.get(f"/api/sessions/{session_id}")).status_code == 404
            assert (await rig.http.get(f"/apps/echo/users/{USER}/sessions/{session_id}")).status_code == 404
            assert (await rig.http.get(f"{Eliza.base}/{session_id}")).status_code == 404
            assert (await rig.http.get(f"{Potpie.base}/{session_id}/active-session")).status_code == 404
