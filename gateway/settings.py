"""One frozen Settings: what can be set, what it means, what is allowed, and what it is if nobody says.

Every field has an environment variable (`GATEWAY_` and its name in capitals); what people set by hand has a
flag too. A flag wins over the environment, the environment over the default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Struct

from .addresses import is_network
from .options import About, BadSetting, options_of

__all__ = ["DEFAULT", "OPTIONS", "BadSetting", "Settings", "load"]

DEFAULT = "default"
"""The origin of a value that nobody gave."""


def _bytes(what: str, low: int = 1, high: int = 1 << 30) -> About:
    return About(what, "bytes", low, high)


def _chars(what: str, low: int = 1, high: int = 1 << 30) -> About:
    return About(what, "characters", low, high)


def _count(what: str, low: int = 1, high: int = 1_000_000) -> About:
    return About(what, "", low, high)


def _seconds(what: str, low: float = 0.001, high: float = 86_400) -> About:
    return About(what, "seconds", low, high)


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//…@", url)


def _without_values(spec: str) -> str:
    target, question_mark, query = spec.partition("?")
    return target + question_mark + re.sub(r"=[^&]*", "=…", query)


def _without_secrets(url: str) -> str:
    return _without_values(_without_password(url))


def _unseen(_: str) -> str:
    return "…"


def _without_key(named: str) -> str:
    name, equals, _ = named.partition("=")
    return f"{name}=…" if equals else "…"


_STORE = "Where conversations are kept: sqlite:///FILE, sqlite:///FILE?synchronous=full or memory:."
_AGENTS = "An agent as NAME=SPEC, the first being the default one; without any eliza, echo and metronome."
_HOSTS = "A name that Host may have beside this machine's own: that of a proxy or tunnel. * is any."
_ORIGINS = "The origin of web pages that may use this gateway beside its own: https://chat.example. * is any."
_PROXIES = "The address or network of a proxy that is believed who called; unix is who comes by the socket."
_LOG_EXCEPTION_TEXT = (
    "Log exceptions with their texts and tracebacks, not only their types and places: "
    "the texts may hold what users wrote."
)
_JWT_SECRET = "The secret that user tokens are signed with (HS256, HS384, HS512); at least 32 bytes."
_JWT_PUBLIC_KEY = "The public key or certificate of who signs user tokens: PEM, or the path of a PEM file."
_JWKS_URL = "Where who signs user tokens publishes the keys."
_JWT_AUDIENCE = "The audience that user tokens must name; without it, any or none."
_JWT_ISSUER = "The issuer that user tokens must name; without it, any or none."
_API_KEYS = "A key as NAME=KEY of a service that may act for any user; several are separated by spaces."
_AUTHENTICATOR = "An own authenticator as MODULE:ATTRIBUTE, instead of these keys and tokens."
_GUESTS = "Let visitors without an account in, each as a user of their own, with a token from POST /guest."
_ANONYMOUS = "Let everybody in who can reach the address, where nothing says who may."
_CONSOLE_CONTENTS = "Show operators at /console what is said in sessions, not only that something is."
_QUERY_TOKEN = "Take tokens from ?token= of sockets and event streams, too: proxies may log them."
_KEEP_SHARED = "How long what a user's sessions with an agent share is kept after the last of them."
_FIRST_OUTPUT = "Until an agent says its first word, unless it has an option first_output."
_SILENCE = "How long an agent may be silent after that, unless it has an option silence."
_ASKING = "Messages that wait to be taken by one session, and as many other requests beside them."
_ROOT_PATH = "The path prefix that a reverse proxy puts before ours: /gateway."


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set. Making one with a value that is not allowed raises `BadSetting`."""

    # ── Where it listens, and what it is made of ──

    host: Annotated[str, About("The address to listen on.", flag="--host")] = "127.0.0.1"
    port: Annotated[int, About("The port to listen on; 0 is a free one.", "", 0, 65_535, "--port")] = 8080
    uds: Annotated[str | None, About("A Unix socket to listen on instead.", flag="--uds")] = None
    ssl_certfile: Annotated[str | None, About("HTTPS: the certificate.", flag="--ssl-certfile")] = None
    ssl_keyfile: Annotated[str | None, About("HTTPS: its key, if apart.", flag="--ssl-keyfile")] = None
    root_path: Annotated[
        str, About(_ROOT_PATH, flag="--root-path", pattern=r"(/[^/?#\s]+)*", words="/this or /this/that")
    ] = ""
    store: Annotated[str, About(_STORE, flag="--store", shown=_without_password)] = "sqlite:///gateway.db"
    agents: Annotated[tuple[str, ...], About(_AGENTS, flag="--agent", shown=_without_values)] = ()
    allow_hosts: Annotated[tuple[str, ...], About(_HOSTS, flag="--allow-host")] = ()
    allow_origins: Annotated[
        tuple[str, ...],
        About(
            _ORIGINS,
            flag="--allow-origin",
            pattern=r"\*|[A-Za-z][A-Za-z0-9+.-]*://[^*/?#@\s]+",
            words="an origin like https://chat.example or http://localhost:3000, or *",
        ),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        About(
            _PROXIES,
            flag="--trusted-proxy",
            pattern=r"unix|[0-9a-fA-F:.]+(/[0-9]{1,3})?",
            words="an address like 10.0.0.7, a network like 10.0.0.0/8 or fd00::/8, or unix",
        ),
    ] = ()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        About("What is logged: this and everything worse.", flag="--log-level"),
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"], About("How it is logged: to be read, or as JSON.", flag="--log-format")
    ] = "text"
    log_exception_text: Annotated[bool, About(_LOG_EXCEPTION_TEXT, flag="--log-exception-text")] = False

    # ── Who may come in ──

    jwt_secret: Annotated[str | None, About(_JWT_SECRET, shown=_unseen)] = None
    jwt_public_key: Annotated[str | None, About(_JWT_PUBLIC_KEY, shown=_unseen)] = None
    jwks_url: Annotated[str | None, About(_JWKS_URL, shown=_without_secrets)] = None
    jwt_audience: Annotated[str | None, About(_JWT_AUDIENCE)] = None
    jwt_issuer: Annotated[str | None, About(_JWT_ISSUER)] = None
    api_keys: Annotated[
        tuple[str, ...],
        About(_API_KEYS, pattern=r"[A-Za-z0-9._-]+=\S+", words="NAME=KEY", shown=_without_key),
    ] = ()
    authenticator: Annotated[str | None, About(_AUTHENTICATOR, flag="--authenticator")] = None
    allow_anonymous: Annotated[bool, About(_ANONYMOUS, flag="--allow-anonymous")] = False
    guests: Annotated[bool, About(_GUESTS, flag="--guests")] = False
    guest_days: Annotated[
        float,
        About("How long a guest's token holds; it can be renewed.", "days", 0.001, 3_650, "--guest-days"),
    ] = 30.0
    console_contents: Annotated[bool, About(_CONSOLE_CONTENTS, flag="--console-contents")] = False
    allow_query_token: Annotated[bool, About(_QUERY_TOKEN, flag="--allow-query-token")] = False

    # ── How long records are kept ──

    keep_days: Annotated[
        float | None, About("How old records may become; without it, any age.", "days", 0.01, 36_500)
    ] = None
    keep_records: Annotated[
        int | None, About("How many records a session keeps; without it, all.", "", 1, 1_000_000_000)
    ] = None
    keep_shared_days: Annotated[float, About(_KEEP_SHARED, "days", 0.01, 36_500)] = 90.0

    # ── What a client may send ──

    max_frame_bytes: Annotated[int, _bytes("A client's frame; a larger one is refused.", 64)] = 256 << 10
    max_message_bytes: Annotated[int, _bytes("A larger one closes the line.", 64)] = 1 << 20
    max_hello_bytes: Annotated[int, _bytes("What a line may send before it said who it is.", 64)] = 8 << 10
    max_content_chars: Annotated[int, _chars("The content of a message.")] = 65_536
    max_metadata_bytes: Annotated[int, _bytes("The metadata of a message.", 2)] = 10 << 10
    max_metadata_depth: Annotated[int, _count("How deep metadata may be nested.", 1, 100)] = 16
    max_body_bytes: Annotated[int, _bytes("The body of an HTTP request.", 64)] = 2 << 20
    max_import_bytes: Annotated[int, _bytes("That of one that may bring a history.", 64)] = 16 << 20

    # ── What an agent may answer ──

    max_text_chars: Annotated[int, _chars("The text of a turn; its reasoning, too.")] = 1 << 20
    max_tool_bytes: Annotated[int, _bytes("A tool's input or content.")] = 256 << 10
    max_tool_depth: Annotated[
        int, _count("How deep these may be nested, and what agents keep as state or metadata.", 1, 100)
    ] = 100
    max_turn_tool_bytes: Annotated[int, _bytes("What the tools of one turn exchange.")] = 4 << 20
    max_delta_chars: Annotated[int, _chars("One text_delta; a longer text is cut.")] = 16 << 10
    max_history_bytes: Annotated[int, _bytes("The messages in attached.")] = 1 << 20
    max_history: Annotated[int, _count("How many messages an attach may ask for.", 0, 10_000)] = 200
    max_agent_history_bytes: Annotated[int, _bytes("The history that an agent is given.")] = 4 << 20
    max_reply_bytes: Annotated[int, _bytes("The largest frame that clients are told to expect.")] = 32 << 20

    # ── How much may be open ──

    max_sessions: Annotated[int, _count("Sessions that one connection follows.")] = 1_000
    max_waiting: Annotated[int, _count("Turns of one session that wait.", 0)] = 16
    max_asking: Annotated[int, _count(_ASKING)] = 1_024
    max_errands: Annotated[int, _count("Requests of one connection that wait for the store.")] = 64
    max_control_bytes: Annotated[int, _bytes("Unsent answers; beyond it a line is not read.")] = 64 << 10

    # ── How much one caller may ──

    max_connections_per_user: Annotated[int, _count("Sockets and streams that a user has open.")] = 200
    max_connections_per_address: Annotated[
        int, _count("Sockets, streams and requests of one address at a time.")
    ] = 1_000
    max_sessions_per_user: Annotated[
        int | None, About("Sessions that a user has; without it, any number.", "", 1, 1_000_000_000)
    ] = None
    max_messages_per_minute: Annotated[int, _count("Messages of one user.")] = 3_000
    max_guests_per_minute: Annotated[int, _count("Guests' tokens for one address.")] = 30
    max_guest_connections: Annotated[int, _count("Sockets and streams that a guest has open.")] = 20
    max_guest_sessions: Annotated[int, _count("Sessions that a guest has.")] = 100
    max_guest_messages_per_minute: Annotated[int, _count("Messages of one guest.")] = 60
    max_requests_per_second: Annotated[int, _count("Requests and upgrades of one address.")] = 200
    max_frames_per_second: Annotated[int, _count("Frames of one connection.")] = 5_000
    max_bytes_per_second: Annotated[int, _bytes("Frames of one connection, together.", 64)] = 16 << 20

    # ── How text travels ──

    batch_bytes: Annotated[int, _bytes("What a connection sends at once.")] = 64 << 10
    quantum_bytes: Annotated[int, _bytes("What one session sends before the next one may.")] = 4 << 10
    tail_bytes: Annotated[int, _bytes("The newest records that a live session keeps at hand.")] = 64 << 10
    page_bytes: Annotated[int, _bytes("What is read from the store at once for who lags.")] = 256 << 10
    max_ahead_bytes: Annotated[
        int, _bytes("With more than this read from the store and unsent, a connection waits for its client.")
    ] = 256 << 10
    save_interval: Annotated[float, _seconds("How often the text of running turns is saved.")] = 0.2
    save_bytes: Annotated[int, _bytes("So much unsaved text of a turn is saved at once.")] = 16 << 10
    max_unsaved_bytes: Annotated[int, _bytes("With so much of it a turn waits for the store.")] = 256 << 10

    # ── How long things may take ──

    first_output_timeout: Annotated[float, _seconds(_FIRST_OUTPUT)] = 60.0
    silence_timeout: Annotated[float, _seconds(_SILENCE)] = 60.0
    turn_timeout: Annotated[float, _seconds("A whole turn, unless the agent has an option turn.")] = 600.0
    cleanup_timeout: Annotated[float, _seconds("How long a turn waits for the last one's clean-up.", 0)] = 5.0
    store_timeout: Annotated[
        float, _seconds("How long a request waits for a store that does not answer.")
    ] = 10.0
    hello_timeout: Annotated[float, _seconds("Until a line has said who it is.")] = 5.0
    heartbeat: Annotated[float, _seconds("The gateway says something at least this often.")] = 20.0
    stuck_timeout: Annotated[float, _seconds("How long a client may take nothing.")] = 30.0
    typing_timeout: Annotated[float, _seconds("How long a user counts as typing.")] = 10.0
    due_interval: Annotated[float, _seconds("How often to look for turns that nobody runs.")] = 5.0
    trim_interval: Annotated[float, _seconds("How often to let go of records kept no longer.")] = 600.0
    adopt_timeout: Annotated[
        float, _seconds("How long a guest that becomes a user waits for its turns.", 0)
    ] = 20.0
    drain_timeout: Annotated[float, _seconds("How long turns may go on after SIGTERM.", 0)] = 10.0
    reconnect_after: Annotated[float, _seconds("When clients of a stopped gateway may come back.", 0)] = 1.0

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            option.check(getattr(self, name), name)
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise BadSetting("ssl_keyfile is given without ssl_certfile; allowed is both, or the latter.")
        if self.max_frame_bytes > self.max_message_bytes:
            most = f"at most max_message_bytes, which is {self.max_message_bytes:,}"
            raise BadSetting(f"max_frame_bytes is {self.max_frame_bytes:,}; allowed is {most}.")
        if self.max_frame_bytes > self.max_bytes_per_second:
            most = f"at most max_bytes_per_second, which is {self.max_bytes_per_second:,}"
            raise BadSetting(f"max_frame_bytes is {self.max_frame_bytes:,}; allowed is {most}.")
        for proxy in self.trusted_proxies:
            if not is_network(proxy):
                raise BadSetting(
                    f"trusted_proxies is {proxy!r}; allowed is {OPTIONS['trusted_proxies'].allowed}."
                )

    @property
    def has_keys(self) -> bool:
        """Do they name any key that callers could be told by?"""
        return any((self.jwt_secret, self.jwt_public_key, self.jwks_url, self.api_keys))


OPTIONS = options_of(Settings)
"""Every field of `Settings` by its name, in order."""


def load(
    flags: Mapping[str, str | tuple[str, ...] | bool | None], environ: Mapping[str, str]
) -> tuple[Settings, dict[str, str]]:
    """The settings that these flags (by field name; None, False or empty: not given) and this environment
    make, and where each came from: its flag, its variable, or `DEFAULT`. An empty variable counts as not
    given. Raises `BadSetting`."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, option in OPTIONS.items():
        if flags.get(name):
            given, origins[name] = flags[name], option.about.flag or name
        else:
            given = environ.get(option.variable)
            origins[name] = option.variable if given else DEFAULT
        if given:
            values[name] = option.read(given, origins[name])
    return Settings(**values), origins
