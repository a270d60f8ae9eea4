"""`/api/v1/conversations/{id}/…`: saying something in a conversation, and hearing it answered. Also under
`/api/v2`, where Potpie has a part of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.forms import is_form, read_form
from gateway.http import OF_MESSAGE, OF_SESSION, OF_TURN, Api, described, json_response, read_body, route
from gateway.interfaces import Key, NoSession
from gateway.potpie import Events, Found, Whole, asked, hear, there
from protocol import codec, frames, records
from protocol import potpie_shapes as shapes
from protocol.errors import Refused
from protocol.ids import TurnId, check_turn_id
from protocol.potpie import free_number, open_run, parse_position, run_id
from protocol.potpie_events import Chunk, End

__all__ = ["routes"]


def routes(api: Api) -> list[Route]:
    """With and without a slash at the end: clients differ, and few send a body again after a redirect."""
    endpoints = {
        "v1": {"message": message, "regenerate": regenerate, "stop": stop},
        "v2": {"message": message, "stop": stop},
    }
    of_one = "/api/{}/conversations/{{conversation_id}}/{}{}"
    return [
        *(
            route(of_one.format(version, name, slash), POST=partial(endpoint, api))
            for version, named in endpoints.items()
            for name, endpoint in named.items()
            for slash in ("", "/")
        ),
        route(of_one.format("v1", "resume/{session_id:path}", ""), POST=partial(resume, api)),
    ]


_ANSWERED: dict[str, Any] = {
    "answer": (Chunk, End),
    "media": "text/event-stream",
    "other_media": {"application/json": Chunk},
    "errors": (*OF_SESSION, *OF_MESSAGE, *OF_TURN),
}


@described(query=shapes.Talk, body=shapes.MessageForm, body_media="multipart/form-data", **_ANSWERED)
async def message(api: Api, request: Request) -> ASGIApp:
    """Say something, and hear the answer: `queued`, chunks, `end`; or all of it at once."""
    found, query = await asked(api, request, shapes.Talk)
    said = await _said(api, request)
    if query.cursor is None:
        frame = _frame(api, found.key, said.content, _about(said.node_ids))
        run = await _start(api, request, found.key, frame, query)
    else:
        run = query.session_id or run_id(found.key.user, query.prev_human_message_id, 0)
    return await _heard(api, found, run, query)


@described(query=shapes.Talk, body=shapes.Regenerate, optional=True, **_ANSWERED)
async def regenerate(api: Api, request: Request) -> ASGIApp:
    """Have the last message answered again, in the place of its answer."""
    found, _, query = await there(api, request, shapes.Talk, "Conversation not found")
    body = await read_body(request, api, shapes.Regenerate, optional=True)
    if query.cursor is not None and query.session_id is not None:
        return await _heard(api, found, query.session_id, query)
    last = await _last_said(api, found.key)
    if last is None:
        raise Refused("turn_not_found", "Nothing was said in this conversation yet.")
    metadata = {**(last.metadata or {}), **_about(body.node_ids)}
    frame = replace(_frame(api, found.key, last.content, metadata), replaces=last.turn_id)
    run = await _start(api, request, found.key, frame, query, last.parts)
    return await _heard(api, found, run, query)


@described(path={"session_id": TurnId}, query=shapes.Resume, **_ANSWERED)
async def resume(api: Api, request: Request) -> ASGIApp:
    """Hear a run from where its listener was, or again."""
    found, query = await asked(api, request, shapes.Resume)
    run = request.path_params["session_id"].removesuffix("/")
    return await hear(api, found, run, parse_position(query.cursor), Events)


async def _heard(api: Api, found: Found, run: str, query: shapes.Talk) -> ASGIApp:
    return await hear(api, found, run, parse_position(query.cursor), Events if query.stream else Whole)


async def _said(api: Api, request: Request) -> shapes.MessageForm:
    """What is to be said. Raises `Refused`."""
    if not is_form(request):
        said = await read_body(request, api, shapes.MessageForm)
    else:
        form = await read_form(request, api.settings.max_body_bytes)
        if form.files or any(text not in ("", "[]") for text in form.texts.get("attachment_ids", [])):
            raise Refused("bad_request", "This gateway takes no images and no other attachments.")
        said = shapes.MessageForm(form.text("content"), _nodes(form.text("node_ids")))
    if not said.content.strip():
        raise Refused("bad_request", "Message content cannot be empty")
    return said


def _nodes(text: str) -> list[shapes.Node] | None:
    try:
        return msgspec.json.decode(text, type=list[shapes.Node] | None) if text.strip() else None
    except (msgspec.MsgspecError, RecursionError):
        raise Refused("bad_request", "Invalid node_ids format") from None


def _about(nodes: list[shapes.Node] | None) -> dict[str, Any]:
    """What is told the agent beside the text."""
    return {"node_ids": msgspec.to_builtins(nodes)} if nodes else {}


def _frame(api: Api, key: Key, content: str, metadata: dict[str, Any]) -> frames.Send:
    """A `message` frame, by whose rules it is checked. Raises `Refused`."""
    said = frames.Send(content, key.session_id, metadata=metadata or None)
    frame = codec.decode_client_frame(codec.encode(said), api.supervisor.limits)
    assert isinstance(frame, frames.Send)
    return frame


async def _last_said(api: Api, key: Key) -> records.Message | None:
    position = None
    while True:
        page = await api.runtime.store.history(key, 20, position=position)
        for _, record, _ in reversed(page.messages):
            if isinstance(record, records.Message):
                return record
        if not page.has_more:
            return None
        position = page.messages[0].seq


async def _start(
    api: Api,
    request: Request,
    key: Key,
    frame: frames.Send,
    query: shapes.Talk,
    parts: list[Any] | None = None,
) -> str:
    """Leave the message with its session, and answer how its run is called. Under a name that the client
    chose it runs once, however often it is sent; without one it gets a new one each time."""

    async def send(turn_id: str) -> frames.Ok:
        named = replace(frame, turn_id=turn_id)
        return await api.send(key, named, request.state.request_id, parts=parts)

    if query.session_id is not None:
        await send(query.session_id)
        return query.session_id
    while True:
        candidate = await _free_id(api, key, query.prev_human_message_id)
        try:
            taken = (await send(candidate)).duplicate
        except Refused as refusal:
            taken = refusal.code == "turn_conflict"
            if not taken:
                raise
        if not taken:  # else somebody was quicker
            return candidate


async def _free_id(api: Api, key: Key, previous: str | None) -> str:
    numbers = free_number()
    number = next(numbers)
    try:
        while True:
            candidate = check_turn_id(run_id(key.user, previous, number))
            number = numbers.send(await _is_taken(api, key, candidate))
    except StopIteration as found:
        return run_id(key.user, previous, found.value)


async def _is_taken(api: Api, key: Key, turn_id: str) -> bool:
    try:
        return await api.runtime.store.turn(key, turn_id) is not None
    except NoSession:
        return False


@described(query=shapes.Stop, answer=shapes.Stopped, errors=OF_SESSION)
async def stop(api: Api, request: Request) -> Response:
    """Stop a run. What it has said is kept."""
    found, _, query = await there(api, request, shapes.Stop, "Conversation not found")
    loaded = await api.runtime.store.load(found.key)
    run = open_run(loaded.entries, query.session_id)
    if run is None:
        return json_response(shapes.Stopped("No active session to stop", stopped=False))
    live = api.supervisor.sessions.get(found.key)
    answer = None if live is None else live.answer
    await api.cancel(found.key, run.run_id)
    length = len(loaded.text) if answer is None else answer.text.length
    saved = run.status == "running" and length > 0
    return json_response(
        shapes.Stopped(
            "Cancellation signal sent and task revoked",
            stopped=True,
            saved_partial=saved,
            message_id=shapes.answer_id(run.run_id) if saved else None,
        )
    )
