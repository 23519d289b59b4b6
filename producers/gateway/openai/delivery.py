"""Which of a feed's words one reader gets: a stream cannot take back what it has said. Pure.

An attempt that breaks off in the middle of its answer makes void what it said. A reader that has
none of it never hears of that; one that has some is told, and its stream ends. `buffer` holds the
words of each attempt until the job is completed, so that there is never anything to take back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from penstock.events import Event, EventType
from penstock.job import JobRecord
from penstock.state import JobState

Word = TypeVar("Word")


def valid_from(record: JobRecord) -> int:
    """The first attempt of a job whose words are not void, as far as its record tells.

    A job that waits has declared void what its last attempt said, and so has one that ended while
    it waited.
    """
    match record.state:
        case JobState.RUNNING | JobState.COMPLETED | JobState.FAILED:
            waited = False
        case JobState.CANCELLED:
            waited = (record.outcome or {}).get("completion") is None
        case _:
            waited = True
    return record.attempt + waited


class Delivery(Generic[Word]):
    """One reader's part of a feed.

    Args:
        buffer: whether words are held until the job is completed.
        attempt: the first whose words are not known to be void; see `valid_from`.

    Attributes:
        over: whether the stream has to end, because it said what is void now.
    """

    def __init__(self, *, buffer: bool = False, attempt: int = 0) -> None:
        self.over = False
        self._buffer = buffer
        self._attempt = attempt
        self._said = False
        self._held: list[Word] = []

    def take(self, event: Event, words: Sequence[Word], *, heard: bool = False) -> list[Word]:
        """What of an event's words goes out now.

        Args:
            event: the next one of the feed.
            words: those the reader does not have yet.
            heard: whether it has others of this event, from an earlier stream.
        """
        match event.type:
            case EventType.DELTA:
                return self._delta(event, words, heard=heard)
            case EventType.RESTARTED:
                return self._restarted(words)
            case EventType.COMPLETED:
                held, self._held = self._held, []
                return [*held, *words]
        return list(words)

    def _delta(self, event: Event, words: Sequence[Word], *, heard: bool) -> list[Word]:
        self._said = self._said or heard
        if event.cursor.attempt < self._attempt:
            return []
        if self._buffer:
            self._held += words
            return []
        self._said = self._said or bool(words)
        return list(words)

    def _restarted(self, words: Sequence[Word]) -> list[Word]:
        said, self._said, self._held = self._said, False, []
        self.over = said and bool(words)
        return list(words) if self.over else []
