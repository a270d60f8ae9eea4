"""The command line: what it says when it starts, and the one sentence it says when it cannot."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from websockets.asyncio.client import connect

import gateway
from gateway.cli import main
from gateway.interfaces import Caller
from gateway.keys import FixedKeys, secret_key
from gateway.settings import OPTIONS
from gateway.stores.sqlite import SqliteStore
from gateway.tokens import Tokens

WAIT = 30.0
"""Seconds that a process may take for anything: Python itself needs one where two cores are shared."""

ROOT = Path(__file__).parents[2]
SECRET = "the butler did it"
TOKEN = "tok-geheim-1234"
AGENT = """
async def agent(turn):
    raise RuntimeError(f"the agent does not like {turn.content!r}")
    yield
"""

CLINGY = """
from gateway.agents.echo import EchoAgent

class Agent(EchoAgent):
    async def aclose(self):
        raise RuntimeError("not letting go")
"""
UNWELL = """
from gateway.agents.echo import EchoAgent

class Agent(EchoAgent):
    async def check(self):
        return {}["licence"]
"""
COUNTING = """
import gc

async def agent(turn):
    yield str(gc.get_freeze_count())
"""


@pytest.fixture
def invoke(
    logged: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Result]]:
    """Run a command in this process, in an empty directory; what it configures is put back afterwards. One
    that serves, though it should not, is stopped."""
    logged()
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))

    def run(*args: str, **environ: str) -> Result:
        signal.setitimer(signal.ITIMER_REAL, WAIT)
        try:
            return CliRunner().invoke(main, args, env=environ)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    yield run
    signal.signal(signal.SIGALRM, before)


@asynccontextmanager
async def process(directory: Path, *args: str, **environ: str) -> AsyncIterator[Process]:
    """`python -m gateway …` in that directory."""
    environ |= {"PYTHONPATH": str(ROOT), "PATH": ""}
    command = (sys.executable, "-m", "gateway", *args)
    running = await asyncio.create_subprocess_exec(
        *command, cwd=directory, env=environ, stdout=PIPE, stderr=PIPE
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def first_line(running: Process) -> str:
    assert running.stdout is not None
    async with asyncio.timeout(WAIT):
        return (await running.stdout.readline()).decode().strip()


async def stop(running: Process) -> tuple[str, str]:
    """Stop it, and answer what else it wrote to stdout and stderr."""
    running.send_signal(signal.SIGTERM)
    async with asyncio.timeout(WAIT):
        out, err = await running.communicate()
    return out.decode(), err.decode()


# ── serve ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_serve_says_one_friendly_line_answers_and_leaves_quietly(tmp_path: Path) -> None:
    async with process(tmp_path, "serve", "--port", "0") as running:
        line = await first_line(running)
        said = re.fullmatch(
            rf"Trunkline {re.escape(gateway.__version__)} on (http://127\.0\.0\.1:[0-9]+) "
            "— agents eliza, echo, metronome — store sqlite:///gateway.db",
            line,
        )
        assert said, line
        async with httpx.AsyncClient(base_url=said[1], timeout=WAIT) as client:
            assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert await stop(running) == ("", "")
        assert running.returncode == 0
    assert (tmp_path / "gateway.db").exists()


async def test_serve_listens_on_a_unix_socket_that_a_dead_process_left_there(tmp_path: Path) -> None:
    path = tmp_path / "gw.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with process(tmp_path, "serve", "--uds", "gw.sock", "--store", "memory:") as running:
        assert "on unix:gw.sock — " in await first_line(running)
        assert path.stat().st_mode & 0o777 == 0o660
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as client:
            assert (await client.get("http://localhost/healthz")).status_code == 200
        await stop(running)
    assert not path.exists()


async def test_what_is_set_reaches_the_server(tmp_path: Path) -> None:
    (tmp_path / "frozen.py").write_text(COUNTING)
    flags = ("--port", "0", "--store", "memory:", "--root-path", "/gw", "--agent", "count=frozen:agent")
    limits = {"GATEWAY_MAX_FRAME_BYTES": "1000", "GATEWAY_MAX_MESSAGE_BYTES": "2000"}
    async with process(tmp_path, "serve", *flags, **limits) as running:
        url = (await first_line(running)).split()[3]
        assert url.endswith("/gw")
        async with connect(f"ws{url[4:-3]}/ws") as line, asyncio.timeout(WAIT):
            await line.send(json.dumps({"type": "message", "session_id": "s1", "content": "?"}))
            while (frame := json.loads(await line.recv()))["type"] != "response":
                pass
            assert int(frame["content"]) > 0, "what was there at the start is looked at for garbage"
            await line.send("x" * 1001)
            assert json.loads(await line.recv())["code"] == "frame_too_large"
            await line.send("x" * 2001)
            await line.wait_closed()
            assert line.close_code == 1009
        await stop(running)


async def test_what_goes_wrong_while_it_runs_is_logged_and_is_another_exit_code(tmp_path: Path) -> None:
    (tmp_path / "clingy.py").write_text(CLINGY)
    flags = ("--port", "0", "--store", "memory:", "--agent", "me=clingy:Agent")
    async with process(tmp_path, "serve", *flags) as running:
        await first_line(running)
        _, err = await stop(running)
    assert running.returncode == 1
    assert "the gateway crashed" in err
    assert re.search(r"RuntimeError at .*clingy.py:6 aclose", err)


STUBBORN = """
import asyncio

async def agent(turn):
    yield "begun"
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
"""


async def test_an_agent_that_never_stops_does_not_keep_the_process(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    flags = ("--port", "0", "--store", "memory:", "--agent", "me=stubborn:agent")
    limits = {"GATEWAY_DRAIN_TIMEOUT": "0.05", "GATEWAY_CLEANUP_TIMEOUT": "0.2"}
    async with process(tmp_path, "serve", *flags, **limits) as running:
        url = re.findall(r"http://[^ ]+", await first_line(running))[0]
        async with httpx.AsyncClient(base_url=url, timeout=WAIT) as client:
            message = {"type": "message", "session_id": "s", "content": "hi"}
            assert (await client.post("/frames", json=message)).json()["type"] == "ok"
            async with client.stream("GET", "/api/sessions/s/events") as events:
                async with asyncio.timeout(WAIT):
                    await anext(line async for line in events.aiter_lines() if "begun" in line)
        _, err = await stop(running)
    assert running.returncode == 1
    assert "an agent does not stop" in err


@pytest.mark.parametrize("format_", ["text", "json"])
async def test_neither_what_people_say_nor_what_proves_who_they_are_is_logged(
    tmp_path: Path, format_: str
) -> None:
    (tmp_path / "moody.py").write_text(AGENT)
    flags = ("--port", "0", "--store", "memory:", "--agent", "moody=moody:agent", "--log-level", "debug")
    async with process(tmp_path, "serve", *flags, "--log-format", format_) as running:
        url = (await first_line(running)).split()[3]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with connect(f"ws{url[4:]}/ws?token={TOKEN}", additional_headers=headers) as line:
            await line.send(json.dumps({"type": "hello", "token": TOKEN}))
            await line.send(json.dumps({"type": "message", "session_id": "s1", "content": SECRET}))
            async with asyncio.timeout(WAIT):
                while (frame := json.loads(await line.recv()))["type"] != "error":
                    pass
            assert frame["code"] == "agent_failed"
        async with httpx.AsyncClient(timeout=WAIT) as client:
            await client.get(f"{url}/nowhere?token={TOKEN}", headers=headers)
        out, err = await stop(running)
    assert re.search(r"RuntimeError at .*moody.py:3 agent", err)
    assert "s1" in err
    assert SECRET not in out + err
    assert TOKEN not in out + err


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--port", "99999"], "--port is '99999'; allowed is a whole number from 0 to 65,535."),
        (
            ["--host", "0.0.0.0"],
            "Nothing says who may come in, and everybody who can reach 0.0.0.0 could read",
        ),
        (["--host", "example.com"], "set GATEWAY_JWT_SECRET, "),
        (["--host", "::"], "With --allow-anonymous it is open to all."),
        (["--authenticator", "nobody:here"], "The authenticator nobody:here cannot be loaded: there is no"),
        (["--agent", "me=nobody"], "The agent nobody cannot be loaded: it is none of echo, eliza"),
        (["--agent", "me=echo?token=geheim"], "The agent echo?token=… cannot be loaded: there is no option"),
        (
            ["--store", "redis://ann:geheim@x"],
            "The store redis://…@x means nothing; allowed is sqlite:///FILE",
        ),
        (["--store", "sqlite:///no/such/x.db"], "there is no directory"),
        (
            ["--store", "memory:", "--ssl-certfile", "no.pem"],
            "The certificate no.pem cannot be used: No such",
        ),
        (["--uds", "no/such.sock"], "Cannot listen on no/such.sock: No such file or directory."),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_sentence(
    invoke: Callable[..., Result], args: list[str], sentence: str
) -> None:
    result = invoke("serve", "--port", "0", *args)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert "geheim" not in result.output
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"GATEWAY_JWT_SECRET": "geheim"}, "GATEWAY_JWT_SECRET is of no use: the secret has 6 bytes"),
        ({"GATEWAY_API_KEYS": "geheim"}, "GATEWAY_API_KEYS is '…'; allowed is NAME=KEY."),
        ({"GATEWAY_ALLOW_ANONYMOUS": "yes"}, "GATEWAY_ALLOW_ANONYMOUS is 'yes'; allowed is true or false."),
    ],
)
def test_keys_that_are_none_are_refused_in_one_sentence_too(
    invoke: Callable[..., Result], environ: dict[str, str], sentence: str
) -> None:
    result = invoke("serve", "--port", "0", **environ)
    assert (result.exit_code, result.stderr.count("\n"), result.stdout) == (2, 1, "")
    assert sentence in result.stderr
    assert "geheim" not in result.output


OWN = """
from gateway.interfaces import Caller

class Door:
    async def __call__(self, token, headers):
        return Caller(user=token)

    async def check(self):
        return "it is open to all"

    async def aclose(self):
        print("the door is closed")
"""


@pytest.mark.parametrize(
    ("flags", "environ", "status"),
    [
        (["--allow-anonymous"], {}, 200),
        ([], {"GATEWAY_ALLOW_ANONYMOUS": "true"}, 200),
        ([], {"GATEWAY_API_KEYS": "ops=k"}, 401),
        (["--authenticator", "own:Door"], {}, 200),
    ],
)
async def test_it_listens_beyond_this_machine_where_it_is_said_who_may_come_in(
    tmp_path: Path, flags: list[str], environ: dict[str, str], status: int
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    flags = ["--host", "0.0.0.0", "--port", "0", "--store", "memory:", *flags]
    async with process(tmp_path, "serve", *flags, **environ) as running:
        port = re.findall(r"0\.0\.0\.0:([0-9]+)", await first_line(running))[0]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=WAIT) as client:
            assert (await client.get("/healthz")).status_code == 200
            listed = await client.get("/api/sessions", headers={"X-API-Key": "ann"})
            assert listed.status_code == status
        out, _ = await stop(running)
    assert ("the door is closed" in out) is ("own:Door" in flags)


def test_a_port_in_use_is_said_so(invoke: Callable[..., Result]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = invoke("serve", "--store", "memory:", "--port", str(port))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert f"Error: 127.0.0.1:{port} is in use: stop what listens there, or choose another" in result.stderr


def test_a_unix_socket_that_somebody_answers_on_is_left_alone(
    invoke: Callable[..., Result], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(tmp_path / "gw.sock"))
        taken.listen()
        result = invoke("serve", "--store", "memory:", "--uds", "gw.sock")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "gw.sock is in use" in result.stderr
    assert (tmp_path / "gw.sock").is_socket()


async def test_a_store_that_another_gateway_uses_is_said_so(tmp_path: Path) -> None:
    async with (
        SqliteStore(tmp_path / "gateway.db").open("another", 0.0),
        process(tmp_path, "serve", "--port", "0") as running,
        asyncio.timeout(WAIT),
    ):
        out, err = await running.communicate()
    assert (running.returncode, out, err.count(b"\n")) == (2, b"", 1)
    assert b"gateway.db is in use by another gateway" in err


# ── check ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_check_shows_every_setting_and_where_it_came_from(invoke: Callable[..., Result]) -> None:
    result = invoke("check", "--port", "81", GATEWAY_MAX_WAITING="3", GATEWAY_PROT="geheim")
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.split("\n\n")[0].splitlines()}
    assert rows.keys() >= OPTIONS.keys()
    assert rows["port"] == ["81", "--port"]
    assert rows["max_waiting"] == ["3", "GATEWAY_MAX_WAITING"]
    assert rows["host"] == ["127.0.0.1", "default"]
    assert "GATEWAY_PROT is none of these settings, and does nothing." in result.stdout
    assert "geheim" not in result.stdout


SECRET_KEY = "a secret of thirty-two bytes, or more"


def test_check_says_who_is_let_in_and_shows_no_key(invoke: Callable[..., Result], tmp_path: Path) -> None:
    assert "callers: everybody who can reach the address" in invoke("check").stdout
    result = invoke("check", GATEWAY_API_KEYS="ops=geheim ci=geheim2", GATEWAY_JWT_SECRET=SECRET_KEY)
    assert "callers: well: the services ops, ci; users with a token\n" in result.stdout
    assert not any(key in result.output for key in ("geheim", SECRET_KEY))
    (tmp_path / "own.py").write_text(OWN)
    result = invoke("check", "--authenticator", "own:Door", GATEWAY_API_KEYS="ops=geheim")
    assert "callers: well: it is open to all\n" in result.stdout
    (tmp_path / "plain.py").write_text("async def door(token, headers): pass")
    assert "callers: whom plain:door lets in\n" in invoke("check", "--authenticator", "plain:door").stdout


def test_check_tries_the_store_and_every_agent(invoke: Callable[..., Result]) -> None:
    result = invoke("check")
    assert "store sqlite:///gateway.db: well" in result.stdout
    for name in ("eliza", "echo", "metronome"):
        assert f"agent {name}: well" in result.stdout


def test_check_says_how_long_sessions_live(invoke: Callable[..., Result]) -> None:
    said = invoke("check", "--store", "memory:", ECHO_SESSION_TIMEOUT_MINUTES="20").output
    assert "sessions with eliza live for ever\n" in said
    assert "sessions with echo live 20 min from their last activity, 720 min at the most\n" in said


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--store", "sqlite:///no/such.db"], "store sqlite:///no/such.db: not well: "),
        (["--agent", "me=http?url=http://127.0.0.1:1/"], "agent me: not well: "),
        (["--agent", "me=nobody"], "The agent nobody cannot be loaded: "),
        (["--authenticator", "nobody:here"], "The authenticator nobody:here cannot be loaded: "),
    ],
)
def test_check_fails_if_something_is_not_well(
    invoke: Callable[..., Result], args: list[str], line: str
) -> None:
    result = invoke("check", *args)
    assert result.exit_code == 1
    assert line in result.stdout


def test_check_says_what_an_agent_of_ones_own_raised_and_where(
    invoke: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_unwell.py").write_text(UNWELL)
    monkeypatch.chdir(tmp_path)
    result = invoke("check", "--agent", "me=mine_unwell:Agent")
    assert result.exit_code == 1
    assert "agent me: not well: there is no 'licence' (mine_unwell.py, line 6)\n" in result.stdout


def test_check_fails_if_keys_cannot_be_fetched(invoke: Callable[..., Result]) -> None:
    result = invoke("check", GATEWAY_JWKS_URL="http://127.0.0.1:1/keys")
    assert result.exit_code == 1
    assert "callers: not well: http://127.0.0.1:1/keys cannot be reached" in result.stdout


# ── token ───────────────────────────────────────────────────────────────────────────────────────────────────


async def read(token: str, **options: Any) -> Caller:
    return await Tokens([FixedKeys([secret_key(SECRET_KEY)])], time.time, **options).read(token)


async def test_token_makes_one_for_a_user(invoke: Callable[..., Result]) -> None:
    result = invoke("token", "--user", "ann", "--ttl", "90s", GATEWAY_JWT_SECRET=SECRET_KEY)
    assert (result.exit_code, result.stderr) == (0, "")
    caller = await read(result.stdout.strip())
    assert (caller.user, caller.agents, caller.sessions) == ("ann", None, None)
    assert caller.expires_at is not None
    assert 80 < caller.expires_at - time.time() <= 90


async def test_token_narrows_it_and_names_audience_and_issuer(invoke: Callable[..., Result]) -> None:
    narrow = ("--agent", "a", "--agent", "b", "--session", "s")
    names = {"GATEWAY_JWT_AUDIENCE": "us", "GATEWAY_JWT_ISSUER": "id"}
    result = invoke("token", "--user", "ann", *narrow, GATEWAY_JWT_SECRET=SECRET_KEY, **names)
    caller = await read(result.stdout.strip(), audience="us", issuer="id")
    assert (caller.agents, caller.sessions) == ({"a", "b"}, {"s"})
    assert caller.expires_at is not None
    assert caller.expires_at - time.time() > 3500


@pytest.mark.parametrize(
    ("args", "environ", "sentence"),
    [
        ([], {}, "GATEWAY_JWT_SECRET is not set"),
        ([], {"GATEWAY_JWT_SECRET": "geheim"}, "GATEWAY_JWT_SECRET is of no use: the secret has 6 bytes"),
        (
            ["--ttl", "1"],
            {"GATEWAY_JWT_SECRET": SECRET_KEY},
            "--ttl is '1'; allowed is a number of s, m, h or d",
        ),
        (["--ttl", "0s"], {"GATEWAY_JWT_SECRET": SECRET_KEY}, "--ttl is '0s'"),
        (["--user", "a/b"], {"GATEWAY_JWT_SECRET": SECRET_KEY}, "user_id must be"),
        (["--agent", "a b"], {"GATEWAY_JWT_SECRET": SECRET_KEY}, "agent must be"),
        (["--session", ".."], {"GATEWAY_JWT_SECRET": SECRET_KEY}, "session_id must be"),
    ],
)
def test_token_says_what_it_lacks(
    invoke: Callable[..., Result], args: list[str], environ: dict[str, str], sentence: str
) -> None:
    result = invoke("token", "--user", "ann", *args, **environ)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"Error: {sentence}")
    assert "geheim" not in result.stderr


# ── schema, chat ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("form", "begin"),
    [("--json-schema", '{\n  "$schema"'), ("--asyncapi", '{\n  "asyncapi"'), ("--typescript", "//")],
)
def test_schema_prints_the_protocol(invoke: Callable[..., Result], form: str, begin: str) -> None:
    result = invoke("schema", form)
    assert result.exit_code == 0
    assert result.stdout.startswith(begin)


def test_schema_asks_which(invoke: Callable[..., Result]) -> None:
    result = invoke("schema")
    assert result.exit_code == 2
    assert "--typescript" in result.stderr


def test_chat_wants_a_url_that_is_one(invoke: Callable[..., Result]) -> None:
    result = invoke("chat", "--url", "localhost:8080")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: --url is 'localhost:8080'; allowed is ws:// or wss:// (or http:// or https://) and a host.\n"
    )


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--url", "ws://[bad"], "'ws://[bad' is no URL of a gateway: Invalid IPv6 URL."),
        (["--url", "ws://h:99999"], "'ws://h:99999' is no URL of a gateway: Port out of range 0-65535."),
        (["--url", "ws://h:1", "--port", "2"], "Give --url or --port, not both: a URL has its port in it."),
        (["--port", "0"], "Invalid value for '--port': 0 is not in the range 1<=x<=65535."),
        (["--user", ""], "user_id: expected 1–256 characters"),
    ],
)
def test_chat_says_in_a_sentence_what_cannot_be(
    invoke: Callable[..., Result], args: list[str], sentence: str
) -> None:
    result = invoke("chat", *args)
    assert result.exit_code == 2
    assert f"Error: {sentence}" in result.stderr
    assert "Traceback" not in result.stderr


def test_every_command_explains_itself(invoke: Callable[..., Result]) -> None:
    for command in ("serve", "check", "chat", "token", "schema"):
        result = invoke(command, "--help")
        assert result.exit_code == 0
        assert result.stdout.count("\n") > 5


def test_every_setting_with_a_flag_is_an_option_of_serve(invoke: Callable[..., Result]) -> None:
    text = invoke("serve", "--help").stdout
    for option in OPTIONS.values():
        if option.about.flag is not None:
            assert option.about.flag in text
            assert option.variable in text
