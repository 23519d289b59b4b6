"""Responses through the queue: as they come, when they are there, and later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.responses import Response

from penstock import AsyncClient, AsyncJob, Event, JobState, PenstockError
from penstock.job import JobRecord
from producers.gateway import answer
from producers.gateway.openai import errors, response
from producers.gateway.openai.delivery import Delivery, valid_from
from producers.gateway.openai.exchange import Exchange, refused
from producers.gateway.openai.live import Live
from producers.gateway.openai.sequence import Reader, Sequence, frame
from producers.gateway.openai.waiting import Ahead

SETTLING = 5.0
"""Seconds to wait for a worker to stop a cancelled job; it takes a few milliseconds."""

NOTHING_YET = -1
"""The number of the event before the first."""


async def whole(exchange: Exchange, queue: AsyncClient) -> Response:
    """The Response at its end, or how its job failed."""
    event = await exchange.end()
    if event.type in (JobState.FAILED, JobState.EXPIRED):
        return refused(errors.of_event(event))
    return shown(await exchange.job.record(), queue)


def shown(record: JobRecord, queue: AsyncClient) -> Response:
    """The Response as it stands."""
    return answer.json(response.of_record(record, queue.settings))


def streamed(
    record: JobRecord,
    queue: AsyncClient,
    left: Callable[[], Awaitable[None]],
    *,
    after: int = NOTHING_YET,
    buffer: bool = False,
) -> Response:
    """The events behind a number, as they come.

    Args:
        record: of the job.
        queue: the gateway's client.
        left: what to do when the client leaves before the end.
        after: the last number the reader has.
        buffer: whether only a finished attempt is delivered.
    """
    sequence = Sequence(response.skeleton(record, queue.settings), record.id)
    delivery = Delivery[dict[str, Any]](buffer=buffer, attempt=valid_from(record))
    events = _events(queue.job(record.id), Reader(sequence, delivery, after), delivery)
    return Live(None, Ahead(events), frame, left)


async def cancelled(record: JobRecord, queue: AsyncClient) -> JobRecord:
    """Stop a response's job; the record when it has stopped, or as it is after SETTLING."""
    job = queue.job(record.id)
    if await job.cancel() == JobState.RUNNING:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLING):
                await _ended(job)
    return await job.record()


async def _events(
    job: AsyncJob, reader: Reader, delivery: Delivery[dict[str, Any]]
) -> AsyncIterator[dict[str, Any]]:
    try:
        async for event in job.events():
            for told in reader.take(event):
                yield told
            if delivery.over:
                return
    except PenstockError as error:
        yield reader.broken_off(errors.of_error(error))


async def _ended(job: AsyncJob) -> Event | None:
    async for event in job.events():
        if event.is_terminal:
            return event
    return None
