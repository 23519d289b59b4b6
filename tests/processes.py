"""Worker processes under test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import redis

from tests import forks
from tests.forks import Streams
from tests.waiting import until

T = TypeVar("T")


class WorkerProcess:
    """One `penstock worker`, its log in a file."""

    def __init__(
        self, url: str, arguments: Sequence[str] = (), environment: Mapping[str, str] = {}
    ) -> None:
        self.url = url
        self._log = tempfile.NamedTemporaryFile(suffix=".log")  # noqa: SIM115 - closed by kill()
        self._consumers = self._count_consumers()
        self.process = forks.script(
            forks.PENSTOCK,
            "worker",
            *arguments,
            streams=Streams(Path(self._log.name)),
            environment={**os.environ, "PENSTOCK_REDIS_URL": url, **environment},
        )

    @property
    def log(self) -> str:
        """Everything it has written so far."""
        return Path(self._log.name).read_text(errors="replace")

    def until_ready(self) -> None:
        """Wait until it waits for messages."""
        until(lambda: self._alive() and self._count_consumers() > self._consumers, timeout=30)

    def until_logged(self, text: str, timeout: float = 20) -> None:
        """Wait for a text in its log."""
        until(lambda: text in self.log, timeout=timeout)

    def terminate(self) -> None:
        """Ask it to stop."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = 40) -> int:
        """Its exit status."""
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End it and what it started at once."""
        if self.process.poll() is None:
            self.process.kill_all()
        self._log.close()

    def _alive(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the worker ended with {self.process.returncode}:\n{self.log}")
        return True

    def _count_consumers(self) -> int:
        with redis.Redis.from_url(self.url) as connection:
            return sum("b" in client["flags"] for client in connection.client_list())


def run_cli(
    url: str, *arguments: str, input_: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a `penstock` command to its end."""
    environment = {**os.environ, "PENSTOCK_REDIS_URL": url, **environment}
    return forks.run_script(forks.PENSTOCK, *arguments, environment=environment, input_=input_)


Started = Callable[..., WorkerProcess]


def free_port() -> int:
    """A TCP port that nobody uses at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
