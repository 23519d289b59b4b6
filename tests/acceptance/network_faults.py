"""What happens between workers and server: lost replies, partitions, readers that stop reading."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from penstock import keys
from penstock.events import Event
from tests.acceptance.figures import Row, percentiles, quantile, unless
from tests.acceptance.fleet import Fleet, Program, until
from tests.acceptance.load import Load
from tests.acceptance.proxy import Proxy
from tests.acceptance.recovery import Kill, counted_holds, recoveries


async def replies_lost(seed: int, *, jobs: int, lease: float, without: str | None = None) -> Row:
    """Drop the reply of every tenth script call, and the connection, after the script has run."""
    async with (
        Fleet() as fleet,
        Proxy(fleet.server.socket_path, loss=0.1, seed=seed) as proxy,
        Load.on(fleet, seed, tokens=20, twice=5, url=proxy.url) as load,
    ):
        fleet.through = proxy.url
        await fleet.start_workers(2, {"lease": lease, "without": without})
        for _ in range(jobs // 5):
            await load.submit(5)
        await load.finish(timeout=60)
        verdict = await load.ledger.audit()
        recovered = load.ledger.total("recoveries")
    figure = (
        f"{proxy.dropped} replies lost, {load.retries} submissions again, {recovered} recovered"
    )
    return Row("reply lost", seed, proxy.dropped, verdict, figure,
               unless("submissions were made again", load.retries > 0))  # fmt: skip


async def partitions(seed: int, *, lease: float, bound: float) -> Row:
    """Cut three of four workers off for three leases: what they say, what they hear, and both."""
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(Fleet())
        load = await stack.enter_async_context(Load.on(fleet, seed))
        holds = await stack.enter_async_context(counted_holds(load.ledger))
        plan = {"lease": lease}
        await fleet.start_workers(1, plan)
        cuts = []
        async with load.flow(20):
            for ways in (["asking"], ["answering"], ["asking", "answering"]):
                proxy = await stack.enter_async_context(Proxy(fleet.server.socket_path))
                (far,) = await fleet.start_workers(1, plan, redis_url=proxy.url)
                cuts.append(_cut(far, [getattr(proxy, way) for way in ways], 3 * lease))
            kills = await asyncio.gather(*cuts)
        await load.finish(timeout=60)
        verdict = await load.ledger.audit()
        running = sorted(found.running for found in recoveries(load.ledger, kills))
        held_back = len(holds) - 1
    figure = f"running again {percentiles(running)}; sweeps held back {held_back} times"
    bound += held_back * lease
    return Row(
        "partition", seed, len(kills), verdict, figure,
        [
            *unless("jobs that were cut off are recovered", bool(running)),
            *unless(f"99 % within {bound:g} s", quantile([0, *running], 0.99) <= bound),
        ],
    )  # fmt: skip


async def _cut(worker: Program, ways: list[asyncio.Event], seconds: float) -> Kill:
    """When it has some jobs, blackhole these directions that long."""
    await until(lambda: len(worker.logged("job_claimed")) >= 5, "claims", 60)
    at = time.time()
    for way in ways:
        way.clear()
    await asyncio.sleep(seconds)
    for way in ways:
        way.set()
    return Kill(worker, at)


async def silenced(seed: int, *, jobs: int, lease: float) -> Row:
    """Silence every connection a worker has: its streams go on, on new ones, with their leases."""
    async with (
        Fleet() as fleet,
        Proxy(fleet.server.socket_path) as proxy,
        Load.on(fleet, seed) as load,
    ):
        plan = {"lease": lease}
        (worker,) = await fleet.start_workers(1, plan, redis_url=proxy.url)
        pace = {"tokens": 100, "ttft": 0, "gap": 4 * lease / 100}
        await load.submit(jobs, simulate=pace)
        await until(lambda: len(worker.logged("job_claimed")) == jobs, "claims")
        await fleet.start_workers(1, plan)
        silenced = proxy.hush()
        await load.finish(timeout=60)
        verdict = await load.ledger.audit()
        recovered = load.ledger.total("recoveries")
    return Row("silent connections", seed, silenced, verdict, f"{recovered} recovered",
               unless("no lease is lost", recovered == 0))  # fmt: skip


async def slow_reader(seed: int, *, size: int) -> Row:
    """Stop reading a feed until the server hangs up on the reader, then read on."""
    limits = {"client-output-buffer-limit": "pubsub 256kb 64kb 1"}
    async with Fleet(directives=limits) as fleet, Load.on(fleet, seed, follow=1) as load:
        await fleet.start_workers(1, {}, flush_interval=0)
        (job,) = await load.submit(1, simulate={"tokens": size, "ttft": 1, "gap": 0})
        slow = await _one_event(load, job)
        before = await _readers(load, job)
        await load.finish(timeout=60)
        dropped = int(before > await _readers(load, job) == 0)
        read = [event async for event in slow]
        verdict = await load.ledger.audit()
    whole = read == load.ledger.feeds[job][1:]
    return Row("slow reader", seed, dropped, verdict, f"caught up on {len(read)} events",
               unless("the slow reader sees every event once", whole))  # fmt: skip


async def _one_event(load: Load, job: str) -> AsyncIterator[Event]:
    """A reader of this job that has read one event and reads no more."""
    events = load.ledger.client.job(job).events(timeout=60)
    await anext(events)
    return events


async def _readers(load: Load, job: str) -> int:
    """How many clients listen to the job's feed now; those whose job has ended are gone."""
    channel = keys.feed(job)
    counted = await load.ledger.client.store.redis.pubsub_numsub(channel)
    return int(counted[0][1])
