"""The output items of a response while they grow, as events without their numbers. Pure.

Text comes as one part after the other. A call is told of when its arguments begin, since by then
its name is known, and calls end together, since their fragments may take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from producers.gateway.openai.response import (
    call_id,
    call_item,
    item_id,
    message_item,
    reasoning_item,
    text_part,
)

_SAID = {
    "reasoning_content": ("reasoning", "response.reasoning_text"),
    "content": ("message", "response.output_text"),
    "refusal": ("message", "response.refusal"),
}
"""The kind of item that a delta's field belongs to, and its events' common name."""


class Items:
    """Those of one attempt. Of items that are no calls one is open at a time."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._count = 0
        self._made: dict[str, int] = {}
        self._open: _Said | None = None
        self._calls: dict[int, _Call] = {}

    def take(self, choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The events of a delta; there is one choice."""
        events: list[dict[str, Any]] = []
        for choice in choices:
            if choice["index"] == 0:
                for field, value in choice["delta"].items():
                    events += self._field(field, value)
        return events

    def close(self, status: str) -> list[dict[str, Any]]:
        """The events that end every item that is open."""
        events = self._close_said(status)
        for call in self._calls.values():
            events += call.open(self._next)
            events += call.done(status)
        return events

    def _field(self, field: str, value: Any) -> list[dict[str, Any]]:
        if field == "tool_calls":
            events = self._close_said("completed")
            for fragment in value:
                events += self._call(fragment)
            return events
        if field not in _SAID or not value:
            return []
        kind, name = _SAID[field]
        events = [] if self._open and self._open.kind == kind else self._begin(kind)
        assert self._open is not None  # noqa: S101 - _begin opened one
        return events + self._open.say(field, name, value)

    def _begin(self, kind: str) -> list[dict[str, Any]]:
        events = self._close_said("completed")
        prefix, number = ("rs" if kind == "reasoning" else "msg"), self._made.get(kind, 0)
        self._made[kind] = number + 1
        self._open = _Said(kind, item_id(prefix, self._job, number), self._next())
        return [*events, self._open.added()]

    def _close_said(self, status: str) -> list[dict[str, Any]]:
        said, self._open = self._open, None
        return said.done(status) if said else []

    def _call(self, fragment: dict[str, Any]) -> list[dict[str, Any]]:
        index = fragment["index"]
        call = self._calls.setdefault(index, _Call(self._job, index))
        call.join(fragment)
        arguments = (fragment.get("function") or {}).get("arguments")
        return [*call.open(self._next), call.say(arguments)] if arguments else []

    def _next(self) -> int:
        self._count += 1
        return self._count - 1


class _Said:
    """An item of text: reasoning, or a message of which the model may refuse a part."""

    def __init__(self, kind: str, id_: str, output_index: int) -> None:
        self.kind = kind
        self._id = id_
        self._at = {"item_id": id_, "output_index": output_index}
        self._parts: list[tuple[str, str, list[str]]] = []  # field, events' name, pieces of text

    def added(self) -> dict[str, Any]:
        return self._item("response.output_item.added", "in_progress", [])

    def say(self, field: str, name: str, text: str) -> list[dict[str, Any]]:
        events = [] if self._parts and self._parts[-1][0] == field else self._add(field, name)
        self._parts[-1][2].append(text)
        return [*events, self._on_part(f"{name}.delta", delta=text, **_logprobs(field))]

    def done(self, status: str) -> list[dict[str, Any]]:
        events = self._part_done() if self._parts else []
        parts = [_part(field, "".join(pieces)) for field, _, pieces in self._parts]
        return [*events, self._item("response.output_item.done", status, parts)]

    def _add(self, field: str, name: str) -> list[dict[str, Any]]:
        events = self._part_done() if self._parts else []
        self._parts.append((field, name, []))
        return [*events, self._on_part("response.content_part.added", part=_part(field, ""))]

    def _part_done(self) -> list[dict[str, Any]]:
        field, name, pieces = self._parts[-1]
        text = "".join(pieces)
        said = {"refusal" if field == "refusal" else "text": text}
        return [
            self._on_part(f"{name}.done", **said, **_logprobs(field)),
            self._on_part("response.content_part.done", part=_part(field, text)),
        ]

    def _on_part(self, kind: str, **said: Any) -> dict[str, Any]:
        return {"type": kind, **self._at, "content_index": len(self._parts) - 1, **said}

    def _item(self, kind: str, status: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
        if self.kind == "message":
            item = message_item(self._id, status, parts)
        else:
            item = {**reasoning_item(self._id, status, None), "content": parts}
        return {"type": kind, "output_index": self._at["output_index"], "item": item}


class _Call:
    """A function call."""

    def __init__(self, job: str, number: int) -> None:
        self._job, self._number = job, number
        self._id = item_id("fc", job, number)
        self._given: str | None = None
        self._name = ""
        self._arguments: list[str] = []
        self._index: int | None = None

    def join(self, fragment: dict[str, Any]) -> None:
        self._given = self._given or fragment.get("id")
        self._name += (fragment.get("function") or {}).get("name") or ""

    def open(self, next_index: Callable[[], int]) -> list[dict[str, Any]]:
        if self._index is not None:
            return []
        self._index = next_index()
        return [self._item("response.output_item.added", "in_progress", "")]

    def say(self, text: str) -> dict[str, Any]:
        self._arguments.append(text)
        return self._on_arguments("delta", delta=text)

    def done(self, status: str) -> list[dict[str, Any]]:
        arguments = "".join(self._arguments)
        return [
            self._on_arguments("done", name=self._name, arguments=arguments),
            self._item("response.output_item.done", status, arguments),
        ]

    def _on_arguments(self, what: str, **said: str) -> dict[str, Any]:
        kind = f"response.function_call_arguments.{what}"
        return {"type": kind, "item_id": self._id, "output_index": self._index, **said}

    def _item(self, kind: str, status: str, arguments: str) -> dict[str, Any]:
        call = call_id(self._job, self._number, self._given)
        item = call_item(self._id, status, call, self._name, arguments)
        return {"type": kind, "output_index": self._index, "item": item}


def _part(field: str, text: str) -> dict[str, Any]:
    match field:
        case "content":
            return text_part(text)
        case "refusal":
            return {"type": "refusal", "refusal": text}
        case _:
            return {"type": "reasoning_text", "text": text}


def _logprobs(field: str) -> dict[str, list[Any]]:
    return {"logprobs": []} if field == "content" else {}
