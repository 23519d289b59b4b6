"""The OpenAI-compatible API's paths."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from penstock import AsyncClient, InvalidRequest
from penstock.access import Scope
from penstock.job import JobRecord
from producers.gateway import answer
from producers.gateway.body import json_body
from producers.gateway.caller import Caller, Canceller, Queue, Reader, Submitter
from producers.gateway.openai import chat, errors, fields, models, request, response, responses
from producers.gateway.openai.exchange import begin, gone
from producers.gateway.openai.waiting import ClientGone
from producers.gateway.problem import Problem

PATHS = ("/v1/chat/", "/v1/models", "/v1/responses")
"""Where errors have OpenAI's shape."""

router = APIRouter(tags=["openai"])

Body = Annotated[dict[str, Any], Depends(json_body)]


@router.post("/v1/chat/completions")
async def create_completion(caller: Submitter, queue: Queue, http: Request, body: Body) -> Response:
    """Answer a chat."""
    handling = fields.read_handling(http.headers)
    asked = fields.read_chat(body)
    job = {**asked.job, **fields.read_options(http.headers)}
    exchange = await begin(caller, queue, http, job, handling, "cancel")
    try:
        if asked.stream:
            return await chat.streamed(exchange, usage=asked.usage, buffer=handling.buffer)
        return await chat.whole(exchange)
    except ClientGone:
        return gone()


@router.get("/v1/models")
async def list_models(caller: Reader, queue: Queue) -> Response:
    """The models that can be asked."""
    return answer.json({"object": "list", "data": models.listed(queue.settings)})


@router.get("/v1/models/{id:path}")
async def show_model(caller: Reader, queue: Queue, id: str) -> Response:  # noqa: A002
    """One of them."""
    for model in models.listed(queue.settings):
        if model["id"] == id:
            return answer.json(model)
    raise Problem(404, "model_not_found", f"there is no model {id!r}; /v1/models lists them")


@router.post("/v1/responses")
async def create_response(caller: Submitter, queue: Queue, http: Request, body: Body) -> Response:
    """Answer a request, at once, as it comes, or in the background."""
    handling = fields.read_handling(http.headers)
    asked, options = request.read(body)
    before = await earlier(caller, queue, asked.previous_response_id)
    job = {**asked.job(before), **options, **fields.read_options(http.headers)}
    exchange = await begin(caller, queue, http, job, handling)
    if asked.background and not asked.stream:
        return responses.shown(await exchange.job.record(), queue)
    try:
        if not asked.stream:
            return await responses.whole(exchange, queue)
    except ClientGone:
        return gone()
    record = await exchange.job.record()
    return responses.streamed(record, queue, exchange.leave, buffer=handling.buffer)


@router.get("/v1/responses/{id}")
async def show_response(
    caller: Reader,
    queue: Queue,
    http: Request,
    id: str,  # noqa: A002
    stream: Annotated[bool, Query()] = False,
    starting_after: Annotated[int, Query()] = responses.NOTHING_YET,
) -> Response:
    """A response as it stands, or its events behind a number."""
    for name in http.query_params.keys() - {"stream", "starting_after"}:
        raise InvalidRequest(f"{name}: is not supported")
    record = await owned(caller, queue, id)
    if not stream:
        return responses.shown(record, queue)
    buffer = fields.read_handling(http.headers).buffer
    return responses.streamed(record, queue, _stay, after=starting_after, buffer=buffer)


@router.post("/v1/responses/{id}/cancel")
async def cancel_response(
    caller: Canceller,
    queue: Queue,
    id: str,  # noqa: A002
) -> Response:
    """Stop a response; one that has ended stays as it is."""
    record = await owned(caller, queue, id)
    return responses.shown(await responses.cancelled(record, queue), queue)


async def earlier(caller: Caller, queue: AsyncClient, id_: str | None) -> list[dict[str, Any]]:
    """The conversation up to a response; raises Problem for a caller that may not read it."""
    if id_ is None:
        return []
    if not caller.may(Scope.READ):
        raise Problem(403, "scope_missing", "previous_response_id needs a key of scope read")
    return responses.earlier(await owned(caller, queue, id_))


async def owned(caller: Caller, queue: AsyncClient, id_: str) -> JobRecord:
    """The record of a response's job, which is the caller's; raises JobNotFound."""
    return caller.own(await queue.get(response.job_id(id_)))


async def _stay() -> None:
    """Whoever only reads leaves the job alone."""


answer.SHAPES.update(dict.fromkeys(PATHS, errors.of_problem))
