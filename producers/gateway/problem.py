"""What a caller is told when something cannot be done: the one place that makes answers of errors.

Every error answer of the native API has the same body, `{"error": {"type", "code", "message"}}`.
No message carries an internal: no host, no path, no text of an error that is not ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from penstock import errors


class Problem(Exception):
    """An error answer.

    Attributes:
        status: the HTTP status.
        type: the kind of mistake, the same for all of a status: what a program decides by.
        code: which one it is, in snake case.
        message: what went wrong and what to do, in one line.
        headers: sent along, such as Retry-After.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = TYPES[status]
        self.code = code
        self.message = message
        self.headers = headers or {}

    def as_dict(self) -> dict[str, Any]:
        """The body."""
        return {"error": {"type": self.type, "code": self.code, "message": self.message}}


TYPES = {
    400: "invalid_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "invalid_request",
    408: "timeout",
    409: "conflict",
    413: "too_large",
    415: "invalid_request",
    421: "forbidden",
    422: "conflict",
    429: "limited",
    431: "too_large",
    500: "internal",
    503: "unavailable",
    504: "timeout",
}
"""The type of each status that the gateway answers with."""

RETRY_SOON = {"Retry-After": "1"}


class _Kind(NamedTuple):
    """How one class of error is answered; a text replaces its own."""

    status: int
    code: str
    text: str | None = None
    headers: dict[str, str] | None = None


_AWAY = "the queue cannot be reached at the moment; try again"
_FULL = "the queue takes no new jobs at the moment; running jobs finish. Try again later"
_REFUSED = (
    "the queue refuses this gateway at the moment; its operator finds the reason in its log. "
    "Try again later"
)
_BROKEN = "the gateway failed on this request; its log says more"

KINDS: dict[type[errors.PenstockError], _Kind] = {
    errors.InvalidRequest: _Kind(400, "invalid_request"),
    errors.RequestTooLarge: _Kind(413, "request_too_large"),
    errors.UnknownRoute: _Kind(404, "unknown_route"),
    errors.IdempotencyConflict: _Kind(422, "idempotency_conflict"),
    errors.BudgetSpent: _Kind(429, "budget_spent", None, {"Retry-After": "3600"}),
    errors.QueueFull: _Kind(429, "too_many_waiting", None, {"Retry-After": "5"}),
    errors.ConversationBusy: _Kind(409, "conversation_busy"),
    errors.JobNotFound: _Kind(404, "job_not_found"),
    errors.InvalidTransition: _Kind(409, "invalid_transition"),
    errors.RecordUnreadable: _Kind(503, "record_unreadable", None, RETRY_SOON),
    errors.Dismissed: _Kind(503, "gateway_stops", None, RETRY_SOON),
    errors.StoreUnavailable: _Kind(503, "queue_unavailable", _AWAY, RETRY_SOON),
    errors.StoreFull: _Kind(503, "queue_full", _FULL, {"Retry-After": "30"}),
    errors.ConfigurationError: _Kind(503, "queue_refused", _REFUSED, {"Retry-After": "30"}),
    errors.PenstockError: _Kind(500, "internal_error", _BROKEN),
}
"""By class; the closest ancestor counts."""


def problem_of(error: errors.PenstockError) -> Problem:
    """How an error is answered."""
    kind = next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS)
    return Problem(kind.status, kind.code, kind.text or str(error), kind.headers)


def broken() -> Problem:
    """The answer to a fault of ours."""
    return Problem(500, "internal_error", _BROKEN)
