"""The contracts of everything that plugs in, on one page: Agent, Store, Authenticator, Transport.

Who implements one finds here what is atomic, what is ordered, what cancelling means, and the bug that follows
if it is ignored. Nothing here does anything.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from msgspec import Struct

from protocol import records
from protocol.lifetime import Life
from protocol.records import Entry, Message, Record, Terminal
from protocol.session import KnownTurn as KnownTurn

# ── Agents ──────────────────────────────────────────────────────────────────────────────────────────────────


class Thought(str):
    """A piece of reasoning: shown live as `thought_delta`, kept in `response.thought`, not part of the
    text."""

    __slots__ = ()


class ToolCall(Struct, frozen=True):
    """The agent calls a tool. Yield it as `ToolCall(id, name, input)`; `input` is any JSON value."""

    tool_call_id: str
    name: str
    input: Any = None


class ToolResult(Struct, frozen=True):
    """A tool answered. Yield it as `ToolResult(id, content)`; `content` is any JSON value."""

    tool_call_id: str
    content: Any = None
    is_error: bool = False


class Usage(Struct, frozen=True):
    """Tokens used. Yielded more than once in a turn, the numbers add up. They are `int`s from 0 on: a float
    is refused even if it is whole, so that a division by mistake shows at once."""

    input_tokens: int = 0
    output_tokens: int = 0


class Note(Struct, frozen=True):
    """Metadata for the `response`, a JSON object: later ones win, key by key."""

    metadata: dict[str, Any]


class Alive(Struct, frozen=True):
    """The agent is at work and has nothing to show yet. It is neither stored nor shown; it only restarts the
    time that an agent may be silent for. The limit of the whole turn stays."""


class Limits(Struct, frozen=True):
    """How long an agent may take, in seconds; None: as the settings say."""

    first_output: float | None = None
    """From the start of a turn, or the last sign of life, to the first output."""
    silence: float | None = None
    """From one output, or sign of life, to the next."""
    turn: float | None = None
    """For a whole turn, whatever it says meanwhile."""


class AgentError(Exception):
    """Raised by an agent that wants its user to know why: `content` is shown, unlike any other exception's
    text.

    `code` is one of the table's agent codes: `agent_failed`, `agent_unavailable`, `agent_timeout`,
    `agent_stalled`, `upstream_truncated`, `answer_too_large`.
    """

    def __init__(
        self,
        content: str,
        code: str = "agent_failed",
        *,
        retryable: bool | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(content)
        self.content = content
        self.code = code
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms


class Past(Struct, frozen=True, omit_defaults=True):
    """One earlier message of the conversation, as an agent sees it."""

    role: Literal["user", "agent"]
    content: str
    turn_id: str
    created_at: float
    status: str | None = None
    """Of an agent's message: completed, cancelled or failed."""
    tools: Sequence[records.ToolCall | records.ToolResult] = ()
    """Of an agent's message: the tools it used, in order."""
    metadata: dict[str, Any] | None = None


class SessionRef(Struct, frozen=True):
    """Whose conversation it is."""

    agent: str
    user: str
    session_id: str


class Turn(Struct):
    """What an agent is given: one user message, and where it was said."""

    turn_id: str
    content: str
    session: SessionRef
    metadata: Mapping[str, Any] = {}
    parts: Sequence[Any] = ()
    """What the client sent beside the text, as it came (ADK parts)."""
    history: Sequence[Past] = ()
    """The messages before this one, oldest first, replaced ones left out; at most the agent's `history`."""
    state: dict[str, Any] = {}
    """Kept with the session as JSON; if the turn replaces others, as it was before those. Changes made during
    the turn are saved with its `completed` response, and only then: a turn that fails or is cancelled leaves
    the state as it was. Keys that begin with `user:` are shared by the user's sessions with this agent, with
    `app:` by everybody's; `temp:` is never kept."""
    request_id: str | None = None
    """The `X-Request-Id` of the request that brought the message, to pass upstream."""
    replaces: str | None = None
    """The earlier turn that this one is run instead of: a retry, a second answer, an edited message. That
    turn and all after it are not in `history`, and what they changed in `state` is undone."""


Piece: TypeAlias = str | Thought | ToolCall | ToolResult | Usage | Note | Alive


class Agent(Protocol):
    """What answers: call it with a turn, iterate what it yields.

    - Text is a plain `str`; an empty one is nothing. `Thought`, `ToolCall`, `ToolResult`, `Usage` beside it.
      Each piece is checked, and copied, when it is yielded (`pieces.py` has the rules): anything else ends
      the turn as `agent_failed`, and a line in the log names the piece and its field.
    - An agent that is silent for too long is stopped: yield `Alive()` now and then while there is nothing to
      say. One that needs other limits than the settings' has an attribute `limits: Limits`.
    - Returning ends the turn as completed, raising as failed: `AgentError` in its own words, else
      `agent_failed`, and only the log says with which exception, and where.
    - Cancelling arrives once, where the agent stands: `CancelledError` at its `await`, `GeneratorExit` at its
      `yield`. What it does in `finally` may await; the next turn of the session waits for it at most 5 s.
    - The generator is closed where the turn ends, never left to the garbage collector.
    - Turns of different sessions run at the same time on one object: keep state in `turn.state`, not on
      `self`.
    - Each turn has context variables of its own: what was set when the gateway started is there, what another
      turn or a request set is not.
    - While a turn waits for the store, its agent is not called silent.
    """

    history: int
    """How many past messages `turn.history` should hold; 0 spares a read of the store per turn."""

    def __call__(self, turn: Turn) -> AsyncGenerator[Piece, None]: ...

    async def check(self) -> str:
        """A sentence on whether it could answer now, for `gateway check`. Raises `AgentError` if it could
        not."""
        ...

    async def aclose(self) -> None:
        """Let go of connections and threads. Called once, after the last turn."""
        ...


AgentFunction: TypeAlias = Callable[[Turn], AsyncIterator[Piece] | Iterator[Piece]]
"""What a user writes; `agents.load` makes an `Agent` of it. A sync generator runs in worker threads."""


# ── The store ───────────────────────────────────────────────────────────────────────────────────────────────


class Key(NamedTuple):
    """Which session."""

    agent: str
    user: str
    session_id: str


class Head(Struct, frozen=True, gc=False):
    """Where a log ends: the only thing an append may be decided on.

    Numbers alone repeat (after a lost answer, after delete and create, after a failover): hence the tag.
    """

    epoch: str
    """The incarnation: new when a session is made again, and when the store may have forgotten something."""
    seq: int
    """Of the last record; 0 in an empty log."""
    tag: str
    """Random, new with every append, chosen by the writer."""


NOTHING: dict[str, Any] = {}
"""The state and the metadata of most sessions: one dict for all of them, never changed."""


Scopes: TypeAlias = Mapping[str, Mapping[str, Any]]
"""State by the name of what shares it, to be merged into what is kept."""
NO_SCOPES: Scopes = {}
NO_MOVES: Mapping[str, str] = {}


class Info(Struct, frozen=True, omit_defaults=True, gc=False):
    """What is known of a session beside its log. Times are Unix seconds."""

    key: Key
    created_at: float
    updated_at: float
    """Moved by every append, to its last record's `created_at`, and by `label`."""
    label: str | None = None
    state: dict[str, Any] = {}
    """Its own part of it: what is shared is kept under the name of its scope."""
    metadata: dict[str, Any] = {}
    life: Life | None = None
    """None: it lives for ever."""


class Loaded(NamedTuple):
    """What a session's actor needs to wake up."""

    info: Info
    head: Head
    entries: list[Entry]
    """The records of turns that are not over, in log order."""
    text: str
    """What was saved of the running turn's text; empty if none runs."""


class Said(NamedTuple):
    """One message of a conversation's history: a user's, or the end of a turn with the tools it used."""

    seq: int
    record: Message | Terminal
    tools: list[records.ToolCall | records.ToolResult]


class Page(NamedTuple):
    """A page of history, oldest first."""

    messages: list[Said]
    has_more: bool
    """Is there more in the direction that was read?"""


class Segment(NamedTuple):
    """A piece of a running turn's text: characters from `offset` on."""

    key: Key
    turn_id: str
    offset: int
    text: str


class Saved(NamedTuple):
    """What `save_text` found of one segment's session."""

    head: Head | None
    """None: no such session any more."""
    running: bool
    """Does the log know that turn as running? If not, its runner must stop and write nothing."""


class Summary(NamedTuple):
    """A session in a list."""

    info: Info
    messages: int
    """How many messages its history shows."""


class Place(NamedTuple):
    """Where a session stands among all: they are listed in this order, backwards. Exact, since no two
    sessions have one place."""

    created_at: float
    agent: str
    user: str
    session_id: str


class Due(NamedTuple):
    """A session that some process must look after."""

    key: Key
    orphan: str | None = None
    """The running turn whose process is gone. It names the turn, because by the time that somebody looks
    another process may have ended it and run the next one."""
    life: bool = False
    """Its life demands something: a warning, or its end. Otherwise, and if there is no orphan, a turn waits
    and none runs."""


class Census(NamedTuple):
    """How many sessions there are."""

    sessions: int
    expired: int
    """Of those: that nobody has ended yet."""
    expiring: int
    """Of those: that expire soon."""


class StoreError(Exception):
    """The root of what a store raises on purpose. Anything else is a bug."""


class Stale(StoreError):
    """The log's head is not the one given: somebody else appended. Nothing was written or deleted; read,
    decide again."""


class Duplicate(StoreError):
    """A message's `turn_id` is known already. Nothing was written."""

    def __init__(self, turn: KnownTurn) -> None:
        super().__init__(turn.turn_id)
        self.turn = turn


class SessionExists(StoreError):
    """`create` found the session there already, or an active one where there must be none. Nothing was
    written."""


class TooManySessions(StoreError):
    """`create` would give a user more sessions than it may have. Nothing was written."""


class NoSession(StoreError):
    """There is no such session. `tombstone` says how it ended, if that was within the last 24 h."""

    def __init__(self, tombstone: Literal["closed", "expired"] | None = None, ended_at: float = 0.0) -> None:
        super().__init__(tombstone or "unknown")
        self.tombstone = tombstone
        self.ended_at = ended_at


class Unavailable(StoreError):
    """The store could not be reached or did not answer: whether it wrote is unknown. Repeat with the same
    tag."""


class StoreUnusable(StoreError):
    """The store cannot be opened. The sentence says why, and what to do about it."""


class StoreInUse(StoreUnusable):
    """The store belongs to one process, and another one has it open."""


Direction: TypeAlias = Literal["before", "after"]


class Store(Protocol):
    """Where logs live. One promise carries everything: an append counts only directly after the head it was
    decided on. With it any number of processes may write to one session, and none can tear another's turn.

    Every verb may raise `Unavailable`, and does so within seconds if it gets no answer: requests of one line
    wait for one another. Cancelling a call leaves it undecided whether it wrote, never half
    done. Times are passed in (Unix seconds), so that a test owns the clock.
    """

    @property
    def durability(self) -> Literal["memory", "process", "disk", "replicated"]:
        """What an acknowledged append survives: nothing · a crash of the gateway · power loss · a lost
        machine."""

    def open(self, node: str, now: float) -> AbstractAsyncContextManager[None]:
        """Use the store as process `node`. Entering migrates and locks, or raises `StoreUnusable`; leaving
        flushes and releases.

        When a node is no longer open, the turns it ran become `orphaned`.
        """
        ...

    async def create(
        self,
        info: Info,
        tag: str,
        records: Sequence[Record] = (),
        *,
        over_tombstone: bool = False,
        activate: bool = False,
        unless_active: bool = False,
        scopes: Scopes = NO_SCOPES,
        most: int | None = None,
    ) -> Head:
        """Make a session with these first records; all or nothing. Raises `SessionExists`, `NoSession` if a
        tombstone stands and `over_tombstone` is not given, and `TooManySessions` if its user, with all
        agents together, has `most` already, however many are made at the same time. A session made again has
        a new epoch. `activate` makes it its user's active session with that agent, in the same step; with
        `unless_active` it is `SessionExists` if there is one already. Repeated
        with the same `tag` before anything was appended, it is answered with the first head. Of the records
        and `scopes` all is true that `append` says."""
        ...

    async def load(self, key: Key) -> Loaded:
        """What is needed to go on. Raises `NoSession`."""
        ...

    async def append(
        self,
        key: Key,
        head: Head,
        tag: str,
        records: Sequence[Record],
        *,
        text: tuple[int, str] | None = None,
        info: Info | None = None,
        scopes: Scopes = NO_SCOPES,
    ) -> Head:
        """Append `records`, directly after `head` or not at all; durable on return; answers the new head.

        In this order: a `turn_id` twice among its messages is a `ValueError`; no session is `NoSession`, for
        an append never makes one; a head that already carries `tag` means that an earlier try of this very
        append arrived, and is answered as that try would have been (only then: or its own messages would be
        the duplicates); a known `turn_id` among the messages is `Duplicate`; any other head than the one
        given is `Stale`.

        `text` is the running turn's text that may not be saved yet, and its offset in characters. It is
        written as a segment is: what is there already is not written twice, and nothing is where it would
        leave a gap. It comes before the records, so that no tool record ever lies beyond the saved text. A
        terminal record deletes its turn's segments. `updated_at` becomes the last record's `created_at`. Of
        `info`, if given, `state`, `metadata` and `life` replace the session's; the rest stays as the store
        has it, since what the writer knows may be older than a `label`. Each of `scopes` is merged, key by
        key, into what is kept under that name.

        The turn index follows the records: `message` waiting, `started` running, `response` and `error` over;
        `message.replaces` marks that turn and all after it, up to this message, replaced at this seq (the
        first such mark stays). Appends to different sessions share a commit.
        """
        ...

    async def save_text(self, batch: Sequence[Segment]) -> list[Saved]:
        """Write segments, in one commit; one answer per segment. A segment of a turn that is not running is
        not written. Text that is there already is not written twice, and none that would leave a gap."""
        ...

    async def read(self, key: Key, seq: int, limit: int, max_bytes: int) -> list[Entry] | None:
        """The records after `seq` in order: at most `limit`, at most `max_bytes` of JSON but at least one.
        None if the record after `seq` was trimmed. Raises `NoSession`."""
        ...

    async def text(self, key: Key) -> tuple[str | None, str]:
        """The running turn and what is saved of its text; (None, "") if none runs. Raises `NoSession`."""
        ...

    async def history(
        self,
        key: Key,
        limit: int,
        *,
        position: int | None = None,
        direction: Direction = "before",
        time: float | None = None,
        as_of: int | None = None,
        max_bytes: int = 1 << 20,
    ) -> Page:
        """The conversation as messages, oldest first, replaced turns left out: at most `limit`, and at most
        `max_bytes` of JSON but at least one. `position` is a seq, exclusive: the newest ones `before` it, or
        the oldest ones `after` it; without one, from that end of the log. `time` bounds `created_at` the same
        way. `as_of` is a seq: the view that log had then, later records and later replacing left out."""
        ...

    async def turn(self, key: Key, turn_id: str) -> KnownTurn | None:
        """What is known of that turn. Raises `NoSession`."""
        ...

    async def find(
        self, session_id: str, user: str | None, agents: Collection[str] | None = None
    ) -> list[Key]:
        """The sessions with that id of that user, or of all users (None), and with these agents, or with all
        (None); at most 2 are needed. Only where there is none, the tombstones of such."""
        ...

    async def sessions(
        self, agent: str | None, user: str | None, limit: int, before: Place | None = None
    ) -> list[Summary]:
        """Sessions of that agent and that user (None: of all), newest first, which is from the greatest
        `Place` down; `before` is the place to go on from, exclusive."""
        ...

    async def by_update(self, agent: str, user: str, limit: int, after: Place | None = None) -> list[Summary]:
        """Sessions of that user with that agent, longest unchanged first: by `updated_at`, then id. `after`
        is the place to go on from, exclusive; its `created_at` is an `updated_at` here."""
        ...

    async def scope(self, name: str) -> dict[str, Any]:
        """The state kept under that name; empty if there is none."""
        ...

    async def census(self, now: float) -> Census:
        """How many sessions there are, and how many of them near or past their end."""
        ...

    async def summary(self, key: Key) -> Summary:
        """One session as a list shows it. Raises `NoSession`."""
        ...

    async def active(self, agent: str, user: str) -> Key | None:
        """The user's active session with that agent."""
        ...

    async def activate(self, key: Key) -> None:
        """Make it the active one. Raises `NoSession`."""
        ...

    async def label(self, key: Key, label: str | None, now: float) -> None:
        """Name a session, or take the name away; `now` becomes its `updated_at`. Raises `NoSession`."""
        ...

    async def by_label(self, agent: str, user: str, label: str) -> Key | None:
        """The newest session of that name."""
        ...

    async def delete(
        self,
        key: Key,
        now: float,
        status: Literal["closed", "expired"] = "closed",
        head: Head | None = None,
        *,
        ended_at: float | None = None,
    ) -> None:
        """Log, text and indexes go; a tombstone stays for 24 h from `now` on, and tells `ended_at` (None:
        `now`), which may be long ago if no process was there to see it. Raises `NoSession`. With `head` it is
        done directly after that one or not at all, like an append: any other is `Stale`, or a session that
        another process has renewed would expire all the same."""
        ...

    async def move(
        self, key: Key, head: Head, to: Key, now: float, scopes: Mapping[str, str] = NO_MOVES
    ) -> Head:
        """Give a session to another user: log, text, label, state and life are found under
        `to` from now on. All of it or nothing, and directly after `head` or not at all, like an append: or
        what another process has written would be told to nobody. Raises `NoSession`, `Stale` for any other
        head, and `SessionExists` if there is one under `to`.

        It has a new epoch. As after `delete` a tombstone stays at `key` (closed, `now`); one at `to` goes. If
        it was active it is so for its new user, unless that one has an active session with the agent already.
        Each of `scopes` is a name of shared state and one that takes it over: keys that are there already
        stay as they are, and nothing is left under the first name.
        """
        ...

    async def adopt(self, guest: str, user: str, until: float) -> str:
        """Note that this guest has become that user, and answer which user it has become: whoever was noted
        first stays, however many are noted at the same time. It may be forgotten after `until`."""
        ...

    async def adopter(self, guest: str) -> str | None:
        """Which user that guest has become; None: it is still a guest."""
        ...

    async def due(self, now: float, node: str) -> list[Due]:
        """Sessions to look after: with a turn whose process is gone, with a turn that waits and none that
        runs, and those whose life demands something by now. Never a scan."""
        ...

    async def trim(self, now: float) -> int:
        """Let go of records older than what is kept, of old tombstones and adoptions, and of state that a
        user's sessions with an agent shared (under the name `scope_of_user`) and that the user has had no
        session with the agent for so long as such state is kept; answers how many records went. Only whole
        turns that are over go, oldest first."""
        ...

    def watch(self, key: Key, changed: Callable[[Head | None], None]) -> None:
        """Call `changed` with the session's head (None: deleted) after somebody appended or saved text: a
        plain call, in the loop; the watcher tells by the head whether it was its own doing. A store that one
        process owns never calls it."""
        ...

    def unwatch(self, key: Key, changed: Callable[[Head | None], None]) -> None:
        """Call it no more. Harmless if it was not watching."""
        ...


# ── Who is calling, and the line they call on ───────────────────────────────────────────────────────────────


class Caller(Struct, frozen=True):
    """Who is at the other end."""

    user: str | None = None
    """The user its credentials fix; None: it has none of its own, and may name one."""
    expires_at: float | None = None
    """When its token ends, Unix seconds."""
    service: bool = False
    """It may do what operators do: read the numbers, list everybody's sessions."""
    agents: frozenset[str] | None = None
    sessions: frozenset[str] | None = None
    """What its token narrows it to; None: all that is its user's."""


Authenticator: TypeAlias = Callable[[str | None, Mapping[str, str]], Awaitable[Caller]]
"""`(token, headers) → Caller`; raises `Refused("unauthenticated" | "token_expired" | "forbidden", …)`, or
`Refused("overloaded", …)` if it cannot tell now. `headers` have lower-case names. Called at connect, at
`hello`, and for every HTTP request. Like an agent it may have a `check`, which `gateway check` asks, and an
`aclose`, called once, at the end."""


class Transport(Protocol):
    """One client's line, seen from the connection that writes to it."""

    batch: bool
    """The client takes several frames in one message."""

    def send_nowait(self, frames: list[bytes]) -> bool:
        """Send these frames, in order, if that can be done without waiting; False: nothing was sent, and
        `send` has to. A line that always has to wait answers False."""
        ...

    async def send(self, frames: list[bytes]) -> None:
        """Send these frames, in order; return when the line can take more. The one place where a writer
        waits. Raises `ConnectionError` if the peer is gone, whatever the sign was."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """End the line. Never raises: a peer that is gone is closed."""
        ...
