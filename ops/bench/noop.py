"""Jobs per second of one worker process when the jobs themselves are as good as nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from ops.bench import meter
from ops.bench.contender import CeleryWorker, Contender, Penstock
from ops.bench.envelope import envelope, fill
from ops.bench.load import MESSAGES, ONE_TOKEN
from ops.bench.result import Figures, Result
from ops.bench.rivals.tally import DONE
from ops.bench.stand import Stand
from ops.local.process import Process
from penstock import keys

TITLE = "Jobs per second of one worker process"

NOT_SHOWN = """\
"call": a completion of one token from an upstream that answers at once. For Penstock that is claim,
call, two events and finish; for Celery pop, call, two publishes. "empty": a task that does nothing,
on each pool with the same messages: what the pools cost themselves. Our pool runs it once with
Celery's own defaults, as the rivals do, and once with Penstock's (no prefetch, no acknowledgement
emulation, no task events). All messages are in the queue at once; wall clock is from then to the
last job, so it is as noisy as the machine, and CPU per job is the figure to trust. Not shown: how
it scales over processes."""


class Size(NamedTuple):
    """How much."""

    jobs: int
    concurrency: int


FULL = Size(jobs=3000, concurrency=100)
QUICK = Size(jobs=200, concurrency=20)


class Trial(NamedTuple):
    """One line: a worker, how it gets its messages, and how many are done."""

    name: str
    worker: AbstractContextManager[Process]
    fill: Callable[[int], None]
    done: Callable[[], int]


class OwnPool(CeleryWorker):
    """Our pool with an empty coroutine task, nothing of Penstock around it."""

    def __init__(self, stand: Stand, configuration: str) -> None:
        super().__init__(stand, "custom", f"own_pool:{configuration}")

    def environment(self) -> dict[str, str]:
        """See CeleryWorker."""
        return {
            **super().environment(),
            "PENSTOCK_REDIS_URL": self.stand.redis_url,
            "CELERY_CUSTOM_WORKER_POOL": "ops.bench.rivals.own_pool:TrivialPool",
        }


def run(stand: Stand, quick: bool) -> list[Result]:
    """The calls first, then the empty tasks."""
    size = QUICK if quick else FULL
    return [measure(stand, trial, size) for trial in trials(stand, size)]


def trials(stand: Stand, size: Size) -> list[Trial]:
    """Every line of the table."""
    calls: list[Contender] = [Penstock(stand), *(CeleryWorker(stand, p) for p in POOLS)]
    idlers = [CeleryWorker(stand, pool, "idle") for pool in POOLS]
    return [
        *(_call(contender, size) for contender in calls),
        _empty("our pool, empty, celery's defaults", OwnPool(stand, "plain"), size),
        _empty("our pool, empty, penstock's settings", OwnPool(stand, "configured"), size,
               queue="chat.bench", prefix=keys.PREFIX),
        *(_empty(f"{idler.name}, empty", idler, size) for idler in idlers),
    ]  # fmt: skip


POOLS = ("threads", "gevent")


def _call(contender: Contender, size: Size) -> Trial:
    def queue(count: int) -> None:
        if isinstance(contender, Penstock):
            contender.feed(count, ONE_TOKEN)
        else:
            arguments = ["chat", MESSAGES, ONE_TOKEN.simulate]
            fill(contender.stand, "celery", envelope("chat", arguments, "celery"), count)

    worker = contender.started(size.concurrency)
    return Trial(f"{contender.name}, call", worker, queue, contender.finished)


def _empty(
    name: str, contender: CeleryWorker, size: Size, queue: str = "celery", prefix: str = ""
) -> Trial:
    def push(count: int) -> None:
        fill(contender.stand, prefix + queue, envelope("nothing", [], queue), count)

    def done() -> int:
        return int(contender.stand.redis.get(DONE) or 0)

    return Trial(name, contender.started(size.concurrency), push, done)


def measure(stand: Stand, trial: Trial, size: Size) -> Result:
    """One line."""
    figures: Figures = {}
    with trial.worker as process:
        wall, cpu = time.monotonic(), meter.cpu(process.pid)
        trial.fill(size.jobs)
        stand.wait(lambda: trial.done() >= size.jobs, f"{trial.name} to end", 120)
        wall, cpu = time.monotonic() - wall, meter.cpu(process.pid) - cpu
        figures["jobs/s"] = round(size.jobs / wall)
        figures["CPU, µs/job"] = round(cpu / size.jobs * 1e6)
        figures["jobs"] = size.jobs
    return Result("noop", trial.name, figures)
