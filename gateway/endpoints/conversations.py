"""`/api/v1/conversations/{id}/…`: how a conversation's run stands, and what was said. For Potpie's clients: a
session is a conversation to them, and one of its turns the run."""

from __future__ import annotations

import re
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http import OF_SESSION, Api, described, json_response, route
from gateway.interfaces import Direction, Key, Said
from gateway.potpie import error_response, no_run, there
from protocol import potpie_shapes as shapes
from protocol import records
from protocol.native import date
from protocol.potpie import Run, ended_run, estimate, open_run

__all__ = ["PATHS", "error_response", "routes"]

PATHS = re.compile(r"/api/v[12](/.*)?", re.DOTALL)
"""Where refusals look as here."""

_PAGE = 1000
"""Messages read at once while they are counted."""


def routes(api: Api) -> list[Route]:
    """With and without a slash at the end: clients differ."""
    endpoints = {"active-session": active, "task-status": task_status, "messages": messages, "info": info}
    return [
        route(f"/api/v1/conversations/{{conversation_id}}/{name}{slash}", GET=partial(endpoint, api))
        for name, endpoint in endpoints.items()
        for slash in ("", "/")
    ]


# ── How a run stands ────────────────────────────────────────────────────────────────────────────────────────


@described(query=shapes.Which, answer=shapes.ActiveSession, errors=OF_SESSION)
async def active(api: Api, request: Request) -> Response:
    """The run of a conversation: the one that goes on, else the newest."""
    key, run = await _run(api, request, "No active session found")
    return json_response(
        shapes.ActiveSession(
            session_id=run.run_id,
            status=run.told_as,
            cursor=str(run.cursor),
            conversation_id=key.session_id,
            started_at=shapes.epoch_ms(run.accepted_at),
            last_activity=shapes.epoch_ms(run.active_at),
        )
    )


@described(query=shapes.Which, answer=shapes.TaskStatus, errors=OF_SESSION)
async def task_status(api: Api, request: Request) -> Response:
    """Whether a conversation's run goes on, and when it will be over."""
    key, run = await _run(api, request, "No background task found")
    durations = api.runtime.durations.get(key.agent, ())
    over_at = estimate(run, durations, api.runtime.limits(key.agent).turn, api.runtime.now())
    return json_response(shapes.TaskStatus(run.active, run.run_id, shapes.epoch_ms(over_at), key.session_id))


async def _run(api: Api, request: Request, absent: str) -> tuple[Key, Run]:
    found, _, _ = await there(api, request, shapes.Which, absent)
    key = found.key
    run = open_run((await api.runtime.store.load(key)).entries)
    if run is None:
        run = await _newest_ended(api, key)
    if run is None:
        raise no_run(absent, key.session_id)
    live = api.supervisor.sessions.get(key)
    answer = None if live is None else live.answer
    if answer is not None and answer.turn_id == run.run_id and answer.active_at is not None:
        run = run._replace(active_at=max(run.active_at, answer.active_at))
    return key, run


async def _newest_ended(api: Api, key: Key) -> Run | None:
    """By the end of the history, and the record with which that run began."""
    store = api.runtime.store
    page = await store.history(key, 2)
    for seq, record, _ in reversed(page.messages):
        if not isinstance(record, records.Message):
            turn = await store.turn(key, record.turn_id)
            first = [] if turn is None else await store.read(key, turn.seq - 1, 1, api.settings.page_bytes)
            return ended_run(seq, record, first[0].record.created_at if first else record.created_at)
    return None


# ── What was said ───────────────────────────────────────────────────────────────────────────────────────────


@described(query=shapes.Which, answer=shapes.ConversationInfo, errors=OF_SESSION)
async def info(api: Api, request: Request) -> Response:
    """A conversation."""
    found, summary, _ = await there(api, request, shapes.Which, "Conversation not found")
    about, user = summary.info, summary.info.key.user
    return json_response(
        shapes.ConversationInfo(
            id=about.key.session_id,
            title=about.label or "Untitled",
            created_at=date(about.created_at),
            updated_at=date(about.updated_at),
            total_messages=summary.messages,
            agent_ids=[about.key.agent],
            is_creator=user == found.identity.user,
            creator_id=user,
        )
    )


@described(query=shapes.MessagesPage, answer=list[shapes.ConversationMessage], errors=OF_SESSION)
async def messages(api: Api, request: Request) -> Response:
    """A page of a conversation, oldest message first."""
    found, _, query = await there(api, request, shapes.MessagesPage, "Conversation not found")
    key = found.key
    page = await _counted(api, key, query.start, query.limit)
    return json_response([shapes.shown(said.record, said.tools, key.session_id, key.user) for said in page])


async def _counted(api: Api, key: Key, start: int, limit: int) -> list[Said]:
    """Messages by their number. A store knows places: they are counted from the nearer end, in the log as it
    was at one moment."""
    total, as_of = await _moment(api, key)
    stop = min(start + limit, total)
    backwards = total - stop < start
    direction: Direction = "before" if backwards else "after"
    skip, wanted = (total - stop if backwards else start), max(0, stop - start)
    counted: list[Said] = []
    position = None
    while len(counted) < wanted:
        page = await api.runtime.store.history(
            key, min(_PAGE, skip + wanted), position=position, direction=direction, as_of=as_of
        )
        ordered = page.messages[::-1] if backwards else page.messages
        counted += ordered[skip:]
        skip = max(0, skip - len(ordered))
        if not page.has_more:
            break
        position = ordered[-1].seq
    return counted[:wanted][::-1] if backwards else counted[:wanted]


async def _moment(api: Api, key: Key) -> tuple[int, int]:
    """How many messages a conversation has, and the number of its last record then."""
    store = api.runtime.store
    while True:
        loaded, summary = await store.load(key), await store.summary(key)
        if loaded.info.updated_at == summary.info.updated_at:
            return summary.messages, loaded.head.seq
