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
    """Admits the jobs of one route.

    Args:
        store: where the gate is.
        route: its name.
        routes: to tell a server that has lost its data how to ring us, and what we serve.
    """

    def __init__(self, store: AsyncStore, route: str, routes: Routes) -> None:
        self._store = store
        self._route = route
        self._routes = routes

    async def run(self) -> None:
        """Admit what may pass, then wait until more may; raises StoreError."""
        admission = await self.admit()
        wait = ROUND if admission is None or admission.wait is None else admission.wait
        # Jitter, so that the workers of a fleet do not come at the same moment.
        await asyncio.sleep(max(SOONEST, min(wait, ROUND)) * random.uniform(1, 1.1))

    async def admit(self) -> Admission | None:
        """Let jobs through, all that may; None where the server had to be told about us again."""
        most = commands.MOST_ADMITTED
        admission = await self._store.run(commands.admit(self._route, most))
        while admission and admission.admitted == most:
            admission = await self._store.run(commands.admit(self._route, most))
        if admission is None:
            await self._store.run(self._routes.registration)
            telemetry.log("registered_again", route=self._route)
        else:
            telemetry.show_gate(self._route, admission)
        return admission
