"""The test stand: one Redis server and one simulator for every contender, stopped at the end."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from ops.bench.server import Server, free_port
from ops.local.process import Process
from penstock.errors import PenstockError

POLL = 0.02
RAMP_PATIENCE = 5.0
RAMP_TIMEOUT = 45.0
"""Seconds without another stream, and in all, after which a worker has all it can take."""


class BenchmarkError(PenstockError):
    """A benchmark could not be run to its end."""


class Stand:
    """Server, simulator and whatever is started on top; a context manager.

    Attributes:
        server: the Redis server.
        redis: a client of the server, for looking at it.
        redis_url: what workers and clients connect to.
        upstream_url: the simulator, as PENSTOCK_UPSTREAM_URL takes it.
        simulator: its process.
        directory: a temporary one, for logs and configuration.
    """

    upstream_url: str
    simulator: Process
    _origin: str

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench")))
            self.server = stack.enter_context(Server(self.directory / "redis"))
            self.redis, self.redis_url = self.server.redis, self.server.redis_url
            stack.enter_context(self._simulator(free_port()))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def process(self, argv: Sequence[str], **env: str) -> Iterator[Process]:
        """A process of ours, its output in the stand's directory."""
        path = self.directory / f"{time.monotonic_ns()}.log"
        with path.open("wb") as output:
            process = Process.spawn(argv, env=env, output=output)
        try:
            yield process
        except TimeoutError as error:
            last = path.read_text(errors="replace")[-2000:]
            raise BenchmarkError(f"{argv} {process.describe()}, {error}; {last}") from error
        finally:
            process.kill()  # nothing it still holds is needed
            process.wait()

    def reset(self) -> None:
        """Empty Redis, zero its counters, and let the last contender's streams end."""
        self.wait(lambda: self.simulated()["in_flight"] == 0, "streams of the last run to end")
        self.server.reset()

    def simulated(self) -> dict[str, Any]:
        """The simulator's counters."""
        with urllib.request.urlopen(f"{self._origin}/simulator/stats") as answer:  # noqa: S310
            counters: dict[str, Any] = json.load(answer)
        return counters

    def wait(self, condition: Callable[[], Any], what: str, timeout: float = 60) -> None:
        """Poll until it holds; raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout:g} s in vain for {what}")
            time.sleep(POLL)

    def wait_streams(self, count: int) -> int:
        """Wait for streams to be under way; how many are, when no more come or time is up."""
        most, since = 0, time.monotonic()
        deadline = since + RAMP_TIMEOUT
        while most < count and time.monotonic() < min(since + RAMP_PATIENCE, deadline):
            running: int = self.simulated()["in_flight"]
            if running > most:
                most, since = running, time.monotonic()
            time.sleep(0.2)
        return most

    @contextmanager
    def upstream(self, **limits: int | bool) -> Iterator[None]:
        """While the block runs another simulator takes the place of the stand's: one with limits.

        A new one for each contender: nobody inherits the last minute's requests.
        """
        before = self.upstream_url, self._origin, self.simulator
        try:
            with self._simulator(free_port()):
                self.relimit(**limits)
                yield
        finally:
            self.upstream_url, self._origin, self.simulator = before

    def relimit(self, **limits: int | bool) -> None:
        """Change the simulator's limits; see LimitsChange in ops/simulator/server.py."""
        url, body = f"{self._origin}/simulator/limits", json.dumps(limits).encode()
        with urllib.request.urlopen(url, body):  # noqa: S310 - our own http URL
            pass

    @contextmanager
    def _simulator(self, port: int) -> Iterator[None]:
        self._origin = f"http://127.0.0.1:{port}"
        self.upstream_url = f"{self._origin}/v1/openai"
        argv = [sys.executable, "-m", "ops.simulator", "--port", str(port)]
        with self.process(argv) as self.simulator:
            self.wait(self._answers, "the simulator", 20)
            yield

    def _answers(self) -> bool:
        try:
            return bool(self.simulated())
        except OSError:
            return False


def clean_up_on_sigterm() -> None:
    """Leave by way of the context managers, or what was started would outlive this process."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
