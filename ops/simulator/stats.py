"""What the simulator has done so far; tests wait on it and operators read it as JSON."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Any


class Stats:
    """Counters of requests for an answer: chat completions and responses.

    Attributes:
        requests: received, whatever the answer.
        in_flight: being answered now; a stalled one counts until its connection ends.
        peak_in_flight: the most of them at once.
        in_flight_seconds: how long all of them took, until now: what it grows by in a second is
            the mean of `in_flight` in that second.
        completed: answered to the end of the HTTP message.
        broken_off: ended by a scripted reset, close or refusal.
        aborted_by_client: the client closed the connection before the end.
        by_status: answers by HTTP status.
        tokens: deltas rendered for sending.
        by_key: requests per script key, where a script has `key`, `attempts` or `vary`.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.in_flight = 0
        self.peak_in_flight = 0
        self.completed = 0
        self.broken_off = 0
        self.aborted_by_client = 0
        self.by_status: Counter[int] = Counter()
        self.tokens = 0
        self.by_key: Counter[str] = Counter()
        self._seconds, self._counted_at = 0.0, monotonic()
        self._waiting: list[tuple[Callable[[Stats], bool], asyncio.Future[None]]] = []

    def as_dict(self) -> dict[str, Any]:
        """The body of GET /simulator/stats."""
        counters = {k: v for k, v in vars(self).items() if isinstance(v, int)}
        by = {"by_status": dict(self.by_status), "by_key": dict(self.by_key)}
        return counters | by | {"in_flight_seconds": self.in_flight_seconds}

    @property
    def in_flight_seconds(self) -> float:
        """See the class."""
        self._count_seconds()
        return self._seconds

    def _count_seconds(self) -> None:
        now = monotonic()
        self._seconds += self.in_flight * (now - self._counted_at)
        self._counted_at = now

    def received(self) -> None:
        """A request for an answer is here."""
        self.requests += 1
        self.changed()

    def answered(self, status: int) -> None:
        """Its answer begins."""
        self.by_status[status] += 1
        self.changed()

    def began(self) -> None:
        """It was admitted."""
        self._count_seconds()
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        self.changed()

    def ended(self, how: str) -> None:
        """An admitted one is over: `completed`, `broken_off` or `aborted_by_client`."""
        self._count_seconds()
        self.in_flight -= 1
        setattr(self, how, getattr(self, how) + 1)
        self.changed()

    def attempt(self, key: str) -> int:
        """Count a request with this key; its number, from 1."""
        self.by_key[key] += 1
        return self.by_key[key]

    def changed(self) -> None:
        """Wake whoever waits for the state now reached."""
        if self._waiting:
            for condition, future in self._waiting:
                if not future.done() and condition(self):
                    future.set_result(None)
            self._waiting = [entry for entry in self._waiting if not entry[1].done()]

    async def until(self, condition: Callable[[Stats], bool], timeout: float = 10.0) -> None:
        """Wait until the condition holds; raises TimeoutError with the counters in its text."""
        if condition(self):
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((condition, future))
        try:
            await asyncio.wait_for(future, timeout)
        except TimeoutError:
            raise TimeoutError(f"the simulator stands at {self.as_dict()}") from None
