"""Every error Penstock raises on purpose.

::

    PenstockError
    ├── ConfigurationError          a setting, penstock.toml or the server's set-up is wrong
    ├── InvalidRequest              the job as submitted cannot be accepted
    │   ├── RequestTooLarge         its body is over MAX_REQUEST_BYTES
    │   ├── UnknownRoute            it names a route nobody has configured
    │   ├── IdempotencyConflict     its idempotency key belongs to a job with another body
    │   ├── BudgetSpent             its tenant's budget has no room, and jobs are not to wait
    │   ├── QueueFull               as many of its tenant's jobs wait as may wait
    │   └── ConversationBusy        its conversation has a job, and it was not to wait
    ├── JobNotFound                 no record: never submitted, or its result_ttl is over
    ├── KeyNotFound                 no API key of this id was ever made
    ├── DeliveryNotFound            no such webhook delivery, or it is forgotten
    ├── InvalidTransition           the job is not in a state that allows this
    ├── Dismissed                   the process stops; follow the job from elsewhere
    ├── StoreError                  Redis did not do what was asked
    │   ├── StoreUnavailable        it cannot be reached, or went away
    │   └── StoreFull               it has no memory left for new jobs
    ├── JobError                    what `result()` raises when there is no completion
    │   ├── JobFailed
    │   ├── JobCancelled
    │   └── JobExpired
    └── UpstreamError               the model's server, mapped in worker/upstream/client.py
        ├── ConnectFailed           no connection, or no free one in time
        ├── TimedOut                connect, first token, between tokens or total
        ├── StatusError             an HTTP answer other than 200
        ├── StreamBroken            a 200 whose stream is no whole answer
        └── AttemptBroken           Penstock itself failed on this job

No error text carries a prompt, a completion or a secret; that of an UpstreamError, which whoever
submitted the job reads, neither a host nor an address of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from penstock.mistake import Mistake

RETRYABLE_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP statuses after which the same request may succeed; every other one fails the job at once."""


class PenstockError(Exception):
    """The root: catch this to catch everything Penstock raises."""


class ConfigurationError(PenstockError):
    """A setting is wrong; the message names it and says what to do, one line a mistake.

    Attributes:
        mistakes: the lines, where the settings themselves are wrong; see penstock/mistake.py.
    """

    def __init__(self, message: str, mistakes: Sequence[Mistake] = ()) -> None:
        super().__init__(message)
        self.mistakes = tuple(mistakes)


class NotPermitted(ConfigurationError):
    """The user of PENSTOCK_REDIS_URL came in, but lacks a right to this."""


class InvalidRequest(PenstockError):
    """The job as submitted cannot be accepted; nothing was stored."""


class RequestTooLarge(InvalidRequest):
    """The body is over the size limit."""


class UnknownRoute(InvalidRequest):
    """The job names a route that is not in this configuration, and that no worker has published."""


class IdempotencyConflict(InvalidRequest):
    """The idempotency key already belongs to a job with another request."""


class BudgetSpent(InvalidRequest):
    """The budget of the day or month has no room for the job, and `over_budget` is `reject`."""


class QueueFull(InvalidRequest):
    """As many of the tenant's jobs wait as its `max_waiting` allows."""


class ConversationBusy(InvalidRequest):
    """The job's conversation is at another job, and `on_busy` is `reject`."""


class JobNotFound(PenstockError):
    """There is no record of this job."""


class KeyNotFound(PenstockError):
    """There is no API key of this id."""


class DeliveryNotFound(PenstockError):
    """There is no record of this webhook delivery."""


class InvalidTransition(PenstockError):
    """The job's state does not allow what was asked."""


class RecordUnreadable(PenstockError):
    """The job's record has a format that this version of Penstock does not read."""


class Dismissed(PenstockError):
    """The process that follows a job stops; the job goes on, and can be followed from elsewhere."""


class StoreError(PenstockError):
    """Redis refused or failed a command."""


class StoreUnavailable(StoreError):
    """Redis cannot be reached."""


class StoreFull(StoreError):
    """Redis is at its memory limit and takes no new jobs; running jobs still finish."""


class JobError(PenstockError):
    """A job ended without a completion.

    Attributes:
        job: the job's id.
        data: the terminal event's data, as in docs/events.md; empty where the error has come over
            a result backend of Celery, which keeps an error's text only.
    """

    def __init__(
        self, message: str, *, job: str = "", data: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        super().__init__(message)
        self.job = job
        self.data = dict(data)


class JobFailed(JobError):
    """Its attempts or its deadline are used up, or no retry can help."""


class JobCancelled(JobError):
    """Somebody cancelled it; `data["completion"]` holds what had been answered."""


class JobExpired(JobError):
    """Its deadline passed before it could start."""


class UpstreamError(PenstockError):
    """One attempt did not bring a whole answer.

    Attributes:
        type: the upstream's error type, or this class's own.
        code: the upstream's error code, if it gave one.
        message: what the upstream said, or what was seen.
        status: the HTTP status, if there was an answer.
        retryable: whether the same request may succeed later.
        retry_after: the least wait before that, in seconds, if the upstream asked for one.
        quoted: whether type, code and message are the upstream's own words, which may quote the
            prompt.
        detail: what else was seen, with hosts and addresses: for the operator, so it is no part of
            `as_dict`; never the upstream's words.
    """

    default_type: ClassVar[str] = "upstream_error"

    def __init__(
        self,
        message: str,
        *,
        type: str | None = None,  # noqa: A002 - the field's name in OpenAI's error object
        code: str | None = None,
        status: int | None = None,
        retryable: bool = True,
        retry_after: float | None = None,
        quoted: bool = False,
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.type = type or self.default_type
        self.code = code
        self.status = status
        self.retryable = retryable
        self.retry_after = retry_after
        self.quoted = quoted
        self.detail = detail

    @property
    def reason(self) -> str:
        """What happened, in one word of ours: for logs, metrics and `restarted` events."""
        return "upstream_error" if self.quoted else self.code or self.type

    def as_dict(self) -> dict[str, Any]:
        """The `error` object of a `failed` event: type, code, message, status."""
        return {
            "type": self.type,
            "code": self.code,
            "message": self.message,
            "status": self.status,
        }


class ConnectFailed(UpstreamError):
    """No connection could be made, or none was free in time."""

    default_type = "connect_failed"


class TimedOut(UpstreamError):
    """The upstream was too slow; code: connect, first_token, between_tokens or total."""

    default_type = "timeout"


class StatusError(UpstreamError):
    """The upstream answered with an error status; retryable if it is in RETRYABLE_STATUS."""

    default_type = "status_error"

    def __init__(self, message: str, *, status: int, **fields: Any) -> None:
        super().__init__(message, status=status, retryable=status in RETRYABLE_STATUS, **fields)

    @property
    def reason(self) -> str:
        """`status_` and the status."""
        return f"status_{self.status}"


class StreamBroken(UpstreamError):
    """The stream ended early, carried an error, or was not a stream of chat completion chunks."""

    default_type = "stream_broken"


class AttemptBroken(UpstreamError):
    """A fault of Penstock's own that this job brought to light; trying again would not help."""

    default_type = "internal_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)
