"""The body of a webhook: an event as it stands in the feed, or a link where it is large. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.events import Event, EventType, encode
from penstock.outbox import Taken
from worker.upstream.delta import Deltas

MOST = 20 * 1024
"""Bytes of a body: what Standard Webhooks recommends as the most."""


def compose(taken: Taken, event: dict[str, Any] | None, public_url: str | None) -> bytes:
    """The body of a delivery, as JSON.

    Args:
        taken: the delivery.
        event: the event it is about; None where it is too large to be kept.
        public_url: where the gateway is, in front of the link.
    """
    head = {
        "type": f"job.{taken.type}",
        "timestamp": datetime.fromtimestamp(taken.time, UTC).isoformat(timespec="milliseconds"),
        "tenant": taken.tenant,
    }
    metadata = {"metadata": msgspec.Raw(taken.metadata)}
    if event is not None:
        body = encode({**head, **metadata, "data": event})
        if len(body) <= MOST:
            return body
    bare = {"id": taken.cursor, "job": taken.job, "type": taken.type, "time": taken.time}
    linked = {"data": bare, "link": f"{(public_url or '').rstrip('/')}/v1/jobs/{taken.job}"}
    body = encode({**head, **metadata, **linked})
    return body if len(body) <= MOST else encode({**head, **linked})


def merged(taken: Taken, events: Iterable[Event]) -> dict[str, Any] | None:
    """One delta of all that the feed's events say; None where there is none among them."""
    deltas, last = Deltas(), None
    for event in events:
        if event.type == EventType.DELTA:
            deltas.add(event.data["choices"])
            last = event
    if last is None:
        return None
    return {
        "id": last.id, "job": taken.job, "type": taken.type, "time": last.time,
        "data": {"choices": deltas.joined()}, "after": taken.after,
    }  # fmt: skip
