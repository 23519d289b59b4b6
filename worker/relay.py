"""Takes the deltas of all streams of this process and writes them to their feeds in batches.

The first delta of an attempt goes out at once. After that a job's deltas are merged and go out at
most once per flush interval, each job in one of SLOTS phases of it, so that neither Redis nor this
loop sees all jobs at the same moment. One script call carries the events of many jobs; while one
is under way, or Redis is away, further deltas merge: memory is bounded by the size of the answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from penstock import commands
from penstock.commands import Argument
from penstock.errors import StoreError
from penstock.events import encode
from penstock.store import AsyncStore
from worker import telemetry
from worker.upstream.delta import ChoiceDelta, Deltas

SLOTS = 5
"""Phases of the flush interval: 10 ms apart at the default of 50 ms."""

MAX_EVENTS = 200
"""Events in one call: Redis is busy for about a millisecond then, and others can get in between."""

MAX_BYTES = 1024 * 1024
"""Bytes in one call, unless a single event is larger."""

PAUSES = (0.05, 0.1, 0.2, 0.5)
"""Seconds before a failed write is tried again; the last one repeats."""


class Feed:
    """The outgoing side of one attempt.

    Attributes:
        n: the number of the last event that was given one; 1 is `started`.
    """

    __slots__ = (
        "attempt", "fresh", "id", "lost", "n", "pending", "slot", "unwritten", "waiter", "waits"
    )  # fmt: skip

    def __init__(self, id_: str, attempt: int, slot: int) -> None:
        self.id = id_
        self.attempt = attempt
        self.slot = slot
        self.n = 1
        self.pending = Deltas()
        self.waits = False  # in its slot, for the next flush
        self.fresh = True  # has sent nothing, or only its first delta within this round
        self.unwritten = 0  # events numbered but not yet in Redis
        self.lost = False
        self.waiter: asyncio.Future[None] | None = None


_Event = tuple[Feed, int, bytes]


class Relay:
    """Batches deltas; `run` does the writing.

    Args:
        store: where to write.
        interval: seconds between two deltas of a job, 0 to send each one by itself.
        on_lost: called with a job's id when its fence has moved on.
    """

    def __init__(self, store: AsyncStore, interval: float, on_lost: Callable[[str], None]) -> None:
        self._store = store
        self._step = interval / SLOTS
        self._on_lost = on_lost
        self._outbox: deque[_Event] = deque()
        self._slots: list[list[Feed]] = [[] for _ in range(SLOTS)]
        self._opened = 0
        self._next_slot = 0
        self._timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()

    def open(self, id_: str, attempt: int) -> Feed:
        """The outgoing side of a new attempt."""
        self._opened += 1
        return Feed(id_, attempt, self._opened % SLOTS)

    def add(self, feed: Feed, deltas: Sequence[ChoiceDelta]) -> None:
        """Send these on, now or merged with what comes within the interval."""
        feed.pending.add(deltas)
        if feed.waits:
            return
        if self._step and (feed.n > 1 or feed.unwritten):
            self._enter_slot(feed)
        else:
            self._send(feed)

    async def drain(self, feed: Feed) -> None:
        """Return when everything added is in Redis, or the fence has moved on."""
        if feed.pending:
            self._send(feed)
        if feed.unwritten and not feed.lost:
            feed.waiter = asyncio.get_running_loop().create_future()
            await feed.waiter

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._outbox:
                batch = self._next_batch()
                await self._write(batch)

    def _send(self, feed: Feed) -> None:
        """Number what is pending as one event and put it into the outbox."""
        data = b'{"choices":' + encode(feed.pending.take()) + b"}"
        feed.n += 1
        feed.unwritten += 1
        self._outbox.append((feed, feed.n, data))
        self._wake.set()

    def _enter_slot(self, feed: Feed) -> None:
        feed.waits = True
        self._slots[feed.slot].append(feed)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._step, self._tick, loop.time() + self._step)

    def _tick(self, due: float) -> None:
        """Flush the slot whose turn it is; a feed with an event still unwritten waits on."""
        loop = asyncio.get_running_loop()
        waiting, self._slots[self._next_slot] = self._slots[self._next_slot], []
        for feed in waiting:
            if (feed.unwritten or feed.fresh) and not feed.lost:
                feed.fresh = False
                self._slots[self._next_slot].append(feed)
                continue
            feed.waits = False
            if feed.pending:
                self._send(feed)
        self._next_slot = (self._next_slot + 1) % SLOTS
        if any(self._slots):
            due = max(due + self._step, loop.time())
            self._timer = loop.call_at(due, self._tick, due)
        else:
            self._timer = None

    def _next_batch(self) -> list[_Event]:
        batch: list[_Event] = []
        size = 0
        while self._outbox and len(batch) < MAX_EVENTS:
            size += len(self._outbox[0][2])
            if batch and size > MAX_BYTES:
                break
            batch.append(self._outbox.popleft())
        return batch

    async def _write(self, batch: list[_Event]) -> None:
        """Write one batch, for as long as it takes: every event has its id, so none comes twice."""
        arguments: list[Argument] = []
        for feed, n, data in batch:
            arguments += (feed.id, feed.attempt, n, data)
        lost = await self._persist(arguments)
        telemetry.FLUSHED.observe(len(batch))
        for feed, _, _ in batch:
            feed.unwritten -= 1
            if feed.id in lost:
                self._lose(feed)
            if feed.waiter and (not feed.unwritten or feed.lost) and not feed.waiter.done():
                feed.waiter.set_result(None)

    async def _persist(self, arguments: list[Argument]) -> list[str]:
        tries = 0
        while True:
            try:
                return await self._store.run(commands.append(arguments))
            except StoreError as error:
                if tries == 0:
                    telemetry.log("relay_waits", error=str(error))
                await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
                tries += 1

    def _lose(self, feed: Feed) -> None:
        if not feed.lost:
            feed.lost = True
            self._on_lost(feed.id)
