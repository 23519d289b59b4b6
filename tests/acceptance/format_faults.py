"""Two versions of Penstock, with different formats of a record, take turns under load."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import Any

from penstock import keys
from tests.acceptance.figures import Row, unless
from tests.acceptance.fleet import POLL, Fleet, Program
from tests.acceptance.load import Load

OLD, NEW = 1, 2
LEASE = 2.0
RATE = 20.0


def plan(version: int) -> dict[str, Any]:
    """A worker of this version."""
    return {"format": version, "lease": LEASE}


async def upgraded_and_rolled_back(seed: int, *, rounds: int) -> Row:
    """Replace the workers one by one by newer ones, then by older ones again, while jobs flow.

    At last the older ones are alone: what is left of the newer format waits for one newer worker.
    """
    async with Fleet(settings={"drain_timeout": 0.5}) as fleet, Load.on(fleet, seed) as load:
        workers = await fleet.start_workers(3, plan(OLD))
        async with load.flow(RATE):
            for version in (NEW, OLD) * rounds:
                for _ in range(len(workers)):
                    await _replaced(fleet, workers, version)
                await _written(load, version)
        await asyncio.sleep(2 * LEASE)
        left = await load.ledger.client.store.redis.zcard(keys.ASIDE)
        await fleet.start_workers(1, plan(NEW))
        await load.finish(timeout=60)
        verdict = await load.ledger.audit()
        records = load.ledger.records.values()
        written = Counter(int(record["version"]) for record in records)
        unread = [line for worker in fleet.workers for line in worker.logged("job_unreadable")]
        busiest = max(Counter(line["job"] for line in unread).values(), default=0)
        recoveries = load.ledger.total("recoveries")
    return Row(
        "upgrade and rollback", seed, 2 * rounds, verdict,
        f"{written[OLD]} jobs in format {OLD}, {written[NEW]} in {NEW}; {len(unread)} times left "
        f"for others, one job {busiest} times at most; {left} at the end, when no newer was there",
        [
            *unless("both formats were written", written[OLD] > 0 and written[NEW] > 0),
            *unless("older workers met newer jobs", bool(unread)),
            *unless("no lease had to run out", recoveries == 0),
            *unless("all completed", verdict.ended["completed"] == len(load.ledger.acknowledged)),
        ],
    )  # fmt: skip


async def _replaced(fleet: Fleet, workers: list[Program], version: int) -> None:
    """Once the oldest of them works, it goes, and one of this version comes."""
    leaving = workers.pop(0)
    await leaving.says("job_claimed")
    workers += await fleet.start_workers(1, plan(version))
    leaving.signal(signal.SIGTERM)
    assert await leaving.ended(timeout=60) == 0, leaving.log.read_text()


async def _written(load: Load, version: int) -> None:
    """Wait until new jobs are of this format, and a second longer."""
    redis = load.ledger.client.store.redis
    while True:
        if int(await redis.get(keys.FORMAT)) == version:
            break
        await asyncio.sleep(POLL)
    await asyncio.sleep(1)
