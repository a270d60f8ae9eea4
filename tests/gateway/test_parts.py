"""What settings make: who may come in, and where it may listen for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.parts import CannotStart, load_app, load_door
from gateway.settings import Settings

SECRET = "a secret of thirty-two bytes, or more"


def test_only_the_door_knows_the_keys() -> None:
    app = load_app(Settings(store="memory:", jwt_secret=SECRET, api_keys=("ops=geheim",)), {})
    assert "geheim" not in repr(app.supervisor.runtime.settings)
    assert SECRET not in repr(app.supervisor.runtime.settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "my.localhost"])
def test_without_keys_it_listens_on_this_machine(host: str) -> None:
    load_app(Settings(store="memory:", host=host), {})


@pytest.mark.parametrize(
    "settings",
    [
        {"allow_anonymous": True},
        {"jwt_secret": SECRET},
        {"jwks_url": "https://id.example/keys"},
        {"api_keys": ("ops=geheim",)},
        {"uds": "gw.sock"},
    ],
)
def test_anywhere_it_listens_with_keys_or_when_that_is_wanted_or_on_no_address_at_all(
    settings: dict[str, object],
) -> None:
    load_app(Settings(store="memory:", host="0.0.0.0", **settings), {})  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.com", "localhost.example.com"])
def test_anywhere_it_does_not_listen_without(host: str) -> None:
    with pytest.raises(CannotStart, match="set GATEWAY_JWT_SECRET"):
        load_app(Settings(store="memory:", host=host), {})


def test_an_authenticator_of_ones_own_replaces_the_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_door.py").write_text("async def door(token, headers): return token")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    door = load_door(Settings(authenticator="own_door:door", jwt_secret="too short to be one"))
    assert getattr(door, "__name__", "") == "door"
    assert load_door(Settings()) is None
