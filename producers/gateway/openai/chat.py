"""A chat completion through the queue: its request waits for the job's answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import Response

from penstock import Dismissed, EventType, PenstockError
from producers.gateway import answer
from producers.gateway.openai import chunks, errors
from producers.gateway.openai.chunks import Chunks, frame
from producers.gateway.openai.delivery import Delivery
from producers.gateway.openai.errors import Failure
from producers.gateway.openai.exchange import Exchange, refused
from producers.gateway.openai.live import Live
from producers.gateway.openai.waiting import Ahead

OPENING = 10.0
"""Seconds a stream's first word is waited for, so that what fails before it has its own status."""


async def whole(exchange: Exchange) -> Response:
    """The completion, or how the job failed."""
    event = await exchange.end()
    if event.type == EventType.COMPLETED:
        return answer.json(chunks.completion(event.job, event.data))
    return refused(errors.of_event(event))


async def streamed(exchange: Exchange, *, usage: bool, buffer: bool) -> Response:
    """The chunks as they come; what fails within OPENING, before the first, has its own status.

    Args:
        exchange: the request and its job.
        usage: whether the chunks tell it.
        buffer: whether only a finished attempt is delivered.
    """
    delivery = Delivery[bytes | Failure](buffer=buffer, attempt=await exchange.valid_from())
    words = _words(exchange, Chunks(exchange.job.id, usage=usage), delivery)
    rest = Ahead(words)
    try:
        first = await exchange.attended(rest.next(OPENING))
        if isinstance(first, Failure):
            await rest.close()
            return refused(first)
    except BaseException:
        await rest.close()
        raise
    return Live(first, rest, _written, exchange.leave)


async def _words(
    exchange: Exchange, chunks_of: Chunks, delivery: Delivery[bytes | Failure]
) -> AsyncIterator[bytes | Failure]:
    try:
        async for event in exchange.job.events():
            for word in delivery.take(event, chunks_of.take(event)):
                yield word
            if delivery.over:
                await exchange.leave()
                return
    except PenstockError as error:
        if isinstance(error, Dismissed):
            await exchange.leave()
        yield errors.of_error(error)


def _written(word: bytes | Failure) -> bytes:
    return frame(errors.body(word)) if isinstance(word, Failure) else word
