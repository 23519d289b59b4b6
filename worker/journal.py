"""What an attempt leaves in the log and in the metrics, from its claim to its outcome."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

from penstock.commands import Refusal, Settled
from penstock.errors import UpstreamError
from penstock.outcome import Cancelled, Completed, Failed, Interrupted, Outcome, Retry
from worker import telemetry
from worker.stream import Stream


def claimed(stream: Stream) -> None:
    """The attempt begins."""
    job = stream.job
    telemetry.QUEUED.labels(job.route).observe(max(0.0, job.started_at - job.available_at))
    telemetry.log("job_claimed", **stream.about)


def refused(job: str, refusal: Refusal) -> None:
    """A message came for a job that is not to be run."""
    if refusal.ended and refusal.route:
        telemetry.JOBS.labels(refusal.route, refusal.state).inc()
    if refusal.version is not None:
        telemetry.log(
            "job_unreadable", job=job, attempt=refusal.attempt, route=refusal.route,
            tenant=refusal.tenant, format=refusal.version,
        )  # fmt: skip
        return
    telemetry.log(
        "job_refused", job=job, attempt=refusal.attempt, route=refusal.route,
        tenant=refusal.tenant, state=refusal.state,
    )  # fmt: skip


def broken(stream: Stream, error: Exception) -> None:
    """Penstock failed: where, and on what kind of error. Its text may quote the prompt."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    telemetry.log("attempt_broken", **stream.about, error=type(error).__name__, place=place)


def settled(stream: Stream, outcome: Outcome, result: Settled) -> None:
    """The attempt has ended, and the store has heard of it."""
    for kind, by in result.news:
        telemetry.log(f"route_{kind}", route=stream.job.route, by=by)
    action, reason, fields = _LOGGERS[type(outcome)](outcome)
    route = stream.job.route
    telemetry.ATTEMPTS.labels(route, reason).inc()
    if not result.accepted:
        telemetry.log("outcome_refused", **stream.about, outcome=action)
        return
    if isinstance(outcome, Completed | Failed | Cancelled):
        telemetry.JOBS.labels(route, type(outcome).__name__.lower()).inc()
    if isinstance(outcome, Completed):
        telemetry.count_usage(route, outcome.completion["usage"])
        fields["seconds"] = round(time.monotonic() - stream.started, 3)
    telemetry.log(action, **stream.about, **fields)


_LOGGERS: dict[type, Callable[[Any], tuple[str, str, dict[str, Any]]]] = {
    Completed: lambda o: ("job_completed", "completed", _completion_fields(o.completion)),
    Failed: lambda o: ("job_failed", o.error.reason, _error_fields(o.error)),
    Cancelled: lambda o: ("job_cancelled", "cancelled", {"reason": o.reason}),
    Interrupted: lambda o: ("job_handed_back", o.reason, {"reason": o.reason}),
    Retry: lambda o: (
        "job_retried",
        o.error.reason,
        {**_error_fields(o.error), "delay": round(o.delay, 3)},
    ),
}


def _completion_fields(completion: dict[str, Any]) -> dict[str, Any]:
    usage = completion["usage"]
    return {
        "tokens": usage.get("completion_tokens"),
        "cost": usage.get("estimated_cost"),
        "finish_reason": completion["choices"][0]["finish_reason"],
    }


def _error_fields(error: UpstreamError) -> dict[str, Any]:
    """Nothing the upstream said: it may quote the prompt. That is in the job's own event."""
    return {
        "reason": error.reason,
        "error": type(error).__name__,
        "status": error.status,
        "detail": error.detail,
    }
