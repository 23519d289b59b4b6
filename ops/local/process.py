"""A process held by its pidfd: waiting costs nothing and a signal never hits a recycled pid."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from penstock.errors import ConfigurationError
from penstock.settings import child_environment

INHERITED_STDERR = 2
"""Where a child's output goes unless it is told otherwise: stdout is for results."""


class Process:
    """One process, our own child or an adopted one.

    Attributes:
        pid: its process id.
        status: its exit status as in `subprocess` (negative: the signal that ended it); None while
            it runs, and always for an adopted process, whose status goes to its own parent.
    """

    def __init__(self, pid: int, popen: subprocess.Popen[bytes] | None = None) -> None:
        """Hold the process; raises ProcessLookupError if there is none with this pid."""
        self.pid = pid
        self.status: int | None = None
        self._popen = popen
        self._pidfd: int | None = os.pidfd_open(pid)

    @classmethod
    def spawn(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        output: int | IO[bytes] = INHERITED_STDERR,
        pass_fds: Sequence[int] = (),
        umask: int = -1,
        lifeline: bool = False,
    ) -> Process:
        """Start a program in a session of its own, so that a terminal's Ctrl-C does not reach it.

        With `lifeline` its stdin is a pipe that we hold open: it ends when we are gone, however
        that came. See `--lifeline` in ops/cli.py.
        It inherits the environment, with `env` on top, and the umask unless one is given. Raises
        ConfigurationError if it cannot be started.
        """
        try:
            popen = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=child_environment(**(env or {})),
                cwd=cwd,
                pass_fds=pass_fds,
                umask=umask,
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigurationError(f"cannot start {argv[0]}: {error.strerror}") from error
        return cls(popen.pid, popen)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended(0)

    def fileno(self) -> int:
        """The pidfd: readable once the process has ended. For selectors and event loops."""
        if self._pidfd is None:
            raise ValueError(f"process {self.pid} has ended")
        return self._pidfd

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds (None: as long as it takes); whether it has ended.

        Only this call reaps the process and closes the pidfd, so that no other thread can pull it
        from under an event loop.
        """
        ended = self._ended(timeout)
        if ended:
            self._bury()
        return ended

    def terminate(self) -> None:
        """Ask it to end, with SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL, and with it what it has started."""
        self._send(signal.SIGKILL)
        self._kill_group()

    def describe(self) -> str:
        """How it ended, for people: `ended with status 2`, `was ended by SIGKILL`."""
        if self.status is None:
            return "runs" if self.running else "ended"
        if self.status >= 0:
            return f"ended with status {self.status}"
        return f"was ended by {signal.Signals(-self.status).name}"

    def _ended(self, timeout: float | None) -> bool:
        pidfd = self._pidfd
        if pidfd is None:
            return True
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))

    def _send(self, number: signal.Signals) -> None:
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _kill_group(self) -> None:
        # The group has our child's pid, and keeps it until the child is reaped: no mix-up possible.
        if self._popen is not None and self._pidfd is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _bury(self) -> None:
        """Reap it, end what it left behind, and let go of the pidfd."""
        self._kill_group()
        if self._popen is not None:
            self.status = self._popen.wait()
            if self._popen.stdin:
                self._popen.stdin.close()
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            os.close(pidfd)
