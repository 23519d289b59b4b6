"""The OpenAI-compatible API's paths."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from penstock import AsyncClient, InvalidRequest
from penstock.access import Scope
from penstock.job import JobRecord
from producers.gateway import answer
from producers.gateway.asked import no_body
from producers.gateway.body import json_body
from producers.gateway.caller import Caller, Canceller, Queue, Reader, Submitter
from producers.gateway.documents import body as takes
from producers.gateway.jobs import RepeatKey, check_owner
from producers.gateway.openai import (
    chat,
    documents,
    errors,
    fields,
    models,
    request,
    response,
    responses,
)
from producers.gateway.openai.exchange import begin, gone
from producers.gateway.openai.waiting import ClientGone
from producers.gateway.problem import Problem

PATHS = ("/v1/chat/", "/v1/models", "/v1/responses")
"""Where errors have OpenAI's shape."""

router = APIRouter(tags=["openai"])

Body = Annotated[dict[str, Any], Depends(json_body)]
Id = Annotated[str, Path(alias="id", description="A response's id, or its job's as resp_…")]
ModelId = Annotated[str, Path(alias="id", description="A model's name, slashes included.")]


async def known_headers(http: Request) -> None:
    """A dependency: raises InvalidRequest for a header x-penstock-… that there is not.

    Those that there are pass where they mean nothing: a library sends some with every request.
    """
    fields.check_names(http.headers)


ASKING_NOTHING = [Depends(known_headers)]


@router.post(
    "/v1/chat/completions",
    response_class=Response,
    responses={**documents.CHAT_ANSWERED, **documents.answers()},
    openapi_extra={
        **takes(documents.CHAT, documents.CHAT_ASKED, required=True),
        "parameters": documents.ASKING_HEADERS,
    },
)
async def create_completion(caller: Submitter, queue: Queue, http: Request, body: Body) -> Response:
    """Answer a chat, whole or streamed.

    Any field of the body goes to the upstream as it is. Options of the job stand beside them or in
    headers x-penstock-...; docs/openai-api.md lists them.
    """
    check_answer(caller, "the answer")
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


@router.get(
    "/v1/models", response_class=Response, responses=documents.MODELS, dependencies=ASKING_NOTHING
)
async def list_models(caller: Reader, queue: Queue, http: Request) -> Response:
    """List the models that can be asked: those of the routes."""
    return answer.json({"object": "list", "data": await _models(http, queue)})


@router.get(
    "/v1/models/{id:path}",
    response_class=Response,
    responses=documents.MODEL,
    dependencies=ASKING_NOTHING,
)
async def show_model(caller: Reader, queue: Queue, http: Request, id_: ModelId) -> Response:
    """Show one of the models."""
    for model in await _models(http, queue):
        if model["id"] == id_:
            return answer.json(model)
    raise Problem(404, "model_not_found", f"there is no model {id_!r}; /v1/models lists them")


@router.post(
    "/v1/responses",
    response_class=Response,
    responses={**documents.RESPONSE_ANSWERED, **documents.answers()},
    openapi_extra={
        **takes(documents.RESPONSE, documents.RESPONSE_ASKED, required=True),
        "parameters": documents.ASKING_HEADERS,
    },
)
async def create_response(caller: Submitter, queue: Queue, http: Request, body: Body) -> Response:
    """Answer a request: waited for, streamed, or in the background.

    Options of the job stand beside the fields or in headers x-penstock-...; what is not supported
    is refused by its name.
    """
    handling = fields.read_handling(http.headers)
    asked, options = request.read(body)
    if asked.stream or not asked.background:
        check_answer(caller, "the answer")
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


@router.get(
    "/v1/responses/{id}",
    response_class=Response,
    responses={**documents.RESPONSE_ANSWERED, **documents.errors(404)},
    dependencies=ASKING_NOTHING,
)
async def show_response(
    caller: Reader,
    queue: Queue,
    http: Request,
    id_: Id,
    stream: Annotated[bool, Query(description="Its events, live until the end.")] = False,
    starting_after: Annotated[
        int, Query(description="Of a stream: only events behind this sequence_number.")
    ] = responses.NOTHING_YET,
) -> Response:
    """Show a response as it stands, or stream its events."""
    record = await owned(caller, queue, id_)
    http.state.job = record.id
    if not stream:
        _check_whole(starting_after)
        return responses.shown(record, queue)
    buffer = fields.read_handling(http.headers).buffer
    return responses.streamed(record, queue, _stay, after=starting_after, buffer=buffer)


@router.post(
    "/v1/responses/{id}/cancel",
    response_class=Response,
    responses={**documents.RESPONSE_SHOWN, **documents.errors(404, 413, 415)},
    dependencies=[*ASKING_NOTHING, Depends(no_body)],
)
async def cancel_response(
    caller: Canceller, queue: Queue, http: Request, id_: Id, idempotency_key: RepeatKey = None
) -> Response:
    """Stop a response; one that has ended stays as it is, so this may be repeated.

    An Idempotency-Key is taken, but not needed.
    """
    record = await owned(caller, queue, id_)
    http.state.job = record.id
    return responses.shown(await responses.cancelled(record, queue), queue)


@router.delete(
    "/v1/responses/{id}",
    response_class=Response,
    responses={**documents.RESPONSE_ERASED, **documents.errors(404, 409)},
    dependencies=ASKING_NOTHING,
)
async def erase_response(caller: Canceller, queue: Queue, id_: Id) -> Response:
    """Erase a response that has ended: its request, its answer and its feed."""
    await check_owner(caller, queue, response.job_id(id_))
    await queue.erase(response.job_id(id_))
    return answer.json({"id": id_, "object": "response", "deleted": True})


def _check_whole(starting_after: int) -> None:
    if starting_after != responses.NOTHING_YET:
        raise InvalidRequest("starting_after: counts a stream's events; send stream=true with it")


async def _models(http: Request, queue: AsyncClient) -> list[dict[str, Any]]:
    return models.listed(await http.app.state.offer.models(queue))


def check_answer(caller: Caller, what: str) -> None:
    """Raise Problem for a caller that may ask, but not read."""
    if not caller.may(Scope.READ):
        raise Problem(403, "scope_missing", f"to get {what} takes a key of scope read")


async def earlier(caller: Caller, queue: AsyncClient, id_: str | None) -> list[dict[str, Any]]:
    """The conversation up to a response; raises Problem for a caller that may not read it."""
    if id_ is None:
        return []
    check_answer(caller, "on from previous_response_id")
    return response.earlier(await owned(caller, queue, id_))


async def owned(caller: Caller, queue: AsyncClient, id_: str) -> JobRecord:
    """The record of a response's job, which is the caller's; raises JobNotFound."""
    job = response.job_id(id_)
    await check_owner(caller, queue, job)
    return await queue.get(job)


async def _stay() -> None:
    """Whoever only reads leaves the job alone."""


answer.SHAPES.update(dict.fromkeys(PATHS, errors.of_problem))
