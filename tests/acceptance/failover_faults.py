"""The primary of a set that Sentinels watch is killed; a replica takes over."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

from penstock import keys
from penstock.job import new_id
from tests.acceptance.figures import Row, percentiles, unless
from tests.acceptance.fleet import Fleet
from tests.acceptance.load import Load
from tests.sentinels import Member, ServerSet

LAG = 1.0
"""Seconds before a kill within which a job may be lost. Healthy servers copy within microseconds,
as docs/operations.md says; the rest is for a machine that does everything at once."""


class GuardedFleet(Fleet):
    """A fleet whose server is a primary with replicas, watched by three Sentinels.

    Workers go there as the user `worker`.
    """

    def __init__(self, *, tls: bool = False, down_after: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.server: Any = ServerSet(self.directory / "s", tls=tls, down_after=down_after)

    def environment(self, **settings: str) -> dict[str, str]:
        """As of a Fleet."""
        return super().environment(redis_url=self.server.url_of("worker"), **settings)


async def failed_over(
    seed: int, *, times: int, pause: tuple[float, float], plan: dict[str, Any] | None, rate: float
) -> Row:
    """SIGKILL the primary under load again and again; the killed one comes back as a replica.

    Then everything is submitted once more, by its idempotency key, as whoever wants to be sure
    does.
    """
    rng = random.Random(seed)
    kills: list[float] = []
    replaced: list[float] = []
    async with GuardedFleet(down_after=1000) as fleet, Load.on(fleet, seed) as load:
        workers = await fleet.start_workers(2, plan)
        async with load.flow(rate):
            for number in range(times):
                await asyncio.sleep(rng.uniform(*pause))
                killed: Member = await asyncio.to_thread(fleet.server.fail_over)
                kills.append(killed.killed_at)
                replaced.append(time.time() - kills[-1])
                if number + 1 < times:
                    await asyncio.to_thread(fleet.server.bring_back, killed)
            await asyncio.sleep(rng.uniform(*pause))
        lost = await forgotten(load)
        older = beyond_bound(lost, kills)
        await submit_again(load, lost)
        await load.finish(timeout=60)
        verdict = await load.ledger.audit()
        claims = first_claims(load, kills)
        idle = [w.pid for w in workers if not _claimed_since(w.logged("job_claimed"), kills[-1])]
        died = [worker.pid for worker in workers if worker.status is not None]
    figure = (
        f"{len(lost)} of {len(load.ledger.acknowledged)} lost before they were submitted again; "
        f"another primary after {percentiles(replaced)}; first claim after {percentiles(claims)} "
        f"({', '.join(f'{each:.2f}' for each in claims)}); {load.retries} submissions again"
    )
    return Row(
        "primary killed", seed, times, verdict, figure,
        [
            *unless(f"nothing is lost that was older: {older}", not older),
            *unless("work goes on after each", len(claims) == times),
            *unless(f"no worker ends: {died}", not died),
            *unless(f"each worker works on: {idle}", not idle),
            *unless(f"followers see no error: {load.failures[:1]}", not load.failures),
        ],
    )  # fmt: skip


def first_claims(load: Load, kills: Sequence[float]) -> list[float]:
    """Seconds from each kill to the next claim."""
    claims = sorted(event.time for event in load.ledger.events("started"))
    after = ([claim - kill for claim in claims if claim > kill] for kill in kills)
    return [each[0] for each in after if each]


def _claimed_since(lines: Sequence[dict[str, Any]], moment: float) -> bool:
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return any(line["timestamp"] > since for line in lines)


def beyond_bound(lost: Iterable[str], kills: Sequence[float]) -> list[str]:
    """Those that were made longer than LAG before each kill; ids sort by when they were made."""
    spans = [(new_id(kill - LAG), new_id(kill)) for kill in kills]
    return [job for job in lost if not any(begin <= job <= end for begin, end in spans)]


async def forgotten(load: Load) -> dict[str, int]:
    """The acknowledged jobs that no server knows any more, with their indexes."""
    ledger, lost = load.ledger, {}
    for job, index in ledger.acknowledged.items():
        if not await ledger.client.store.redis.exists(keys.job(job)):
            lost[job] = index
    return lost


async def submit_again(load: Load, lost: dict[str, int]) -> None:
    """Submit all there ever was by its key; jobs that are known answer, lost ones are new."""
    ledger = load.ledger
    for job in lost:
        del ledger.acknowledged[job]
        ledger.seen.pop(job, None)
    for index, body in ledger.bodies.items():
        key = f"{ledger.seed}/{index}"
        job = await ledger.client.submit(**body, idempotency_key=key)
        ledger.acknowledge(job.id, index)
