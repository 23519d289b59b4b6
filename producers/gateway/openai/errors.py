"""Failures as OpenAI's API tells them: a status, and an `error` object. Pure.

A job that failed by its upstream's answer has that answer's status and message, as if it had been
asked directly. Everything else is told in Penstock's own words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from penstock.errors import PenstockError
from penstock.events import Event, EventType
from producers.gateway.problem import Problem, problem_of

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
"""The error's type by status, where nobody said another; 5xx are `server_error`."""

TIMEOUT, BAD_GATEWAY = 504, 502
_OWN_STATUS = {"timeout": TIMEOUT, "internal_error": 500, "worker_lost": 500}
"""Statuses of failures that no upstream's answer gave; 502 for what is not here."""


_BLAMED = {
    "worker_lost": "the worker that streamed it was lost",
    "worker_stopping": "the worker that streamed it had to stop",
}
"""What broke an answer off, where that was not its upstream: by the reason of `restarted`."""


class Failure(NamedTuple):
    """One error, ready to be told.

    Attributes:
        status: of the HTTP answer, where there still is one to give.
        settled: whether the job has ended, so that sending the same again is a new try at what
            Penstock has tried as often as it may.
    """

    status: int
    message: str
    type: str
    code: str | None = None
    settled: bool = False


def body(failure: Failure) -> dict[str, Any]:
    """The answer's body, and the last frame of a stream that breaks off."""
    return {
        "error": {
            "message": failure.message,
            "type": failure.type,
            "param": None,
            "code": failure.code,
        }
    }


def of_problem(problem: Problem) -> dict[str, Any]:
    """The body of an error that is not a job's, in place of the native one."""
    return body(_failure(problem))


def of_error(error: PenstockError) -> Failure:
    """An error that comes up while a stream is written."""
    return _failure(problem_of(error))


def _failure(problem: Problem) -> Failure:
    return Failure(problem.status, problem.message, type_of(problem.status), problem.code)


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
            message = "the job expired: it could not be answered by its deadline"
            return Failure(TIMEOUT, message, type_of(TIMEOUT), "expired", settled=True)
        case _:
            blamed = _BLAMED.get(data["reason"], "the model's stream broke off")
            message = (
                f"what was said is void: {blamed} and the answer begins anew; "
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
