"""The events of a feed and their codec; docs/events.md shows each type's data.

An event's id is its cursor, `<attempt>-<n>`: the Redis Stream entry id too, so a later event of a
job always has a greater cursor. Within an attempt `n` has no gaps, which is how a reader of the
pub/sub channel notices that it missed something.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from penstock.state import TERMINAL


class EventType(StrEnum):
    """What happened."""

    QUEUED = "queued"
    STARTED = "started"
    DELTA = "delta"
    RESTARTED = "restarted"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


MAX_NUMBER = 2**63 - 1
"""The largest number Redis takes in a Stream entry's id."""


class Cursor(NamedTuple):
    """A place in a feed; cursors compare in the order of the feed."""

    attempt: int
    n: int

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read `<attempt>-<n>`; raises ValueError with what a cursor looks like."""
        attempt, dash, n = text.partition("-")
        if not (dash and attempt.isascii() and attempt.isdigit() and n.isascii() and n.isdigit()):
            raise ValueError(f"{text!r} is not a cursor; a cursor is an event's id, such as 1-17")
        cursor = cls(int(attempt), int(n))
        if max(cursor) > MAX_NUMBER:
            raise ValueError(f"{text!r} is not a cursor; its numbers are too large")
        return cursor

    def __str__(self) -> str:
        return f"{self.attempt}-{self.n}"


START = Cursor(0, 0)
"""Before the first event of any feed."""


class Event(msgspec.Struct, frozen=True):
    """One event of one job.

    Attributes:
        id: the cursor, `<attempt>-<n>`.
        job: the job's id.
        type: one of EventType.
        time: Redis's clock, in seconds since the epoch.
        data: what the type carries, see docs/events.md.
    """

    id: str
    job: str
    type: str
    time: float
    data: dict[str, Any]

    @property
    def cursor(self) -> Cursor:
        """The id, parsed."""
        return Cursor.parse(self.id)

    @property
    def is_terminal(self) -> bool:
        """Whether this event ends the feed."""
        return self.type in TERMINAL

    @property
    def text(self) -> str:
        """The first choice's new text, "" where there is none."""
        return self._of_first_choice("content")

    @property
    def reasoning(self) -> str:
        """The first choice's new reasoning, "" where there is none."""
        return self._of_first_choice("reasoning_content")

    def _of_first_choice(self, field: str) -> str:
        if self.type != EventType.DELTA:
            return ""
        parts = (c["delta"].get(field) for c in self.data["choices"] if c["index"] == 0)
        return "".join(part for part in parts if part)

    def __repr__(self) -> str:
        return f"Event(id={self.id!r}, job={self.job!r}, type={self.type!r})"


_decoder = msgspec.json.Decoder(Event)


def decode(raw: bytes) -> Event:
    """The event in these bytes, as they stand in the Stream and on the channel."""
    return _decoder.decode(raw)


def encode(value: Any) -> bytes:
    """Compact JSON of an event or of its data."""
    return msgspec.json.encode(value)
