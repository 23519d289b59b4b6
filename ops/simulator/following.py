"""The events of a response on their way to one reader: a stream's body, which keeps its own rhythm.

What was said already comes at once, the rest when it is due.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ops.simulator.body import Ending
from ops.simulator.telling import BEFORE, Telling
from producers.gateway.openai.delivery import Delivery
from producers.gateway.openai.response import skeleton
from producers.gateway.openai.sequence import Reader, Sequence, frame

COMMENT = b":\n"
"""In place of an event that the reader has: a part of a body must not be empty."""


class Following:
    """One reader's stream.

    Args:
        telling: what it reads.
        after: the last `sequence_number` it has; -1 for none.
        now: when it begins.
    """

    ending = Ending.WHOLE
    ttft = 0.0

    def __init__(self, telling: Telling, after: int, now: float) -> None:
        self.telling = telling
        sequence = Sequence(skeleton(telling.record(1)), telling.id)
        self._reader = Reader(sequence, Delivery[dict[str, Any]](), after)
        self._since = self._due = now
        self._at = 0

    @property
    def free(self) -> bool:
        """Whether everything is said already, so that nothing has to be waited for."""
        return self.telling.ends <= self._since

    @property
    def tokens(self) -> int:
        """Tokens sent so far."""
        return min(max(0, self._at - BEFORE), self.telling.tokens)

    @property
    def said(self) -> bool:
        """Whether what is left is due no later than what was sent last."""
        return self._at == len(self.telling) or (
            self._at > 0 and self.telling.due(self._at - 1) >= self.telling.ends
        )

    def next_gap(self) -> float:
        """Seconds between the event sent last and the next."""
        last, self._due = self._due, max(self._since, self.telling.due(self._at))
        return self._due - last

    def __iter__(self) -> Iterator[bytes]:
        while self._at < len(self.telling):
            told = self._reader.take(self.telling.event(self._at))
            self._at += 1
            if told:
                yield b"".join(map(frame, told))
            elif not self._behind():
                yield COMMENT

    def _behind(self) -> bool:
        """Whether the next event was said before this reader came."""
        return self._at < len(self.telling) and self.telling.due(self._at) <= self._since
