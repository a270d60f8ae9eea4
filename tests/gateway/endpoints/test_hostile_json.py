"""Whatever JSON clients send where anything goes: no session crashes over it, and each can be read again."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.agents.echo import EchoAgent
from gateway.app import gateway_app
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from protocol.records import decode_record
from tests.harness import WAIT

S = "/apps/echo/users/user/sessions"


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


_texts = st.sampled_from(["", "x", "\ud83d", "\ude42", "\x00", "\u2028", "🙂", "user:n", "temp:n"])
_numbers = st.sampled_from([0, -1, 1.5, 2**53, 2**64, -(2**70), 10**400, 1e308, True])
hostile: st.SearchStrategy[Any] = st.recursive(
    st.none() | _texts | _numbers | st.sampled_from([15, 40, 90, 97, 99, 100, 101, 300]).map(nested),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_texts, inner, max_size=2),
    max_leaves=5,
)


@settings(deadline=None, max_examples=60)
@given(hostile, hostile)
@example(nested(97), {"a": nested(97)})
@example("\ud83d", {"\ud83d": "\ude42"})
def test_whatever_clients_send_no_session_crashes_and_each_can_be_read(one: Any, other: Any) -> None:
    asyncio.run(send(one, other))


async def send(one: Any, other: Any) -> None:
    store = MemoryStore()
    app = gateway_app(Settings(drain_timeout=0.01), store=store, agents={"echo": EchoAgent()})
    async with (
        app.lifespan(),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=WAIT
        ) as http,
    ):
        content = one if isinstance(one, str) else "hi"
        frame = {"type": "message", "session_id": "s", "content": content}
        eliza = {"agentId": "echo", "userId": "user"}
        part = (
            {"text": one}
            if isinstance(one, str)
            else {"text": "hi", "functionCall": {"name": "look", "args": {"a": one}}}
        )
        message = {"role": "user", "parts": [part, {"inlineData": other}]}
        event = {
            "author": "user",
            "content": message,
            "actions": {"stateDelta": {"e": other}},
            "customMetadata": {"a": one},
            "timestamp": one if isinstance(one, int | float) else 1.0,
            "invocationId": content,
        }
        run = {"appName": "echo", "userId": "user", "sessionId": "s", "newMessage": message}
        for method, path, body in (
            ("POST", f"{S}/s", {}),
            ("POST", f"{S}/t", {"a": one, "user:a": other}),
            ("POST", f"{S}/u", {"state": {"a": one}, "events": [event]}),
            ("PATCH", f"{S}/s", {"stateDelta": {"p": one, "app:p": other}}),
            ("POST", "/run", {**run, "stateDelta": {"r": one}, "customMetadata": {"a": other}}),
            ("POST", "/frames", {**frame, "metadata": other}),
            ("POST", "/frames", {**frame, "metadata": {"m": one}}),
            ("POST", "/api/messaging/sessions", {**eliza, "metadata": {"m": other}}),
            ("POST", "/api/messaging/sessions/s/messages", {"content": content, "metadata": {"m": one}}),
            ("POST", "/api/agents/echo/sessions", {"label": one}),
            ("POST", "/api/agents/echo/sessions/s/message", {"message": content, "metadata": {"m": one}}),
            ("GET", f"{S}/s", None),
            ("GET", f"{S}/t", None),
            ("GET", f"{S}/u", None),
            ("GET", "/api/sessions/s/messages", None),
            ("GET", "/api/sessions/u/messages", None),
        ):
            data = None if body is None else json.dumps(body).encode()
            headers = {} if body is None else {"content-type": "application/json"}
            answer = await http.request(method, path, content=data, headers=headers)
            assert answer.status_code < 500, (method, path, answer.text)
        assert not app.supervisor.runtime.metrics.crashes
        for log in store._logs.values():
            for body in log._records or ():
                decode_record(body)
