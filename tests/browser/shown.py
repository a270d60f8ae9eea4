"""The examples as their pages would be served: by another server than the gateway."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.e2e.process import ROOT

__all__ = ["Shown", "shown"]

EXAMPLES = ROOT / "examples"
NAMED = "127.0.0.1:8080"
"""Where the examples think that the gateway is."""


class Shown:
    """`url` is where the examples are, in copies that name another gateway, or none yet."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self.url = url

    def name(self, gateway: str, token: str = "") -> None:
        """That is the gateway; the token is for `widget.html`."""
        for page in EXAMPLES.glob("*.html"):
            text = page.read_text().replace(NAMED, gateway.removeprefix("http://"))
            (self._folder / page.name).write_text(text)
        if token:
            (self._folder / "token.txt").write_text(token)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def shown(folder: Path) -> Iterator[Shown]:
    """A server for the examples, which are copied to that folder."""
    (folder / "vendor").symlink_to(EXAMPLES / "vendor")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Shown(folder, f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
