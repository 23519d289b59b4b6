"""Commands under test as a person runs them: in this process, or on a terminal of their own."""

from __future__ import annotations

import os
import pty
import select
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from ops.cli import main
from tests import forks
from tests.forks import PENSTOCK, Fork, Streams

POLL = 0.02
"""Seconds until a terminal that says nothing is asked whether its command still runs."""


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

    def __init__(self, process: Fork, screen: int) -> None:
        self.pid = process.pid
        self.text = ""
        self._process = process
        self._screen = screen

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
        return self._process.wait()

    def close(self) -> None:
        """End it if it still runs."""
        self._process.kill()
        self.wait()

    def _read(self) -> bool:
        """Take what is there, or what comes; whether more may come."""
        has_ended = self._process.poll() is not None
        if select.select([self._screen], [], [], 0 if has_ended else POLL)[0]:
            self.text += os.read(self._screen, 65_536).decode(errors="replace")
            return True
        return not has_ended


@contextmanager
def on_a_terminal(*arguments: str, **environment: str) -> Iterator[Terminal]:
    """Run a `penstock` command on a terminal."""
    screen, line = pty.openpty()
    place = Path(os.ttyname(line))
    process = forks.script(
        PENSTOCK, *arguments, streams=Streams(place, input=place),
        environment={**os.environ, "TERM": "xterm", **environment},
    )  # fmt: skip
    terminal = Terminal(process, screen)
    try:
        yield terminal
    finally:
        terminal.close()
        os.close(line)
        os.close(screen)
