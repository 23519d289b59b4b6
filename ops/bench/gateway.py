"""How many readers one gateway process carries, and what those that stall cost the others."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from ops.bench import meter
from ops.bench.readers import Tally
from ops.bench.result import Figures, Result
from ops.bench.server import free_port
from ops.bench.stand import Stand
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
written, until its bytes were in the reader's process. Some readers are not timed: they follow jobs
of their own, whose events have 4 KB each, so that a socket fills up. They read along in the one
size; in the other they stop reading once they have their first event, and go on when all others
have finished; `missing` and `ended` count them too, and `fell behind` how often the gateway moved
one to reading from the Stream. Both sizes take turns, and figures are medians of the turns. A
gateway that is busy sends several events at a time, so its delay grows before it loses anything:
none may be missing. Not shown: TLS, networks, and the readers' own CPU, which they share with the
gateway on this machine."""

RATE = 20
PERIOD = 1 / RATE
MESSAGES = [{"role": "user", "content": "benchmark"}]
DELTA = encode({"choices": [{"index": 0, "delta": {"content": " benchmark"}}]})
LARGE = encode({"choices": [{"index": 0, "delta": {"content": "x" * 4096}}]})
"""What the readers that may stall get: some dozens of them fill every buffer on the way."""

P99 = "p99, ms"
RATIO = "p99 over that without"
BEHIND = re.compile(r"^penstock_gateway_readers_behind_total (\S+)$", re.MULTILINE)


class Size(NamedTuple):
    """How much.

    Attributes:
        jobs: those that are timed; a tenth as many have large events.
        readers: all of them.
        stalled: of the readers, those of the large events.
        seconds: how long is written.
        burst: large events a turn, so that some seconds are enough to fall behind.
        turns: how often each is measured.
    """

    jobs: int
    readers: int
    stalled: int
    seconds: float
    burst: int
    turns: int


FULL = Size(jobs=100, readers=2000, stalled=50, seconds=20, burst=2, turns=3)
QUICK = Size(jobs=10, readers=40, stalled=4, seconds=1, burst=25, turns=1)


def run(stand: Stand, quick: bool) -> list[Result]:
    """All readers brisk, and some of them stalled, in turns."""
    size = QUICK if quick else FULL
    turns = [
        [measure(stand, size, stalled) for stalled in (0, size.stalled)] for _ in range(size.turns)
    ]
    brisk, stalled = (_median(list(column)) for column in zip(*turns, strict=True))
    stalled.figures[RATIO] = round(float(stalled.figures[P99]) / float(brisk.figures[P99]), 2)
    return [brisk, stalled]


def _median(results: list[Result]) -> Result:
    """One line of several turns: medians, but of what must not be at all the sum."""
    columns = results[0].figures
    samples = {name: [float(result.figures[name]) for result in results] for name in columns}
    figures: Figures = {name: statistics.median(column) for name, column in samples.items()}
    figures["missing"] = sum(samples["missing"])
    figures["fell behind"], figures["ended"] = min(samples["fell behind"]), min(samples["ended"])
    return Result("gateway", results[0].contender, figures, {P99: samples[P99]})


def measure(stand: Stand, size: Size, stalled: int) -> Result:
    """One gateway, its readers, and a writer that keeps its pace."""
    stand.reset()
    port, metrics = free_port(), free_port()
    settings = Settings.load(redis_url=stand.redis_url)
    argv = [sys.executable, "-P", "-m", "ops.cli", "gateway", "--port", str(port)]
    argv += ["--metrics-port", str(metrics)]
    env = {"PENSTOCK_REDIS_URL": stand.redis_url, "PENSTOCK_LOG_LEVEL": "warning"}
    with Client(settings) as client, stand.process(argv, **env) as gateway:
        stand.wait(port_answers("127.0.0.1", port), "the gateway")
        writer = Writer(client, size)
        idle = meter.rss(gateway.pid)
        with reading(port, stalled, size.stalled, writer.paths(size)) as readers:
            open_ = meter.rss(gateway.pid)
            used, began = meter.cpu(gateway.pid), time.monotonic()
            late = writer.write(size.seconds)
            seconds = time.monotonic() - began
            used = meter.cpu(gateway.pid) - used
            busy = meter.rss(gateway.pid)
            writer.finish()
            tally = msgspec.json.decode(readers.communicate()[0], type=Tally)
        behind = _behind(metrics)
    apart, timed = size.stalled, size.readers - size.stalled
    expected = timed * (writer.n + 1) + apart * (writer.large_n + 1)
    figures: Figures = {
        "readers": size.readers, "stalled": stalled, "events": tally.events,
        "missing": tally.missing + expected - tally.events, "ended": tally.ended,
        "fell behind": behind, "p50, ms": tally.p50, P99: tally.p99, "worst, ms": tally.worst,
        "KB/reader, open": round((open_ - idle) * 1000 / size.readers, 1),
        "KB/reader, busy": round((busy - idle) * 1000 / size.readers, 1),
        "CPU, cores": round(used / seconds, 2), "writer late, s": round(late, 2),
    }  # fmt: skip
    return Result("gateway", f"{stalled} of {size.readers} stalled", figures)


class Writer:
    """Plays the worker of so many jobs.

    Attributes:
        n: of the last event of each job; the `queued` one is another.
        large_n: of the last event of each of the jobs with large events.
    """

    def __init__(self, client: Client, size: Size) -> None:
        self._store = client.store
        routes = client.settings.served_routes
        self._store.run(commands.register(render_template(), CELERY_VERSION, routes, {}))
        large = max(1, size.jobs // 10)
        asked = [{"messages": MESSAGES}] * (size.jobs + large)
        ids = [job.id for job in client.submit_many(asked)]
        self._store.run_all([commands.claim(job, job, 3600) for job in ids])
        self.large, self.jobs = ids[:large], ids[large:]
        self._burst = size.burst
        self.n = self.large_n = 1

    def paths(self, size: Size) -> list[str]:
        """What the readers ask for, job after job; those of the large events first."""
        followed = [self.large[i % len(self.large)] for i in range(size.stalled)]
        followed += [self.jobs[i % len(self.jobs)] for i in range(size.readers - size.stalled)]
        return [f"/v1/jobs/{job}/events" for job in followed]

    def write(self, seconds: float) -> float:
        """RATE events a second for each job; how late the last ones were."""
        began = time.monotonic()
        for turn in range(round(seconds * RATE)):
            time.sleep(max(0.0, began + turn * PERIOD - time.monotonic()))
            self.n += 1
            events: list[Argument] = []
            for job in self.jobs:
                events += [job, job, self.n, DELTA]
            for _ in range(self._burst):
                self.large_n += 1
                for job in self.large:
                    events += [job, job, self.large_n, LARGE]
            self._store.run(commands.append(events))
        return max(0.0, time.monotonic() - began - seconds)

    def finish(self) -> None:
        """End every job."""
        self.n, self.large_n = self.n + 1, self.large_n + 1
        data = {"id": "c", "choices": []}
        last = [*((job, self.n) for job in self.jobs), *((job, self.large_n) for job in self.large)]
        ends = [commands.finish(job, job, JobState.COMPLETED, n, data) for job, n in last]
        self._store.run_all(ends)


def _behind(port: int) -> int:
    """How often a reader has fallen behind, by the gateway's own count."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        found = BEHIND.search(answer.read().decode())
    return int(float(found[1])) if found else 0


@contextmanager
def reading(
    port: int, stalled: int, apart: int, paths: list[str]
) -> Iterator[subprocess.Popen[str]]:
    """The readers' process, once each has its first event."""
    argv = [sys.executable, "-m", "ops.bench.readers", str(port), str(stalled), str(apart), *paths]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as readers:
        try:
            assert readers.stdout  # noqa: S101
            assert readers.stdout.readline() == "reading\n"  # noqa: S101
            yield readers
        finally:
            readers.kill()
