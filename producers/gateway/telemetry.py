"""What a gateway tells about itself: the table of its log lines, and its metrics.

As in worker/telemetry.py; no line carries a prompt, a completion, a query string or a secret.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from prometheus_client import Counter, Gauge, Histogram

from penstock.log import get_logger


class Action(NamedTuple):
    """One kind of log line."""

    level: str
    text: str
    fields: tuple[str, ...] = ()


ABOUT_REQUEST = ("method", "path", "status", "seconds", "tenant", "key")

ACTIONS: dict[str, Action] = {
    "gateway_started": Action("info", "gateway started", ("url", "server")),
    "gateway_stopped": Action("info", "gateway stopped"),
    "gateway_open": Action(
        "warning", "there is no API key: this machine only is served, and may do everything"
    ),
    "request_answered": Action("info", "request answered", ABOUT_REQUEST),
    "hook_refused": Action("warning", "a webhook's sender is not proved", ("hook", "reason")),
    "hook_failed": Action(
        "error", "a webhook does not fit its template, or makes no valid job", ("hook", "reason")
    ),
    "hook_strange": Action(
        "warning",
        "a hook's route is not in these settings: workers must know it",
        ("hook", "route"),
    ),
    "queue_refused": Action(
        "error", "Redis refuses this gateway; see `penstock doctor`", (*ABOUT_REQUEST, "error")
    ),
    "queue_broken": Action(
        "error", "Redis failed a request; see `penstock doctor`", (*ABOUT_REQUEST, "error")
    ),
    "request_broken": Action(
        "error", "a fault of Penstock's own; please report it", (*ABOUT_REQUEST, "error", "place")
    ),
}

_logger = get_logger("penstock.gateway")


def log(action: str, **fields: Any) -> None:
    """Write the line of this action."""
    kind = ACTIONS[action]
    getattr(_logger, kind.level)(kind.text, action=action, **fields)


REQUESTS = Counter(
    "penstock_gateway_requests_total", "Requests answered.", ["method", "path", "status"]
)
SECONDS = Histogram(
    "penstock_gateway_answer_seconds", "From a request until its answer began.", ["method", "path"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30, 300),
)  # fmt: skip
READERS = Gauge("penstock_gateway_readers", "Event streams of this process now.")
BEHIND = Counter(
    "penstock_gateway_readers_behind_total", "Times a reader fell behind, to read the Stream."
)
EVENTS = Counter("penstock_gateway_events_total", "Events sent to readers.")
