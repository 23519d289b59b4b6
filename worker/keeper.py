"""The background loops of a worker: leases, sweep, admission, announcements, cancels, watchdog."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec

from penstock import commands, keys
from penstock.commands import Command, Stop, Swept
from penstock.errors import StoreError
from penstock.store import AsyncStore, mapped_errors
from worker import telemetry
from worker.admission import Admissions
from worker.attempt import Attempts
from worker.leases import Leases

BEAT = 3.0
"""Seconds between two renewals: two may be lost within a lease of 10 s."""

RENEWAL_TIMEOUT = 1.5
"""Seconds for a renewal: after a silent connection there is time for others on new ones."""

ROUND = 0.5
"""Seconds between two sweeps: a lost job is to run again within 12 s, and its lease is 10 s."""

ANNOUNCING = 2.0
"""Seconds between two rounds that tell followers of waiting jobs how long it will take."""

AWAY = 0.5
"""Seconds until a server that is away is asked again."""

NEWS = ("rung", "recovered", "lost", "cancelled", "expired")
"""What a sweep did that is worth a line; that delays end and records go is everyday business."""


class Order(msgspec.Struct):
    """What comes on the control channel: stop this job."""

    cancel: str
    reason: str


class Keeper:
    """The loops, and what they need.

    Args:
        store: where the leases are.
        leases: this process's.
        attempts: to know when a message last came.
        registration: how to ring this worker, and the routes it serves.
        routes: those.
        free: how many more streams this process could take now; 0 once it drains.
        deafness: seconds without a message, though jobs wait and slots are free, until `on_deaf`
            is called.
    """

    def __init__(
        self,
        store: AsyncStore,
        leases: Leases,
        attempts: Attempts,
        registration: Command[None],
        routes: Sequence[str],
        free: Callable[[], int],
        deafness: float,
        on_deaf: Callable[[], None],
    ) -> None:
        self._store = store
        self._leases = leases
        self._attempts = attempts
        self._registration = registration
        self._routes = routes
        self._free = free
        self._deafness = deafness
        self._on_deaf = on_deaf
        self._quiet_since = time.monotonic()
        self._deaf = False

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """All loops; each goes on by itself when Redis comes back, until it is cancelled."""
        return [
            self._every("renew", BEAT, self._renew),
            self._every("sweep", ROUND, self._sweep),
            self._every("announce", ANNOUNCING, self._announce),
            self._every("divert", ROUND, self._divert),
            self._every("control", 0, self._listen),
            *(self._every("admit", 0, self._admissions(route).run) for route in self._routes),
        ]

    def _admissions(self, route: str) -> Admissions:
        return Admissions(self._store, route, self._registration)

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
            await asyncio.sleep(AWAY if away else period * random.uniform(0.9, 1.1))

    async def _renew(self) -> None:
        if leases := list(self._leases):
            for stop in await self._store.run_within(RENEWAL_TIMEOUT, commands.renew(leases)):
                self._leases.stop(stop)

    async def _sweep(self) -> None:
        swept: Swept = await self._store.run(commands.sweep())
        for route, state in swept.ended:
            telemetry.JOBS.labels(route, state).inc()
        for name, count in swept.counts.items():
            telemetry.SWEPT.labels(name).inc(count)
        if any(swept.counts[name] for name in NEWS):
            telemetry.log("swept", **swept.counts)
        await self._watch()

    async def _divert(self) -> None:
        for route in self._routes:
            if count := await self._store.run(commands.divert(route)):
                telemetry.log("jobs_diverted", route=route, count=count)

    async def _announce(self) -> None:
        await self._store.run(commands.announce(ANNOUNCING))

    async def _watch(self) -> None:
        """Past versions of Celery went deaf after Redis came back; a supervisor can help then."""
        with mapped_errors(self._store.url):
            waiting = [await self._store.redis.llen(keys.queue(route)) for route in self._routes]
        now = time.monotonic()
        if not any(waiting) or self._free() <= 0:
            self._quiet_since = now
        quiet = now - max(self._quiet_since, self._attempts.received_at)
        if quiet >= self._deafness and not self._deaf:
            self._deaf = True
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
                        self._obey(message["data"])

    def _obey(self, order: bytes) -> None:
        try:
            asked = msgspec.json.decode(order, type=Order)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return  # not from Penstock
        self._leases.stop(Stop(asked.cancel, "cancelled", asked.reason))
