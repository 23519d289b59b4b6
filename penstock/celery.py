"""Celery tasks for Celery applications of one's own: `penstock.submit` and `penstock.ask`.

::

    app = Celery("shop", broker=..., include=["penstock.celery"])
    chain(prepare.s(), ask.s(model="small"), use_answer.s()).delay()

Not for Penstock's own workers: the tasks run where the application's other tasks do, on its broker,
and reach Penstock by PENSTOCK_REDIS_URL. See docs/celery.md.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, NoReturn, TypeAlias

from celery import Task, shared_task
from celery.signals import task_revoked

from penstock.client import Client, Job, result_of
from penstock.commands import not_found
from penstock.errors import InvalidRequest, PenstockError, QueueFull, StoreFull, StoreUnavailable
from penstock.events import Event

FIRST_PAUSE = 0.5
"""Seconds until `ask` looks for the first time whether the job is over."""

GROWTH = 1.15
"""Each pause is so much longer than the one before: an answer is found at most about a sixth of its
own time late."""

LONGEST_PAUSE = 10.0
"""Seconds: looking costs a message, an answer that waits costs a user."""

JITTER = 0.2
"""Share by which a pause varies, so that what was asked together does not look together."""

PASSING = (StoreUnavailable, StoreFull, QueueFull)
"""What submitting again later helps against."""

HIDDEN = "(...)"
"""What Celery's logs, its events and Flower show of arguments: a prompt is not theirs to tell."""

Request: TypeAlias = str | Mapping[str, Any] | Iterable[Mapping[str, Any]] | None


class PromptTask(Task):  # type: ignore[misc]  # Celery has no type information
    """A task whose arguments may be a prompt."""

    max_retries = None
    throws = (PenstockError,)  # told in a line, without a traceback

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """As Celery's, with nothing of the arguments in the message's headers."""
        hidden = {"argsrepr": HIDDEN, "kwargsrepr": HIDDEN}
        return super().apply_async(args, kwargs, **{**options, **hidden})


@shared_task(bind=True, base=PromptTask, name="penstock.submit")  # type: ignore[untyped-decorator]
def submit(self: PromptTask, request: Request = None, **fields: Any) -> str:
    """Submit a job; its id.

    Args:
        self: the task.
        request: messages as `Client.submit` takes them, a whole chat-completions body with the
            job's options beside it, or a text, which is one message of the user. Left out where
            `messages` are among the fields.
        fields: any chat-completions field, and those of JobOptions; they go before the body's.

    One task is one job, however often its message comes: the task's id is the idempotency key where
    none is given. While Redis is away or full, or the tenant's line is, the task is retried.

    Raises:
        InvalidRequest: a field is wrong, or the idempotency key is another request's.
        UnknownRoute: no such route.
    """
    return _submitted(self, request, fields).id


@shared_task(  # type: ignore[untyped-decorator]
    bind=True, base=PromptTask, name="penstock.ask", resultrepr_maxsize=0
)
def ask(
    self: PromptTask, request: Request = None, job_id: str | None = None, **fields: Any
) -> dict[str, Any]:
    """Submit a job as `submit` does, and wait for its `chat.completion`, without a worker's slot.

    Args:
        self: the task.
        request: as of `submit`.
        job_id: the job to wait for, in place of one to submit.
        fields: as of `submit`.

    A waiting task is a message with a time on it: Celery's own retry, which keeps the task's id and
    all that the canvas hangs on it. Where Celery runs it at once (`apply`, `task_always_eager`) it
    blocks. One that is revoked, or expires, while it waits cancels its job.

    Raises:
        JobFailed, JobCancelled, JobExpired: the job ended without a completion.
        JobNotFound: its record is gone: its result_ttl was shorter than the wait, or it was erased.
        and what `submit` raises.
    """
    job = _client().job(job_id) if job_id else _submitted(self, request, fields)
    if _runs_at_once(self):
        job.result()
    elif job_id is None:
        _look_again(self, job)
    event = _newest(self, job)
    if not event.is_terminal:
        _look_again(self, job)
    result_of(event)
    return dict(event.data)


@task_revoked.connect  # type: ignore[untyped-decorator]
def _cancel(request: Any = None, **_: Any) -> None:
    """Nobody waits for the job any more."""
    fields = getattr(request, "kwargs", None) or {}
    if getattr(request, "task", None) == ask.name and "job_id" in fields:
        with suppress(PenstockError):
            _client().job(fields["job_id"]).cancel("its task was revoked, or expired")


@cache
def _client() -> Client:
    """One for each process; its connections are made anew behind a fork."""
    return Client()


def _submitted(task: PromptTask, request: Request, fields: Mapping[str, Any]) -> Job:
    options = {**_body(request, fields), **fields}
    if task.request.id:
        options.setdefault("idempotency_key", f"celery:{task.request.id}")
    try:
        return _client().submit(**options)
    except PASSING as error:
        if _runs_at_once(task):
            raise
        raise task.retry(exc=error, countdown=_pause(task.request.retries)) from None


def _body(request: Request, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the request says by itself."""
    if request is None and "messages" in fields:
        return {}
    if isinstance(request, str):
        return {"messages": [{"role": "user", "content": request}]}
    if request is None or (isinstance(request, Mapping) and "messages" not in request):
        raise InvalidRequest(
            "there are no messages; give a list of them, a chat-completions body or a text"
        )
    return dict(request) if isinstance(request, Mapping) else {"messages": request}


def _newest(task: PromptTask, job: Job) -> Event:
    """The last thing that happened to the job; raises JobNotFound."""
    try:
        event = _client().last_event(job.id)
    except PASSING as error:
        _look_again(task, job, error)
    if event is None:
        raise not_found(job.id)
    return event


def _runs_at_once(task: PromptTask) -> bool:
    return bool(task.request.called_directly or task.request.is_eager)


def _look_again(task: PromptTask, job: Job, error: Exception | None = None) -> NoReturn:
    """Let this task come again later; its message carries the job's id, not the request."""
    countdown = _pause(task.request.retries)
    raise task.retry(args=(), kwargs={"job_id": job.id}, exc=error, countdown=countdown) from None


def _pause(retries: int) -> float:
    """Seconds until the next look, after so many."""
    pause = min(FIRST_PAUSE * GROWTH ** min(retries, 100), LONGEST_PAUSE)
    return pause * random.uniform(1 - JITTER, 1 + JITTER)
