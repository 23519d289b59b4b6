"""A lock file: the kernel releases the lock when its last holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path


class LockFile:
    """An `flock` on a file, whose content says who has it. Never waits, never goes stale."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Take the lock if it is free; whether this object now holds it. Raises OSError."""
        if self._fd is not None:
            return True
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def fileno(self) -> int:
        """The descriptor of the held lock; a child that inherits it holds the lock too."""
        if self._fd is None:
            raise ValueError(f"{self.path} is not locked by this object")
        return self._fd

    def write(self, text: str) -> None:
        """Say who holds the lock. A full disk is no reason to fail: the lock itself counts."""
        with suppress(OSError):
            os.ftruncate(self.fileno(), 0)
            os.pwrite(self.fileno(), text.encode(), 0)

    def read(self) -> str:
        """What the present or last holder wrote; empty if there never was one."""
        try:
            return self.path.read_text(errors="replace")
        except OSError:
            return ""

    def release(self) -> None:
        """Let go: the lock is free unless a child inherited it."""
        # Closing, not LOCK_UN: that would take the lock from the child as well.
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
