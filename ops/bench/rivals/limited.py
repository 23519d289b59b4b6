"""The chat worker with a limit of its own in each process, as it is usually made at home.

    celery -A ops.bench.rivals.limited worker -P threads -c 50

A provider's limit is divided by the number of processes. Requests at once: a semaphore around the
call. Rates: a window of 60 seconds in which the process counts what it sends; a request's tokens
are not known before, so it counts their mean and corrects that by the answer's usage.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from ops.bench.rivals.chat import app, client

WINDOW = 60.0


class Semaphore:
    """So many requests at once."""

    def __init__(self, share: int) -> None:
        self._slots = threading.Semaphore(share)

    @contextmanager
    def slot(self, _: int) -> Iterator[list[int]]:
        """Wait for one; the amount does not matter."""
        with self._slots:
            yield [1]


class Window:
    """So much in any 60 seconds; the amount is corrected when it is known better."""

    def __init__(self, share: int) -> None:
        self._share = share
        self._sent: deque[tuple[float, list[int]]] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def slot(self, amount: int) -> Iterator[list[int]]:
        """Wait until this much fits; the first item of the list may be corrected."""
        counted = [amount]
        while not self._fits(counted):
            time.sleep(0.02)
        yield counted

    def _fits(self, counted: list[int]) -> bool:
        now = time.monotonic()
        with self._lock:
            while self._sent and self._sent[0][0] <= now - WINDOW:
                self._sent.popleft()
            if sum(amount for _, (amount,) in self._sent) + counted[0] > self._share:
                return False
            self._sent.append((now, counted))
            return True


@cache
def limiter(kind: str, share: int) -> Semaphore | Window:
    """This process's one."""
    return Semaphore(share) if kind == "concurrency" else Window(share)


@app.task(name="limited")  # type: ignore[untyped-decorator]  # Celery has no type information
def limited(
    messages: list[Any], simulate: dict[str, Any], kind: str, share: int, amount: int
) -> None:
    """Stream one answer, within this process's share of the limit."""
    with limiter(kind, share).slot(amount) as counted:
        used = stream(messages, simulate)
        if kind == "tokens_per_minute":
            counted[:] = [used]


@app.task(name="unlimited")  # type: ignore[untyped-decorator]
def unlimited(messages: list[Any], simulate: dict[str, Any], *_: Any) -> None:
    """Stream one answer; Celery's `rate_limit` decides when."""
    stream(messages, simulate)


def stream(messages: list[Any], simulate: dict[str, Any]) -> int:
    """Read one answer to its end; the tokens it used. Raises RateLimitError."""
    chunks = client.chat.completions.create(
        model="simulated",
        messages=messages,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"simulate": simulate},
    )
    return sum(chunk.usage.total_tokens for chunk in chunks if chunk.usage)
