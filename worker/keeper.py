"""The background work of a worker: leases, sweep, admission, fallbacks, announcements, orders."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from penstock import commands, keys
from penstock.commands import Stop, Swept
from penstock.store import AsyncStore, mapped_errors
from worker import telemetry
from worker.admission import Admissions
from worker.changes import Changes
from worker.leases import Leases
from worker.loops import Loops
from worker.routes import Routes

BEAT = 3.0
"""Seconds between two renewals: two may be lost within a lease of 10 s."""

RENEWAL_TIMEOUT = 1.5
"""Seconds for a renewal: after a silent connection there is time for others on new ones."""

ROUND = 0.5
"""Seconds between two sweeps: a lost job is to run again within 12 s, and its lease is 10 s."""

ANNOUNCING = 2.0
"""Seconds between two rounds that tell followers of waiting jobs how long it will take."""

NEWS = ("rung", "recovered", "lost", "cancelled", "expired", "returned")
"""What a sweep did that is worth a line; that delays end and records go is everyday business."""


class Order(msgspec.Struct):
    """What comes on the control channel: stop this job, or take up what was applied."""

    cancel: str = ""
    reason: str = ""
    apply: str = ""


class Keeper:
    """What a worker does beside its jobs, for them and for everybody's.

    Args:
        store: where the jobs are.
        leases: this process's.
        routes: what this worker serves.
        changes: what is applied to them.
        loops: runs all this.
        admissions: lets jobs through.
        serve: called with the name of a route that is new: its queue is to be consumed.
    """

    def __init__(
        self,
        store: AsyncStore,
        leases: Leases,
        routes: Routes,
        changes: Changes,
        loops: Loops,
        admissions: Admissions,
        serve: Callable[[str], None],
    ) -> None:
        self._store = store
        self._leases = leases
        self._routes = routes
        self._changes = changes
        self._loops = loops
        self._admissions = admissions
        self._serve = serve

    def start(self) -> None:
        """Begin all loops; each goes on by itself when Redis comes back, until it is cancelled."""
        every = self._loops.every
        every("renew", BEAT, self._renew)
        every("sweep", ROUND, self._sweep)
        every("announce", ANNOUNCING, self._announce)
        every("divert", ROUND, self._divert)
        every("control", 0, self._listen)
        every("apply", BEAT, self._take_up)
        for route in self._routes.served:
            self._admit(route)

    def _admit(self, route: str) -> None:
        telemetry.begin(route)
        self._loops.every("admit", 0, partial(self._admissions.run, route))

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

    async def _divert(self) -> None:
        for route in self._routes.served:
            if count := await self._store.run(commands.divert(route)):
                telemetry.log("jobs_diverted", route=route, count=count)

    async def _announce(self) -> None:
        await self._store.run(commands.announce(ANNOUNCING))

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
        """What the channel brings, and now and then, for what it did not bring."""
        for route in await self._changes.take_up():
            self._serve(route)
            self._admit(route)
