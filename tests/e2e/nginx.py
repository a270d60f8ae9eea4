"""A real nginx in front of a gateway."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

__all__ = ["FORWARDS", "behind_nginx"]

FORWARDS = "include /etc/nginx/proxy_params;"
"""What Debian ships for whoever wants the server behind it to know who called."""
START = 20.0
"""Seconds that a start may take."""

_CONFIGURATION = """
{user}
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            {directives}
            proxy_pass {gateway};
        }}
    }}
}}
"""


@contextmanager
def behind_nginx(gateway: str, folder: Path, directives: str = "") -> Iterator[str]:
    """The URL of an nginx that passes everything on to the gateway at that URL, until the block is left. Its
    configuration is what it ships with, and these directives."""
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if nginx is None:
        pytest.skip("there is no nginx on this machine")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(
        _CONFIGURATION.format(folder=folder, port=port, user=user, directives=directives, gateway=gateway)
    )
    with Popen(
        [nginx, "-p", folder, "-e", folder / "error.log", "-c", configuration], stderr=PIPE
    ) as process:
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_for(port: int, process: Popen[bytes]) -> None:
    deadline = time.monotonic() + START
    while True:
        with socket.socket() as caller:
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline, "nginx did not start"
        time.sleep(0.02)
