"""Workers and the server are killed while a limit of the gate holds jobs back; nothing leaks."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from typing import Any, NamedTuple

from penstock import commands, keys
from tests.acceptance.figures import Row, percentiles, unless
from tests.acceptance.fleet import PATIENCE, POLL, Fleet, until
from tests.acceptance.ledger import Ledger
from tests.acceptance.load import Load
from tests.acceptance.recovery import Kill, recoveries

SPARE = 2.0
"""Seconds beyond a lease in which what a lost worker held is used again: a sweep, an admission."""

STEP, WINDOW = 0.5, 60
"""Of penstock/lua/include/window.lua."""

MICRO = 1e-6
"""USD: what the scripts round to."""


class Limit(NamedTuple):
    """What holds jobs back: fields of the default route, and of the tenant."""

    route: dict[str, Any]
    tenant: dict[str, Any]

    @property
    def settings(self) -> dict[str, str]:
        """For a fleet."""
        return {
            "routes": json.dumps({"default": self.route}),
            "tenants": json.dumps({"default": self.tenant} if self.tenant else {}),
        }


LIMITS = {
    "concurrency": Limit({"concurrency": 8}, {}),
    "requests": Limit({"requests_per_minute": 1200, "burst": 20}, {}),
    "tokens": Limit({"tokens_per_minute": 40_000}, {}),
    "tenant": Limit(
        {}, {"concurrency": 8, "requests_per_minute": 1200, "tokens_per_minute": 100_000}
    ),
    "budget": Limit({"concurrency": 8}, {"budget_day": 1.0, "budget_month": 1.0}),
}


class Faults(NamedTuple):
    """How often workers and the server are killed; lease in seconds."""

    kills: int
    restarts: int
    lease: float


async def killed(
    seed: int, name: str, faults: Faults, *, jobs: int, workers: int, without: str | None = None
) -> Row:
    """SIGKILL workers, each replaced at once, then the server, under one of LIMITS."""
    async with (
        Fleet(appendfsync="always", settings=LIMITS[name].settings) as fleet,
        Load.on(fleet, seed, tokens=40, gap=0.02, follow=0) as load,
    ):
        plan = {"lease": faults.lease, "without": without}
        await fleet.start_workers(workers, plan)
        await load.submit(jobs)
        kills = await _kill_workers(fleet, faults, plan, random.Random(seed))
        await asyncio.sleep(faults.lease + SPARE)  # two faults at a time would be another row
        await load.submit(jobs // 2)
        starts = await _kill_server(fleet, faults, random.Random(seed))
        await load.finish(timeout=60 + jobs / 5)
        verdict = await load.ledger.audit()
        found = recoveries(load.ledger, kills)
        claims = _next_claims(load.ledger, starts)
        leaked = await leaks(load.ledger)
    bound, freed = faults.lease + SPARE, [recovery.freed for recovery in found]
    running = [recovery.running for recovery in found]
    return Row(
        f"killed under a limit of {name}", seed, faults.kills + faults.restarts, verdict,
        f"free again after {percentiles(freed)}; running again {percentiles(running)}; "
        f"after a restart {percentiles(claims)}",
        [
            *unless("jobs that lost their worker are recovered", bool(freed)),
            *unless(f"within {bound:g} s", max([0, *freed, *claims]) <= bound),
            *unless("admission goes on after each restart", len(claims) == faults.restarts),
            *unless(f"nothing leaks: {leaked}", not leaked),
        ],
    )  # fmt: skip


async def _kill_workers(
    fleet: Fleet, faults: Faults, plan: dict[str, Any], rng: random.Random
) -> list[Kill]:
    """One by one, each while it has jobs."""
    kills = []
    for _ in range(faults.kills):
        victim = rng.choice(fleet.alive)
        before = len(victim.logged("job_completed"))
        await until(lambda v=victim, b=before: len(v.logged("job_completed")) > b, "a busy worker")
        kills.append(Kill.now(victim))
        await fleet.start_workers(1, plan)
        await asyncio.sleep(rng.uniform(0, faults.lease))
    return kills


async def _kill_server(fleet: Fleet, faults: Faults, rng: random.Random) -> list[float]:
    """Again and again; when it was back each time."""
    starts = []
    for _ in range(faults.restarts):
        fleet.server.kill()
        await asyncio.to_thread(fleet.server.start)
        starts.append(time.time())
        await asyncio.sleep(rng.uniform(0, faults.lease))
    return starts


def _next_claims(ledger: Ledger, starts: list[float]) -> list[float]:
    """Seconds from each start of the server to the next claim."""
    claims = sorted(event.time for event in ledger.events("started"))
    after = ([claim - start for claim in claims if claim > start] for start in starts)
    return [waits[0] for waits in after if waits]


async def until_held_up(ledger: Ledger) -> None:
    """Wait until nothing runs though jobs wait, and the gate lets none pass either.

    Between the end of one job and the admission of the next nothing runs for a moment.
    """
    store = ledger.client.store
    async with asyncio.timeout(PATIENCE):
        while True:
            gate = await store.run(commands.admit("default"))
            if gate and not gate.in_use and await store.redis.zcard(keys.parked("default")):
                return
            await asyncio.sleep(POLL)


async def leaks(ledger: Ledger) -> dict[str, Any]:
    """What the gate still counts though every job has ended; after `audit`."""
    redis = ledger.client.store.redis
    held = await redis.zcard(keys.held("default"))
    running = await redis.scard(keys.CATALOGUE["running"] + "default")
    reserved = [job for job, record in ledger.records.items() if "reserved" in record]
    window = await _window_error(ledger)
    budget = await _budget_error(ledger)
    found = {
        "slots": held, "running": running, "reservations": len(reserved), "window": window,
        "budget": budget,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}


async def _window_error(ledger: Ledger) -> int:
    """Tokens by which the last minute's window differs from what its jobs used.

    Beyond their answers it may hold what lost workers had streamed, as far as that was charged.
    """
    redis = ledger.client.store.redis
    window = await redis.hgetall(keys.CATALOGUE["window"] + "default")
    if not window:
        return 0
    counted = {int(step): int(tokens) for step, tokens in window.items() if step.isdigit()}
    used: Counter[int] = Counter()
    for job, feed in ledger.feeds.items():
        usage = feed[-1].data.get("usage", {})
        step = int(float(ledger.records[job]["admitted_at"]) // STEP)
        used[step] += usage.get("total_tokens", 0)
    seconds, _ = await redis.time()
    young = [step for step in counted if (step + 1) * STEP > seconds - WINDOW + 2]
    missing = sum(max(0, used[step] - counted[step]) for step in young)
    beyond = sum(counted[step] - used[step] for step in young) + missing
    lost = max(0, beyond - (await _charged(ledger) - sum(used.values())))
    return missing + lost + abs(int(window[b"sum"]) - sum(counted.values()))


async def _charged(ledger: Ledger) -> int:
    """Tokens that the tenant was charged with, on all days."""
    redis = ledger.client.store.redis
    kinds = ("default prompt_tokens", "default completion_tokens")
    total = 0
    async for day in redis.scan_iter(keys.usage("default", "*")):
        total += sum(int(tokens or 0) for tokens in await redis.hmget(day, kinds))
    return total


async def _budget_error(ledger: Ledger) -> float:
    """USD by which the budget's books differ from what was used, beyond what rounding explains."""
    redis = ledger.client.store.redis
    spent = await redis.hgetall(keys.CATALOGUE["tenant"] + "default")
    if b"day_usd" not in spent:
        return 0.0
    used = await redis.hget(keys.usage("default", spent[b"day"].decode()), "default usd")
    attempts = sum(int(record["attempt"]) for record in ledger.records.values())
    error = abs(float(spent[b"day_usd"]) - float(used))
    return error if error > attempts * MICRO else 0.0
