"""The command line: `gateway serve · chat · token · schema · check`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from protocol import schema as protocol_schema
from protocol.errors import Refused
from protocol.ids import check_agent_name, check_session_id

from . import __version__
from .chat import chat as chat_in_terminal
from .check import check as check_everything
from .logs import configure_logs
from .parts import CannotStart
from .run import run
from .settings import OPTIONS, BadSetting, Settings, load

__all__ = ["main"]

Command = TypeVar("Command", bound=Callable[..., Any])


class Refusal(click.ClickException):
    """What was asked for cannot be: one sentence, and the exit code of a wrong command line."""

    exit_code = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="Trunkline")
def main() -> None:
    """Trunkline: many AI-agent conversations over one WebSocket."""


def _settings_flags(command: Command) -> Command:
    """Every setting that has a flag, as an option of `command`; read as text, for `load` says more."""
    for option in reversed(OPTIONS.values()):
        if option.about.flag is not None:
            command = click.option(
                option.about.flag,
                option.name,
                multiple=option.kind is tuple,
                is_flag=option.kind is bool,
                metavar=None if option.kind is bool else "|".join(option.choices) or "TEXT",
                help=f"{option.about.what} [{option.variable}]",
            )(command)
    return command


def _load(flags: dict[str, Any]) -> tuple[Settings, dict[str, str]]:
    try:
        return load(flags, os.environ)
    except BadSetting as error:
        raise Refusal(str(error)) from error


@main.command(epilog="Limits and times are set in the environment: `gateway check` lists them.")
@_settings_flags
def serve(**flags: Any) -> None:
    """Run the gateway until it is told to stop."""
    settings, _ = _load(flags)
    configure_logs(
        settings.log_level,
        settings.log_format,
        sys.stderr,
        exception_text=settings.log_exception_text,
    )
    try:
        run(settings, click.echo)
    except CannotStart as error:
        raise Refusal(str(error)) from error
    except Exception:
        logging.getLogger("gateway").exception("the gateway crashed")
        sys.exit(1)


@main.command(epilog="Every setting is also an environment variable: GATEWAY_ and its name in capitals.")
@_settings_flags
def check(**flags: Any) -> None:
    """Show what is set and where it came from; try store and agents."""
    settings, origins = _load(flags)
    if not asyncio.run(check_everything(settings, origins, os.environ, click.echo)):
        sys.exit(1)


@main.command()
@click.option("--url", help="Where the gateway is.  [default: ws://127.0.0.1:8080]")
@click.option("--port", type=click.IntRange(1, 65_535), help="The port of a gateway on this machine.")
@click.option("--agent", help="Whom to talk to; without it, the gateway's default agent.")
@click.option("--session", help="Which conversation; one that is there is taken up again.")
@click.option("--user", help="As whom, where the gateway lets its callers say.")
@click.option("--token", envvar="GATEWAY_TOKEN", help="What proves who you are. [GATEWAY_TOKEN]")
def chat(
    url: str | None,
    port: int | None,
    agent: str | None,
    session: str | None,
    user: str | None,
    token: str | None,
) -> None:
    """Talk to an agent in the terminal."""
    if url is not None and port is not None:
        raise click.UsageError("Give --url or --port, not both: a URL has its port in it.")
    url = url or f"ws://127.0.0.1:{port or 8080}"
    if not re.match(r"(ws|http)s?://[^/]", url):
        allowed = "ws:// or wss:// (or http:// or https://) and a host"
        raise Refusal(f"--url is {url!r}; allowed is {allowed}.")
    try:
        asyncio.run(chat_in_terminal(url, agent, session, user, token))
    except Refused as error:
        raise Refusal(error.content) from error


@main.command()
@click.option("--user", required=True, help="Whose token: the user that its bearer is.")
@click.option("--ttl", default="1h", show_default=True, help="How long it counts: 90s, 15m, 1h, 7d.")
@click.option("--agent", "agents", multiple=True, help="Only this agent; may be repeated.")
@click.option("--session", "sessions", multiple=True, help="Only the session with this id; may be repeated.")
def token(user: str, ttl: str, agents: tuple[str, ...], sessions: tuple[str, ...]) -> None:
    """Make a token for a user, for development.

    It is signed with GATEWAY_JWT_SECRET, the secret of the gateway that is to take it, and names that one's
    GATEWAY_JWT_AUDIENCE and GATEWAY_JWT_ISSUER.
    """
    settings, _ = _load({})
    if settings.jwt_secret is None:
        raise Refusal(
            "GATEWAY_JWT_SECRET is not set: a token is signed with the secret that the gateway was started "
            "with; at least 32 bytes, for example from `openssl rand -hex 32`."
        )
    from .keys import BadKey, secret_key  # here: what reads and makes tokens takes 0.1 s
    from .tokens import mint

    try:
        click.echo(
            mint(
                secret_key(settings.jwt_secret),
                user,
                time.time() + _seconds(ttl),
                agents=map(check_agent_name, agents),
                sessions=map(check_session_id, sessions),
                audience=settings.jwt_audience,
                issuer=settings.jwt_issuer,
            )
        )
    except BadKey as error:
        raise Refusal(f"GATEWAY_JWT_SECRET is of no use: {error}.") from error
    except Refused as error:
        raise Refusal(error.content) from error


def _seconds(ttl: str) -> int:
    """How long that is: a number and its unit."""
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", ttl)
    if found is None:
        raise Refusal(f"--ttl is {ttl!r}; allowed is a number of s, m, h or d, like 90s or 1h.")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]


@main.command()
@click.option("--json-schema", "form", flag_value="json-schema", help="As JSON Schema 2020-12.")
@click.option("--asyncapi", "form", flag_value="asyncapi", help="As AsyncAPI 3.0.")
@click.option("--typescript", "form", flag_value="typescript", help="As a TypeScript declaration.")
def schema(form: str | None) -> None:
    """Print the frames of the protocol, for machines."""
    match form:
        case "json-schema":
            click.echo(json.dumps(protocol_schema.json_schema(), indent=2, ensure_ascii=False))
        case "asyncapi":
            click.echo(json.dumps(protocol_schema.asyncapi(), indent=2, ensure_ascii=False))
        case "typescript":
            click.echo(protocol_schema.typescript(), nl=False)
        case _:
            raise click.UsageError("Which form? Give --json-schema, --asyncapi or --typescript.")
