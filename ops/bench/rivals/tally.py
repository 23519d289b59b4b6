"""Counts what a worker process has done, at a cost that does not show."""

from __future__ import annotations

import itertools

import redis

EVERY = 100
"""Redis hears of every so many-th."""

DONE = "rival:done"


class Tally:
    """Counts in the process; thread-safe."""

    def __init__(self) -> None:
        self.store: redis.Redis | None = None
        self._numbers = itertools.count(1)

    def add(self) -> None:
        """One more."""
        number = next(self._numbers)
        if number % EVERY == 0 and self.store is not None:
            self.store.set(DONE, number)
