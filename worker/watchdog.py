"""Notices a worker that hears nothing though jobs wait: Celery went deaf in the past."""

from __future__ import annotations

import time
from collections.abc import Callable

from penstock import keys
from penstock.store import AsyncStore, mapped_errors
from worker import telemetry
from worker.attempt import Attempts
from worker.routes import Routes


class Watchdog:
    """Looks again and again.

    Args:
        store: where the jobs wait.
        attempts: to know when a message last came.
        routes: what this worker serves.
        free: how many more streams this process could take now; 0 once it drains.
        deafness: seconds without a message, though jobs wait and slots are free, until `on_deaf`
            is called, once.
    """

    def __init__(
        self,
        store: AsyncStore,
        attempts: Attempts,
        routes: Routes,
        free: Callable[[], int],
        deafness: float,
        on_deaf: Callable[[], None],
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._routes = routes
        self._free = free
        self._deafness = deafness
        self._on_deaf = on_deaf
        self._quiet_since = time.monotonic()
        self._deaf = False

    async def look(self) -> None:
        """Look once; raises StoreError."""
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
