"""How long a killed worker's jobs took to run again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.acceptance.fleet import Program
from tests.acceptance.ledger import Ledger

HOLD_POLL = 0.25
"""Seconds; a hold lasts a lease."""


class Kill(NamedTuple):
    """A worker that was killed, and when by the wall clock, which is also Redis's here."""

    worker: Program
    at: float

    @classmethod
    def now(cls, worker: Program) -> Kill:
        """Kill it with SIGKILL."""
        at = time.time()
        worker.kill()
        return cls(worker, at)


class Recovery(NamedTuple):
    """One job that lost its worker.

    Attributes:
        noticed: seconds from the kill to its `restarted`, None where no text was out yet.
        freed: seconds from the kill until what the job held of its limits was given back, which is
            when it was noticed. Where no text was out the record tells, and if the job was given
            back more than once, so that it does not, this is as `running`.
        running: seconds from the kill to its next `started`, the wait for its limits included.
    """

    noticed: float | None
    freed: float
    running: float


def recoveries(ledger: Ledger, kills: Iterable[Kill]) -> list[Recovery]:
    """Those of every job that ran in a killed worker; jobs that failed for good have none."""
    return [
        found
        for kill in kills
        for line in kill.worker.logged("job_claimed")
        if (found := _recovery(ledger, line["job"], line["attempt"], kill.at))
    ]


def _recovery(ledger: Ledger, job: str, attempt: int, killed_at: float) -> Recovery | None:
    """None where this attempt did not run at the kill, or no other followed it."""
    feed, record = ledger.feeds[job], ledger.records[job]
    own = [event for event in feed if event.cursor.attempt == attempt]
    later = [event for event in feed if event.cursor.attempt > attempt]
    if not own or not later or not own[0].time <= killed_at < later[0].time:
        return None
    last = feed[-len(later) - 1]
    noticed = last.time - killed_at if last.type == "restarted" else None
    running = later[0].time - killed_at
    is_told = record.get("recoveries") == "1" == record.get("excused")
    freed = float(record["waiting_since"]) - killed_at if is_told else running
    return Recovery(noticed, freed if noticed is None else noticed, running)


@asynccontextmanager
async def counted_holds(ledger: Ledger) -> AsyncIterator[list[bytes]]:
    """Collect each hold the sweep puts on recoveries, because nobody had swept for half a lease."""
    holds: list[bytes] = []

    async def watch() -> None:
        while True:
            until = await ledger.client.store.redis.hget("penstock:keeper", "recover_from")
            if until and float(until) and until not in holds:
                holds.append(until)
            await asyncio.sleep(HOLD_POLL)

    watching = asyncio.create_task(watch())
    try:
        yield holds
    finally:
        watching.cancel()
