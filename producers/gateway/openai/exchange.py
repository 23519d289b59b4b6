"""A request and its job: what becomes of the one when the other ends."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from penstock import AsyncClient, AsyncJob, Dismissed, Event, PenstockError
from penstock.job import MAX_SECONDS
from producers.gateway import answer
from producers.gateway.caller import Caller
from producers.gateway.openai import errors
from producers.gateway.openai.delivery import valid_from
from producers.gateway.openai.errors import Failure
from producers.gateway.openai.fields import Handling, with_route
from producers.gateway.openai.waiting import ClientGone, unless_gone

T = TypeVar("T")

DISCONNECTED = "its client reads no more"

GONE = 499
"""What nginx logs where a client has left; nobody sees it."""


class Exchange:
    """One request that waits for one job.

    Args:
        queue: the gateway's client.
        request: its body has been read.
        job: what it led to.
        cancels: whether a client that leaves takes its job with it.

    """

    def __init__(
        self, queue: AsyncClient, request: Request, job: AsyncJob, *, cancels: bool
    ) -> None:
        self.job = job
        self._queue, self._request, self._cancels = queue, request, cancels

    async def end(self) -> Event:
        """The job's terminal event; raises ClientGone, after `leave`."""
        return await self.attended(self._end())

    async def attended(self, work: Coroutine[Any, Any, T]) -> T:
        """The work's result; where the client leaves before, ClientGone after `leave`.

        When the gateway stops, it is the gateway that leaves: whoever asked will ask again.
        """
        try:
            return await unless_gone(self._request.receive, work)
        except (ClientGone, Dismissed):
            await self.leave()
            raise

    async def leave(self) -> None:
        """Cancel the job of a client that reads no more, if that is to be."""
        if self._cancels:
            with contextlib.suppress(PenstockError):  # then it runs to its end
                await self.job.cancel(DISCONNECTED)

    async def valid_from(self) -> int:
        """As of delivery.py; a job that was not there before has said nothing yet."""
        return 0 if self.job.created else valid_from(await self.job.record())

    async def _end(self) -> Event:
        async for event in self.job.events():
            if event.is_terminal:
                return event
        last = await self._queue.last_event(self.job.id)
        if last is None or not last.is_terminal:
            raise PenstockError(f"the feed of {self.job.id} ended without its last event")
        return last


async def begin(
    caller: Caller,
    queue: AsyncClient,
    request: Request,
    job: dict[str, Any],
    handling: Handling,
    default: str | None = None,
) -> Exchange:
    """Submit a job for its caller.

    Args:
        caller: who asks; the tenant, unless an admin names another.
        queue: the gateway's client.
        request: its body has been read.
        job: body fields and options.
        handling: what the headers say.
        default: what to do when the client leaves, where the headers do not say. A request with an
            idempotency key will come again, and is to find its job: that goes on.
    """
    named = job.get("tenant", caller.tenant)
    tenant = None if named is None else caller.tenant_of(named)  # null is no name: it is refused
    asked = {**with_route(job, await request.app.state.offer.models(queue)), "tenant": tenant}
    (handle,) = await queue.submit_many([asked])
    request.state.job = handle.id  # for door.py, which names it on whatever the answer will be
    request.state.passage.allow(MAX_SECONDS)  # until the answer begins
    default = "continue" if asked.get("idempotency_key") else default
    cancels = (handling.on_disconnect or default) == "cancel"
    return Exchange(queue, request, handle, cancels=cancels)


def refused(failure: Failure) -> Response:
    """A failure as the answer.

    OpenAI's clients send a request again on 409, 429 and 5xx. What Penstock has tried as often as
    it may is not to be tried again by that.
    """
    headers = {"x-should-retry": "false"} if failure.settled else {}
    return answer.json(errors.body(failure), failure.status, headers)


def gone() -> Response:
    """The answer to nobody."""
    return Response(status_code=GONE)
