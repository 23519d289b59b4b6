"""Real processes to hurt: a server, a simulated upstream and workers, in a directory of their own.

Whatever a test does to them, none outlives the `async with` block, nor the process that runs it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from ops.local.server import EmbeddedServer
from penstock.settings import Settings, child_environment
from tests import forks
from tests.forks import PENSTOCK, Fork, Streams, die_with_parent

ROOT = Path(__file__).parents[2]
CELERY = str(forks.BIN / "celery")
PATIENCE = 60.0
"""Seconds for whatever takes a few at most; a shared machine may be slow."""

POLL = 0.02


async def until(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """Wait until the condition gives something true, and return that."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not (found := condition()):
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        await asyncio.sleep(POLL)
    return found


class Program:
    """A process whose output goes to a file.

    Args:
        plan: what shall go wrong, for a worker; see faulty_worker.py.

    Attributes:
        log: that file.
        pid: its process id.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        plan: Mapping[str, Any] | None = None,
    ) -> None:
        self.log = log
        log.touch()
        self._process = _begin(argv, log, child_environment(**environment), plan)
        self.pid = self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended gets none."""
        if self.status is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL it, stopped or not, and reap it."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    async def ended(self, timeout: float = PATIENCE) -> int:
        """Wait for its end; its exit status."""
        await until(lambda: self.status is not None, f"the end of process {self.pid}", timeout)
        status = self.status
        assert status is not None
        return status

    def lines(self) -> Iterator[dict[str, Any]]:
        """Its structured log lines so far; the last one may be half written."""
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                try:
                    yield json.loads(line)
                except ValueError:
                    continue

    def logged(self, action: str) -> list[dict[str, Any]]:
        """The lines with this action."""
        return [line for line in self.lines() if line["action"] == action]

    async def says(self, action: str, timeout: float = PATIENCE) -> list[dict[str, Any]]:
        """Wait until it has logged this action."""
        what = f"{action} in the log of process {self.pid}"
        found: list[dict[str, Any]] = await until(lambda: self.logged(action), what, timeout)
        return found


def _begin(
    argv: Sequence[str], log: Path, environment: dict[str, str], plan: Mapping[str, Any] | None
) -> Fork | subprocess.Popen[bytes]:
    options = {"streams": Streams(log), "environment": environment, "directory": ROOT}
    if plan is not None:
        return Fork(be_faulty, plan, **options)
    if argv[0] in (PENSTOCK, CELERY):
        return forks.script(*argv, **options)
    with open(log, "ab") as output:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
            cwd=ROOT, preexec_fn=die_with_parent,
        )  # fmt: skip


def be_faulty(plan: Mapping[str, Any]) -> None:
    """Be the worker that is faulty by this plan: see faulty_worker.py."""
    from tests.acceptance.faulty_worker import follow_plan, work

    follow_plan(plan)
    work()


class Fleet:
    """A server, a simulator and workers.

    Args:
        appendfsync, directives, port: of the embedded server.
        settings: more settings for the workers, by their names in penstock/settings.py.
        concurrency: of the default route; a worker's own is 500 unless `settings` says otherwise.
        through: a URL for the workers to reach the server by, such as a proxy's.

    Attributes:
        server: the embedded server.
        workers: every worker ever started, in that order.
        upstream: the simulator's URL.
    """

    def __init__(
        self,
        *,
        appendfsync: str = "everysec",
        directives: Mapping[str, str] | None = None,
        port: int | None = None,
        settings: Mapping[str, Any] | None = None,
        concurrency: int = 200,
        through: str | None = None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ps-", dir="/tmp"))
        self.server = EmbeddedServer(
            self.directory / "s", appendfsync=appendfsync, directives=directives, port=port
        )
        self.workers: list[Program] = []
        self.upstream = ""
        self.through = through
        self._given = {"routes": json.dumps({"default": {"concurrency": concurrency}})}
        self._given |= {name: str(value) for name, value in (settings or {}).items()}
        self._others: list[Program] = []

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self.server.start)
            simulator = self.begin("penstock", "simulator", "--port", "0")
            self.upstream = await until(lambda: _address(simulator), "the simulator")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for program in [*self.workers, *self._others]:
            program.kill()
        self.server.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def settings(self) -> Settings:
        """What a client of this fleet needs; it goes to the server without a detour."""
        return Settings.load(redis_url=self.server.url)

    @property
    def alive(self) -> list[Program]:
        """The workers that run."""
        return [worker for worker in self.workers if worker.status is None]

    def start_worker(self, plan: Mapping[str, Any] | None = None, **settings: Any) -> Program:
        """Start `penstock worker`, or with a plan the worker that is faulty by it."""
        environment = self.environment(**{name: str(value) for name, value in settings.items()})
        log = self.directory / f"worker-{len(self.workers)}.log"
        worker = Program([PENSTOCK, "worker"], log, environment, plan)
        self.workers.append(worker)
        return worker

    async def start_workers(
        self, count: int, plan: Mapping[str, Any] | None = None, **settings: Any
    ) -> list[Program]:
        """Start some workers and wait until they are ready."""
        workers = [self.start_worker(plan, **settings) for _ in range(count)]
        for worker in workers:
            await worker.says("worker_started")
        return workers

    def environment(self, **settings: str) -> dict[str, str]:
        """The environment of this fleet's programs, with these settings on top."""
        given = {
            "redis_url": self.through or self.server.url,
            "upstream_url": self.upstream or "http://127.0.0.1:1",
            "state_dir": str(self.directory),
            "log": "json",
            "log_level": "debug",
            **self._given,
            **settings,
        }
        named = {f"PENSTOCK_{name.upper()}": value for name, value in given.items()}
        return {**named, "DEEPINFRA_TOKEN": "none"}  # a real one stays at home

    async def run(self, *argv: str, **environment: str) -> str:
        """Run a program of this environment's bin directory to its end; what it printed."""
        program = self.begin(*argv, **environment)
        status = await program.ended()
        printed = program.log.read_text()
        assert status == 0, printed
        return printed

    def begin(self, *argv: str, **environment: str) -> Program:
        """Start such a program; it is ended with the fleet."""
        path = str(Path(sys.executable).with_name(argv[0]))
        log = self.directory / f"{argv[0]}-{len(self._others)}.log"
        program = Program([path, *argv[1:]], log, {**self.environment(), **environment})
        self._others.append(program)
        return program


def _address(simulator: Program) -> str | None:
    text = simulator.log.read_text()
    assert simulator.status is None, text
    found = re.search(r"PENSTOCK_UPSTREAM_URL=(\S+)", text)
    return found[1] if found else None


def chosen_seed() -> int:
    """The seed of this run: PENSTOCK_CHAOS_SEED if given, to repeat one."""
    given = os.environ.get("PENSTOCK_CHAOS_SEED")
    return int(given) if given else int.from_bytes(os.urandom(3))
