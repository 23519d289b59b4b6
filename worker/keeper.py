"""The background loops of a worker: leases, sweep, admission, announcements, cancels, watchdog."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

import msgspec

from penstock import commands, keys
from penstock.commands import Stop, Swept
from penstock.errors import ConfigurationError, StoreError
from penstock.publication import Publication
from penstock.store import AsyncStore, mapped_errors
from worker import telemetry
from worker.admission import Admissions
from worker.attempt import Attempts
from worker.leases import Leases
from worker.routes import Routes

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


Loop: TypeAlias = Coroutine[Any, Any, None]


class Order(msgspec.Struct):
    """What comes on the control channel: stop this job, or take up what was applied."""

    cancel: str = ""
    reason: str = ""
    apply: str = ""


class Keeper:
    """The loops, and what they need.

    Args:
        store: where the leases are.
        leases: this process's.
        attempts: to know when a message last came.
        routes: what this worker serves.
        follows: whether to take up what is applied to them.
        serve: called with the name of a route that is new: its queue is to be consumed.
        begin: starts a loop.
        free: how many more streams this process could take now; 0 once it drains.
        deafness: seconds without a message, though jobs wait and slots are free, until `on_deaf`
            is called.
    """

    def __init__(
        self,
        store: AsyncStore,
        leases: Leases,
        attempts: Attempts,
        routes: Routes,
        follows: bool,
        serve: Callable[[str], None],
        begin: Callable[[Loop], None],
        free: Callable[[], int],
        deafness: float,
        on_deaf: Callable[[], None],
    ) -> None:
        self._store = store
        self._leases = leases
        self._attempts = attempts
        self._routes = routes
        self._follows = follows
        self._serve = serve
        self._begin = begin
        self._free = free
        self._deafness = deafness
        self._on_deaf = on_deaf
        self._quiet_since = time.monotonic()
        self._deaf = False

    def start(self) -> None:
        """Begin all loops; each goes on by itself when Redis comes back, until it is cancelled."""
        loops = [
            self.every("renew", BEAT, self._renew),
            self.every("sweep", ROUND, self._sweep),
            self.every("announce", ANNOUNCING, self._announce),
            self.every("divert", ROUND, self._divert),
            self.every("control", 0, self._listen),
            self.every("apply", BEAT, self._take_up),
            *(self._admissions(route) for route in self._routes.served),
        ]
        for loop in loops:
            self._begin(loop)

    def _admissions(self, route: str) -> Loop:
        return self.every("admit", 0, Admissions(self._store, route, self._routes).run)

    async def every(self, name: str, period: float, work: Callable[[], Awaitable[Any]]) -> None:
        """Do this for ever, `period` seconds apart; a server that is away is waited for."""
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
        for route in self._routes.served:
            if count := await self._store.run(commands.divert(route)):
                telemetry.log("jobs_diverted", route=route, count=count)

    async def _announce(self) -> None:
        await self._store.run(commands.announce(ANNOUNCING))

    async def _watch(self) -> None:
        """Past versions of Celery went deaf after Redis came back; a supervisor can help then."""
        with mapped_errors(self._store.url):
            waiting = [
                await self._store.redis.llen(keys.queue(route)) for route in self._routes.served
            ]
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
                        await self._obey(message["data"])

    async def _obey(self, order: bytes) -> None:
        try:
            asked = msgspec.json.decode(order, type=Order)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return  # not from Penstock
        if asked.apply:
            await self._take_up()
        else:
            self._leases.stop(Stop(asked.cancel, "cancelled", asked.reason))

    async def _take_up(self) -> None:
        """Take up what was applied since; now and then, for what the channel did not bring."""
        with mapped_errors(self._store.url):
            version = await self._store.redis.hget(keys.APPLIED, "version")
            if not self._follows or not version or version.decode() == self._routes.version:
                return
            applied = await self._store.redis.hmget(keys.APPLIED, "version", "publication")
        version, publication = applied
        if version and version.decode() != self._routes.version:  # another loop may have been here
            self._change(version.decode(), publication)

    def _change(self, version: str, publication: bytes) -> None:
        try:
            begun = self._routes.take_up(version, Publication.read(publication))
        except ConfigurationError as error:
            self._routes.version = version
            telemetry.log("routes_refused", version=version, error=str(error))
            return
        for route in begun:
            self._serve(route)
            self._begin(self._admissions(route))
