"""Says that this worker is there, for whoever looks on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib.metadata import version

from penstock import attendance
from penstock.errors import StoreError
from penstock.store import AsyncStore
from worker.leases import Leases
from worker.routes import Routes

VERSION = version("penstock")

ROUND = 1.0
"""Seconds between two reports: whoever looks on sees what runs now."""


class Attendance:
    """This process's.

    Args:
        store: where it is said.
        routes: what this worker serves.
        leases: what it runs.
        concurrency: how much it may run at a time.
        name: what Celery calls it, "" until it consumes.
    """

    def __init__(
        self,
        store: AsyncStore,
        routes: Routes,
        leases: Leases,
        concurrency: int,
        name: Callable[[], str],
    ) -> None:
        self._store = store
        self._routes = routes
        self._leases = leases
        self._concurrency = concurrency
        self._name = name

    async def report(self) -> None:
        """Say it, once this worker takes messages; raises StoreError."""
        if name := self._name():
            said = attendance.attend(
                name,
                self._routes.served,
                version=VERSION,
                concurrency=self._concurrency,
                streams=len(self._leases),
            )
            await self._store.run(said)

    async def end(self) -> None:
        """Say that it is there no more; without Redis nobody hears it, and it is forgotten."""
        if name := self._name():
            with contextlib.suppress(StoreError):
                await self._store.run(attendance.depart(name))
