"""A job's events as server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

from penstock.events import Event, encode

HEADERS = {"X-Accel-Buffering": "no"}
"""Tells nginx to pass events on at once."""


def frame(event: Event) -> bytes:
    """One event as it goes over the wire."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        event.id.encode(), event.type.encode(), encode(event),
    )  # fmt: skip


def response(events: AsyncIterator[Event]) -> StreamingResponse:
    """The answer that streams these events."""
    return StreamingResponse(
        (frame(event) async for event in events), media_type="text/event-stream", headers=HEADERS
    )
