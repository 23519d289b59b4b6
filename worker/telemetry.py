"""What a worker tells about itself: the table of log events, and the metrics.

Each log line carries its `action`, a name of ACTIONS, and the fields listed there; lines about a
job also carry job, attempt, route and tenant. No line carries a prompt, a completion or a secret.
"""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

from prometheus_client import Counter, Gauge, Histogram

from penstock.commands import Admission
from penstock.log import get_logger
from penstock.outbox import Verdict
from penstock.state import TERMINAL


class Action(NamedTuple):
    """One kind of log line."""

    level: str
    text: str
    fields: tuple[str, ...] = ()


ABOUT_JOB = ("job", "attempt", "route", "tenant")

ABOUT_DELIVERY = ("delivery", "type", *ABOUT_JOB)

ACTIONS: dict[str, Action] = {
    "worker_started": Action("info", "worker started", ("routes", "concurrency", "server")),
    "worker_stopped": Action("info", "worker stopped", ("handed_back",)),
    "worker_deaf": Action(
        "error", "jobs wait and slots are free, but no message comes: leaving", ("seconds",)
    ),
    "registered_again": Action(
        "warning", "Redis had forgotten this worker: told it again", ("route",)
    ),
    "routes_applied": Action("info", "routes and limits were changed", ("version", "routes")),
    "routes_refused": Action(
        "error",
        "what was applied is nothing this version can read: the routes stay as they are",
        ("version", "error"),
    ),
    "token_missing": Action(
        "warning",
        "the token of a changed route is not set here: it stays as it is",
        ("route", "variable"),
    ),
    "loop_died": Action("error", "a background loop died: leaving", ("error",)),
    "server_unsafe": Action("warning", "the server may lose jobs", ("problem", "advice")),
    "job_claimed": Action("debug", "job claimed", ABOUT_JOB),
    "job_refused": Action("info", "message dropped: not to be run", (*ABOUT_JOB, "state")),
    "job_unreadable": Action(
        "warning",
        "another version of Penstock wrote this job: it is left for a worker that reads it",
        (*ABOUT_JOB, "format"),
    ),
    "job_completed": Action(
        "info", "job completed", (*ABOUT_JOB, "seconds", "tokens", "cost", "finish_reason")
    ),
    "job_retried": Action(
        "warning",
        "attempt failed, job will be tried again",
        (*ABOUT_JOB, "reason", "error", "status", "detail", "delay"),
    ),
    "job_failed": Action(
        "error", "job failed", (*ABOUT_JOB, "reason", "error", "status", "detail")
    ),
    "job_cancelled": Action("info", "job cancelled", (*ABOUT_JOB, "reason")),
    "job_handed_back": Action("info", "job handed back", (*ABOUT_JOB, "reason")),
    "attempt_broken": Action(
        "error", "a fault of Penstock's own; please report it", (*ABOUT_JOB, "error", "place")
    ),
    "outcome_refused": Action(
        "warning", "outcome refused, a newer attempt has the job", (*ABOUT_JOB, "outcome")
    ),
    "lease_lost": Action("warning", "lease lost, stream stopped", (*ABOUT_JOB, "state")),
    "jobs_diverted": Action("info", "waiting jobs moved to fallbacks", ("route", "count")),
    "route_paused": Action(
        "warning",
        "the upstream asked for a pause: nothing is admitted for so long",
        ("route", "by"),
    ),
    "route_slowed": Action(
        "warning", "the upstream is busy: fewer jobs at a time", ("route", "by")
    ),
    "route_opened": Action(
        "error",
        "the upstream fails: nothing is admitted for so long, then one job tries",
        ("route", "by"),
    ),
    "route_closed": Action("info", "the upstream answers again", ("route", "by")),
    "swept": Action(
        "info",
        "swept",
        ("due", "rung", "recovered", "lost", "cancelled", "expired", "forgotten", "returned"),
    ),
    "webhook_delivered": Action(
        "debug", "webhook delivered", (*ABOUT_DELIVERY, "status", "seconds")
    ),
    "webhook_retried": Action(
        "warning",
        "webhook not delivered, it will be tried again",
        (*ABOUT_DELIVERY, "status", "seconds", "error", "delay"),
    ),
    "webhook_failed": Action(
        "error", "webhook given up", (*ABOUT_DELIVERY, "status", "seconds", "error")
    ),
    "webhook_disabled": Action(
        "warning",
        "the endpoint is gone: it is not called any more",
        (*ABOUT_DELIVERY, "status", "seconds", "error"),
    ),
    "delivery_broken": Action(
        "error",
        "a fault of Penstock's own in a delivery; please report it",
        (*ABOUT_DELIVERY, "error"),
    ),
    "store_away": Action("warning", "Redis is away", ("loop", "error")),
    "store_back": Action("info", "Redis is back", ("loop",)),
    "relay_waits": Action("warning", "Redis does not take events, they wait", ("error",)),
}

_logger = get_logger("penstock.worker")


def log(action: str, **fields: Any) -> None:
    """Write the line of this action."""
    kind = ACTIONS[action]
    getattr(_logger, kind.level)(kind.text, action=action, **fields)


JOBS = Counter("penstock_jobs_total", "Jobs ended, by outcome.", ["route", "outcome"])
ATTEMPTS = Counter(
    "penstock_attempts_total", "Attempts ended, by what ended them.", ["route", "reason"]
)
QUEUED = Histogram(
    "penstock_time_in_queue_seconds", "From when a job might run until a worker claimed it.",
    ["route"], buckets=(0.005, 0.02, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200),
)  # fmt: skip
FIRST_TOKEN = Histogram(
    "penstock_time_to_first_token_seconds", "From the request until the first delta.",
    ["route"], buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120),
)  # fmt: skip
TOKENS = Counter("penstock_tokens_total", "Tokens, by kind.", ["route", "kind"])
COST = Counter("penstock_cost_usd_total", "What completions cost, in USD.", ["route"])
STREAMS = Gauge("penstock_streams_in_progress", "Streams of this process.", ["route"])
FLUSHED = Histogram(
    "penstock_relay_flush_events", "Events in one write of the relay.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200),
)  # fmt: skip
ALLOWED = Gauge("penstock_route_allowed", "Jobs that may run at a time now.", ["route"])
IN_USE = Gauge("penstock_route_in_use", "Jobs admitted or running.", ["route"])
PAUSED = Gauge("penstock_route_paused_seconds", "Until admission goes on.", ["route"])
BREAKER = Gauge("penstock_route_breaker", "0 closed, 1 half open, 2 open.", ["route"])
DELIVERIES = Counter(
    "penstock_webhook_deliveries_total", "Tries of webhook deliveries, by outcome.", ["outcome"]
)
SWEPT = Counter("penstock_swept_total", "Jobs the sweep moved, by what it did.", ["what"])

# Prometheus sees a count grow, and not what it begins with: what alerts ask for begins at 0.
for verdict in get_args(Verdict):
    DELIVERIES.labels(verdict)
for what in ACTIONS["swept"].fields:
    SWEPT.labels(what)


def begin(route: str) -> None:
    """Show a route's jobs before one ends, for the same reason."""
    for state in TERMINAL:
        JOBS.labels(route, state)


def show_gate(route: str, admission: Admission) -> None:
    """Set the gauges of a route's gate."""
    ALLOWED.labels(route).set(admission.allowed)
    IN_USE.labels(route).set(admission.in_use)
    PAUSED.labels(route).set(admission.paused)
    BREAKER.labels(route).set(("closed", "half open", "open").index(admission.breaker))


def count_usage(route: str, usage: dict[str, Any]) -> None:
    """Add a completion's tokens and cost."""
    TOKENS.labels(route, "prompt").inc(usage.get("prompt_tokens") or 0)
    TOKENS.labels(route, "completion").inc(usage.get("completion_tokens") or 0)
    COST.labels(route).inc(usage.get("estimated_cost") or 0)
