"""What every endpoint works with: who calls, and the few things that are asked of sessions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection

from protocol import frames, lifetime
from protocol.errors import Refused
from protocol.ids import check_agent_name
from protocol.lifetime import Tend, is_over
from protocol.scopes import merged
from protocol.session import Accepted, Cancel, Command, Send

from .auth import Identity, authenticate, credentials, identify
from .briefing import shared_state
from .interfaces import Authenticator, Info, Key, NoSession, Place, Summary
from .knock import Knock
from .opening import CREATE, expired
from .supervisor import Supervisor

if TYPE_CHECKING:
    from .guests import Guests  # what reads tokens takes 0.1 s and 10 MB: it is loaded where it is used

__all__ = ["Api"]

_PAGE = 1000
"""Sessions read at once where most may have to be left out."""


class Api:
    """What every endpoint works with: the sessions, and who may use them."""

    def __init__(
        self, supervisor: Supervisor, authenticator: Authenticator | None, guests: Guests | None = None
    ) -> None:
        self.supervisor = supervisor
        self.guests = guests
        """Who lets guests in; None: nobody does."""
        self.authenticator = authenticator
        self.runtime = supervisor.runtime
        self.settings = supervisor.runtime.settings
        self.knock = Knock(self.settings, authenticated=authenticator is not None)

    def token(
        self, headers: Mapping[str, str], query: Mapping[str, str], *, of_line: bool = False
    ) -> str | None:
        """What is to prove who calls. Of what opens a line (an upgrade, an event stream) that may be in the
        query, where it is allowed: browsers let nobody set the headers of these."""
        found = credentials(headers)
        if found is None and of_line and self.settings.allow_query_token:
            found = query.get("token") or None
        return found

    async def identity(
        self,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        user: str | None = None,
        *,
        of_line: bool = False,
    ) -> Identity:
        """Who makes this request, and for which user. Raises `Refused`."""
        token = self.token(headers, query, of_line=of_line)
        caller = await authenticate(self.authenticator, token, headers)
        named = headers.get("x-user-id") or query.get("user_id") if user is None else user
        return identify(caller, named)

    async def caller(
        self, request: HTTPConnection, user: str | None = None, *, of_line: bool = False
    ) -> Identity:
        """`identity`, of a Starlette request; `user` is whom its path or its body names. Raises `Refused`."""
        return await self.identity(request.headers, request.query_params, user, of_line=of_line)

    def agent(self, name: str, identity: Identity | None = None) -> str:
        """`name`, if there is an agent of that name and the caller may use it. Raises `Refused`."""
        allowed = identity is None or identity.may_use(name)
        if check_agent_name(name) not in self.runtime.agents or not allowed:
            raise Refused("agent_not_found", f"There is no agent {name!r}.")
        return name

    # ── What the caller may see ──────────────────────────────────────────────────────────────────────────

    async def active(self, identity: Identity, agent: str) -> Key | None:
        """The caller's active session with that agent, if there is one that it may see."""
        key = await self.runtime.store.active(agent, identity.user)
        return key if key is not None and identity.may_touch(key) else None

    async def by_label(self, identity: Identity, agent: str, label: str) -> Key | None:
        """The newest session of that name among those that the caller may see."""
        if identity.sessions is None:
            return await self.runtime.store.by_label(agent, identity.user, label)
        keys = [Key(agent, identity.user, session_id) for session_id in identity.sessions]
        infos = [info for key in keys if (info := await self._info(key)) is not None and info.label == label]
        return max(infos, key=lambda info: (info.created_at, info.key)).key if infos else None

    async def _info(self, key: Key) -> Info | None:
        try:
            return (await self.runtime.store.summary(key)).info
        except NoSession:
            return None

    async def sessions(
        self, identity: Identity, agent: str | None, limit: int, before: Place | None = None
    ) -> list[Summary]:
        """The sessions of the caller's user (and that agent) that it may see, as `Store.sessions` lists
        them."""

        async def read(limit: int, place: Place | None) -> list[Summary]:
            return await self.runtime.store.sessions(agent, identity.user, limit, place)

        return await _seen(identity, read, lambda info: info.created_at, limit, before)

    async def by_update(
        self, identity: Identity, agent: str, limit: int, after: Place | None = None
    ) -> list[Summary]:
        """The sessions of the caller's user with that agent that it may see, as `Store.by_update` lists
        them."""

        async def read(limit: int, place: Place | None) -> list[Summary]:
            return await self.runtime.store.by_update(agent, identity.user, limit, place)

        return await _seen(identity, read, lambda info: info.updated_at, limit, after)

    # ── What is asked of sessions ────────────────────────────────────────────────────────────────────────

    async def summary(self, key: Key) -> Summary:
        """What a list would show of that session. One whose time is over ends now, if no turn keeps it.
        Raises `Refused` with `session_expired`, and `NoSession` for what never was or was deleted."""
        summary = await self.runtime.store.summary(key)
        life = summary.info.life
        if life is not None and is_over(life, self.runtime.now()):
            await self.ask(key, Tend())
            raise expired(life.expires_at)
        return summary

    async def state(self, info: Info) -> dict[str, Any]:
        """The session's state, with what is shared under its prefixes."""
        return merged(info.state, *await shared_state(self.runtime.store, info.key))

    async def ask(self, key: Key, command: Command | lifetime.Command) -> Accepted:
        """Ask that of a session that is there. Raises `Refused`."""
        async with self.supervisor.opened(key) as session:
            return await session.asked(command)

    async def send(
        self,
        key: Key,
        message: frames.Send,
        request_id: str | None,
        *,
        parts: list[Any] | None = None,
        state_delta: dict[str, Any] | None = None,
    ) -> frames.Ok:
        """Leave a message with its session: the turn runs, whatever becomes of the caller. `parts` are what
        came beside its text, `state_delta` is what it sets in the session's state. Raises `Refused`."""
        if self.runtime.draining:
            raise Refused("draining", "The gateway stops; send it again to the next one.")
        self.supervisor.usage.message(key.user)
        command = Send(
            turn_id=message.turn_id or self.runtime.new_id(),
            content=message.content,
            on_busy=message.on_busy or "enqueue",
            replaces=message.replaces,
            metadata=message.metadata,
            parts=parts,
            state_delta=state_delta,
        )
        async with self.supervisor.opened(key, CREATE[message.create]) as session:
            accepted = await session.asked(command, request_id)
        return frames.Ok(
            message.ref, key.session_id, accepted.turn_id, accepted.status, duplicate=accepted.duplicate
        )

    async def cancel(self, key: Key, turn_id: str | None, ref: str | None = None) -> frames.Ok:
        """Stop that turn, or the one that runs; `turn_id` of the answer is None if none did. Raises
        `Refused`."""
        return frames.Ok(ref, key.session_id, (await self.ask(key, Cancel(turn_id))).turn_id)


async def _seen(
    identity: Identity,
    read: Callable[[int, Place | None], Awaitable[list[Summary]]],
    time_of: Callable[[Info], float],
    limit: int,
    place: Place | None,
) -> list[Summary]:
    """The first `limit` sessions from `place` on that the caller may see: what it may not see makes no page
    shorter. `time_of` is what the list is sorted by."""
    if identity.agents is None and identity.sessions is None:
        return await read(limit, place)
    seen: list[Summary] = []
    while len(seen) < limit:
        page = await read(_PAGE, place)
        seen += [summary for summary in page if identity.may_touch(summary.info.key)]
        if len(page) < _PAGE:
            break
        place = Place(time_of(page[-1].info), *page[-1].info.key)
    return seen[:limit]
