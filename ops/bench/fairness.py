"""Tenants that share a route: who waits how long, and who gets how much."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from ops.bench.allowance import Allowance, Work
from ops.bench.crew import Gated
from ops.bench.result import Figures, Result, percentile
from ops.bench.stand import BenchmarkError, Stand
from penstock import keys
from penstock.client import Client
from penstock.settings import Settings

TITLE = "Fair shares"

NOT_SHOWN = """\
Four worker processes and a route of 100 streams at a time. "small beside large": one tenant has
all the waiting jobs, another comes with 20; how long those wait until a worker has them, also in
service times, that is in lengths of the mean answer. "weights": three tenants with always more
work than their share, and the tokens the gate charged to each while all of them waited; "off" is
how far the share of the worst one is from its weight. "one job each": that many tenants come in
any order with a job each, behind one with many jobs that came before; "passed over" is the most
jobs of the large tenant that started between a tenant's arrival and its start, "overtaken" the
most tenants that came later than one and started before it, beyond the route's streams, which
start side by side. Not shown: several routes; tenants with limits of their own."""

STREAMS = 100
WEIGHTS = {"light": 1, "middle": 2, "heavy": 4}
FEW = 20


class Size(NamedTuple):
    """How much.

    Attributes:
        large: waiting jobs of the large tenant.
        tenants: with a job each.
        seconds: for which weights are measured.
    """

    large: int
    tenants: int
    seconds: float


FULL = Size(large=50_000, tenants=10_000, seconds=60)
QUICK = Size(large=500, tenants=200, seconds=5)
SERVED = Allowance("concurrency", STREAMS, Work(prompt=20, answer=(5, 15), gap=0.2))
SHORT = Allowance("concurrency", STREAMS, Work(prompt=20, answer=(1, 9), gap=0.1))
VARIED = Allowance("concurrency", STREAMS, Work(prompt=20, answer=(2, 38), gap=0.05))


def run(stand: Stand, quick: bool) -> list[Result]:
    """All three."""
    size = QUICK if quick else FULL
    return [
        beside_large(Shared(stand, SERVED), size),
        weights(Weighted(stand, VARIED), size),
        one_each(Shared(stand, SHORT), size),
    ]


class Shared(Gated):
    """Our workers, and what tenants submit to them."""

    def submit(self, tenants: Sequence[str]) -> list[str]:
        """A job for each of these, in this order; their ids."""
        with closing(Client(Settings.load(redis_url=self.stand.redis_url))) as client:
            bodies = self.allowance.work.bodies(len(tenants))
            named = ({**body, "tenant": name} for body, name in zip(bodies, tenants, strict=True))
            return [job.id for job in client.submit_many(named)]

    def times(self, jobs: Sequence[str]) -> list[tuple[float, float]]:
        """When each came and when a worker had it, by Redis's clock; 0 where none had it yet."""
        pipeline = self.stand.redis.pipeline(transaction=False)
        for job in jobs:
            pipeline.hmget(keys.job(job), "created_at", "started_at")
        return [(float(came), float(began or 0)) for came, began in pipeline.execute()]

    def wait_started(self, jobs: Sequence[str], seconds: float) -> list[tuple[float, float]]:
        """Wait until a worker has had each; their times."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            times = self.times(jobs)
            if all(began for _, began in times):
                return times
            time.sleep(1)
        raise BenchmarkError(f"not all jobs have started within {seconds:g} s")


class Weighted(Shared):
    """The same with weights."""

    tenants = "".join(f"[tenants.{name}]\nweight = {w}\n" for name, w in WEIGHTS.items())

    def tokens(self) -> Counter[str]:
        """What each tenant has used so far, of jobs and attempts that ended."""
        used: Counter[str] = Counter()
        with closing(Client(Settings.load(redis_url=self.stand.redis_url))) as client:
            for row in client.usage(since=yesterday()):
                used[row.tenant] += row.prompt_tokens + row.completion_tokens
        return used


def beside_large(crew: Shared, size: Size) -> Result:
    """A tenant with a few jobs comes to one with very many."""
    with crew.stand.upstream(), crew.started():
        crew.submit(["large"] * size.large)
        time.sleep(2 * crew.allowance.work.seconds)  # every slot has turned over
        few = crew.submit(["small"] * FEW)
        times = crew.wait_started(few, 120)
    waits = [began - came for came, began in times]
    figures: Figures = {
        "waiting": size.large,
        "wait p50, s": round(percentile(waits, 0.5), 2),
        "wait max, s": round(max(waits), 2),
        "in service times": round(max(waits) / crew.allowance.work.seconds, 2),
    }
    return Result("fairness", "small beside large", figures, {"wait, s": waits})


def weights(crew: Weighted, size: Size) -> Result:
    """Three tenants with more work than their share of it."""
    jobs = round(crew.allowance.jobs_per_minute * (size.seconds / 60 + 0.5))
    with crew.stand.upstream(), crew.started():
        crew.submit([name for _ in range(jobs) for name in WEIGHTS])
        time.sleep(5)  # all three are there, and answers of usual length are known
        before = crew.tokens()
        time.sleep(size.seconds)
        used = crew.tokens() - before
    total = sum(used.values())
    shares = {name: used[name] / total for name in WEIGHTS}
    due = {name: weight / sum(WEIGHTS.values()) for name, weight in WEIGHTS.items()}
    off = max(abs(shares[name] / due[name] - 1) for name in WEIGHTS)
    figures: Figures = {f"{name}, %": round(share * 100, 2) for name, share in shares.items()}
    return Result(
        "fairness", "weights 1:2:4", {**figures, "tokens": total, "off, %": round(off * 100, 2)}
    )


def one_each(crew: Shared, size: Size) -> Result:
    """Very many tenants with one job each, behind one with many."""
    names = [f"tenant-{number}" for number in range(size.tenants)]
    random.Random(1).shuffle(names)
    seconds = (size.tenants * 1.2) / crew.allowance.jobs_per_minute * 60 + 60
    with crew.stand.upstream(), crew.started():
        large = crew.submit(["large"] * (size.tenants // 10 + 2 * STREAMS))
        singles = crew.submit(names)
        times = crew.wait_started(singles, 2 * seconds)
        of_large = sorted(began for _, began in crew.times(large))
    waits = [began - came for came, began in times]
    figures: Figures = {
        "waiting": size.tenants,
        "wait p50, s": round(percentile(waits, 0.5), 2),
        "wait max, s": round(max(waits), 2),
        "passed over": max(
            sum(came < at < began for at in of_large) for came, began in times[::50]
        ),
        "overtaken": max(max(overtaken(times)) - STREAMS, 0),
    }
    return Result("fairness", "one job each", figures, {"wait, s": waits})


def overtaken(times: Sequence[tuple[float, float]]) -> Iterator[int]:
    """For each, in the order they came, a lower bound of how many came later and started before.

    Whoever is n places further back in the order of starting than in that of coming was overtaken
    by n others at the least.
    """
    came = sorted(range(len(times)), key=lambda each: times[each][0])
    began = {each: place for place, each in enumerate(sorted(came, key=lambda e: times[e][1]))}
    for place, each in enumerate(came):
        yield began[each] - place


def yesterday() -> date:
    """A day from which on everything of this run is counted."""
    return (datetime.now(UTC) - timedelta(days=1)).date()
