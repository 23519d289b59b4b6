"""One attempt at a job, as a pipeline: claim -> stream -> decide -> settle."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from penstock import commands
from penstock.commands import LEASE, Claim, Command, Lease, Stop
from penstock.errors import StoreError, TimedOut, UpstreamError
from penstock.outcome import Cancelled, Completed, Failed, Interrupted, Outcome, Retry
from penstock.settings import Route, Settings
from penstock.state import JobState
from penstock.store import AsyncStore
from worker import retry, telemetry
from worker.leases import Leases
from worker.pace import Pace
from worker.pool import DRAINED, Delivery
from worker.relay import PAUSES, Feed, Relay
from worker.upstream.assemble import Assembler
from worker.upstream.client import Upstream

T = TypeVar("T")


class Stream:
    """One attempt under way: what it was claimed for, and what has come so far."""

    def __init__(self, claim: Claim, route: Route, relay: Relay, pace: Pace) -> None:
        self.record, self.attempt, self.route = claim.record, claim.attempt, route
        self.lease = Lease(claim.record.id, claim.attempt, claim.record.route)
        self.feed = Feed(claim.record.id, claim.attempt)
        self.started = time.monotonic()
        body = _body(claim, route)
        self.content = msgspec.json.encode(body)
        self.assembler = Assembler(
            prices=route.prices,
            n=body.get("n") or 1,
            model=body["model"],
            prompt_characters=_characters(body["messages"]),
        )
        self.about = {
            "job": claim.record.id, "attempt": claim.attempt, "route": claim.record.route,
            "tenant": claim.record.tenant,
        }  # fmt: skip
        self._relay = relay
        self._pace, self._slot = pace, pace.join()
        self.begun = False

    @property
    def done(self) -> bool:
        """Whether `[DONE]` has come."""
        return self.assembler.done

    def receive(self, data: bytes) -> None:
        """Take one event's data."""
        deltas = self.assembler.feed(data)
        if deltas:
            if not self.begun:
                self.begun = True
                waited = time.monotonic() - self.started
                telemetry.FIRST_TOKEN.labels(self.record.route).observe(waited)
            self._relay.add(self.feed, deltas)

    async def turn(self) -> None:
        """Wait for this stream's turn to read on."""
        await self._pace.turn(self._slot)

    @property
    def budget(self) -> float:
        """Seconds this attempt may take: the route's, or what is left until the deadline.

        `started_at` is Redis's time at the claim, so this worker's clock does not matter.
        """
        total, deadline = self.route.timeouts.total, self.record.deadline
        if deadline is None or self.record.started_at is None:
            return total
        return min(total, deadline - self.record.started_at)


class Attempts:
    """Runs attempts; the state of the worker's pool."""

    def __init__(
        self,
        settings: Settings,
        store: AsyncStore,
        upstream: Upstream,
        relay: Relay,
        pace: Pace,
        leases: Leases,
    ) -> None:
        self._settings = settings
        self._store = store
        self._upstream = upstream
        self._relay = relay
        self._pace = pace
        self._leases = leases
        self.received_at = time.monotonic()
        self.handed_back = 0

    async def run(self, delivery: Delivery) -> None:
        """Run the delivered job's next attempt, if it is to be run."""
        self.received_at = time.monotonic()
        with self._leases.expected(delivery.task_id):
            claimed = await _undisturbed(self._claim(delivery.task_id))
            delivery.accept()
            if not isinstance(claimed, Claim):
                telemetry.log("job_refused", job=delivery.task_id, state=claimed)
                return
            route = self._settings.route(claimed.record.route)
            stream = Stream(claimed, route, self._relay, self._pace)
            self._leases.hold(stream.lease, delivery)
        _log_claim(stream)
        try:
            outcome = await self._answer(stream, delivery)
            await _undisturbed(self._settle(stream, outcome))
        finally:
            self._leases.release(stream.lease)

    async def _claim(self, job: str) -> Claim | str:
        """Claim, for at most a lease: by then the sweep has rung again."""
        claim = commands.claim(job, secrets.token_hex(8))
        try:
            return await asyncio.wait_for(self._persist(claim), LEASE)
        except TimeoutError:
            return "out of reach"

    async def _answer(self, stream: Stream, delivery: Delivery) -> Outcome:
        """Stream the answer and decide what the attempt came to."""
        if delivery.stopped_by is not None:  # while it was being claimed
            return _stopped(stream, delivery.stopped_by)
        try:
            with telemetry.STREAMS.labels(stream.record.route).track_inprogress():
                await self._upstream.stream(stream.route, stream.content, stream.budget, stream)
            return Completed(stream.assembler.completion())
        except UpstreamError as error:
            return _decide(stream, error)
        except asyncio.CancelledError:
            if delivery.stopped_by is None:
                raise
            return _stopped(stream, delivery.stopped_by)

    async def _settle(self, stream: Stream, outcome: Outcome) -> None:
        """Everything said goes out first, then the outcome; the freed slot is used at once."""
        if isinstance(outcome, Interrupted) and outcome.reason == "lost":
            return
        await self._relay.drain(stream.feed)
        accepted = await self._persist(_transition(stream, outcome))
        _log_outcome(stream, outcome, accepted)
        if isinstance(outcome, Interrupted):
            self.handed_back += 1
        with contextlib.suppress(StoreError):  # the keeper admits too
            await self._store.run(commands.admit(stream.record.route))

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


def _body(claim: Claim, route: Route) -> dict[str, Any]:
    """What the upstream is asked: the job's body, as a stream, with usage."""
    body: dict[str, Any] = msgspec.json.decode(claim.request)
    options = body.get("stream_options") or {}
    return {
        **body,
        "model": claim.record.model or route.model,
        "stream": True,
        "stream_options": {**options, "include_usage": True},
    }


def _characters(messages: list[dict[str, Any]]) -> int:
    """Characters of the prompt's texts, to estimate tokens by."""
    contents = (message.get("content") for message in messages)
    return sum(len(content) for content in contents if isinstance(content, str))


def _decide(stream: Stream, error: UpstreamError) -> Retry | Failed:
    record = stream.record
    now = (record.started_at or 0) + time.monotonic() - stream.started
    if isinstance(error, TimedOut) and record.deadline is not None and now >= record.deadline:
        return Failed(TimedOut("the job's deadline passed while it ran", code="deadline"))
    return retry.decide(
        error,
        attempt=record.counted_attempt,
        max_attempts=record.max_attempts,
        now=now,
        deadline=record.deadline,
        random=random.random,
    )


def _stopped(stream: Stream, by: Any) -> Outcome:
    if by == DRAINED:
        return Interrupted("worker_stopping")
    if isinstance(by, Stop) and by.verdict == "lost":
        return Interrupted("lost")
    reason = by.detail if isinstance(by, Stop) else "revoked through Celery"
    return Cancelled(reason, stream.assembler.partial())


def _transition(stream: Stream, outcome: Outcome) -> Command[bool]:
    """The one store transition that follows from an outcome."""
    id_, attempt, n = stream.record.id, stream.attempt, stream.feed.n + 1
    match outcome:
        case Completed(completion):
            return commands.finish(id_, attempt, JobState.COMPLETED, n, completion)
        case Failed(error):
            data = {"error": error.as_dict(), "attempts": stream.record.counted_attempt}
            return commands.finish(id_, attempt, JobState.FAILED, n, data)
        case Cancelled(reason, completion):
            data = {"reason": reason, "completion": completion}
            return commands.finish(id_, attempt, JobState.CANCELLED, n, data)
        case Retry(error, delay):
            return commands.requeue(id_, attempt, error.code or error.type, delay, "retry")
        case Interrupted(reason):
            return commands.requeue(id_, attempt, reason, 0, "handback")


def _log_claim(stream: Stream) -> None:
    record = stream.record
    waited = max(0.0, (record.started_at or 0) - record.available_at)
    telemetry.QUEUED.labels(record.route).observe(waited)
    telemetry.log("job_claimed", **stream.about)


_LOGGERS: dict[type, Callable[[Any], tuple[str, str, dict[str, Any]]]] = {
    Completed: lambda o: ("job_completed", "completed", _completion_fields(o.completion)),
    Failed: lambda o: ("job_failed", o.error.code or o.error.type, _error_fields(o.error)),
    Cancelled: lambda o: ("job_cancelled", "cancelled", {"reason": o.reason}),
    Interrupted: lambda o: ("job_handed_back", o.reason, {"reason": o.reason}),
    Retry: lambda o: (
        "job_retried",
        o.error.code or o.error.type,
        {**_error_fields(o.error), "delay": round(o.delay, 3)},
    ),
}


def _log_outcome(stream: Stream, outcome: Outcome, accepted: bool) -> None:
    action, reason, fields = _LOGGERS[type(outcome)](outcome)
    route = stream.record.route
    telemetry.ATTEMPTS.labels(route, reason).inc()
    if not accepted:
        telemetry.log("outcome_refused", **stream.about, outcome=action)
        return
    if isinstance(outcome, Completed | Failed | Cancelled):
        telemetry.JOBS.labels(route, type(outcome).__name__.lower()).inc()
    if isinstance(outcome, Completed):
        telemetry.count_usage(route, outcome.completion["usage"])
        fields["seconds"] = round(time.monotonic() - stream.started, 3)
    telemetry.log(action, **stream.about, **fields)


def _completion_fields(completion: dict[str, Any]) -> dict[str, Any]:
    usage = completion["usage"]
    return {
        "tokens": usage.get("completion_tokens"),
        "cost": usage.get("estimated_cost"),
        "finish_reason": completion["choices"][0]["finish_reason"],
    }


def _error_fields(error: UpstreamError) -> dict[str, Any]:
    """Not the message: an upstream may quote the prompt in it. It is in the job's own event."""
    return {
        "reason": error.code or error.type,
        "error": type(error).__name__,
        "status": error.status,
    }
