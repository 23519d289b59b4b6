"""What the detour costs: time to the first delta through a queue, against a direct call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import NamedTuple

import redis.asyncio
import uvloop

from ops.bench.contender import CeleryWorker, Contender, Penstock, everybody
from ops.bench.load import MESSAGES, MODEL, Load
from ops.bench.result import Figures, Result, percentile
from ops.bench.sink import Watch
from ops.bench.stand import BenchmarkError, Stand
from penstock.client import AsyncClient
from penstock.events import EventType
from penstock.settings import Route
from worker.upstream.client import Upstream

TITLE = "Time to the first delta"

NOT_SHOWN = """\
From before `submit()` (`apply_async()`) until a subscribed client has the first delta; jobs start
at a fixed rate, whether earlier ones have ended or not. "added" is a percentile minus the same
percentile of direct calls to the simulator, which waits as long before its first token each time.
Penstock's client opens a subscription for each job, as users do; the rival's listener has one
pattern subscription from the start. The background streams run on the same worker at 20 tokens/s
each. Not shown: a network between client, Redis and worker; a cold worker."""

WARM_UP = 20
"""Jobs before the count begins: connections are made then."""


class Size(NamedTuple):
    """How much."""

    jobs: int
    rate: float
    background: int


FULL = Size(jobs=500, rate=25, background=200)
QUICK = Size(jobs=40, rate=20, background=20)
PROBE = Load(tokens=5, gap=0.02, ttft=0.1)
GAP = 0.05

Ask = Callable[[int], Awaitable[float]]


def run(stand: Stand, quick: bool) -> list[Result]:
    """Direct calls, then everybody, then ours again with other streams beside."""
    size = QUICK if quick else FULL
    stand.reset()
    straight = uvloop.run(sample(size, direct(stand)))
    results = [_result("direct call", straight, straight)]
    for contender in everybody(stand):
        waits = through(contender, size, 0)
        results.append(_result(contender.name, waits, straight))
    waits = through(Penstock(stand), size, size.background)
    busy = f"penstock, {size.background} streams beside"
    return [*results, _result(busy, waits, straight)]


def through(contender: Contender, size: Size, background: int) -> list[float]:
    """The waits at one worker."""
    with contender.started(background + 200):
        if background:
            seconds = (size.jobs + WARM_UP) / size.rate + 20
            contender.feed(background, Load(round(seconds / GAP), gap=GAP))
            contender.stand.wait_streams(background)
            time.sleep(1)
        if isinstance(contender, CeleryWorker):
            return uvloop.run(sample(size, published(contender)))
        return uvloop.run(sample(size, followed(contender.stand)))


async def sample(size: Size, asking: AbstractAsyncContextManager[Ask]) -> list[float]:
    """Ask at the rate; seconds until each first token, the warm-up left out."""
    loop = asyncio.get_running_loop()
    async with asking as ask:
        tasks, began = [], loop.time()
        for number in range(size.jobs + WARM_UP):
            await asyncio.sleep(max(0.0, began + number / size.rate - loop.time()))
            tasks.append(asyncio.ensure_future(ask(number)))
        return (await asyncio.gather(*tasks))[WARM_UP:]


@asynccontextmanager
async def direct(stand: Stand) -> AsyncIterator[Ask]:
    """Straight to the simulator, over kept-alive connections, with our own upstream client."""
    route, upstream = Route(url=stand.upstream_url, model=MODEL), Upstream()

    async def ask(number: int) -> float:
        began, watch = time.monotonic(), Watch()
        await upstream.stream(route, PROBE.content, 60, watch)
        return watch.first - began

    yield ask
    await upstream.close()


@asynccontextmanager
async def followed(stand: Stand) -> AsyncIterator[Ask]:
    """Through Penstock, as an application does it."""

    async def ask(number: int) -> float:
        began = time.monotonic()
        job = await client.submit(**PROBE.body)
        async with aclosing(job.events(timeout=60)) as events:  # type: ignore[type-var]
            async for event in events:
                if event.type == EventType.DELTA:
                    return time.monotonic() - began
        raise BenchmarkError(f"{job.id} ended without a delta")

    async with AsyncClient(Penstock(stand).settings()) as client:
        yield ask


@asynccontextmanager
async def published(contender: CeleryWorker) -> AsyncIterator[Ask]:
    """Through Celery and a PUBLISH a token, one listener for all."""
    heard: dict[str, asyncio.Future[float]] = {}

    async def ask(number: int) -> float:
        began, channel = time.monotonic(), f"probe:{number}"
        heard[channel] = asyncio.get_running_loop().create_future()
        contender.app.send_task("chat", [channel, MESSAGES, PROBE.simulate], ignore_result=True)
        return await heard[channel] - began

    async with listener(contender.stand, heard):
        yield ask


@asynccontextmanager
async def listener(stand: Stand, heard: dict[str, asyncio.Future[float]]) -> AsyncIterator[None]:
    """Sets each channel's future to the time of its first message."""

    async def listen() -> None:
        async for message in channel.listen():
            first = heard.get(message["channel"].decode())
            if message["type"] == "pmessage" and first and not first.done():
                first.set_result(time.monotonic())

    async with redis.asyncio.Redis.from_url(stand.redis_url) as store, store.pubsub() as channel:
        await channel.psubscribe("probe:*")
        task = asyncio.create_task(listen())
        yield
        task.cancel()
        await asyncio.wait([task])


def _result(name: str, waits: list[float], straight: list[float]) -> Result:
    figures: Figures = {}
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        figures[f"{label}, ms"] = round(percentile(waits, share) * 1e3, 1)
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        added = percentile(waits, share) - percentile(straight, share)
        figures[f"added {label}, ms"] = round(added * 1e3, 1)
    figures["jobs"] = len(waits)
    return Result("latency", name, figures, {"ms": [round(wait * 1e3, 2) for wait in waits]})
