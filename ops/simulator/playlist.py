"""Scripts for requests to come that bring none of their own."""

from __future__ import annotations

from collections import deque
from typing import Annotated

import msgspec

from ops.simulator.script import PLAIN, Script


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /simulator/faults: a script, and for how many requests (null: for all)."""

    simulate: Script
    times: Annotated[int, msgspec.Meta(ge=1)] | None = 1


class Playlist:
    """First in, first played; one without a count plays until `clear`."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()

    def add(self, script: Script, times: int | None = 1) -> None:
        """Play a script for the next requests without one."""
        self._entries.append(Entry(script, times))

    def clear(self) -> None:
        """Back to healthy answers."""
        self._entries.clear()

    @property
    def current(self) -> Script:
        """The script of the next request."""
        return self._entries[0].simulate if self._entries else PLAIN

    def advance(self) -> None:
        """A request took it."""
        if not self._entries or self._entries[0].times is None:
            return
        self._entries[0].times -= 1
        if self._entries[0].times == 0:
            self._entries.popleft()
