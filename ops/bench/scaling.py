"""How it scales: 1 to 8 worker processes on one Redis, and what that Redis spends on them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from ops.bench.contender import Penstock
from ops.bench.load import ONE_TOKEN, Load
from ops.bench.reading import Reading
from ops.bench.result import Figures, Result
from ops.bench.stand import Stand
from ops.local.process import Process

TITLE = "Scaling over worker processes"

NOT_SHOWN = """\
"jobs": one-token completions, as many as there are, all in the queue at once. "streams": so many
streams of 20 tokens/s for each process, which it can carry. CPU is utime + stime of all worker
processes, and of Redis with its threads. Everything shares the machine's few cores, simulator and
Redis included: once they are used up more processes add nothing to the rate, and "starved" says how
long the workers waited for a core. So read CPU per unit: where it stays flat, a machine with more
cores does more, until Redis's one thread is full: "one Redis carries" is 70 % of a core over what
it spent on a job, a token or an event. Not shown: several machines, a network between them."""

RATE = 20.0
"""Tokens per second and stream."""

FULL_CORE = 0.7
"""Share of a core up to which Redis's main thread answers without queues to speak of."""


class Size(NamedTuple):
    """How much; times in seconds."""

    processes: Sequence[int]
    jobs: int
    slots: int
    streams: int
    warm_up: float
    window: float


FULL = Size((1, 2, 4, 8), jobs=4000, slots=100, streams=60, warm_up=3, window=10)
QUICK = Size((1, 2), jobs=200, slots=20, streams=10, warm_up=1, window=2)


def run(stand: Stand, quick: bool) -> list[Result]:
    """Jobs first, then streams; each with more and more processes."""
    size = QUICK if quick else FULL
    return [measure(stand, count, size) for measure in (jobs, streams) for count in size.processes]


@contextmanager
def workers(stand: Stand, count: int, slots: int) -> Iterator[list[Process]]:
    """So many worker processes that wait for jobs, each with so many slots."""
    stand.reset()
    penstock = Penstock(stand)
    environment = penstock.environment(count * slots)
    with ExitStack() as stack:
        started = [
            stack.enter_context(stand.process(penstock.command(slots), **environment))
            for _ in range(count)
        ]
        stand.wait(lambda: stand.redis.info("clients")["blocked_clients"] >= count, "workers", 60)
        yield started


def jobs(stand: Stand, count: int, size: Size) -> Result:
    """One line: how fast so many processes get through short jobs."""
    penstock = Penstock(stand)
    with workers(stand, count, size.slots) as processes:
        first = Reading.take(stand, *processes)
        penstock.feed(size.jobs, ONE_TOKEN)
        stand.wait(lambda: penstock.finished() >= size.jobs, "the jobs to end", 180)
        spent = first.until(Reading.take(stand, *processes))
    return Result("scaling", _name(count, "jobs"), _figures(spent, count, "job", size.jobs))


def streams(stand: Stand, count: int, size: Size) -> Result:
    """One line: so many processes, each with its streams."""
    asked = count * size.streams
    tokens = round((asked / 80 + 2 + size.warm_up + size.window) * RATE)
    with workers(stand, count, size.streams) as processes:
        Penstock(stand).feed(asked, Load(tokens, gap=1 / RATE))
        running = stand.wait_streams(asked)
        time.sleep(size.warm_up)
        first = Reading.take(stand, *processes)
        time.sleep(size.window)
        spent = first.until(Reading.take(stand, *processes))
    figures = _figures(spent, count, "token", spent.sent)
    figures["running"] = running
    figures["kept up, %"] = round(spent.sent / spent.at / RATE / asked * 100)
    figures["one Redis carries, events/s"] = _most(spent.server, spent.published)
    return Result("scaling", _name(count, "streams"), figures)


def _name(count: int, what: str) -> str:
    return f"{count} {'process' if count == 1 else 'processes'}, {what}"


def _most(redis: float, units: int) -> int:
    """How many a second one Redis does at what it spent on these."""
    return round(FULL_CORE * units / max(redis, 1e-9))


def _figures(spent: Reading, count: int, unit: str, units: int) -> Figures:
    return {
        f"{unit}s/s": round(units / spent.at),
        f"{unit}s/s a process": round(units / spent.at / count),
        f"CPU, µs/{unit}": round(spent.worker / units * 1e6, 1),
        f"Redis CPU, µs/{unit}": round(spent.server / units * 1e6, 1),
        "Redis, % of a core": round(spent.server / spent.at * 100),
        "starved, % of a core": round(spent.starved / spent.at * 100),
        f"one Redis carries, {unit}s/s": _most(spent.server, units),
    }
