"""The command line: `gateway serve · chat · schema · check`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from protocol import schema as protocol_schema

from . import __version__
from .chat import chat as chat_in_terminal
from .check import check as check_everything
from .logs import configure_logs
from .run import CannotStart, run
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
                metavar="|".join(option.choices) or "TEXT",
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
    configure_logs(settings.log_level, settings.log_format, sys.stderr)
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
@click.option("--url", default="ws://127.0.0.1:8080", show_default=True, help="Where the gateway is.")
@click.option("--agent", help="Whom to talk to; without it, the gateway's default agent.")
@click.option("--session", help="Which conversation; one that is there is taken up again.")
@click.option("--user", help="As whom, where the gateway lets its callers say.")
@click.option("--token", envvar="GATEWAY_TOKEN", help="What proves who you are. [GATEWAY_TOKEN]")
def chat(url: str, agent: str | None, session: str | None, user: str | None, token: str | None) -> None:
    """Talk to an agent in the terminal."""
    if not re.match(r"(ws|http)s?://[^/]", url):
        allowed = "ws:// or wss:// (or http:// or https://) and a host"
        raise Refusal(f"--url is {url!r}; allowed is {allowed}.")
    asyncio.run(chat_in_terminal(url, agent, session, user, token))


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
