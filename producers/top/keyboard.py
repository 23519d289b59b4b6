"""The keys that are pressed, one by one, and the terminal as it was in the end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from types import FrameType

ESCAPES = {b"[A": "up", b"OA": "up", b"[B": "down", b"OB": "down"}
"""What comes behind an escape, by terminals' two modes."""

NO_KEY = b"\0"
"""In place of Ctrl-Z, which would leave our picture on the shell's screen."""


@contextlib.contextmanager
def single_keys() -> Iterator[None]:
    """Let each key come at once and unseen; however this ends, the terminal is as it was."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    handlers = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setcbreak(fd)
        now = termios.tcgetattr(fd)
        now[6][termios.VSUSP] = NO_KEY
        termios.tcsetattr(fd, termios.TCSADRAIN, now)
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal has gone
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def pressed(timeout: float) -> str:
    """The next key within so many seconds: `up`, `down` or its letter; "" where there is none.

    Raises EOFError where there will be no other.
    """
    fd = sys.stdin.fileno()
    if not _comes(fd, timeout):
        return ""
    key = _read(fd)
    if key != b"\x1b":
        return key.decode(errors="replace")
    rest = b""
    while len(rest) < max(map(len, ESCAPES)) and _comes(fd, 0.02):
        rest += _read(fd)
    return ESCAPES.get(rest, "")


def _comes(fd: int, timeout: float) -> bool:
    ready, _, _ = select.select([fd], [], [], timeout)
    return bool(ready)


def _read(fd: int) -> bytes:
    try:
        key = os.read(fd, 1)
    except OSError:
        key = b""
    if not key:
        raise EOFError
    return key


def _leave(number: int, frame: FrameType | None) -> None:
    """End as by the signal, but after everything is put right."""
    raise SystemExit(128 + number)
