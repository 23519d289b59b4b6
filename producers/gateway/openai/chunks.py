"""A job's events as the `chat.completion.chunk` frames of a stream. Pure.

The id of every chunk is the job's. A role alone is kept until its choice says something: it can be
said again by the next attempt, so it must not count as said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.events import Event, EventType, encode
from producers.gateway.openai import errors
from producers.gateway.openai.errors import Failure

DONE = b"data: [DONE]\n\n"

_PARTS = frozenset({"index", "message", "finish_reason"})
_REBUILT = frozenset({"id", "object", "created", "model", "choices", "usage"})


def completion(job: str, data: dict[str, Any]) -> dict[str, Any]:
    """A `completed` event's data under the job's id, as a whole answer has it too."""
    return {**data, "id": job}


class Chunks:
    """Turns the events of one job, from its first one, into frames.

    Args:
        job: its id.
        usage: whether the request asked for it; then each chunk has the field, as OpenAI's do.
    """

    def __init__(self, job: str, *, usage: bool = False) -> None:
        self._fields: dict[str, Any] = {
            "id": job,
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "",
        }
        self._usage: dict[str, Any] = {"usage": None} if usage else {}
        self._introduced: set[int] = set()

    def take(self, event: Event) -> Sequence[bytes | Failure]:
        """The frames of one event, often one, sometimes none; or how the stream fails."""
        match event.type:
            case EventType.QUEUED:
                self._fields["created"] = self._fields["created"] or int(event.time)
            case EventType.STARTED:
                self._introduced.clear()
                self._fields["model"] = event.data["model"]
            case EventType.DELTA:
                return self._delta(event.data["choices"])
            case EventType.COMPLETED:
                return self._closing(event.data)
            case _:
                return [errors.of_event(event)]
        return []

    def _delta(self, choices: list[dict[str, Any]]) -> list[bytes]:
        said = [
            {"index": choice["index"], "delta": delta, "finish_reason": None}
            for choice in choices
            if (delta := self._introduce(choice["index"], choice["delta"]))
        ]
        return [self._chunk(said)] if said else []

    def _introduce(self, index: int, delta: dict[str, Any]) -> dict[str, Any]:
        """The delta with the role where it is the choice's first, {} if it says nothing yet."""
        said = {field: value for field, value in delta.items() if field != "role"}
        if not said or index in self._introduced:
            return said
        self._introduced.add(index)
        return {"role": "assistant", **said}

    def _closing(self, data: dict[str, Any]) -> list[bytes]:
        around = {field: value for field, value in data.items() if field not in _REBUILT}
        frames = [self._chunk([self._finish(choice)], **around) for choice in data["choices"]]
        if self._usage:
            frames.append(self._chunk([], **around, usage=data["usage"]))
        return [*frames, DONE]

    def _finish(self, choice: dict[str, Any]) -> dict[str, Any]:
        around = {field: value for field, value in choice.items() if field not in _PARTS}
        silent = choice["index"] not in self._introduced
        return {
            "index": choice["index"],
            "delta": {"role": "assistant", "content": ""} if silent else {},
            **around,
            "finish_reason": choice["finish_reason"],
        }

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return frame({**self._fields, **self._usage, "choices": choices, **more})


def frame(value: Any) -> bytes:
    """One event of the stream; OpenAI's chat streams give events no name."""
    return b"data: " + encode(value) + b"\n\n"
