"""What the simulator let in and refused, second by second: how far a limit was used."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from ops.bench.stand import Stand

PERIOD = 0.5
"""Seconds between two looks."""


class Look(NamedTuple):
    """The simulator's counters at one moment.

    Attributes:
        at: seconds since the series began.
        seconds: of all requests being answered, summed: what it grows by in a second is the mean of
            requests at once.
        requests, tokens: let in so far; tokens of prompt and answer.
        refused: answers of 429 so far.
        limit: what was allowed then.
    """

    at: float
    seconds: float
    requests: int
    tokens: int
    refused: int
    limit: int

    @classmethod
    def take(cls, at: float, counters: dict[str, Any], limit: int) -> Look:
        """Read the simulator's own report."""
        by_status = counters["by_status"]
        return cls(
            at, counters["in_flight_seconds"], by_status.get("200", 0), counters["charged"],
            by_status.get("429", 0), limit,
        )  # fmt: skip


class Series:
    """Looks at the simulator for as long as it is told to.

    Attributes:
        looks: all so far, PERIOD apart.
    """

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._began = time.monotonic()
        self.looks: list[Look] = []

    @property
    def now(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def watch(self, seconds: float, limit: int) -> None:
        """Look for so long, while this is allowed."""
        end = self.now + seconds
        while (now := self.now) < end:
            self.looks.append(Look.take(now, self._stand.simulated(), limit))
            time.sleep(max(0.0, min(now + PERIOD, end) - self.now))
        self.looks.append(Look.take(self.now, self._stand.simulated(), limit))

    def between(self, start: float, end: float) -> list[Look]:
        """Those of a time, its ends included."""
        return [look for look in self.looks if start <= look.at <= end]

    def samples(self) -> dict[str, list[float]]:
        """Every look, as columns, for the raw results."""
        names = [name for name in Look._fields if any(getattr(each, name) for each in self.looks)]
        return {name: [round(getattr(look, name), 2) for look in self.looks] for name in names}


def growth(looks: Sequence[Look], field: str) -> float:
    """By how much a counter grew."""
    return float(getattr(looks[-1], field) - getattr(looks[0], field))


def per_second(looks: Sequence[Look], field: str) -> float:
    """A counter's mean rate."""
    return growth(looks, field) / max(looks[-1].at - looks[0].at, 1e-9)


def pieces(looks: Sequence[Look], seconds: float) -> list[list[Look]]:
    """The looks in pieces of so many seconds, each beginning with the end of the one before."""
    found: list[list[Look]] = [[looks[0]]]
    for look in looks[1:]:
        found[-1].append(look)
        if look.at - found[-1][0].at >= seconds - PERIOD / 2:
            found.append([look])
    return [piece for piece in found if piece[-1].at - piece[0].at >= seconds - PERIOD]
