"""Failures as OpenAI's API tells them: a status, and an `error` object. Pure.

A job that failed by its upstream's answer has that answer's status and message, as if it had been
asked directly. Everything else is told in Penstock's own words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from penstock.errors import (
    BudgetSpent,
    ConversationBusy,
    IdempotencyConflict,
    InvalidRequest,
    InvalidTransition,
    JobNotFound,
    PenstockError,
    RequestTooLarge,
    StoreError,
)
from penstock.events import Event, EventType

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
"""The error's type by status, where nobody said another; 5xx are `server_error`."""

STATUSES: tuple[tuple[type[PenstockError], int, str], ...] = (
    (RequestTooLarge, 413, "request_too_large"),
    (IdempotencyConflict, 409, "idempotency_conflict"),
    (ConversationBusy, 409, "conversation_busy"),
    (BudgetSpent, 429, "budget_spent"),
    (InvalidRequest, 400, "invalid_request"),
    (JobNotFound, 404, "not_found"),
    (InvalidTransition, 409, "invalid_transition"),
    (StoreError, 503, "store_unavailable"),
)
"""Status and code of an error; the first class that fits counts."""

TIMEOUT, BAD_GATEWAY = 504, 502
_OWN_STATUS = {"timeout": TIMEOUT, "internal_error": 500, "worker_lost": 500}
"""Statuses of failures that no upstream's answer gave; 502 for what is not here."""


class Failure(NamedTuple):
    """One error, ready to be told.

    Attributes:
        status: of the HTTP answer, where there still is one to give.
        param: the field that is wrong, if one is.
        settled: whether the job has ended, so that sending the same again is a new try at what
            Penstock has tried as often as it may.
    """

    status: int
    message: str
    type: str
    code: str | None = None
    param: str | None = None
    settled: bool = False


class UnsupportedField(InvalidRequest):
    """The request has a field that cannot be honoured; `param` is its name."""

    def __init__(self, param: str, reason: str) -> None:
        super().__init__(f"{param}: {reason}")
        self.param = param


def body(failure: Failure) -> dict[str, Any]:
    """The answer's body, and the last frame of a stream that breaks off."""
    return {
        "error": {
            "message": failure.message,
            "type": failure.type,
            "param": failure.param,
            "code": failure.code,
        }
    }


def of_error(error: PenstockError) -> Failure:
    """What a request that was refused is told; 500 without details for what is not expected."""
    for kind, status, code in STATUSES:
        if isinstance(error, kind):
            param = getattr(error, "param", None)
            return Failure(status, str(error), type_of(status), code, param)
    return Failure(500, "the gateway failed; its log says how", "server_error", "internal_error")


def of_event(event: Event) -> Failure:
    """What a `restarted` event, or a job's end without a completion, is told as."""
    return of_outcome(event.type, event.data)


def of_outcome(kind: str, data: dict[str, Any]) -> Failure:
    """As `of_event`, from the event's type and data."""
    match kind:
        case EventType.FAILED:
            return _of_failure(data["error"])
        case EventType.CANCELLED:
            message = f"the job was cancelled: {data['reason']}"
            return Failure(409, message, type_of(409), "cancelled", settled=True)
        case EventType.EXPIRED:
            message = "the job expired: its deadline passed before it could run"
            return Failure(TIMEOUT, message, type_of(TIMEOUT), "expired", settled=True)
        case _:
            message = (
                "what was said is void: the model's stream broke off and the answer begins anew; "
                "send the request again, or send x-penstock-restart: buffer"
            )
            return Failure(BAD_GATEWAY, message, type_of(BAD_GATEWAY), "restarted")


def _of_failure(error: dict[str, Any]) -> Failure:
    status = error.get("status") or 0
    if not 400 <= status <= 599:  # no answer, or one that was an error though its status is none
        own = TIMEOUT if error.get("code") == "deadline" else BAD_GATEWAY
        status = _OWN_STATUS.get(error["type"], own)
    return Failure(status, error["message"], error["type"], error.get("code"), settled=True)


def type_of(status: int) -> str:
    """OpenAI's error type for a status."""
    return TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
