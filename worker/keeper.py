"""The background loops of a worker: keep leases, sweep, admit, hear cancels, watch for deafness."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from penstock import commands, keys
from penstock.commands import Stop
from penstock.errors import StoreError
from penstock.store import AsyncStore, mapped_errors
from worker import telemetry
from worker.attempt import Attempts
from worker.leases import Leases

BEAT = 3.0
"""Seconds between two renewals: two may be lost within a lease of 10 s."""

ROUND = 0.5
"""Seconds between two sweeps: a lost job is to run again within 12 s, and its lease is 10 s."""


class Keeper:
    """Runs the loops until cancelled.

    Args:
        store: where the leases are.
        leases: this process's.
        attempts: to know when a message last came.
        routes: those this worker serves.
        free: how many more streams this process could take now.
        deafness: seconds without a message, though jobs wait and slots are free, until `on_deaf`
            is called.
    """

    def __init__(
        self,
        store: AsyncStore,
        leases: Leases,
        attempts: Attempts,
        routes: Sequence[str],
        free: Callable[[], int],
        deafness: float,
        on_deaf: Callable[[], None],
    ) -> None:
        self._store = store
        self._leases = leases
        self._attempts = attempts
        self._routes = routes
        self._free = free
        self._deafness = deafness
        self._on_deaf = on_deaf
        self._quiet_since = time.monotonic()

    async def run(self) -> None:
        """All loops; each goes on by itself when Redis comes back."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._every("renew", BEAT, self._renew))
            loops.create_task(self._every("sweep", ROUND, self._sweep))
            loops.create_task(self._every("control", 0, self._listen))

    async def _every(self, name: str, period: float, work: Callable[[], Awaitable[None]]) -> None:
        away = False
        while True:
            try:
                await work()
                if away:
                    telemetry.log("store_back", loop=name)
                away = False
            except StoreError as error:
                if not away:
                    telemetry.log("store_away", loop=name, error=str(error))
                away = True
            # Jitter, so that the workers of a fleet do not come at the same moment.
            await asyncio.sleep(min(period, 0.5) if away else period * random.uniform(0.9, 1.1))

    async def _renew(self) -> None:
        if leases := list(self._leases):
            for stop in await self._store.run(commands.renew(leases)):
                self._stop(stop)

    def _stop(self, stop: Stop) -> None:
        if self._leases.stop(stop) and stop.verdict == "lost":
            telemetry.log("lease_lost", job=stop.id, state=stop.detail)

    async def _sweep(self) -> None:
        counts = await self._store.run(commands.sweep())
        done = {name: count for name, count in counts.items() if count}
        for name, count in done.items():
            telemetry.SWEPT.labels(name).inc(count)
        if done.keys() - {"due", "forgotten"}:
            telemetry.log("swept", **done)
        for route in self._routes:
            while await self._store.run(commands.admit(route)) == commands.MOST_ADMITTED:
                pass
        await self._watch()

    async def _watch(self) -> None:
        """Past versions of Celery went deaf after Redis came back; a supervisor can help then."""
        with mapped_errors(self._store.url):
            waiting = [await self._store.redis.llen(keys.queue(route)) for route in self._routes]
        now = time.monotonic()
        if not any(waiting) or self._free() <= 0:
            self._quiet_since = now
        quiet = now - max(self._quiet_since, self._attempts.received_at)
        if quiet >= self._deafness:
            telemetry.log("worker_deaf", seconds=round(quiet))
            self._on_deaf()

    async def _listen(self) -> None:
        """Hear cancels as they are asked for; one that is missed comes with the next renewal."""
        with mapped_errors(self._store.url):
            async with self._store.redis.pubsub() as channel:
                await channel.subscribe(keys.CONTROL)
                await self._renew()  # what was asked for while nobody listened
                while True:
                    message = await channel.get_message(timeout=BEAT)
                    if message and message["type"] == "message":
                        order = msgspec.json.decode(message["data"])
                        self._stop(Stop(order["cancel"], "cancelled", order["reason"]))
