"""One frozen Settings: what can be set, what it means, what is allowed, and what it is if nobody says.

Every field has an environment variable (`GATEWAY_` and its name in capitals); what people set by hand has a
flag too. A flag wins over the environment, the environment over the default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from msgspec import Struct
from msgspec.structs import FieldInfo, fields

__all__ = ["DEFAULT", "SETTINGS", "BadSetting", "Setting", "Settings", "load"]

DEFAULT = "default"
"""The origin of a value that nobody gave."""


class BadSetting(ValueError):
    """A value that is not allowed. The sentence says which, what it was, and what is allowed."""


class About(NamedTuple):
    """What a field means, and within which bounds (inclusive) its number must be."""

    what: str
    unit: str = ""
    low: float = 0
    high: float = 0


def _size(what: str, low: int = 1, high: int = 1 << 30) -> About:
    return About(what, "bytes", low, high)


def _chars(what: str, low: int = 1, high: int = 1 << 30) -> About:
    return About(what, "characters", low, high)


def _count(what: str, low: int = 1, high: int = 1_000_000) -> About:
    return About(what, "", low, high)


def _seconds(what: str, low: float = 0.001, high: float = 86_400) -> About:
    return About(what, "seconds", low, high)


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set. Making one with a value that is not allowed raises `BadSetting`."""

    # ── Where it listens, and what it is made of ──

    host: Annotated[str, About("Where to listen: an address or name of this machine.")] = "127.0.0.1"
    port: Annotated[int, About("Which port to listen on; 0 takes a free one.", "", 0, 65_535)] = 8080
    uds: Annotated[str | None, About("A Unix socket to listen on, instead of host and port.")] = None
    ssl_certfile: Annotated[str | None, About("The certificate (PEM, with its chain) for HTTPS.")] = None
    ssl_keyfile: Annotated[str | None, About("The certificate's key, if it is in a file of its own.")] = None
    root_path: Annotated[str, About("The path prefix that a reverse proxy puts before ours: /gateway.")] = ""
    store: Annotated[
        str,
        About("Where conversations are kept: sqlite:///file, sqlite:///file?synchronous=full or memory:."),
    ] = "sqlite:///gateway.db"
    agents: Annotated[
        tuple[str, ...],
        About("An agent as name=spec, the first being the default one; without any: eliza, echo, metronome."),
    ] = ()
    allow_hosts: Annotated[
        tuple[str, ...], About("A name beyond loopback that Host may have: of a proxy or tunnel; * is any.")
    ] = ()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], About("What is logged: this and everything worse.")
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"], About("How it is logged: to read, or a JSON per line.")
    ] = "text"

    # ── How long records are kept ──

    keep_days: Annotated[
        float | None, About("How old records may become; without it, any age.", "days", 0.01, 36_500)
    ] = None
    keep_records: Annotated[
        int | None, About("How many records a session keeps; without it, all.", "", 1, 1_000_000_000)
    ] = None

    # ── What a client may send ──

    max_frame_bytes: Annotated[int, _size("A client's frame; beyond it is refused.", 64)] = 256 << 10
    max_message_bytes: Annotated[int, _size("A WebSocket message; beyond it the line closes.", 64)] = 1 << 20
    max_hello_bytes: Annotated[int, _size("What is read from a line before it said who it is.", 64)] = 8 << 10
    max_content_chars: Annotated[int, _chars("The content of a message.")] = 65_536
    max_metadata_bytes: Annotated[int, _size("The metadata of a message.", 2)] = 10 << 10
    max_metadata_depth: Annotated[int, _count("How deep metadata may be nested.", 1, 100)] = 16
    max_body_bytes: Annotated[int, _size("The body of an HTTP request.", 64)] = 2 << 20

    # ── What an agent may answer ──

    max_text_chars: Annotated[int, _chars("The text of a turn, and its reasoning.")] = 1 << 20
    max_tool_bytes: Annotated[int, _size("A tool's input or content.")] = 256 << 10
    max_turn_tool_bytes: Annotated[int, _size("What the tools of one turn exchange.")] = 4 << 20
    max_delta_chars: Annotated[int, _chars("One text_delta; a longer text is cut.")] = 16 << 10
    max_history_bytes: Annotated[int, _size("The messages in attached.")] = 1 << 20
    max_history: Annotated[int, _count("How many messages an attach may ask for.", 0, 10_000)] = 200
    max_agent_history_bytes: Annotated[int, _size("The history that an agent is given.")] = 4 << 20
    max_reply_bytes: Annotated[int, _size("The largest frame that a client is told to expect.")] = 32 << 20

    # ── How much one may have open ──

    max_sessions: Annotated[int, _count("Sessions that one connection follows.")] = 1_000
    max_waiting: Annotated[int, _count("Turns of one session that wait.", 0)] = 16
    max_asking: Annotated[int, _count("Requests that wait for one session.")] = 1_024
    max_errands: Annotated[int, _count("Requests of one connection that wait for the store.")] = 64
    max_control_bytes: Annotated[int, _size("Unsent answers; beyond it a connection is not read.")] = 64 << 10

    # ── How text travels ──

    batch_bytes: Annotated[int, _size("What a connection's writer sends at once.")] = 64 << 10
    quantum_bytes: Annotated[int, _size("A session's share of it before it is the next one's turn.")] = (
        4 << 10
    )
    tail_bytes: Annotated[int, _size("What a live session keeps of its newest records, to be quick.")] = (
        64 << 10
    )
    page_bytes: Annotated[int, _size("What is read from the store at once for a reader that lags.")] = (
        256 << 10
    )
    save_interval: Annotated[float, _seconds("How often the text of running turns is saved.")] = 0.2
    save_bytes: Annotated[int, _size("Unsaved text of a turn that is saved at once.")] = 16 << 10
    max_unsaved_bytes: Annotated[int, _size("Unsaved text beyond which a turn waits for the store.")] = (
        256 << 10
    )

    # ── How long things may take ──

    first_output_timeout: Annotated[float, _seconds("Until an agent says its first word.")] = 60.0
    silence_timeout: Annotated[float, _seconds("How long an agent may be silent after that.")] = 60.0
    turn_timeout: Annotated[float, _seconds("A whole turn.")] = 600.0
    cleanup_timeout: Annotated[float, _seconds("How long a turn waits for the last one's clean-up.", 0)] = 5.0
    hello_timeout: Annotated[float, _seconds("Until a connection has said who it is.")] = 5.0
    heartbeat: Annotated[float, _seconds("The gateway says something at least this often.")] = 20.0
    stuck_timeout: Annotated[float, _seconds("How long a client may take nothing before it is closed.")] = (
        30.0
    )
    typing_timeout: Annotated[float, _seconds("How long a user counts as typing.")] = 10.0
    due_interval: Annotated[float, _seconds("How often to look for turns that nobody runs.")] = 5.0
    trim_interval: Annotated[float, _seconds("How often to let go of what is kept no longer.")] = 600.0
    drain_timeout: Annotated[float, _seconds("How long running turns may go on after SIGTERM.", 0)] = 10.0
    reconnect_after: Annotated[float, _seconds("When clients of a gateway that stops may come back.", 0)] = (
        1.0
    )

    def __post_init__(self) -> None:
        for name, setting in SETTINGS.items():
            setting.check(getattr(self, name), name)
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise BadSetting("ssl_keyfile is given without ssl_certfile; HTTPS needs a certificate.")
        if self.max_frame_bytes > self.max_message_bytes:
            raise BadSetting(
                f"max_frame_bytes is {self.max_frame_bytes:,}; "
                f"allowed is at most max_message_bytes, which is {self.max_message_bytes:,}."
            )


class Setting(NamedTuple):
    """One field of `Settings`, and how it is given from outside."""

    name: str
    kind: type
    """`int`, `float`, `str` or `tuple` (of strings)."""
    optional: bool
    choices: tuple[str, ...]
    about: About
    default: Any
    flag: str | None
    """None: it is set through the environment only."""

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return f"GATEWAY_{self.name.upper()}"

    @property
    def allowed(self) -> str:
        """What it may be, in words."""
        if self.choices:
            return " or ".join(self.choices)
        if self.kind not in (int, float):
            return _TEXTS.get(self.name, (None, "any text"))[1]
        low, high = f"{self.about.low:,}", f"{self.about.high:,}"
        unit = f" of {self.about.unit}" if self.about.unit else ""
        return f"{_NUMBERS[self.kind]}{unit} from {low} to {high}"

    def read(self, given: str | tuple[str, ...], source: str) -> Any:
        """The value that was given as text; several are separated by spaces. Raises `BadSetting`, which names
        the `source`."""
        value: Any = given
        if self.kind is tuple:
            value = tuple(given.split()) if isinstance(given, str) else given
        elif self.kind in (int, float) and isinstance(given, str) and _NUMBER[self.kind].fullmatch(given):
            value = self.kind(given)
        self.check(value, source)
        return value

    def check(self, value: Any, source: str) -> None:
        """Raises `BadSetting` if `value` is not allowed."""
        if not self._allows(value):
            raise BadSetting(f"{source} is {value!r}; allowed is {self.allowed}.")

    def _allows(self, value: Any) -> bool:
        if value is None:
            return self.optional
        if self.choices:
            return value in self.choices
        if self.kind is tuple:
            return isinstance(value, tuple) and all(isinstance(item, str) and item for item in value)
        if self.kind is str:
            pattern = _TEXTS.get(self.name, (".+", ""))[0]
            return isinstance(value, str) and re.fullmatch(pattern, value) is not None
        kinds = int if self.kind is int else (int, float)
        return isinstance(value, kinds) and self.about.low <= value <= self.about.high


_NUMBERS = {int: "a whole number", float: "a number"}
_NUMBER = {int: re.compile(r"-?[0-9]{1,18}"), float: re.compile(r"-?[0-9]{1,18}(\.[0-9]{0,18})?")}
_TEXTS = {"root_path": (r"(/[^/?#\s]+)*", "a path that begins with / and does not end in one")}

_FLAGS = {
    "host": "--host",
    "port": "--port",
    "uds": "--uds",
    "ssl_certfile": "--ssl-certfile",
    "ssl_keyfile": "--ssl-keyfile",
    "root_path": "--root-path",
    "store": "--store",
    "agents": "--agent",
    "allow_hosts": "--allow-host",
    "log_level": "--log-level",
    "log_format": "--log-format",
}
"""What people set by hand. Those of tuples may be repeated."""


def _setting(field: FieldInfo) -> Setting:
    annotation, about = get_args(field.type)
    of = get_args(annotation)
    choices = of if get_origin(annotation) is Literal else ()
    kinds = (str,) if choices else (get_origin(annotation), annotation, *of)
    kind = next(kind for kind in kinds if kind in (int, float, str, tuple))
    return Setting(field.name, kind, NoneType in of, choices, about, field.default, _FLAGS.get(field.name))


SETTINGS = {field.name: _setting(field) for field in fields(Settings)}
"""Every setting by its name, in order."""


def load(
    flags: Mapping[str, str | tuple[str, ...] | None], environ: Mapping[str, str]
) -> tuple[Settings, dict[str, str]]:
    """The settings that these flags (by field name; None or empty: not given) and this environment make, and
    where each came from: its flag, its variable, or `DEFAULT`. An empty variable counts as none. Raises
    `BadSetting`."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, setting in SETTINGS.items():
        flag, variable = flags.get(name), environ.get(setting.variable)
        origins[name] = DEFAULT
        if flag is not None and flag != ():
            origins[name] = setting.flag or name
            values[name] = setting.read(flag, origins[name])
        elif variable:
            origins[name] = setting.variable
            values[name] = setting.read(variable, origins[name])
    return Settings(**values), origins
