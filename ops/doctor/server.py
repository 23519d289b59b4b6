"""Checks of the server: reachable, fit for jobs, with head-room, near."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ops.doctor.finding import Finding
from ops.doctor.rights import OPERATOR_ADVICE
from penstock import ConfigurationError, health
from penstock.store import Store, mapped_errors
from producers.duration import spoken

PINGS = 21
SLOW = 0.01
"""Seconds: a server in the same network answers in a tenth of this; each event waits for it."""

APART = 2.0
"""Seconds between two clocks that somebody should look at."""


def check_server(store: Store) -> Iterator[Finding]:
    """Raises StoreUnavailable if there is no server to check."""
    latency = _latency(store)
    try:
        with mapped_errors(store.url):
            info = store.redis.info()
    except ConfigurationError:
        text = f"it answers in {latency * 1000:.2g} ms; this user may not ask what it is set to"
        yield Finding("server", "warning", text, OPERATOR_ADVICE)
        return
    shown = f"{health.version(info)} answers in {latency * 1000:.2g} ms, {_memory(info)}"
    yield Finding("server", "ok", shown)
    if latency > SLOW:
        advice = "run it nearer to the workers, and look at redis-cli --latency"
        yield Finding("server", "warning", f"{latency * 1000:.0f} ms for a PING is slow", advice)
    yield from _clock(store)
    problems = [*health.server_problems(store), health.head_room(info)]
    for problem in filter(None, problems):
        yield Finding("server", problem.level, problem.text, problem.advice)
    if store.server.sentinels:
        yield from _check_set(store, int(info.get("connected_slaves", 0)))


def _check_set(store: Store, replicas: int) -> Iterator[Finding]:
    """Whether a failover would find what it needs."""
    if not replicas:
        advice = "start one: until it has copied everything a failover finds no other server"
        yield Finding("server", "warning", "the primary has no replica", advice)
    sentinels = store.server.sentinels
    if missing := store.server.unhelpful_sentinels():
        text = f"of {len(sentinels)} Sentinels {', '.join(missing)} cannot be asked"
        advice = "start them: nothing takes over unless most of them agree"
        yield Finding("server", "warning", text, advice)


def _memory(info: Mapping[str, Any]) -> str:
    used, limit = int(info["used_memory"]), int(info.get("maxmemory") or 0)
    return f"{health.size(used)} of {health.size(limit)}" if limit else f"{health.size(used)} used"


def _clock(store: Store) -> Iterator[Finding]:
    """Jobs go by the server's clock; signatures of webhooks, logs and people by this one."""
    with mapped_errors(store.url):
        began = time.time()
        seconds, microseconds = store.redis.time()
        here = (began + time.time()) / 2
    apart = seconds + microseconds / 1_000_000 - here
    if abs(apart) > APART:
        text = f"its clock is {spoken(abs(apart))} {'ahead of' if apart > 0 else 'behind'} this one"
        advice = "set both by NTP: receivers refuse webhooks that are signed minutes off"
        yield Finding("server", "warning", text, advice)


def _latency(store: Store) -> float:
    """The median of some PINGs, in seconds."""
    times = []
    with mapped_errors(store.url):
        for _ in range(PINGS):
            began = time.perf_counter()
            store.redis.ping()
            times.append(time.perf_counter() - began)
    return statistics.median(times)
