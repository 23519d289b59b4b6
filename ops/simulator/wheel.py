"""One timer for many streams: whatever is due within the same millisecond is run by one wake-up.

A timer of its own per token costs as much as writing the token; a list entry costs next to nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

SLOT = 0.001
"""Seconds; the resolution of the event loops' own timers."""


class Wheel:
    """Runs callbacks at loop times, up to SLOT late; none can be cancelled, so each looks first."""

    def __init__(self) -> None:
        self._slots: dict[int, list[Callable[[], None]]] = {}

    def at(self, due: float, callback: Callable[[], None]) -> None:
        """Call back at this time of the running loop."""
        slot = int(due / SLOT) + 1
        waiting = self._slots.get(slot)
        if waiting is None:
            self._slots[slot] = [callback]
            asyncio.get_running_loop().call_at(slot * SLOT, self._turn, slot)
        else:
            waiting.append(callback)

    def _turn(self, slot: int) -> None:
        for callback in self._slots.pop(slot):
            callback()
