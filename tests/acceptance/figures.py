"""What a row of the fault table reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.acceptance.ledger import Verdict


def percentiles(values: Iterable[float]) -> str:
    """p50, p99 and the maximum, for people."""
    ordered = sorted(values)
    if not ordered:
        return "none"
    p50, p99 = (quantile(ordered, q) for q in (0.5, 0.99))
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s, max {ordered[-1]:.2f} s, of {len(ordered)}"


def quantile(ordered: Sequence[float], q: float) -> float:
    """The nearest-rank quantile of sorted values."""
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


@dataclass
class Row:
    """One fault and how the fleet bore it.

    Attributes:
        fault: its name.
        seed: of the run.
        faults: how many struck.
        verdict: of the ledger.
        figure: the fault's own.
        broken: what else was to hold and did not.
    """

    fault: str
    seed: int
    faults: int
    verdict: Verdict
    figure: str
    broken: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether work was done, faults struck, and nothing broke."""
        worked = self.verdict.ended["completed"] > 0 and self.faults > 0
        return worked and self.verdict.flawless and not self.broken

    def __str__(self) -> str:
        broken = "".join(f"; BROKEN: {promise}" for promise in self.broken)
        verdict = f"{self.verdict}; {self.figure}{broken}"
        return f"{self.fault}: {self.faults} faults, seed {self.seed}: {verdict}"

    def check(self) -> None:
        """Print the row, and fail where it did not hold."""
        print(self)  # noqa: T201 - the figures are what `make chaos` is for
        assert self.held, str(self)


def unless(promise: str, kept: bool) -> list[str]:
    """The promise if it was broken."""
    return [] if kept else [promise]
