"""`POST /v1/hooks/{name}`: somebody's webhook becomes a job, accepted before it is answered."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.responses import Response

from penstock import AsyncClient, AsyncJob, IdempotencyConflict, InvalidRequest, UnknownRoute
from producers.gateway import answer, documents, telemetry
from producers.gateway.asked import check_query
from producers.gateway.caller import Queue
from producers.gateway.problem import Problem
from producers.hooks.hook import BODY, Unreadable, WorkingHook, read
from producers.hooks.signature import Unverified
from producers.hooks.template import TemplateFailed

router = APIRouter(prefix="/v1/hooks", tags=["hooks"])
OTHERS = (403, 421)
"""What only callers with or without an API key are answered with: a sender has none."""

UNTOLD = (InvalidRequest, UnknownRoute)
"""The hook's own mistakes, whose text is for its operator only."""

_FAILED = "this hook makes no valid job of this; its operator finds the reason in the gateway's log"


class Taken(BaseModel):
    """What became of a delivery.

    Attributes:
        result: `accepted` it is a job now, `duplicate` it was before, `ignored` by the filter.
        job: that job's id.
    """

    result: Literal["accepted", "duplicate", "ignored"]
    job: str | None = None


def hook_of(request: Request, name: str) -> WorkingHook:
    """The hook of this name; raises Problem."""
    hooks: dict[str, WorkingHook] = request.app.state.hooks
    if name not in hooks:
        raise Problem(404, "no_such_hook", "there is no hook of this name here")
    return hooks[name]


@router.post(
    "/{name}",
    status_code=202,
    response_model=Taken,
    responses={
        200: {"model": Taken, "description": "It was here before, or the filter ignores it."},
        202: {"description": "It is a job now."},
        **{s: e for s, e in documents.errors(404, 409, 413).items() if s not in OTHERS},
    },
)  # fmt: skip
async def take(
    name: str, request: Request, queue: Queue, hook: Annotated[WorkingHook, Depends(hook_of)]
) -> Response:
    """Take a webhook of one of the senders that penstock.toml names."""
    body = await request.body()
    headers = _headers(request)
    try:
        delivery = hook.verify(headers, body, time.time())
    except Unverified as reason:
        telemetry.log("hook_refused", hook=name, reason=str(reason))
        raise Problem(401, "unverified", f"{reason}; nothing was accepted") from None
    check_query(request)
    try:
        payload = read(body, headers.get("content-type", ""))
        if challenge := _challenge(hook, payload):
            return answer.json({"challenge": challenge})
        if not hook.wants(payload, headers):
            return answer.json(Taken(result="ignored").model_dump())
        fields = hook.submission(payload, headers, delivery, body)
    except Unreadable as reason:
        raise Problem(400, "unreadable_payload", str(reason)) from None
    except TemplateFailed as reason:
        telemetry.log("hook_failed", hook=name, reason=str(reason))
        raise Problem(400, "template_failed", str(reason)) from None
    try:
        return await _accept(queue, fields)
    except InvalidRequest as reason:
        if type(reason) not in UNTOLD:
            raise
        telemetry.log("hook_failed", hook=name, reason=str(reason))
        raise Problem(400, "hook_failed", _FAILED) from None


async def _accept(queue: AsyncClient, fields: dict[str, Any]) -> Response:
    """Submit the job, or find the one that this delivery led to before."""
    try:
        (job,) = await queue.submit_many([fields])
    except IdempotencyConflict:  # the template has changed since, or the delivery has
        found = await queue.find(fields["idempotency_key"], fields["tenant"])
        if found is None:
            raise
        job = found
    if job.created:
        return answer.json(Taken(result="accepted", job=job.id).model_dump(), 202)
    return await _duplicate(job, fields["metadata"][BODY])


async def _duplicate(job: AsyncJob, digest: str) -> Response:
    """The answer to a delivery that was here before; raises Problem for one that was another."""
    record = await job.record()
    if record.metadata.get(BODY) != digest:
        text = f"a delivery of this id, with another body, is {job.id} already"
        raise Problem(409, "delivery_conflict", text)
    return answer.json(Taken(result="duplicate", job=job.id).model_dump())


def _headers(request: Request) -> dict[str, str]:
    """By lower-case name; of one that comes twice both, so that none can hide behind the other."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _challenge(hook: WorkingHook, payload: Any) -> str | None:
    """What Slack wants to hear back when an URL is set there, once."""
    if hook.hook.verify != "slack" or not isinstance(payload, dict):
        return None
    challenge = payload.get("challenge")
    asked = payload.get("type") == "url_verification" and isinstance(challenge, str)
    return challenge if asked else None
