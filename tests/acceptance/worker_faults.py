"""What happens to workers: killed, stopped, poisoned, replaced, set to the wrong time."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from penstock.commands import LEASE
from tests.acceptance.faulty_worker import STEPS
from tests.acceptance.figures import Row, percentiles, quantile, unless
from tests.acceptance.fleet import Fleet, Program, until
from tests.acceptance.ledger import Ledger, Verdict
from tests.acceptance.load import Load
from tests.acceptance.recovery import Kill, counted_holds, recoveries

SHORT = 2.0
"""A lease, in seconds, for forms that have no time for the real 10."""

RECOVERY = 12.0
"""Seconds in which a killed worker's jobs run again: a lease of 10, a sweep, an admission. Where
nobody swept for half a lease, as on a machine that starves all workers, one more for each time."""


async def killed(
    seed: int,
    *,
    jobs: int,
    kills: int,
    workers: int,
    pause: tuple[float, float],
    plan: dict[str, Any] | None = None,
    patience: float = 60,
) -> Row:
    """SIGKILL workers at random; each is replaced at once, as by a supervisor."""
    rng, done = random.Random(seed), []
    async with (
        Fleet() as fleet,
        Load.on(fleet, seed) as load,
        counted_holds(load.ledger) as holds,
    ):
        await fleet.start_workers(workers, plan)
        async with load.flow(jobs / (kills * sum(pause) / 2)):
            for _ in range(kills):
                await asyncio.sleep(rng.uniform(*pause))
                done.append(Kill.now(rng.choice(fleet.alive)))
                fleet.start_worker(plan)
        await load.submit(max(0, jobs - len(load.ledger.acknowledged)))
        await load.finish(patience)
        verdict = await load.ledger.audit()
        return _killed_row(load.ledger, done, verdict, len(holds) - 1)


def _killed_row(ledger: Ledger, kills: list[Kill], verdict: Verdict, holds: int) -> Row:
    found = recoveries(ledger, kills)
    running = sorted(recovery.running for recovery in found)
    noticed = [recovery.noticed for recovery in found if recovery.noticed is not None]
    figure = f"noticed {percentiles(noticed)}; running again {percentiles(running)}"
    bound = RECOVERY + holds * LEASE
    return Row(
        "worker killed", ledger.seed, len(kills), verdict,
        f"{figure}; sweeps held back {holds} times",
        [
            *unless("jobs that lost their worker are recovered", bool(running)),
            *unless(f"99 % within {bound:g} s", quantile([0, *running], 0.99) <= bound),
            *unless("only jobs that lost four workers fail", _only_worker_lost(ledger)),
        ],
    )  # fmt: skip


def _only_worker_lost(ledger: Ledger) -> bool:
    errors = [event.data["error"] for event in ledger.events("failed")]
    return all(e["type"] == "worker_lost" and "4 times" in e["message"] for e in errors)


async def killed_at_each_step(seed: int, *, rounds: int, lease: float = SHORT) -> Row:
    """Kill a worker before and after each step of an attempt."""
    rng, plan = random.Random(seed), {"lease": lease}
    async with Fleet() as fleet, Load.on(fleet, seed, tokens=10) as load:
        await fleet.start_workers(1, plan)
        async with load.flow(20):
            for step in STEPS * rounds:
                doomed = fleet.start_worker({**plan, "die": [step, rng.randint(1, 3)]})
                assert await doomed.ended() == -signal.SIGKILL, doomed.log.read_text()
        await load.finish(timeout=60)
        verdict = await load.ledger.audit()
    steps = f"{len(STEPS)} steps x {rounds} rounds"
    return Row("killed at each step", seed, len(STEPS) * rounds, verdict, steps)


async def zombie(
    seed: int, *, lease: float = SHORT, rounds: int = 1, without: str | None = None
) -> Row:
    """SIGSTOP a worker for three leases while its jobs are run by another, then SIGCONT."""
    async with Fleet() as fleet, Load.on(fleet, seed) as load:
        sleeper, _ = await fleet.start_workers(2, {"lease": lease, "without": without})
        for _ in range(rounds):
            await _occupy(sleeper, load)
            sleeper.signal(signal.SIGSTOP)
            await asyncio.sleep(3 * lease)
            noticed = len(_late(sleeper))
            sleeper.signal(signal.SIGCONT)
            await until(
                lambda before=noticed: without or len(_late(sleeper)) > before, "the zombie to wake"
            )
        await load.finish(timeout=30)
        verdict = await load.ledger.audit()
        refused = len(sleeper.logged("outcome_refused"))
    return Row("zombie", seed, rounds, verdict, f"{refused} late outcomes refused",
               unless("late outcomes are refused", refused > 0))  # fmt: skip


async def _occupy(worker: Program, load: Load, jobs: int = 10) -> None:
    """Submit until this worker has claimed so many more jobs."""
    before = len(worker.logged("job_claimed"))
    async with load.flow(20):
        await until(lambda: len(worker.logged("job_claimed")) >= before + jobs, "claims")


def _late(worker: Program) -> list[dict[str, Any]]:
    return worker.logged("outcome_refused") + worker.logged("lease_lost")


async def poison(seed: int, *, lease: float = SHORT, jobs: int = 30) -> Row:
    """Submit a job that kills whatever worker claims it."""
    plan = {"lease": lease, "poison": True}
    async with Fleet() as fleet, Load.on(fleet, seed, tokens=10) as load, supervised(fleet, plan):
        await fleet.start_workers(2, plan)
        (poisoned,) = await load.submit(1, metadata={"poison": "yes"})
        await load.submit(jobs)
        await load.finish(timeout=60)
        verdict = await load.ledger.audit()
        last = load.ledger.feeds[poisoned][-1]
        dead = len(fleet.workers) - len(fleet.alive)
    return Row(
        "poison", seed, dead, verdict, f"{dead} workers lost",
        [
            *unless("the poison fails", last.type == "failed"),
            *unless("as worker_lost", last.data.get("error", {}).get("type") == "worker_lost"),
            *unless("after three recoveries", dead == 4),
            *unless("all others complete", verdict.ended["completed"] == jobs),
        ],
    )  # fmt: skip


@asynccontextmanager
async def supervised(fleet: Fleet, plan: dict[str, Any] | None) -> AsyncIterator[None]:
    """Start another worker for each that ends, while the block runs."""

    async def supervise() -> None:
        while True:
            wanted = 2 - len(fleet.alive) if fleet.workers else 0
            for _ in range(wanted):
                fleet.start_worker(plan)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(supervise())
    try:
        yield
    finally:
        task.cancel()


async def wrong_clocks(seed: int, *, lease: float = SHORT) -> Row:
    """Run workers whose clocks are an hour early and late, with jobs longer than a lease."""
    async with Fleet() as fleet, Load.on(fleet, seed, gap=lease / 20) as load:
        for hour in (3600, -3600):
            await fleet.start_workers(1, {"lease": lease, "clock": hour}, concurrency=25)
        await load.submit(40, deadline=60)
        await load.finish(timeout=4 * lease + 20)
        verdict = await load.ledger.audit()
        recoveries = load.ledger.total("recoveries")
        shares = [len(worker.logged("job_claimed")) for worker in fleet.workers]
    return Row(
        "clock", seed, len(shares), verdict, f"{recoveries} recoveries, claims {shares}",
        [
            *unless("no job is taken from a living worker", recoveries == 0),
            *unless("both worked", all(shares)),
        ],
    )  # fmt: skip


async def rolling_deploy(seed: int, *, deploys: int, drain: float, seconds: float) -> Row:
    """Replace the workers one by one, SIGTERM to the old and a new one in its place."""
    async with Fleet(settings={"drain_timeout": drain}) as fleet, Load.on(fleet, seed) as load:
        old = await fleet.start_workers(2, {})
        drains = []
        async with load.flow(20):
            for _ in range(deploys):
                await _occupy_all(old)
                leaving = old.pop(0)
                drains.append(await _drained(leaving))
                old += await fleet.start_workers(1, {})
        await load.finish(timeout=30)
        verdict = await load.ledger.audit()
        handed_back, recoveries = load.ledger.total("excused"), load.ledger.total("recoveries")
    return Row(
        "rolling deploy", seed, deploys, verdict,
        f"drain {percentiles(drains)}; {handed_back} handed back, {recoveries} recovered",
        [
            *unless("no lease had to run out", recoveries == 0),
            *unless(f"each drained within {seconds:g} s", max(drains) <= seconds),
        ],
    )  # fmt: skip


async def _occupy_all(workers: list[Program]) -> None:
    for worker in workers:
        await worker.says("job_claimed")


async def _drained(worker: Program) -> float:
    """SIGTERM it; seconds until it has ended, with status 0."""
    started = time.monotonic()
    worker.signal(signal.SIGTERM)
    status = await worker.ended(timeout=60)
    assert status == 0, worker.log.read_text()
    return time.monotonic() - started
