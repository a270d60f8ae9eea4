"""Runs ADK's own client against a gateway: it creates, updates, runs, streams, reads and deletes, and its
models, which take no unknown key, read everything.

    python3 -m venv /tmp/adk && /tmp/adk/bin/pip install google-adk
    gateway serve --store memory: --agent me=examples.own_agent:agent --agent echo=echo &
    /tmp/adk/bin/python tests/clients/adk_client.py http://127.0.0.1:8080
"""

from __future__ import annotations

import asyncio
import sys

import httpx
from google.adk.cli.api_server import RunAgentRequest
from google.adk.cli.conformance.adk_web_server_client import AdkWebServerClient
from google.adk.events.event import Event
from google.adk.sessions.session import Session
from google.genai import types


def said(text: str) -> types.Content:
    """A user's message."""
    return types.Content(role="user", parts=[types.Part(text=text)])


def words(event: Event) -> str:
    """What an event says."""
    parts = (event.content.parts or []) if event.content else []
    return "".join(part.text or "" for part in parts)


async def talk(base: str, app: str) -> None:
    """Do everything once with one agent."""
    async with AdkWebServerClient(base_url=base) as client:
        print(await client.get_version_data())
        session = await client.create_session(app_name=app, user_id="u1", state={"a": 1, "user:b": 2})
        mine = {"app_name": app, "user_id": "u1", "session_id": session.id}
        session = await client.update_session(**mine, state_delta={"a": 3, "app:c": 4})
        assert (session.state["a"], session.state["user:b"], session.state["app:c"]) == (3, 2, 4)
        for streaming in (False, True):
            request = RunAgentRequest(**mine, new_message=said("hello there"), streaming=streaming)
            events = [event async for event in client.run_agent(request)]
            kinds = ["piece" if event.partial else event.id for event in events]
            print(app, "streaming" if streaming else "whole", kinds, repr(words(events[-1])[:60]))
            assert events[-1].partial is None
            if streaming:
                pieces = [event for event in events if event.partial and not event.content.parts[0].thought]
                last = [part.text for part in events[-1].content.parts if part.text and not part.thought]
                assert "".join(map(words, pieces)) == "".join(last)
        session = await client.get_session(**mine)
        assert session.events[0].author == "user"
        print(app, [(event.author, words(event)[:20]) for event in session.events])
        async with httpx.AsyncClient(base_url=base) as http:
            body = {**request.model_dump(by_alias=True, exclude_none=True), "streaming": False}
            events = (await http.post("/run", json=body)).json()
            assert [Event.model_validate(event) for event in events]
            listed = (await http.get(f"/apps/{app}/users/u1/sessions")).json()
            assert session.id in [Session.model_validate(one).id for one in listed]
        await client.delete_session(**mine)
        try:
            await client.get_session(**mine)
        except httpx.HTTPStatusError as error:
            assert error.response.status_code == 404
        else:
            raise AssertionError("it is still there")


async def remember(base: str, app: str) -> None:
    """Bring a history along, at both places, and go on with it. Under `/api` sessions have two names more, as
    the Go server's documentation has it, which the Python client would not take."""
    call = types.Part(function_call=types.FunctionCall(id="c", name="add", args={"a_b": 1}))
    answer = types.Part(function_response=types.FunctionResponse(id="c", name="add", response={"c_d": 2}))
    history = [
        Event(author="user", invocation_id="i1", content=said("add")),
        Event(author=app, invocation_id="i1", content=types.Content(role="model", parts=[call])),
        Event(author=app, invocation_id="i1", content=types.Content(role="user", parts=[answer])),
        Event(author=app, invocation_id="i1", content=types.Content(role="model", parts=said("two").parts)),
    ]
    for number, event in enumerate(history):
        event.id = f"event {number}"
    events = [event.model_dump(mode="json", by_alias=True, exclude_none=True) for event in history]
    for prefix, names in (("", set()), ("/api", {"sessionID", "userID"})):
        async with httpx.AsyncClient(base_url=base + prefix) as http:
            path = f"/apps/{app}/users/u1/sessions"
            made = (await http.post(path, json={"events": events})).raise_for_status().json()
            about = {"appName": app, "userId": "u1", "sessionId": made["id"]}
            body = {**about, "newMessage": {"parts": [{"text": "and?"}]}, "streaming": True}
            lines = (await http.post("/run_sse", json=body)).raise_for_status().text.split("\n")
            assert [Event.model_validate_json(line[6:]) for line in lines if line.startswith("data: ")]
            read = (await http.get(f"{path}/{made['id']}")).raise_for_status().json()
            assert read.keys() - Session.model_json_schema()["properties"].keys() == names
            session = Session.model_validate({name: read[name] for name in read.keys() - names})
            assert session.events[: len(history)] == history
            print(prefix or "/", [words(event) or "tool" for event in session.events])
            await http.delete(f"{path}/{made['id']}")


if __name__ == "__main__":
    for agent in ("echo", "me"):
        asyncio.run(talk(sys.argv[1], agent))
        asyncio.run(remember(sys.argv[1], agent))
