"""Lets each stream read at most once per flush interval, which is what keeps a token cheap.

A stream that is woken for each token costs the same for one token as for ten that came together.
So after its first delta a stream waits for its turn, and then takes whatever has come meanwhile;
the connection buffers it. Streams take their turns in SLOTS phases of the interval, so that neither
this loop nor Redis sees all of them at the same moment.

Under load latency is traded for CPU: when the loop's thread is busier than BUSY, turns come less
often, down to one in STRETCH intervals, and each finds more; that leaves room for claims and for
the first words of new answers.
"""

from __future__ import annotations

import asyncio
import time

SLOTS = 5
"""Phases of the flush interval: 10 ms apart at the default of 50 ms."""

BUSY = 0.45
"""Share of a core that the loop may use before turns come less often."""

STRETCH = 5.0
"""How much longer than the interval a round may become: 250 ms at the default."""


class Pace:
    """The turns of all streams of this process.

    Args:
        interval: seconds between two turns of a stream; 0: it never waits.
    """

    def __init__(self, interval: float) -> None:
        self._step = interval / SLOTS
        self._stretch = 1.0
        self._measured = (0.0, 0.0)  # wall and CPU seconds at the end of the last round
        self._slots: list[list[asyncio.Future[None]]] = [[] for _ in range(SLOTS)]
        self._joined = 0
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None

    def join(self) -> int:
        """A phase for a new stream."""
        self._joined += 1
        return self._joined % SLOTS

    async def turn(self, slot: int) -> None:
        """Wait for the next turn of this phase."""
        if not self._step:
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._slots[slot].append(turn)
        if self._timer is None:
            due = loop.time() + self._step
            self._timer = loop.call_at(due, self._tick, due)
        await turn

    def _tick(self, due: float) -> None:
        """Give the phase whose turn it is its turn, and come back for the next one."""
        waiting, self._slots[self._next] = self._slots[self._next], []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)
        self._next = (self._next + 1) % SLOTS
        if self._next == 0:
            self._adapt(time.monotonic(), time.thread_time())
        loop = asyncio.get_running_loop()
        due = max(due + self._step * self._stretch, loop.time())
        self._timer = loop.call_at(due, self._tick, due) if any(self._slots) else None

    def _adapt(self, wall: float, cpu: float) -> None:
        """Once a round: stretch it while the loop is too busy, take that back when it is not."""
        busy = (cpu - self._measured[1]) / max(wall - self._measured[0], 1e-9)
        self._measured = (wall, cpu)
        factor = 1.1 if busy > BUSY else 0.95
        self._stretch = min(max(self._stretch * factor, 1.0), STRETCH)
