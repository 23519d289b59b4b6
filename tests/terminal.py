"""Commands under test as a person runs them: in this process, or on a terminal of their own."""

from __future__ import annotations

import os
import pty
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import pytest

from ops.cli import main
from tests.forks import PENSTOCK


class Said(NamedTuple):
    """What a command came to."""

    status: int
    out: str
    err: str


class CommandLine:
    """Runs `penstock` commands in this process: quicker than a process each."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capture = patch, capture

    def __call__(self, *arguments: str) -> Said:
        """Run one to its end."""
        self._capture.readouterr()
        self._patch.setattr(sys, "argv", ["penstock", *arguments])
        try:
            status = main()
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        return Said(status, *self._capture.readouterr())


class Terminal:
    """A command on a terminal of its own, where what it says is read as it comes."""

    def __init__(self, pid: int, screen: int) -> None:
        self.pid = pid
        self.text = ""
        self._screen = screen
        self._status: int | None = None

    def until(self, found: Callable[[str], bool]) -> None:
        """Read until this is on the screen."""
        while not found(self.text):
            if not self._read():
                raise AssertionError(f"it ended, and said: {self.text!r}")

    @property
    def is_usual(self) -> bool:
        """Whether it shows what is typed, and hands it on by lines, as a shell wants it."""
        flags = termios.tcgetattr(self._screen)[3]
        return bool(flags & termios.ECHO and flags & termios.ICANON)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._screen, text.encode())

    def wait(self) -> int:
        """Read to the end; the exit status."""
        while self._read():
            pass
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def close(self) -> None:
        """End it if it still runs."""
        if self._status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()
        os.close(self._screen)

    def _read(self) -> bool:
        try:
            piece = os.read(self._screen, 65_536)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.text += piece.decode(errors="replace")
        return bool(piece)


@contextmanager
def on_a_terminal(*arguments: str, **environment: str) -> Iterator[Terminal]:
    """Run a `penstock` command on a terminal."""
    environment = {**os.environ, "TERM": "xterm", **environment}
    pid, screen = pty.fork()
    if pid == 0:
        os.execve(PENSTOCK, [PENSTOCK, *arguments], environment)  # noqa: S606 - our own program
    terminal = Terminal(pid, screen)
    try:
        yield terminal
    finally:
        terminal.close()
