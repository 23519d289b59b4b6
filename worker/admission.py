"""Keeps jobs passing the gate: in time for what only the clock lets through."""

from __future__ import annotations

import asyncio
import random

from penstock import commands
from penstock.commands import Admission
from penstock.store import AsyncStore
from worker import telemetry
from worker.routes import Routes

ROUND = 0.5
"""Seconds between two looks at a gate that nothing but a job's end, or a new job, can open."""

SOONEST = 0.005
"""Seconds: a shorter wait is not worth a call of its own."""


class Admissions:
    """Admits the jobs of this process's routes.

    Args:
        store: where the gates are.
        routes: to tell a server that has lost its data how to ring us, and what we serve.
    """

    def __init__(self, store: AsyncStore, routes: Routes) -> None:
        self._store = store
        self._routes = routes
        self._current: dict[str, asyncio.Task[Admission | None]] = {}
        self._following: dict[str, asyncio.Task[Admission | None]] = {}

    async def run(self, route: str) -> None:
        """Admit what may pass, then wait until more may; raises StoreError."""
        admission = await self.admit(route)
        wait = ROUND if admission is None or admission.wait is None else admission.wait
        # Jitter, so that the workers of a fleet do not come at the same moment.
        await asyncio.sleep(max(SOONEST, min(wait, ROUND)) * random.uniform(1, 1.1))

    async def admit(self, route: str) -> Admission | None:
        """Let jobs through, all that may; raises StoreError.

        Those who ask while a call is under way share the next one: what a call costs Redis goes
        for the most part to the first job it lets through. None where the server had to be told
        about us again.
        """
        if route not in self._following:
            self._following[route] = asyncio.create_task(self._follow(route))
        return await asyncio.shield(self._following[route])

    async def _follow(self, route: str) -> Admission | None:
        if route in self._current:
            await asyncio.wait([self._current[route]])
        self._current[route] = self._following.pop(route)
        return await self._look(route)

    async def _look(self, route: str) -> Admission | None:
        most = commands.MOST_ADMITTED
        while admission := await self._store.run(commands.admit(route, most)):
            telemetry.show_gate(route, admission)
            if admission.admitted < most:
                return admission
        await self._store.run(self._routes.registration)
        telemetry.log("registered_again", route=route)
        return None
