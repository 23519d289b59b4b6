"""A feed as the numbered events of a Responses stream. Pure.

The numbers follow from the feed's events and from nothing else, so every gateway gives the same
event the same `sequence_number`, and a reader that has some of them goes on behind the last. For
that each feed is read from its start, and no event of it may be left out.

At a restart the stream has an `error` event; whether a reader gets it is for delivery.py to say.
What the next attempt says are new items, from output index 0.
"""

from __future__ import annotations

from typing import Any

from penstock.events import Event, EventType, encode
from producers.gateway.openai import errors
from producers.gateway.openai.delivery import Delivery
from producers.gateway.openai.growth import Items
from producers.gateway.openai.response import concluded

ENDS = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "cancelled": "response.incomplete",  # OpenAI's streams have no event for it; the status tells
    "failed": "response.failed",
}
"""The last event by the Response's status."""


class Sequence:
    """The events of one response.

    Args:
        begun: its skeleton, see response.py.
        job: the job's id.
    """

    def __init__(self, begun: dict[str, Any], job: str) -> None:
        self._begun, self._job = begun, job
        self._number = 0
        self._items = Items(job)

    def take(self, event: Event) -> list[dict[str, Any]]:
        """What one event of the feed is told as; often one event, each numbered."""
        events = self._told(event)
        for told in events:
            told["sequence_number"] = self._number
            self._number += 1
        return events

    def _told(self, event: Event) -> list[dict[str, Any]]:
        match event.type:
            case EventType.QUEUED if self._number == 0:
                return [self._state("response.created"), self._state("response.queued")]
            case EventType.QUEUED:
                return []  # its place in the line is no part of a response
            case EventType.STARTED:
                self._items = Items(self._job)
                self._begun = {**self._begun, "status": "in_progress", "model": event.data["model"]}
                return [self._state("response.in_progress")]
            case EventType.DELTA:
                return self._items.take(event.data["choices"])
            case EventType.RESTARTED:
                return [_error(errors.of_event(event))]
            case _:
                return self._end(event)

    def _state(self, kind: str) -> dict[str, Any]:
        return {"type": kind, "response": self._begun}

    def _end(self, event: Event) -> list[dict[str, Any]]:
        ended = concluded(self._begun, self._job, event.type, event.data, event.time)
        items = self._items.close("completed" if ended["status"] == "completed" else "incomplete")
        return [*items, {"type": ENDS[ended["status"]], "response": ended}]


class Reader:
    """What one reader of a response gets: the events behind the last one that it has.

    Args:
        sequence: a new one; this reader's alone.
        delivery: decides what becomes of words that turn out void.
        after: the last event's number; -1 for a reader that has none.
    """

    def __init__(
        self, sequence: Sequence, delivery: Delivery[dict[str, Any]], after: int = -1
    ) -> None:
        self._sequence, self._delivery, self._after = sequence, delivery, after
        self._last = after

    def take(self, event: Event) -> list[dict[str, Any]]:
        """What of one event of the feed goes out now."""
        events = self._sequence.take(event)
        fresh = [told for told in events if told["sequence_number"] > self._after]
        out = self._delivery.take(event, fresh, heard=len(fresh) < len(events))
        if out:
            self._last = out[-1]["sequence_number"]
        return out

    def broken_off(self, failure: errors.Failure) -> dict[str, Any]:
        """An error of the stream, not of the response, which goes on behind the last number."""
        return {**_error(failure), "sequence_number": self._last}


def frame(told: dict[str, Any]) -> bytes:
    """One event of the stream; the Responses API names them."""
    return b"event: %s\ndata: %s\n\n" % (told["type"].encode(), encode(told))


def _error(failure: errors.Failure) -> dict[str, Any]:
    message, code = failure.message, failure.code
    return {"type": "error", "code": code, "message": message, "param": None}
