"""What the supervisor keeps running: how a child is started, and how one sees that it is ready."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.local.process import INHERITED_STDERR, Process
from ops.local.server import EmbeddedServer
from penstock.errors import ConfigurationError

READY_TIMEOUT = 30.0
"""Seconds from a child's start until it has to be ready."""

CONNECT_TIMEOUT = 1.0


def _nothing() -> str:
    return ""


@dataclass(frozen=True)
class Child:
    """One program under supervision.

    Attributes:
        name: unique among the supervisor's children; it stands in every log line.
        start: starts the program and returns at once; may raise ConfigurationError.
        ready: polled after each start until it is true; None: ready as soon as it is started.
            It runs in a thread, so it may block for a moment.
        ready_timeout: seconds until a child that is not ready is ended.
        explain: what to add to the log line when it ends unexpectedly; empty for nothing.
    """

    name: str
    start: Callable[[], Process]
    ready: Callable[[], bool] | None = None
    ready_timeout: float = READY_TIMEOUT
    explain: Callable[[], str] = _nothing


def program(
    name: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    ready: Callable[[], bool] | None = None,
    ready_timeout: float = READY_TIMEOUT,
    output: Path | None = None,
    lifeline: bool = False,
) -> Child:
    """A child started from a command line, with `env` on top of the inherited environment.

    What it prints goes to our stderr, or is appended to the file `output`. A program with a
    `lifeline` knows what to do when its stdin ends: see `Process.spawn`. Its start raises
    ConfigurationError if the program or that file cannot be opened.
    """

    def start() -> Process:
        if output is None:
            return Process.spawn(argv, env=env, output=INHERITED_STDERR, lifeline=lifeline)
        try:
            with open(output, "ab") as file:
                return Process.spawn(argv, env=env, output=file, lifeline=lifeline)
        except OSError as error:
            raise ConfigurationError(f"cannot write {output}: {error.strerror}") from error

    return Child(name, start, ready, ready_timeout)


def embedded(server: EmbeddedServer) -> Child:
    """The embedded server as a child; one that runs already is watched from now on.

    It may take as long as it needs to load its data.
    """
    return Child("server", server.spawn, server.is_ready, math.inf, server.explain)


def port_answers(host: str, port: int) -> Callable[[], bool]:
    """A ready hook: whether something accepts TCP connections there."""

    def ready() -> bool:
        try:
            socket.create_connection((host, port), CONNECT_TIMEOUT).close()
        except OSError:
            return False
        return True

    return ready
