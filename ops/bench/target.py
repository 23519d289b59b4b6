"""What Penstock promises about its own speed, and whether a run keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from ops.bench import gateway, hooks
from ops.bench.adaptive import BUSY_AT_MOST
from ops.bench.admission import UNDISTURBED
from ops.bench.cpu import RATE
from ops.bench.limits import ALLOWANCES, USE
from ops.bench.result import Result


class Verdict(NamedTuple):
    """One target: what was promised, what came out."""

    target: str
    figure: str
    met: bool


class Target(NamedTuple):
    """A limit on one figure of one line."""

    benchmark: str
    contender: str
    column: str
    sign: Literal["at most", "at least"]
    limit: float

    def holds(self, figure: float) -> bool:
        """Whether a figure keeps it."""
        return figure <= self.limit if self.sign == "at most" else figure >= self.limit


FIXED = (
    Target("cpu", "penstock, 1000 streams", "CPU, µs/token", "at most", 50),
    Target("latency", "penstock", "added p50, ms", "at most", 10),
    Target("latency", "penstock", "added p99, ms", "at most", 40),
    Target("enqueue", "penstock, submit_many", "jobs/s", "at least", 20_000),
    Target("memory", "penstock", "1000 streams", "at most", 120),
    Target("tracing", "off", "of a job, %", "at most", 1),
    Target("tracing", "on, 1 %", "of a job, %", "at most", 3),
    Target("admission", "1 tenant, 1000000 waiting", UNDISTURBED, "at most", 100),
    *(
        Target("admission", f"10000 tenants, {waiting} waiting", UNDISTURBED, "at most", 100)
        for waiting in (10_000, 100_000, 1_000_000)
    ),
    *(
        target
        for name in (f"{allowance.title}, penstock" for allowance in ALLOWANCES)
        for target in (
            Target("limits", name, USE, "at least", 98),
            Target("limits", name, "429", "at most", 0),
        )
    ),
    *(
        target
        for name in ("429 without Retry-After", "429 with Retry-After")
        for target in (
            Target("adaptive", name, "429 in 10 s", "at most", BUSY_AT_MOST),
            Target("adaptive", name, "low: back after, s", "at most", 30),
            Target("adaptive", name, "high: back after, s", "at most", 30),
        )
    ),
    *(
        target
        for name in ("0 of 2000 stalled", "50 of 2000 stalled")
        for target in (
            Target("gateway", name, "missing", "at most", 0),
            Target("gateway", name, "ended", "at least", 2000),
        )
    ),
    Target("gateway", "50 of 2000 stalled", "fell behind", "at least", 50),
    Target("gateway", "50 of 2000 stalled", gateway.RATIO, "at most", 1.2),
    Target("hooks", "a delivery", hooks.P50, "at most", 5),
    Target("hooks", "a delivery", hooks.P99, "at most", 20),
    Target("fairness", "small beside large", "in service times", "at most", 2),
    Target("fairness", "weights 1:2:4", "off, %", "at most", 3),
    Target("fairness", "one job each", "overtaken", "at most", 0),
)

FLAT = 20
"""Per cent by which an admission with a million jobs waiting may cost more, or less, than with a
thousand."""

LATEST = 0.3
"""Seconds between two messages of a stream beyond which ours is late, not sparing: worker/pace.py
lets a turn come once in five flush intervals of 50 ms at the least; a fifth more for gathering."""

NEVER = float("inf")

RATIO = 12.0
"""How many times less CPU a token costs ours than the better rival, at its better load."""


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """Of every target whose benchmark was run at full size."""
    fixed = [verdict for target in FIXED if (verdict := _fixed(target, results))]
    return [*fixed, *_flatness(results), *_cpu_ratio(results), *_jobs_ratio(results)]


def _fixed(target: Target, results: Sequence[Result]) -> Verdict | None:
    figure = _figure(results, target.benchmark, target.contender, target.column)
    if figure is None:
        return None
    late = _lateness(results) if target.benchmark == "cpu" else ""
    what = f"{target.contender}: {target.column}"
    text = f"{what} {target.sign} {target.limit:g}"
    return Verdict(text, f"{figure:g}{late}", target.holds(figure) and not late)


def _flatness(results: Sequence[Result]) -> list[Verdict]:
    few = _figure(results, "admission", "1 tenant, 1000 waiting", UNDISTURBED)
    others = [
        figure
        for waiting in (10_000, 100_000, 1_000_000)
        if (figure := _figure(results, "admission", f"1 tenant, {waiting} waiting", UNDISTURBED))
    ]
    if few is None or not others:
        return []
    off = max(((figure / few - 1) * 100 for figure in others), key=abs)
    text = f"1 tenant: {UNDISTURBED}, 1000000 waiting off 1000, per cent, at most {FLAT}"
    return [Verdict(text, f"{off:+.0f}", abs(off) <= FLAT)]


def _cpu_ratio(results: Sequence[Result]) -> list[Verdict]:
    late = _lateness(results)
    ours = _figure(results, "cpu", "penstock, 1000 streams", "CPU, µs/token")
    theirs = _figures(results, "cpu", "celery", "CPU, µs/token")
    if ours is None or not theirs:
        return []
    ratio = min(theirs) / ours
    text = f"CPU per token: better rival at its better load over ours, at least {RATIO:g}"
    return [Verdict(text, f"{ratio:.1f}{late}", ratio >= RATIO and not late)]


def _lateness(results: Sequence[Result]) -> str:
    """What makes a CPU figure of ours too good to be true: a late worker merges many tokens."""
    per_token = _figure(results, "cpu", "penstock, 1000 streams", "messages/token") or 0.0
    apart = 1 / max(per_token * RATE, 1e-9)
    if apart <= LATEST:
        return ""
    return f" (not valid: late, messages of a stream {apart:.2f} s apart)"


def _jobs_ratio(results: Sequence[Result]) -> list[Verdict]:
    pairs = {"call": "penstock, call", "empty": "our pool, empty, penstock's settings"}
    found = []
    for kind, name in pairs.items():
        ours = _figure(results, "noop", name, "jobs/s")
        theirs = [
            float(result.figures["jobs/s"])
            for result in results
            if result.contender.startswith("celery") and result.contender.endswith(f", {kind}")
        ]
        if ours is not None and theirs:
            text = f"{name}: jobs/s above the better rival's ({max(theirs):g})"
            found.append(Verdict(text, f"{ours:g}", ours > max(theirs)))
    return found


def _figure(results: Sequence[Result], benchmark: str, contender: str, column: str) -> float | None:
    for result in results:
        if (result.benchmark, result.contender) == (benchmark, contender):
            figure = result.figures.get(column)
            return NEVER if figure == "never" else None if figure is None else float(figure)
    return None


def _figures(results: Sequence[Result], benchmark: str, prefix: str, column: str) -> list[float]:
    return [
        float(result.figures[column])
        for result in results
        if result.benchmark == benchmark and result.contender.startswith(prefix)
    ]
