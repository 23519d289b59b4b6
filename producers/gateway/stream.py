"""A job's events as server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html says what browsers make of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from starlette.responses import StreamingResponse

from penstock import Dismissed, PenstockError
from penstock.fanout import SharedEvent
from producers.gateway import telemetry

HEADERS = {"X-Accel-Buffering": "no"}
"""Tells nginx to pass events on at once."""

OPENING = b"retry: 1000\n:\n"
"""A reader that is cut off comes back after a second. No blank line: this is no event."""

HEARTBEAT = b":\n"
"""A comment. Without a blank line behind it no reader can take it for the end of an event."""


def frames(events: Iterable[SharedEvent]) -> bytes:
    """Events as they go over the wire."""
    parts: list[bytes] = []
    for event in events:
        parts += (
            b"id: ", event.id.encode(), b"\nevent: ", event.type.encode(), b"\ndata: ", event.raw,
            b"\n\n",
        )  # fmt: skip
    return b"".join(parts)


def response(batches: AsyncGenerator[list[SharedEvent]]) -> StreamingResponse:
    """The answer that streams these events."""
    return StreamingResponse(_bytes(batches), media_type="text/event-stream", headers=HEADERS)


async def _bytes(batches: AsyncGenerator[list[SharedEvent]]) -> AsyncGenerator[bytes]:
    """Ends without a terminal event where this process stops; the reader comes back to another."""
    telemetry.READERS.inc()
    try:
        yield OPENING
        async with aclosing(batches):
            async for batch in batches:
                telemetry.EVENTS.inc(len(batch))
                yield frames(batch) if batch else HEARTBEAT
    except (Dismissed, PenstockError, TimeoutError):
        return  # whoever reads comes back with its cursor, and is answered with a status then
    finally:
        telemetry.READERS.dec()
