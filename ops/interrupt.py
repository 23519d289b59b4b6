"""Ctrl-C that is never lost: Python drops an exception that is raised inside a `__del__`."""

from __future__ import annotations

import signal
from types import FrameType

INTERRUPTED = 130
"""128 + SIGINT, as shells show it."""

AGAIN = 0.05
"""Seconds after which an interrupt that came inside a `__del__` is raised: then it is over."""


def never_lost() -> None:
    """Let SIGINT raise KeyboardInterrupt where it counts, unless it is ignored, as by nohup."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def interrupt(number: int, frame: FrameType | None) -> None:
    """A handler for SIGINT; raises KeyboardInterrupt, now or in a moment."""
    if not _would_be_dropped(frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, AGAIN)


def _would_be_dropped(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
