"""What of a response is the same through the queue and direct, and what differs on purpose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent

DIFFERENCES = {
    "ids": "of the response and of what is in it",
    "times": "created_at and completed_at",
    "penstock": "the field of an answer, and the headers x-penstock-...",
    "pieces": "how a text is cut into deltas, and so how many sequence numbers there are",
    "words": "of an error that Penstock itself tells: no such response, a stream that broke off",
    "cancelled": "how far a cancelled answer had come, and what that used",
    "options": "of a job: taken by both, and without meaning to the simulator",
}
"""All that differs; docs/openai-api.md has the same list, and a test compares them."""

TIMES = {"created_at", "completed_at"}
PIECE = "delta"


def alike(response: Response) -> Any:
    """A response without what differs on purpose."""
    told = response.to_dict()
    assert isinstance(told["id"], str)
    return _without(told, told["id"].removeprefix("resp_"))


def alike_events(events: Iterable[ResponseStreamEvent]) -> list[Any]:
    """A whole stream's events likewise; an item's neighbouring deltas are one, so not numbered."""
    joined: list[dict[str, Any]] = []
    id_ = ""
    for number, event in enumerate(events):
        told = event.to_dict()
        assert told.pop("sequence_number") == number
        id_ = id_ or event.response.id.removeprefix("resp_")  # type: ignore[union-attr]
        before = _before(joined, told)
        if before is not None and PIECE in told and _place(before) == _place(told):
            before[PIECE] += told[PIECE]
        else:
            joined.append(told)
    return [_without(told, id_) for told in joined]


def _before(joined: list[dict[str, Any]], told: dict[str, Any]) -> dict[str, Any] | None:
    """The last event of the same item: fragments of calls may take turns."""
    return next((b for b in reversed(joined) if b.get("item_id") == told.get("item_id")), None)


def _place(told: dict[str, Any]) -> dict[str, Any]:
    """What a delta belongs to: all that it says but its piece."""
    return {name: value for name, value in told.items() if name != PIECE}


def _without(told: Any, id_: str) -> Any:
    """The same, whoever's id it has, and whenever it was."""
    if isinstance(told, str):
        return told.replace(id_, "ID")
    if isinstance(told, list):
        return [_without(part, id_) for part in told]
    if not isinstance(told, dict):
        return told
    parts = {name: part for name, part in told.items() if name != "penstock"}
    return {name: _moment(part) if name in TIMES else _without(part, id_)
            for name, part in parts.items()}  # fmt: skip


def _moment(value: float | None) -> str | None:
    return None if value is None else "a time"
