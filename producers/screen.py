"""The person's terminal, or the pipes in its place: results on stdout, the rest on stderr.

On a terminal, and only there, a status line shows what one waits for. It is drawn behind the
cursor and cut at the margin, so it may stand even in the middle of an answer, and wiping it
leaves everything as it was.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

import click

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FRAME_TIME = 0.1
"""Seconds between two pictures of the spinner."""

FRAMES_PER_LOOK = 8
"""Pictures drawn of one answer to what one waits for."""

QUIET = 4
"""Frames without output until the status line shows: less is no wait."""

# DEC private modes and VT100 cursor commands: save the cursor and stop wrapping; the reverse.
_ASIDE, _BACK, _WIPE = "\x1b7\x1b[?7l", "\x1b[?7h\x1b8", "\x1b[K"

_HARMLESS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
_HARMLESS[ord("\r")] = ""


def harmless(text: str) -> str:
    """Text without control characters: what a model says must not drive a terminal."""
    return text.translate(_HARMLESS)


class Screen:
    """Writes results and notes so that they do not run into each other.

    Args:
        status: asked every second for the text of the status line; "" for none. It runs in a
            thread of its own, and may block for a moment.
    """

    def __init__(self, status: Callable[[], str] | None = None) -> None:
        self._status = status if _animated(sys.stderr) else None
        self._lock = threading.Lock()
        self._unfinished: set[TextIO] = set()  # streams whose last line has no end yet
        self._quiet = 0
        self._drawn = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._animate, name="status", daemon=True)

    def __enter__(self) -> Self:
        if self._status is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        with self._lock:
            self._wipe()
            if not isinstance(error, BrokenPipeError):
                self._end_lines()
        if self._thread.is_alive():
            self._thread.join(1)

    def result(self, text: str, colour: str | None = None) -> None:
        """Write to stdout what was asked for, at once."""
        with self._lock:
            self._end_line(sys.stderr)
            self._write(sys.stdout, text, fg=colour)

    def aside(self, text: str) -> None:
        """Write to stderr what comes in pieces, such as reasoning; dimmed."""
        with self._lock:
            if text and _same_place():
                self._end_line(sys.stdout)
            self._write(sys.stderr, text, dim=True)

    def note(self, text: str, *, dim: bool = False) -> None:
        """Write a line to stderr."""
        with self._lock:
            self._end_line(sys.stderr)
            if _same_place():
                self._end_line(sys.stdout)
            self._write(sys.stderr, f"{text}\n", dim=dim)

    def end_line(self) -> None:
        """End the lines that were begun."""
        with self._lock:
            self._end_lines()

    def _end_lines(self) -> None:
        for stream in list(self._unfinished):
            self._end_line(stream)

    def _end_line(self, stream: TextIO) -> None:
        if stream in self._unfinished:
            self._write(stream, "\n")

    def _write(self, stream: TextIO, text: str, **style: Any) -> None:
        if not text:
            return
        self._wipe()
        self._quiet = 0
        shown = harmless(text) if stream.isatty() else text
        styled = click.style(shown, **style) if any(style.values()) else shown
        click.echo(styled, file=stream, nl=False)
        if text.endswith("\n"):
            self._unfinished.discard(stream)
        else:
            self._unfinished.add(stream)

    def _animate(self) -> None:
        for number, frame in enumerate(itertools.cycle(FRAMES)):
            if number % FRAMES_PER_LOOK == 0:
                text = self._status() if self._status else ""
            with self._lock:
                if self._over.is_set():
                    return
                self._draw(f"{frame} {text}" if text else "")
            if self._over.wait(FRAME_TIME):
                return

    def _draw(self, text: str) -> None:
        self._quiet += 1
        if text and self._quiet > QUIET:
            gap = "  " if self._unfinished else ""
            dimmed = click.style(gap + harmless(text), dim=True)
            self._drawn = True
            click.echo(f"{_ASIDE}{_WIPE}{dimmed}{_BACK}", file=sys.stderr, nl=False)

    def _wipe(self) -> None:
        if self._drawn:
            click.echo(_WIPE, file=sys.stderr, nl=False)
            self._drawn = False


def _animated(stream: TextIO) -> bool:
    """Whether a line on this stream can be drawn again."""
    if not stream.isatty():
        return False
    from rich.console import Console  # knows about TERM=dumb and its like

    console = Console(file=stream)
    return console.is_terminal and not console.is_dumb_terminal


def _same_place() -> bool:
    """Whether stdout and stderr meet on a terminal."""
    return sys.stdout.isatty() and sys.stderr.isatty()
