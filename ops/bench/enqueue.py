"""How fast a producer gets jobs accepted, and what each costs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from statistics import median
from typing import NamedTuple

import uvloop

from ops.bench.contender import Penstock
from ops.bench.load import ONE_TOKEN
from ops.bench.result import Figures, Result
from ops.bench.rivals import idle
from ops.bench.stand import Stand
from penstock import commands
from penstock.client import AsyncClient, Client
from penstock.settings import Settings
from penstock.store import Store
from worker.dispatch import CELERY_VERSION, render_template

TITLE = "Enqueue rate of one producer"

NOT_SHOWN = """\
Wall clock and the producer's own CPU; the median of the rounds. A route is registered, so admission
is part of it, but no worker runs. `delay()` sends a task with no arguments worth mentioning; a job
of Penstock is checked, stored with its request, put in fair order and announced in its feed. Not
shown: large prompts, where both sides are bound by copying; several producers at a time."""


class Size(NamedTuple):
    """How much."""

    jobs: int
    delays: int
    rounds: int


FULL = Size(jobs=50_000, delays=3_000, rounds=3)
QUICK = Size(jobs=1_000, delays=200, rounds=1)


def run(stand: Stand, quick: bool) -> list[Result]:
    """Both clients against `delay()`."""
    size = QUICK if quick else FULL
    idle.app.conf.broker_url = stand.redis_url
    return [
        measure(stand, "penstock, submit_many", size.jobs, size.rounds, submit_many),
        measure(stand, "penstock, async submit_many", size.jobs, size.rounds, submit_many_async),
        measure(stand, "penstock, submit", size.delays, size.rounds, submit),
        measure(stand, "celery, delay()", size.delays, size.rounds, delay),
    ]


def measure(
    stand: Stand, name: str, jobs: int, rounds: int, enqueue: Callable[[Settings, int], None]
) -> Result:
    """One line: so many jobs, several times, each time into an empty Redis."""
    walls, cpus = [], []
    for _ in range(rounds):
        settings = _registered(stand)
        wall, cpu = time.monotonic(), time.process_time()
        enqueue(settings, jobs)
        walls.append(time.monotonic() - wall)
        cpus.append(time.process_time() - cpu)
    figures: Figures = {
        "jobs/s": round(jobs / median(walls)),
        "client CPU, µs/job": round(median(cpus) / jobs * 1e6, 1),
        "jobs": jobs,
        "rounds": rounds,
    }
    return Result("enqueue", name, figures, {"wall, s": walls, "CPU, s": cpus})


def submit_many(settings: Settings, jobs: int) -> None:
    """The blocking client, in batches."""
    with closing(Client(settings)) as client:
        client.submit_many(ONE_TOKEN.body for _ in range(jobs))


def submit_many_async(settings: Settings, jobs: int) -> None:
    """The asyncio client, in batches."""

    async def submit_all() -> None:
        async with AsyncClient(settings) as client:
            await client.submit_many(ONE_TOKEN.body for _ in range(jobs))

    uvloop.run(submit_all())


def submit(settings: Settings, jobs: int) -> None:
    """The blocking client, one round trip a job."""
    with closing(Client(settings)) as client:
        for _ in range(jobs):
            client.submit(**ONE_TOKEN.body)


def delay(settings: Settings, jobs: int) -> None:
    """Celery's."""
    for _ in range(jobs):
        idle.nothing.delay()
    idle.app.close()


def _registered(stand: Stand) -> Settings:
    """An empty Redis that knows a route, as if a worker had been there."""
    stand.reset()
    settings = Penstock(stand).settings()
    with closing(Store(settings.server_url)) as store:
        store.run(commands.register(render_template(), CELERY_VERSION, settings.served_routes, {}))
    return settings
