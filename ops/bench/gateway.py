"""How many readers one gateway process carries, and what those that stall cost the others."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from ops.bench import meter
from ops.bench.readers import Tally
from ops.bench.result import Figures, Result
from ops.bench.stand import Stand, free_port
from ops.local.child import port_answers
from penstock import Client, Settings, commands
from penstock.commands import Argument
from penstock.events import encode
from penstock.state import JobState
from worker.dispatch import CELERY_VERSION, render_template

TITLE = "Readers of one gateway process"

NOT_SHOWN = """\
Every reader is an HTTP connection with an event stream; a job's events are written by the worker's
script, 20 a second, and each job has many readers. A delay is from Redis's clock, when an event was
written, until its bytes were in the reader's process, for readers that do not stall. Those that
stall stop reading their sockets once they have their first event, and go on when all others have
finished; `missing` and `ended` count them too. A gateway that is busy sends several events
at a time, so its delay grows before it loses anything: none may be missing. Not shown: TLS,
networks, and the readers' own CPU, which they share with the gateway on this machine."""

RATE = 20
PERIOD = 1 / RATE
MESSAGES = [{"role": "user", "content": "benchmark"}]
DELTA = encode({"choices": [{"index": 0, "delta": {"content": " benchmark"}}]})


class Size(NamedTuple):
    """How much."""

    jobs: int
    readers: int
    stalled: int
    seconds: float


FULL = Size(jobs=100, readers=2000, stalled=50, seconds=20)
QUICK = Size(jobs=4, readers=40, stalled=4, seconds=1)


def run(stand: Stand, quick: bool) -> list[Result]:
    """All readers brisk, then some of them stalled."""
    size = QUICK if quick else FULL
    return [measure(stand, size, stalled) for stalled in (0, size.stalled)]


def measure(stand: Stand, size: Size, stalled: int) -> Result:
    """One gateway, its readers, and a writer that keeps its pace."""
    stand.reset()
    port = free_port()
    settings = Settings.load(redis_url=stand.redis_url)
    argv = [sys.executable, "-P", "-m", "ops.cli", "gateway", "--port", str(port)]
    env = {"PENSTOCK_REDIS_URL": stand.redis_url, "PENSTOCK_LOG_LEVEL": "warning"}
    with Client(settings) as client, stand.process(argv, **env) as gateway:
        stand.wait(port_answers("127.0.0.1", port), "the gateway")
        writer = Writer(client, size.jobs)
        idle = meter.rss(gateway.pid)
        with reading(port, stalled, writer.paths(size.readers)) as readers:
            open_ = meter.rss(gateway.pid)
            used, began = meter.cpu(gateway.pid), time.monotonic()
            late = writer.write(size.seconds)
            seconds = time.monotonic() - began
            used = meter.cpu(gateway.pid) - used
            busy = meter.rss(gateway.pid)
            writer.finish()
            tally = msgspec.json.decode(readers.communicate()[0], type=Tally)
    expected = size.readers * (writer.n + 1)
    figures: Figures = {
        "readers": size.readers, "stalled": stalled, "events": tally.events,
        "missing": tally.missing + expected - tally.events, "ended": tally.ended,
        "p50, ms": tally.p50, "p99, ms": tally.p99, "worst, ms": tally.worst,
        "KB/reader, open": round((open_ - idle) * 1000 / size.readers, 1),
        "KB/reader, busy": round((busy - idle) * 1000 / size.readers, 1),
        "CPU, cores": round(used / seconds, 2), "writer late, s": round(late, 2),
    }  # fmt: skip
    return Result("gateway", f"{stalled} of {size.readers} stalled", figures)


class Writer:
    """Plays the worker of so many jobs.

    Attributes:
        n: of the last event of each job; the `queued` one is another.
    """

    def __init__(self, client: Client, jobs: int) -> None:
        self._store = client.store
        routes = client.settings.served_routes
        self._store.run(commands.register(render_template(), CELERY_VERSION, routes, {}))
        self.jobs = [job.id for job in client.submit_many([{"messages": MESSAGES}] * jobs)]
        self._store.run_all([commands.claim(job, job, 3600) for job in self.jobs])
        self.n = 1

    def paths(self, readers: int) -> list[str]:
        """What so many readers ask for, job after job."""
        return [f"/v1/jobs/{self.jobs[i % len(self.jobs)]}/events" for i in range(readers)]

    def write(self, seconds: float) -> float:
        """RATE events a second for each job; how late the last ones were."""
        began = time.monotonic()
        for turn in range(round(seconds * RATE)):
            time.sleep(max(0.0, began + turn * PERIOD - time.monotonic()))
            self.n += 1
            events: list[Argument] = []
            for job in self.jobs:
                events += [job, 1, self.n, DELTA]
            self._store.run(commands.append(events))
        return max(0.0, time.monotonic() - began - seconds)

    def finish(self) -> None:
        """End every job."""
        self.n += 1
        data = {"id": "c", "choices": []}
        ends = [commands.finish(j, 1, JobState.COMPLETED, self.n, data) for j in self.jobs]
        self._store.run_all(ends)


@contextmanager
def reading(port: int, stalled: int, paths: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The readers' process, once each has its first event."""
    argv = [sys.executable, "-m", "ops.bench.readers", str(port), str(stalled), *paths]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as readers:
        try:
            assert readers.stdout  # noqa: S101
            assert readers.stdout.readline() == "reading\n"  # noqa: S101
            yield readers
        finally:
            readers.kill()
