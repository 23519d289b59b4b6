"""How long to wait before a child that ended is started again."""

from __future__ import annotations

FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0
HEALTHY_LIFE = 10.0
"""Seconds: a child that lived this long had no trouble starting, so the count begins anew."""


class Backoff:
    """Doubling delays, in seconds, for a child that keeps ending."""

    def __init__(self) -> None:
        self._next = FIRST_DELAY

    def after(self, lived: float) -> float:
        """The delay after a life of `lived` seconds."""
        delay = FIRST_DELAY if lived >= HEALTHY_LIFE else self._next
        self._next = min(delay * 2, LONGEST_DELAY)
        return delay
