"""Takes a stream's events and only notes that they came."""

from __future__ import annotations

import time

from worker.upstream.sse import DONE


class Watch:
    """A sink of `worker.upstream.client.Upstream`.

    Attributes:
        first: when the first event came, on the monotonic clock; 0 until then.
        events: how many came, `[DONE]` among them.
    """

    def __init__(self) -> None:
        self.begun = False
        self.done = False
        self.first = 0.0
        self.events = 0

    def receive(self, data: bytes) -> None:
        """See Sink."""
        self.events += 1
        if not self.begun:
            self.begun, self.first = True, time.monotonic()
        self.done = self.done or data == DONE

    async def turn(self) -> None:
        """See Sink: always at once."""
