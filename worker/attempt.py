"""One attempt at a job, as a pipeline: claim -> stream -> decide -> settle."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from penstock import commands
from penstock.commands import (
    LEASE,
    Claim,
    Command,
    Feedback,
    Refusal,
    Settled,
    Stop,
    Used,
)
from penstock.errors import AttemptBroken, StoreError, TimedOut, UpstreamError
from penstock.outcome import Cancelled, Completed, Failed, Interrupted, Outcome, Retry
from penstock.state import JobState
from penstock.store import AsyncStore
from penstock.trace import Tracer
from worker import journal, retry, telemetry, verdict
from worker.admission import Admissions
from worker.leases import Leases
from worker.pace import Pace
from worker.pool import DRAINED, Delivery
from worker.relay import PAUSES, Relay
from worker.routes import Routes
from worker.stream import Stream
from worker.upstream.client import Upstream

T = TypeVar("T")

_BROKEN = "Penstock itself failed on this job; the worker's log says where (attempt_broken)"


class Attempts:
    """Runs attempts; the state of the worker's pool.

    `report` is called when something was put into the webhooks' outbox.
    """

    def __init__(
        self,
        routes: Routes,
        store: AsyncStore,
        upstream: Upstream,
        relay: Relay,
        pace: Pace,
        leases: Leases,
        admissions: Admissions,
        report: Callable[[], None],
        tracer: Tracer,
    ) -> None:
        self._routes = routes
        self._store = store
        self._upstream = upstream
        self._relay = relay
        self._pace = pace
        self._leases = leases
        self._admissions = admissions
        self._report = report
        self._tracer = tracer
        self.received_at = time.monotonic()
        self.handed_back = 0

    async def run(self, delivery: Delivery) -> None:
        """Run the delivered job's next attempt, if it is to be run."""
        self.received_at = time.monotonic()
        with self._leases.expected(delivery.task_id):
            stream = await _undisturbed(self._claim(delivery.task_id))
            delivery.accept()
            if stream is None:
                return
            self._leases.hold(stream.lease, delivery, stream)
        journal.claimed(stream)
        try:
            await self._attempt(delivery, stream)
        finally:
            self._leases.release(stream.lease)

    async def _attempt(self, delivery: Delivery, stream: Stream) -> None:
        with self._tracer.attempt(stream.job) as span:
            outcome = await self._answer(stream, delivery)
            await _undisturbed(self._settle(stream, outcome))
            span.settled(outcome)

    async def _claim(self, job: str) -> Stream | None:
        """Claim, for at most a lease: by then the sweep has rung again."""
        claim = commands.claim(job, secrets.token_hex(8))
        try:
            async with asyncio.timeout(LEASE):
                claimed: Claim | Refusal = await self._persist(claim)
        except TimeoutError:
            claimed = Refusal("out of reach")
        if isinstance(claimed, Refusal):
            journal.refused(job, claimed)
            return None
        if claimed.reports:
            self._report()
        route = self._routes.route(claimed.route)
        return Stream(claimed, route, self._relay, self._pace)

    async def _answer(self, stream: Stream, delivery: Delivery) -> Outcome:
        """Stream the answer and decide what the attempt came to."""
        if delivery.stopped_by is not None:  # while it was being claimed
            return _stopped(stream, delivery.stopped_by)
        try:
            stream.prepare()
            with telemetry.STREAMS.labels(stream.job.route).track_inprogress():
                return Completed(await self._ask(stream))
        except UpstreamError as error:
            return _decide(stream, error)
        except asyncio.CancelledError:
            if delivery.stopped_by is None:
                raise
            return _stopped(stream, delivery.stopped_by)
        except Exception as error:
            journal.broken(stream, error)
            return Failed(AttemptBroken(_BROKEN))

    async def _ask(self, stream: Stream) -> dict[str, Any]:
        """The upstream's whole answer; raises UpstreamError."""
        with self._tracer.call(stream.route, stream.model) as span:
            trace = span.carrier or stream.job.trace
            try:
                await self._upstream.stream(
                    stream.route, stream.content, stream.budget, stream, trace
                )
                completion = stream.completion()
            finally:
                span.began(stream.begun_at)
            span.answered(completion)
        return completion

    async def _settle(self, stream: Stream, outcome: Outcome) -> None:
        """Everything said goes out first, then the outcome; the freed slot is used at once."""
        if isinstance(outcome, Interrupted) and outcome.reason == "lost":
            return
        await self._relay.drain(stream.feed)
        settled = await self._persist(_transition(stream, outcome))
        if settled.cancel_asked is not None:
            outcome = Cancelled(settled.cancel_asked, stream.partial())
            settled = await self._persist(_transition(stream, outcome))
        journal.settled(stream, outcome, settled)
        if stream.job.reports:
            self._report()
        if isinstance(outcome, Interrupted):
            self.handed_back += 1
        with contextlib.suppress(StoreError):  # the keeper admits too
            await self._admissions.admit(stream.job.route)

    async def _persist(self, command: Command[T]) -> T:
        """Run a command until Redis takes it: every script may be sent twice."""
        tries = 0
        while True:
            try:
                return await self._store.run(command)
            except StoreError:
                await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
                tries += 1


async def _undisturbed(work: Coroutine[Any, Any, T]) -> T:
    """Finish this though the coroutine is cancelled meanwhile: half of it would leave a lease."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    return task.result()


def _decide(stream: Stream, error: UpstreamError) -> Retry | Failed:
    job = stream.job
    now = job.started_at + time.monotonic() - stream.started
    if isinstance(error, TimedOut) and job.deadline is not None and now >= job.deadline:
        return Failed(TimedOut("the job's deadline passed while it ran", code="deadline"))
    return retry.decide(
        error,
        attempt=job.counted_attempt,
        max_attempts=job.max_attempts,
        now=now,
        deadline=job.deadline,
        random=random.random,
    )


def _stopped(stream: Stream, by: Any) -> Outcome:
    if by == DRAINED:
        return Interrupted("worker_stopping")
    if isinstance(by, Stop) and by.verdict == "lost":
        return Interrupted("lost")
    reason = by.detail if isinstance(by, Stop) else "revoked through Celery"
    return Cancelled(reason, stream.partial())


def _transition(stream: Stream, outcome: Outcome) -> Command[Settled]:
    """The one store transition that follows from an outcome."""
    id_, holder, n = stream.job.id, stream.job.holder, stream.feed.n + 1
    match outcome:
        case Completed(completion):
            answered = _used(completion)
            feedback = Feedback("ok", first_token=stream.first_token)
            return commands.finish(
                id_, holder, JobState.COMPLETED, n, completion, answered, feedback
            )
        case Failed(error):
            data = {"error": error.as_dict(), "attempts": stream.job.counted_attempt}
            feedback = verdict.of_error(error)
            used = _used_so_far(stream)
            return commands.finish(id_, holder, JobState.FAILED, n, data, used, feedback)
        case Cancelled(reason, completion):
            data = {"reason": reason, "completion": completion}
            used = _used_so_far(stream)
            return commands.finish(id_, holder, JobState.CANCELLED, n, data, used)
        case Retry(error, delay):
            feedback = verdict.of_error(error)
            return commands.requeue(
                id_, holder, error.reason, delay, "retry", _used_so_far(stream), feedback
            )
        case Interrupted(reason):
            return commands.requeue(id_, holder, reason, 0, "handback", _used_so_far(stream))


def _used_so_far(stream: Stream) -> Used | None:
    """What the upstream will charge for an answer that broke off, once it had begun."""
    return _used(stream.partial()) if stream.begun else None


def _used(completion: dict[str, Any]) -> Used:
    usage = completion["usage"]
    return Used(
        usage.get("prompt_tokens") or 0,
        usage.get("completion_tokens") or 0,
        usage.get("estimated_cost") or 0,
        bool(usage.get("estimated")),
    )
