"""The native API: jobs as resources."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response

from penstock import AsyncClient, Cursor
from penstock.job import JobRecord
from producers.gateway import answer, stream
from producers.gateway.body import json_body
from producers.gateway.caller import Caller, Queue, Reader, Submitter
from producers.gateway.problem import Problem

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Body = Annotated[dict[str, Any], Depends(json_body)]
IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=255)]


@router.post("", status_code=202)
async def submit(
    caller: Submitter, queue: Queue, body: Body, idempotency_key: IdempotencyKey = None
) -> Response:
    """Submit a job."""
    fields = {**body, "tenant": caller.tenant_of(body.get("tenant"))}
    if idempotency_key:
        fields["idempotency_key"] = idempotency_key
    (job,) = await queue.submit_many([fields])
    record = await job.record()
    return answer.json(document(record), 202, {"Location": f"/v1/jobs/{job.id}"})


@router.get("/{id}")
async def show(caller: Reader, queue: Queue, id: str) -> Response:  # noqa: A002
    """What is known of a job."""
    return answer.json(document(await owned(caller, queue, id)))


@router.get("/{id}/events")
async def events(
    caller: Reader,
    queue: Queue,
    id: str,  # noqa: A002
    after: Annotated[str | None, Query()] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """A job's events, live until its end."""
    await owned(caller, queue, id)
    return stream.response(queue.job(id).events(after=cursor(last_event_id or after)))


def cursor(text: str | None) -> Cursor | None:
    """A place in a feed; raises Problem."""
    try:
        return Cursor.parse(text) if text else None
    except ValueError as error:
        raise Problem(400, "invalid_cursor", str(error)) from None


async def owned(caller: Caller, queue: AsyncClient, id_: str) -> JobRecord:
    """A job of the caller's; raises JobNotFound."""
    return caller.own(await queue.get(id_))


def document(record: JobRecord) -> dict[str, Any]:
    """A job as the API shows it."""
    path = f"/v1/jobs/{record.id}"
    links = {"self": path, "events": f"{path}/events", "cancel": f"{path}/cancel"}
    return {"object": "job", **record.model_dump(mode="json"), "links": links}
