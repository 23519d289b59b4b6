"""The provider's limit drops to a third without notice, and comes back: how the gate follows."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from ops.bench.allowance import SLOTS, Allowance, Work
from ops.bench.crew import Gated
from ops.bench.result import Figures, Result
from ops.bench.series import PERIOD, Look, Series, growth, per_second
from ops.bench.stand import Stand

TITLE = "A limit that drops to a third and comes back"

NOT_SHOWN = """\
Four worker processes; the simulator's limit of requests at once falls from 200 to 66, and rises
again, while penstock.toml goes on saying 200. What runs at the drop is answered to its end, as
providers do. "429 in 10 s" counts from the drop, "later" until the limit rises again. "back
after" is when use has come back: from then on, for ten seconds, the mean of the requests at once
is at least 90 % of the limit, and what ran beyond it has ended. Every half second's counters are
in the raw results. Not shown: a rate that drops; there the 429 come one by one, and the gate
does the same."""

DROPPED = SLOTS // 3
BUSY_AT_MOST = 2 * DROPPED
"""Answers of 429 in the first ten seconds that are as few as can be expected."""

ENOUGH = 0.9
BLURRED = 1.05
"""Times the limit that half a second seems to use, as the two clocks are not read at once."""

FOR = 10.0
"""Seconds for which use must be enough to count as back; also those in which 429 are counted."""


class Size(NamedTuple):
    """Seconds at the whole limit, at a third, and at the whole limit again."""

    before: float
    low: float
    after: float


FULL = Size(30, 60, 60)
QUICK = Size(3, 4, 4)
WORK = Work(prompt=20, answer=(5, 15), gap=0.5)


def run(stand: Stand, quick: bool) -> list[Result]:
    """Both kinds of 429."""
    size = QUICK if quick else FULL
    return [measure(stand, size, retry_after) for retry_after in (False, True)]


def measure(stand: Stand, size: Size, retry_after: bool) -> Result:
    """One line."""
    allowance = Allowance("concurrency", SLOTS, WORK)
    crew = Gated(stand, allowance)
    with stand.upstream(concurrency=SLOTS, retry_after=retry_after), crew.started():
        crew.feed(round(sum(size) * allowance.jobs_per_minute / 60) + SLOTS)
        series = Series(stand)
        series.watch(size.before, SLOTS)
        stand.relimit(concurrency=DROPPED)
        dropped = series.now
        series.watch(size.low, DROPPED)
        stand.relimit(concurrency=SLOTS)
        risen = series.now
        series.watch(size.after, SLOTS)
    name = "429 with Retry-After" if retry_after else "429 without Retry-After"
    return Result("adaptive", name, _figures(series, dropped, risen), series.samples())


def _figures(series: Series, dropped: float, risen: float) -> Figures:
    low, high = series.between(dropped, risen), series.between(risen, float("inf"))
    first = [look for look in low if look.at <= dropped + FOR]
    return {
        "429 before": series.between(0, dropped)[-1].refused,
        f"429 in {FOR:g} s": round(growth(first, "refused")),
        "429 later": round(growth(low, "refused") - growth(first, "refused")),
        "low: back after, s": _back(low, DROPPED),
        "low: use since, %": _use_since(low, DROPPED),
        "high: back after, s": _back(high, SLOTS),
        "high: use since, %": _use_since(high, SLOTS),
        "429 at last": round(growth(high, "refused")),
    }


def back(looks: list[Look], limit: int) -> float | None:
    """Seconds until use is enough for FOR seconds, and not too much; None where it never is."""
    for place, (look, following) in enumerate(pairwise(looks)):
        ahead = [each for each in looks[place:] if each.at <= look.at + FOR]
        if looks[-1].at - look.at < FOR - PERIOD:
            return None
        settled = per_second([look, following], "seconds") <= BLURRED * limit
        if settled and ENOUGH * limit <= per_second(ahead, "seconds") <= BLURRED * limit:
            return look.at - looks[0].at
    return None


def _back(looks: list[Look], limit: int) -> float | str:
    seconds = back(looks, limit)
    return "never" if seconds is None else round(seconds, 1)


def _use_since(looks: list[Look], limit: int) -> float | str:
    since = looks[0].at + (back(looks, limit) or 0)
    mean = per_second([look for look in looks if look.at >= since], "seconds")
    return round(mean / limit * 100, 1)
