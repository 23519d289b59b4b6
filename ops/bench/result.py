"""One line of a benchmark's table."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

Figure = float | int | str
Figures = dict[str, Figure]


class Result(msgspec.Struct):
    """What one contender did in one benchmark.

    Attributes:
        benchmark: its name, as `--only` takes it.
        contender: who was measured.
        figures: column and figure; the unit is in the column's name.
        samples: single measurements behind a figure, where they are worth keeping.
    """

    benchmark: str
    contender: str
    figures: Figures
    samples: dict[str, list[float]] = msgspec.field(default_factory=dict)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]
