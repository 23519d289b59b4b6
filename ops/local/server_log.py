"""The embedded server's log file, and what its last lines mean for the person in front of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from ops.local.append_only import AppendOnlyFile
from ops.local.directory import disk_full, full

LINES_SHOWN = 8
LINE_LENGTH = 200
TAIL_BYTES = 8192


class ServerLog:
    """`redis.log` of a state directory; the one of the start before is kept as `redis.log.1`."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.path = state_dir / "redis.log"
        self.data = AppendOnlyFile(state_dir)

    def rotate(self) -> IO[bytes]:
        """A new, empty file for the server to write to. Raises OSError."""
        if self.path.exists():
            os.replace(self.path, self.path.with_suffix(".log.1"))
        return open(self.path, "ab", opener=_private)

    def tail(self) -> list[str]:
        """The last lines; none if there is no log."""
        try:
            with open(self.path, "rb") as log:
                log.seek(max(0, self.path.stat().st_size - TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except OSError:
            return []
        lines = [line[:LINE_LENGTH] for line in text.splitlines() if line.strip()]
        return lines[-LINES_SHOWN:]

    def explain(self) -> str:
        """Why the server ended and what to do, as far as known, and its last lines."""
        lines = self.tail()
        text = "\n".join(lines)
        said = f"its log {self.path} ends with:\n{text}" if lines else f"it left no log {self.path}"
        return "; ".join(filter(None, [self._advice(text), said]))

    def _advice(self, text: str) -> str:
        if "No space left on device" in text or disk_full(self.state_dir):
            return full(self.state_dir)
        if any(sign in text for sign in FOREIGN) or self._written_by_valkey(text):
            return (
                f"the data in {self.state_dir} was written by another kind or a newer version of "
                "server: install that one, or set PENSTOCK_STATE_DIR to a new directory"
            )
        if any(sign in text for sign in DAMAGE):
            return (
                f"the append-only file is damaged: copy {self.data.folder} to a safe place, then "
                f"run redis-check-aof --fix {self.data.manifest} "
                "(on Debian in the package redis-tools)"
            )
        return ""

    def _written_by_valkey(self, text: str) -> bool:
        """Redis calls such data damaged, and repairing it would throw it away."""
        return "Bad file format" in text and "Redis" in text and self.data.needs_valkey


FOREIGN = ("handle RDB format version", "Unsupported RDB version")
"""What Redis and Valkey (src/rdb.c) say about data of a newer server."""

DAMAGE = (
    "check-aof",
    "reading the append only file",
    "reading the RDB preamble",
    "Wrong signature trying to load DB",
    "AOF manifest",
)
"""What Redis (src/aof.c, src/rdb.c) says about append-only files it cannot read."""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
