"""The native API: jobs as resources. Other people's jobs look like none at all."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from pydantic import StringConstraints
from starlette.responses import Response

from penstock import AsyncClient, AsyncJob, Cursor, Dismissed, JobState, access
from penstock.access import Loan
from penstock.commands import not_found
from penstock.events import START
from penstock.job import JobRecord
from producers.gateway import answer, documents, stream
from producers.gateway.asked import no_body, no_options
from producers.gateway.body import json_body
from producers.gateway.caller import Caller, Canceller, Queue, Reader, Submitter, Watcher
from producers.gateway.documents import errors
from producers.gateway.problem import Problem

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(no_options)])

MAX_WAIT = 300
"""Seconds; what stands between often cuts a silent connection after so long."""

TOKEN_TTL, MAX_TOKEN_TTL = 300, 3600
"""Seconds."""

Body = Annotated[dict[str, Any], Depends(json_body)]
Id = Annotated[str, Path(alias="id", openapi_examples={"job": {"value": documents.ID}})]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="The same key gives the same job, once."),
]
RepeatKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="Taken, but not needed: see above."),
]
Wait = Annotated[
    float, Query(ge=0, le=MAX_WAIT, description="Seconds to hold until the job is over.")
]
CURSOR = r"^\d{1,18}-\d{1,18}$"
After = Annotated[
    str | None, Query(pattern=CURSOR, description="Only events after this cursor, an event's id.")
]
NextPage = Annotated[
    str | None, Query(pattern=r"^\d{1,12}\.\d{6}$", description="`next` of the page before.")
]
LastEventId = Annotated[
    str | None,
    Header(description="As `after`, and goes before; browsers send it. No cursor: as none."),
]
Pair = Annotated[str, StringConstraints(pattern="^[^=]+=")]
Metadata = Annotated[
    list[Pair] | None,
    Query(description="KEY=VALUE, repeatable: only jobs with these metadata.", max_length=20),
]


@router.post(
    "", status_code=202, response_model=documents.JobDocument,
    responses={
        200: {"model": documents.JobDocument, "description": "It is over: see `outcome`."},
        **errors(404, 409, 413, 415, 422),
    },
    openapi_extra=documents.body(documents.JOB, documents.JOB_EXAMPLE, required=True),
)  # fmt: skip
async def submit(
    request: Request, caller: Submitter, queue: Queue, body: Body,
    idempotency_key: IdempotencyKey = None, wait: Wait = 0,
) -> Response:  # fmt: skip
    """Submit a job.

    The answer is 202 as soon as the job is safe. With `wait` it is held until the job is over (then
    it is 200, with the outcome) or the time is.
    """
    if wait and not caller.may(access.Scope.READ):
        raise Problem(403, "scope_missing", "to wait for the answer takes a key of scope read")
    fields = {**body, "tenant": caller.tenant_of(body.get("tenant"))}
    if idempotency_key and fields.setdefault("idempotency_key", idempotency_key) != idempotency_key:
        text = "Idempotency-Key and the body's idempotency_key differ; send one of them"
        raise Problem(422, "idempotency_conflict", text)
    (job,) = await queue.submit_many([fields])
    if wait:
        request.state.passage.allow(wait)
        await ended(job, wait)
    record = await job.record()
    status = 200 if wait and record.state.is_terminal else 202
    return answer.json(document(record), status, {"Location": f"/v1/jobs/{job.id}"})


@router.get("", response_model=documents.JobPage, responses=errors())
async def list_jobs(
    caller: Reader, queue: Queue,
    state: Annotated[JobState | None, Query()] = None,
    metadata: Metadata = None,
    tenant: Annotated[str | None, Query(description="Another's takes scope admin.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: NextPage = None,
) -> Response:  # fmt: skip
    """List jobs, newest first.

    A page that is filtered may be short though there are more: go on while there is a `next`.
    """
    owner = caller.tenant_of(tenant)
    page = await queue.page(owner, state, _pairs(metadata or []), limit, after)
    listed = [document(record, whole=False) for record in page.records]
    return answer.json({"object": "list", "data": listed, "next": page.next})


@router.get("/{id}", response_model=documents.JobDocument, responses=errors(404))
async def show(caller: Reader, queue: Queue, id_: Id) -> Response:
    """Show a job: how long it will wait, and its outcome once it is over."""
    shown = document(await owned(caller, queue, id_))
    (outlook,) = await queue.outlook([id_])
    return answer.json({**shown, "outlook": outlook._asdict() if outlook else None})


@router.get("/{id}/events", response_class=Response, responses={**documents.EVENTS, **errors(404)})
async def events(
    caller: Watcher, queue: Queue, id_: Id, after: After = None, last_event_id: LastEventId = None
) -> Response:
    """Follow a job, as server-sent events.

    From the first event, or after a cursor; live, until the terminal event. A feed that was read to
    its end is 204, at which browsers stop coming back.
    """
    record = await owned(caller, queue, id_)
    given = last_event_id if _is_cursor(last_event_id or "") else after
    cursor = Cursor.parse(given) if given else START
    if record.final and cursor >= Cursor.parse(record.final):
        return Response(status_code=204)
    assert queue.fanout  # noqa: S101 - the gateway's client shares one
    return stream.response(queue.fanout.batches(id_, cursor))


@router.post(
    "/{id}/cancel", status_code=202, response_model=documents.JobDocument,
    responses=errors(404, 413, 415), dependencies=[Depends(no_body)],
)  # fmt: skip
async def cancel(
    caller: Canceller, queue: Queue, id_: Id, idempotency_key: RepeatKey = None
) -> Response:
    """Stop a job, whether it waits or runs.

    A running job is `running` until its worker has stopped it. One that is over stays as it is, so
    this may be repeated, with a key or without.
    """
    await check_owner(caller, queue, id_)
    await queue.cancel(id_)
    return answer.json(document(await owned(caller, queue, id_)), 202)


@router.post(
    "/{id}/retry", status_code=202, response_model=documents.JobDocument,
    responses=errors(404, 409, 413, 415), dependencies=[Depends(no_body)],
)  # fmt: skip
async def retry(
    caller: Submitter, queue: Queue, id_: Id, idempotency_key: IdempotencyKey = None
) -> Response:
    """Run a failed job again, once for each key."""
    await check_owner(caller, queue, id_)
    await queue.retry(id_, idempotency_key)
    return answer.json(document(await owned(caller, queue, id_)), 202)


@router.delete("/{id}", status_code=204, response_class=Response, responses=errors(404, 409))
async def erase(caller: Canceller, queue: Queue, id_: Id) -> Response:
    """Erase a job that is over: its request, its answer and its feed."""
    await check_owner(caller, queue, id_)
    await queue.erase(id_)
    return Response(status_code=204)


@router.post(
    "/{id}/token", status_code=201, response_model=documents.StreamToken,
    responses=errors(404, 413, 415),
    openapi_extra=documents.body(documents.TOKEN, {"ttl": TOKEN_TTL}, required=False),
)  # fmt: skip
async def lend(
    caller: Reader, queue: Queue, id_: Id, body: Body, idempotency_key: RepeatKey = None
) -> Response:
    """Make a token with which a browser can follow this job, and do nothing else.

    It works as `?token=`, because an EventSource sends no headers. Each call gives another one;
    those before work on, so this may be repeated, with a key or without.
    """
    tenant, ttl, token = await check_owner(caller, queue, id_), _ttl(body), access.new_token()
    await queue.store.run(access.lend(token, Loan(tenant, id_), ttl))
    path = f"/v1/jobs/{id_}/events?token={token}"
    made = {"object": "stream_token", "token": token, "job": id_, "expires_in": ttl, "events": path}
    return answer.json(made, 201)


async def ended(job: AsyncJob, seconds: float) -> None:
    """Wait for the job's end, at most so long."""
    try:
        async for _ in job.events(timeout=seconds):
            pass
    except (TimeoutError, Dismissed):
        return


async def check_owner(caller: Caller, queue: AsyncClient, id_: str) -> str:
    """The tenant of a job that the caller may touch; raises JobNotFound.

    Another's job costs as long as none: nobody learns from the clock that there is one.
    """
    owner = await queue.owner(id_)
    if owner is None or not caller.may_touch(owner):
        raise not_found(id_)
    return owner


async def owned(caller: Caller, queue: AsyncClient, id_: str) -> JobRecord:
    """A job of the caller's, without its request; raises JobNotFound."""
    await check_owner(caller, queue, id_)
    (record,) = await queue.get_many([id_])
    if record is None:
        raise not_found(id_)
    return record


def document(record: JobRecord, whole: bool = True) -> dict[str, Any]:
    """A job as the API shows it."""
    path = f"/v1/jobs/{record.id}"
    links = {"self": path, "events": f"{path}/events", "cancel": f"{path}/cancel"}
    fields = record.model_dump(mode="json", exclude=None if whole else {"outcome"})
    return {"object": "job", **fields, "links": links}


def _is_cursor(text: str) -> bool:
    return bool(re.fullmatch(CURSOR, text))


def _pairs(texts: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def _ttl(body: dict[str, Any]) -> int:
    ttl = body.get("ttl", TOKEN_TTL)
    whole = isinstance(ttl, int | float) and not isinstance(ttl, bool) and ttl == ttl // 1
    if body.keys() - {"ttl"} or not whole or not 1 <= ttl <= MAX_TOKEN_TTL:
        text = f"invalid request: ttl is whole seconds, 1 to {MAX_TOKEN_TTL}, and all there is"
        raise Problem(400, "invalid_request", text)
    return int(ttl)
