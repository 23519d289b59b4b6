"""The upstream's limits: requests at once, requests per minute, tokens per minute.

Windows slide: at most so many in any 60 seconds, which is the strictest reading of a limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ops.simulator.rejection import busy

WINDOW = 60.0


class Window:
    """Counts amounts over the last WINDOW seconds."""

    def __init__(self) -> None:
        self._entries: deque[tuple[float, int]] = deque()
        self._total = 0

    def total(self, now: float) -> int:
        """How much was used in the window that ends now."""
        while self._entries and self._entries[0][0] <= now - WINDOW:
            self._total -= self._entries.popleft()[1]
        return self._total

    def add(self, now: float, amount: int) -> None:
        """Count an amount."""
        self._entries.append((now, amount))
        self._total += amount

    def wait(self, now: float, amount: int, limit: int) -> float:
        """Seconds until this amount fits; 0 if it does now, WINDOW if it never will."""
        over = self.total(now) + amount - limit
        for at, used in self._entries:
            if over <= 0:
                break
            over -= used
            free_at = at + WINDOW - now
            if over <= 0:
                return free_at
        return 0.0 if over <= 0 else WINDOW


class Bucket:
    """Holds so many requests at once, and lets one more in whenever a minute's share has passed."""

    def __init__(self) -> None:
        self._full_until = float("-inf")

    def wait(self, now: float, per_minute: int, burst: int) -> float:
        """Seconds until a request fits; 0 if it does now."""
        return max(0.0, self._full_until - now - (burst - 1) * WINDOW / per_minute)

    def add(self, now: float, per_minute: int) -> None:
        """Count a request."""
        self._full_until = max(self._full_until, now) + WINDOW / per_minute


class Limits:
    """Admits requests. The attributes may change at any time and count from the next request on.

    Attributes:
        concurrency: requests at once, or None. DeepInfra's documented limit is 200 a model.
        requests_per_minute: or None.
        burst: requests at once, out of those of a minute, or None.
        tokens_per_minute: prompt and completion, charged on admission, or None.
        retry_after: whether a 429 says when to come back.
        charged: tokens of all requests that were let in while tokens were limited.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        concurrency: int | None = None,
        requests_per_minute: int | None = None,
        burst: int | None = None,
        tokens_per_minute: int | None = None,
        retry_after: bool = False,
    ) -> None:
        self.concurrency = concurrency
        self.requests_per_minute = requests_per_minute
        self.burst = burst
        self.tokens_per_minute = tokens_per_minute
        self.retry_after = retry_after
        self.charged = 0
        self._clock = clock
        self._requests = Window()
        self._bucket = Bucket()
        self._tokens = Window()

    def admit(self, in_flight: int, tokens: Callable[[], int]) -> None:
        """Count a request in, or raise Rejection (429).

        Args:
            in_flight: requests being answered now.
            tokens: what this one will use; called only if tokens are limited.
        """
        if self.concurrency is not None and in_flight >= self.concurrency:
            self._refuse(1.0)
        now = self._clock()
        amount = 0 if self.tokens_per_minute is None else tokens()
        self._check(self._requests, now, 1, self.requests_per_minute)
        self._check_burst(now)
        self._check(self._tokens, now, amount, self.tokens_per_minute)
        if self.requests_per_minute is not None:
            self._requests.add(now, 1)
            self._bucket.add(now, self.requests_per_minute)
        if amount:
            self._tokens.add(now, amount)
            self.charged += amount

    def _check(self, window: Window, now: float, amount: int, limit: int | None) -> None:
        wait = 0.0 if limit is None else window.wait(now, amount, limit)
        if wait > 0:
            self._refuse(wait)

    def _check_burst(self, now: float) -> None:
        if self.requests_per_minute is None or self.burst is None:
            return
        if (wait := self._bucket.wait(now, self.requests_per_minute, self.burst)) > 0:
            self._refuse(wait)

    def _refuse(self, wait: float) -> None:
        raise busy(wait if self.retry_after else None)
