"""Four processes and one limit of the provider: how much of it is used, and how often it is hit."""

from __future__ import annotations

from typing import NamedTuple

from ops.bench.allowance import Allowance, Work
from ops.bench.crew import CREWS, Crew
from ops.bench.result import Figures, Result
from ops.bench.series import Look, Series, growth, per_second, pieces
from ops.bench.stand import Stand

TITLE = "Use of a provider's limit by four worker processes"

NOT_SHOWN = """\
The simulator enforces the limit: requests at once, or a count in any 60 seconds, of requests no
more than 10 at once, with a 429 for what is beyond it; a request's tokens are charged when it
comes. There is always more work than
may run. "use" is what the simulator let in over what it allows, after the first minute; "429" is
what it refused, from the start. Penstock's route has the very same limit, and a burst of 10. The
rivals have a quarter of it in each process: Celery's `rate_limit` takes jobs a minute only, so
for requests at once and for tokens it is set to what the mean job allows, which somebody must
know beforehand; the limiter a process is a semaphore, or a count of the last minute that is
corrected by the answers' usage. A job the rivals are refused is not tried again, as that would
be refused again: they lose it. Not shown: a provider that counts by the calendar minute, which
allows the same and forgives more; other users of the same account."""

USE = "use, %"
PIECE = 10.0
"""Seconds for which use is also told by itself."""


class Size(NamedTuple):
    """How long, in seconds: before the count, and of the count."""

    warm_up: float
    window: float


FULL = Size(60, 120)
QUICK = Size(2, 4)
PLENTY = 2
"""Times as many jobs as may run: no crew runs out of work by being refused."""

ALLOWANCES = (
    Allowance("concurrency", 200, Work(prompt=20, answer=(5, 15), gap=0.5)),
    Allowance("requests_per_minute", 600, Work(prompt=20, answer=(5, 15), gap=0.05)),
    Allowance("tokens_per_minute", 100_000, Work(prompt=500, answer=(100, 500), gap=0.01)),
)
"""Answers of 5 s with two tokens a second, which the rivals' CPU can carry too; small ones of half
a second; answers at the pace of a fast model, whose prompts are more than half of it all."""


def run(stand: Stand, quick: bool) -> list[Result]:
    """Every limit, ours and then the rivals; if quick the first limit only."""
    size = QUICK if quick else FULL
    allowances = ALLOWANCES[:1] if quick else ALLOWANCES
    return [measure(kind(stand, allowance), size) for allowance in allowances for kind in CREWS]


def measure(crew: Crew, size: Size) -> Result:
    """One line."""
    allowance, stand = crew.allowance, crew.stand
    seconds = size.warm_up + size.window
    jobs = round(allowance.jobs_per_minute * (seconds / 60 + 1) * PLENTY)
    with stand.upstream(**allowance.limits), crew.started():
        crew.feed(jobs)
        series = Series(stand)
        series.watch(seconds, allowance.amount)
    figures = _figures(allowance, series, size)
    return Result("limits", f"{allowance.title}, {crew.name}", figures, series.samples())


def _figures(allowance: Allowance, series: Series, size: Size) -> Figures:
    counted, whole = series.between(size.warm_up, float("inf")), series.looks
    parts = [use(allowance, piece) for piece in pieces(counted, min(PIECE, size.window / 2))]
    refused = growth([Look(0, 0, 0, 0, 0, 0), *whole], "refused")
    return {
        USE: round(use(allowance, counted), 1),
        f"least use in {PIECE:g} s, %": round(min(parts), 1),
        "429": round(refused),
        "requests": whole[-1].requests,
    }


def use(allowance: Allowance, looks: list[Look]) -> float:
    """Per cent of what was allowed."""
    return per_second(looks, allowance.counter) / allowance.per_second * 100
