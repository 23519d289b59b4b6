"""What happens to the server: killed, away, out of memory, its scripts forgotten."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from penstock.errors import StoreFull
from tests.acceptance.figures import Row, percentiles, unless
from tests.acceptance.fleet import Fleet, until
from tests.acceptance.ledger import Ledger
from tests.acceptance.load import Load


async def killed(
    seed: int, *, kills: int, pause: tuple[float, float], plan: dict[str, Any] | None, rate: float
) -> Row:
    """SIGKILL the server under load and start it again at once, its file synced on each write."""
    rng, starts = random.Random(seed), []
    async with Fleet(appendfsync="always") as fleet, Load.on(fleet, seed) as load:
        await fleet.start_workers(2, plan)
        async with load.flow(rate):
            for _ in range(kills):
                await asyncio.sleep(rng.uniform(*pause))
                fleet.server.kill()
                await asyncio.to_thread(fleet.server.start)
                starts.append(time.time())
            await asyncio.sleep(rng.uniform(*pause))
        await load.finish(timeout=60)
        verdict = await load.ledger.audit()
        claims = _first_claims(load.ledger, starts)
    figure = f"first claim after {percentiles(claims)}; {load.retries} submissions again"
    return Row(
        "server killed", seed, kills, verdict, figure,
        [*unless("work goes on after each", len(claims) == kills), *_heard(load)],
    )  # fmt: skip


def _first_claims(ledger: Ledger, starts: Iterable[float]) -> list[float]:
    """Seconds from each start to the next claim."""
    claims = sorted(event.time for event in ledger.events("started"))
    return [
        min(claim - start for claim in claims if claim > start)
        for start in starts
        if claims and claims[-1] > start
    ]


def _heard(load: Load) -> list[str]:
    return unless(f"followers see no error: {load.failures[:1]}", not load.failures)


async def away(seed: int, *, lease: float, jobs: int = 40, without: str | None = None) -> Row:
    """Stop the server for three leases while jobs stream that last longer than that."""
    tokens = 40
    async with (
        Fleet() as fleet,
        Load.on(fleet, seed, tokens=tokens, gap=6 * lease / tokens, follow=4) as load,
    ):
        await fleet.start_workers(2, {"lease": lease, "without": without})
        await load.submit(jobs)
        await until(lambda: _claimed(fleet) == jobs, "all claims")
        fleet.server.stop()
        await asyncio.sleep(3 * lease)
        await asyncio.to_thread(fleet.server.start)
        await load.finish(timeout=12 * lease + 20)
        verdict = await load.ledger.audit()
        repeated = sum(event.cursor.attempt > 1 for event in load.ledger.events("started"))
    figure = f"{repeated} duplicate attempts"
    return Row("server away", seed, 1, verdict, figure,
               unless("no living worker loses a job", repeated == 0) + _heard(load))  # fmt: skip


def _claimed(fleet: Fleet) -> int:
    return sum(len(worker.logged("job_claimed")) for worker in fleet.workers)


async def scripts_forgotten(seed: int, *, seconds: float, every: float) -> Row:
    """Flush the script cache again and again under load."""
    flushes = 0
    async with Fleet() as fleet, Load.on(fleet, seed, tokens=20) as load:
        await fleet.start_workers(2, {})
        redis = load.ledger.client.store.redis
        async with load.flow(20):
            for _ in range(round(seconds / every)):
                await asyncio.sleep(every)
                await redis.script_flush()
                flushes += 1
        await load.finish(timeout=30)
        verdict = await load.ledger.audit()
        reloads = await _reloads(redis)
        troubles = [line for worker in fleet.workers for line in worker.logged("store_away")]
    return Row(
        "scripts forgotten", seed, flushes, verdict, f"{reloads} reloads",
        [
            *unless("scripts were loaded again", reloads > flushes),
            *unless(f"workers see no error: {troubles[:1]}", not troubles),
            *_heard(load),
        ],
    )  # fmt: skip


async def _reloads(redis: Any) -> int:
    """How often a script's source was sent, in whichever of the two ways there are."""
    calls = await redis.info("commandstats")
    ways = ("cmdstat_script|load", "cmdstat_eval")
    return sum(calls[way]["calls"] for way in ways if way in calls)


async def memory_full(seed: int, *, jobs: int) -> Row:
    """Bring the server to its memory limit while jobs run, then give it room again."""
    refused: list[str] = []
    async with Fleet() as fleet, Load.on(fleet, seed, follow=4, tokens=20) as load:
        await fleet.start_workers(2, {})
        redis = load.ledger.client.store.redis
        await load.submit(jobs)
        await until(lambda: _claimed(fleet) >= jobs, "claims")
        async with _memory_limit(redis, 1):
            refused += await _refusals(load, 10)
            ended = await load.ledger.settle(timeout=30)
        await load.submit(jobs)
        await load.finish(timeout=30)
        verdict = await load.ledger.audit()
    return Row(
        "memory full", seed, len(refused), verdict, f"{len(refused)} of 10 refused",
        [
            *unless("every submission is refused", len(refused) == 10),
            *unless("with advice", all("maxmemory" in text for text in refused)),
            *unless("running jobs finish meanwhile", ended),
            *_heard(load),
        ],
    )  # fmt: skip


@asynccontextmanager
async def _memory_limit(redis: Any, limit: int) -> AsyncIterator[None]:
    await redis.config_set("maxmemory", limit)
    try:
        yield
    finally:
        await redis.config_set("maxmemory", 0)


async def _refusals(load: Load, count: int) -> list[str]:
    """What so many submissions that are not wanted back were refused with."""
    refused = []
    for number in range(count):
        try:
            message = {"role": "user", "content": f"refused {number}"}
            await load.ledger.client.submit([message])
        except StoreFull as error:
            refused.append(str(error))
    return refused
