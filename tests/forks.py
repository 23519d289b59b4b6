"""Our programs in processes of their own, forked from one that has imported everything.

They start ten times faster than by exec, which is most of what a short program costs. Environment,
working directory, standard streams, session, signals and exit status are a new process's own.
Tests of starting itself, as those of `penstock up` and of the documents, use exec.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

BIN = Path(sys.executable).parent
PENSTOCK = str(BIN / "penstock")
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.preloaded"])


def die_with_parent() -> None:
    """Let this process be killed when the one that started it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Streams(NamedTuple):
    """Files that are a program's standard streams; output is appended to.

    Attributes:
        errors: None: to the output.
    """

    output: Path
    errors: Path | None = None
    input: Path = Path(os.devnull)

    def connect(self) -> None:
        """Make them this process's."""
        for number, flags, path in (
            (0, os.O_RDONLY, self.input),
            (1, os.O_WRONLY | os.O_APPEND | os.O_CREAT, self.output),
            (2, os.O_WRONLY | os.O_APPEND | os.O_CREAT, self.errors or self.output),
        ):
            opened = os.open(path, flags, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)


class Fork:
    """A process that calls a function; it has what tests use of a `subprocess.Popen`.

    Args:
        function: found by its module and name.
        environment: all of it.

    Attributes:
        pid: its process id, which is that of its process group too.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        streams: Streams,
        environment: Mapping[str, str],
        directory: Path | None = None,
    ) -> None:
        place = directory or Path.cwd()
        life = function, arguments, streams, dict(environment), place
        self._process = _forks.Process(target=_live, args=life, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, None while it runs; negative: the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """As returncode."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended; raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal; one that has ended gets none."""
        if self.returncode is None:
            with suppress(ProcessLookupError):  # reaped, though its status is not told yet
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL it, stopped or not."""
        self.send_signal(signal.SIGKILL)

    def kill_all(self) -> None:
        """SIGKILL it and what it has started."""
        with suppress(ProcessLookupError):  # it has just been born, and leads no group yet
            os.killpg(self.pid, signal.SIGKILL)
        self.kill()
        self.wait()


def script(*argv: str, **options: Any) -> Fork:
    """Start a Python script of this environment's bin directory; options as of Fork."""
    return Fork(_run_script, *argv, **options)


def run_script(
    *argv: str, environment: Mapping[str, str], input_: str = "", timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run one to its end."""
    with tempfile.TemporaryDirectory() as place:
        given, out, err = (Path(place, name) for name in ("in", "out", "err"))
        given.write_text(input_)
        fork = script(*argv, streams=Streams(out, err, given), environment=environment)
        try:
            status = fork.wait(timeout)
        finally:
            fork.kill()
        said = (path.read_text() for path in (out, err))
        return subprocess.CompletedProcess(argv, status, *said)


def _run_script(*argv: str) -> None:
    sys.argv = list(argv)
    runpy.run_path(argv[0], run_name="__main__")


def _live(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    streams: Streams,
    environment: Mapping[str, str],
    directory: Path,
) -> None:
    """Runs in the forked process."""
    die_with_parent()
    os.setsid()
    os.chdir(directory)
    streams.connect()
    os.environ.clear()
    os.environ |= environment
    time.tzset()
    sys.path[:0] = [place for place in environment.get("PYTHONPATH", "").split(":") if place]
    try:
        function(*arguments)
    finally:
        atexit._run_exitfuncs()
