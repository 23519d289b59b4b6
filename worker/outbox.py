"""Delivers webhooks: takes what is due, calls the endpoints, says what came of it.

A loop of each worker, beside its streams: the outbox in Redis is as safe as the jobs are, so a
Celery message for each delivery would only add a second queue to lose, and fill the streams' slots.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import msgspec

from penstock import outbox
from penstock.errors import ConfigurationError, StoreError
from penstock.events import EventType, decode
from penstock.keys import feed
from penstock.outbox import Taken, Try, Verdict
from penstock.settings import Settings
from penstock.store import AsyncStore, mapped_errors
from penstock.trace import Carrier, Tracer
from penstock.webhook import signed_headers
from worker import payload, telemetry
from worker.webhooks import Answer, Courier

ROUND = 0.5
"""Seconds between two looks at the outbox; what this worker itself puts there wakes it at once."""

SOONEST = 0.005
"""Seconds: a shorter wait is not worth a call of its own."""

LEASE = 2.0
"""How many timeouts a delivery is ours: a call never takes longer than one."""

JITTER = 0.1
"""Share by which a delay varies, so that what failed together does not come back together."""

FAREWELL = 3.0
"""Seconds that calls under way get when the worker stops; others deliver what is cut off."""

GONE = 410


class Deliveries:
    """Delivers what is due, at most `webhook_concurrency` at a time."""

    def __init__(
        self, settings: Settings, store: AsyncStore, courier: Courier, tracer: Tracer
    ) -> None:
        self._settings = settings
        self._store = store
        self._courier = courier
        self._tracer = tracer
        self._wake = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Something may be due: look at once."""
        self._wake.set()

    async def run(self) -> None:
        """Take what is due and begin to deliver it, then wait for more; raises StoreError."""
        free = self._settings.webhook_concurrency - len(self._calls)
        self._wake.clear()
        wait = ROUND
        if free > 0:
            lease = self._settings.webhook_timeout * LEASE
            due = await self._store.run(outbox.take(lease, free))
            for taken in due.taken:
                self._begin(taken)
            wait = ROUND if due.wait is None else min(max(due.wait, SOONEST), ROUND)
        await self._rest(wait)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds * random.uniform(0.9, 1.1)):
                await self._wake.wait()
        except TimeoutError:
            return

    def _begin(self, taken: Taken) -> None:
        call = asyncio.create_task(self._deliver(taken))
        self._calls.add(call)
        call.add_done_callback(self._end)

    def _end(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self.wake()

    async def close(self) -> None:
        """Let calls under way end for a moment."""
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=FAREWELL)
            for call in late:
                call.cancel()
        await self._courier.close()

    async def _deliver(self, taken: Taken) -> None:
        """One try: compose, sign, call, settle."""
        began, clock = time.time(), time.monotonic()
        try:
            answer = await self._traced(taken)
        except StoreError:
            return  # it is due again when the lease is over
        except Exception as error:
            telemetry.log("delivery_broken", **taken.about, error=type(error).__name__)
            answer = Answer(None, "Penstock itself failed on this delivery")
        tried = Try(
            round(began, 3), round(time.monotonic() - clock, 3), answer.status, answer.error
        )
        verdict, delay = self._judge(taken, answer)
        await self._settle(taken, verdict, tried, delay)

    async def _traced(self, taken: Taken) -> Answer:
        with self._tracer.delivery(taken) as span:
            answer = await self._call(taken, span.carrier or taken.trace)
            span.delivered(answer.status, answer.error)
        return answer

    async def _call(self, taken: Taken, trace: Carrier | None) -> Answer:
        try:
            secrets = taken.secrets or self._settings.webhook_secrets(taken.secret_env)
        except ConfigurationError as error:
            return Answer(None, str(error))
        event = await self._event(taken)
        if event is None and taken.type == EventType.DELTA:
            return Answer(None, "the feed is gone", lasting=True)
        body = payload.compose(taken, event, self._settings.public_url)
        headers = signed_headers(secrets, taken.id, int(time.time()), body)
        told = trace.headers if trace else {}
        return await self._courier.post(taken.url, body, {**headers, **told})

    async def _event(self, taken: Taken) -> Any:
        """What is delivered: the event as it was kept, or what the feed's deltas add up to."""
        if taken.type != EventType.DELTA:
            return msgspec.json.decode(taken.event) if taken.event else None
        with mapped_errors(self._store.url):
            entries = await self._store.redis.xrange(
                feed(taken.job), f"({taken.after}", taken.until
            )
        return payload.merged(taken, [decode(fields[b"event"]) for _, fields in entries])

    def _judge(self, taken: Taken, answer: Answer) -> tuple[Verdict, float]:
        """What follows from an answer, and after how many seconds."""
        if not answer.error:
            return "delivered", 0
        if answer.status == GONE:
            return "gone", 0
        schedule = self._settings.webhook_schedule
        if answer.lasting or taken.tries >= len(schedule):
            return "failed", 0
        wait = schedule[taken.tries] * random.uniform(1 - JITTER, 1 + JITTER)
        return "retry", max(wait, answer.retry_after)

    async def _settle(self, taken: Taken, verdict: Verdict, tried: Try, delay: float) -> None:
        try:
            settled = await self._store.run(outbox.settle(taken, verdict, tried, delay))
        except StoreError:
            return
        if settled:
            _journal(taken, verdict, tried, delay)


_ACTIONS: dict[Verdict, str] = {
    "delivered": "webhook_delivered",
    "retry": "webhook_retried",
    "failed": "webhook_failed",
    "gone": "webhook_disabled",
}


def _journal(taken: Taken, verdict: Verdict, tried: Try, delay: float) -> None:
    telemetry.DELIVERIES.labels(verdict).inc()
    fields: dict[str, Any] = {"status": tried.status, "seconds": tried.seconds}
    if verdict != "delivered":
        fields["error"] = tried.error
    if verdict == "retry":
        fields["delay"] = round(delay, 3)
    telemetry.log(_ACTIONS[verdict], **taken.about, **fields)
