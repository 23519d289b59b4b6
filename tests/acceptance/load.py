"""Work for a fleet: submits jobs at a steady rate, again where an answer is missing."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from penstock import AsyncClient, AsyncJob, Settings
from penstock.errors import StoreUnavailable
from tests.acceptance.fleet import Fleet
from tests.acceptance.ledger import Ledger

BATCH = 200
TICK = 0.1
"""Seconds between two batches."""


class Load:
    """Submits through one client.

    Args:
        ledger: where everything is written down.
        tokens, gap: of each answer; a job lasts about tokens * gap seconds.
        follow: every so many-th job is followed live; 0: none.
        twice: every so many-th submission is made again though it was answered, as by somebody
            whose own caller did not hear of it; 0: none.
        url: where to submit; the fleet's server where left out.

    Attributes:
        retries: submissions made again.
        failures: what followers raised; after `finish`.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        tokens: int = 40,
        gap: float = 0.04,
        follow: int = 10,
        twice: int = 0,
        url: str | None = None,
    ) -> None:
        self.ledger = ledger
        self.retries = 0
        self._random = random.Random(ledger.seed)
        self._tokens, self._gap = tokens, gap
        self._every = follow
        self._twice = twice
        self._client = AsyncClient(Settings.load(redis_url=url)) if url else ledger.client
        self._flows, self._submissions = False, 0
        self.failures: list[str] = []
        self._followers: list[asyncio.Task[None]] = []

    def request(self, options: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The next request and its index."""
        index = len(self.ledger.bodies)
        script = {
            "tokens": self._random.randint(self._tokens // 2, self._tokens * 3 // 2),
            "gap": self._gap, "ttft": self._gap, **options.pop("simulate", {}),
        }  # fmt: skip
        body = {
            "messages": [{"role": "user", "content": f"{self.ledger.seed}/{index}"}],
            "simulate": script,
        }
        self.ledger.bodies[index] = body
        return index, {**body, "idempotency_key": f"{self.ledger.seed}/{index}", **options}

    async def submit(self, count: int, **options: Any) -> list[str]:
        """Submit jobs with these job options at once, for as long as it takes; their ids."""
        requests = [self.request({**options}) for _ in range(count)]
        jobs = await self._insist(requests)
        self._submissions += 1
        if self._twice and self._submissions % self._twice == 0:
            self.retries += 1
            jobs += await self._insist(requests)
        for job, (index, _) in zip(jobs, itertools.cycle(requests), strict=False):
            self._write_down(job.id, index)
        return [job.id for job in jobs[:count]]

    async def _insist(self, requests: list[tuple[int, dict[str, Any]]]) -> list[AsyncJob]:
        while True:
            try:
                return await self._client.submit_many(request for _, request in requests)
            except StoreUnavailable:
                self.retries += 1
                await asyncio.sleep(TICK)

    def _write_down(self, job: str, index: int) -> None:
        is_new = job not in self.ledger.acknowledged
        self.ledger.acknowledge(job, index)
        if is_new and self._every and index % self._every == 0:
            following = self.ledger.follow(job)
            self._followers.append(asyncio.create_task(following))

    @asynccontextmanager
    async def flow(self, rate: float, **options: Any) -> AsyncIterator[None]:
        """Submit at this rate, in jobs a second, as long as the block runs."""
        flowing = asyncio.create_task(self._flow(rate, options))
        try:
            yield
        finally:
            self._flows = False
            await flowing

    async def _flow(self, rate: float, options: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        self._flows, started, sent = True, loop.time(), 0
        while self._flows:
            due = int((loop.time() - started) * rate) + 1
            for start in range(sent, due, BATCH):
                await self.submit(min(BATCH, due - start), **options)
            sent = max(sent, due)
            await asyncio.sleep(TICK)

    async def finish(self, timeout: float) -> None:
        """Wait until every job and every follower has ended, at most that long."""
        await self.ledger.settle(timeout)
        if self._followers:
            await asyncio.wait(self._followers, timeout=timeout)
        for follower in self._followers:
            follower.cancel()
        if self._client is not self.ledger.client:
            await self._client.close()
        results = await asyncio.gather(*self._followers, return_exceptions=True)
        self.failures = [repr(result) for result in results if result is not None]

    @classmethod
    @asynccontextmanager
    async def on(cls, fleet: Fleet, seed: int, **options: Any) -> AsyncIterator[Self]:
        """A load on this fleet, with a client and a ledger of its own."""
        async with AsyncClient(fleet.settings) as client:
            yield cls(Ledger(client, seed), **options)
