"""Feeds by hand, as the gateway reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from penstock.events import Event
from producers.gateway.openai.chunks import frame
from producers.gateway.openai.errors import Failure, body

JOB = "job_01K9ZV2M8Q3W5E7R9T1Y3V5B7N"
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "estimated_cost": 0.25}
QUEUED = {"route": "default", "tenant": "default", "priority": 5}


class FeedMaker:
    """Makes the events of one job, one attempt after the other."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._attempt, self._n = 0, 0
        self._add("queued", QUEUED)

    def wait(self, position: int) -> FeedMaker:
        return self._add("queued", {**QUEUED, "position": position, "wait": 1.5})

    def start(self) -> FeedMaker:
        self._attempt, self._n = self._attempt + 1, 0
        return self._add("started", {"attempt": self._attempt, "route": "default", "model": "m"})

    def say(self, index: int = 0, **delta: Any) -> FeedMaker:
        return self._add("delta", {"choices": [{"index": index, "delta": delta}]})

    def restart(self) -> FeedMaker:
        data = {"attempt": self._attempt, "reason": "connection_broken", "retry_at": 1.0}
        return self._add("restarted", data).start()

    def complete(self, *messages: dict[str, Any], reason: str = "stop") -> FeedMaker:
        return self._add("completed", completion(*messages, reason=reason))

    def fail(self, **error: Any) -> FeedMaker:
        given = {"type": "status_error", "code": None, "message": "no", "status": 400, **error}
        return self._add("failed", {"error": given, "attempts": 1})

    def cancel(self, partial: dict[str, Any] | None = None) -> FeedMaker:
        return self._add("cancelled", {"reason": "enough", "completion": partial})

    def _add(self, kind: str, data: dict[str, Any]) -> FeedMaker:
        self._n += 1
        id_ = f"{self._attempt}-{self._n}"
        self.events.append(Event(id_, JOB, kind, 1_790_000_000.5 + self._n, data))
        return self


def completion(*messages: dict[str, Any], reason: str | None = "stop") -> dict[str, Any]:
    """What the feed's `completed` says: one choice a message."""
    return {
        "id": "c-1",
        "object": "chat.completion",
        "created": 9,
        "model": "m-1",
        "service_tier": "flex",
        "choices": [
            {"index": i, "message": {"role": "assistant", **message}, "finish_reason": reason}
            for i, message in enumerate(messages)
        ],
        "usage": USAGE,
    }


def frames(given: Sequence[bytes | Failure]) -> list[Any]:
    """The data of frames, decoded; `[DONE]` as text."""
    sent = [frame(body(each)) if isinstance(each, Failure) else each for each in given]
    texts = [part.removeprefix(b"data: ").removesuffix(b"\n\n").decode() for part in sent]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]
