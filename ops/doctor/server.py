"""Checks of the server: reachable, fit for jobs, with head-room, near."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from ops.doctor.finding import Finding
from penstock import health
from penstock.store import Store, mapped_errors

PINGS = 21
SLOW = 0.01
"""Seconds: a server in the same network answers in a tenth of this; each event waits for it."""


def check_server(store: Store) -> Iterator[Finding]:
    """Raises StoreUnavailable if there is no server to check."""
    with mapped_errors(store.url):
        info = store.redis.info()
    latency = _latency(store)
    shown = f"{health.version(info)} answers in {latency * 1000:.2g} ms"
    yield Finding("server", "ok", shown)
    if latency > SLOW:
        advice = "run it nearer to the workers, and look at redis-cli --latency"
        yield Finding("server", "warning", f"{latency * 1000:.0f} ms for a PING is slow", advice)
    problems = [*health.server_problems(store), health.head_room(info)]
    for problem in filter(None, problems):
        yield Finding("server", problem.level, problem.text, problem.advice)


def _latency(store: Store) -> float:
    """The median of some PINGs, in seconds."""
    times = []
    with mapped_errors(store.url):
        for _ in range(PINGS):
            began = time.perf_counter()
            store.redis.ping()
            times.append(time.perf_counter() - began)
    return statistics.median(times)
