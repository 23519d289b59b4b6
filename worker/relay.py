"""Takes the deltas of all streams of this process and writes them to their feeds in batches.

A feed stands in the outbox once, and becomes an event only when it is written: whatever its stream
says until then goes into the same event. What it says while that one is on its way makes the next.
So a job has one event under way at a time, and while Redis is slow or away memory is bounded by the
size of the answers. One round trip carries the events of many jobs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from penstock import commands
from penstock.commands import Argument
from penstock.errors import PenstockError, StoreError
from penstock.events import encode
from penstock.store import AsyncStore
from worker import telemetry
from worker.upstream.delta import ChoiceDelta, Deltas

GATHER = 0.01
"""Seconds in which events come together for one write: a call costs as much as twenty events. The
first delta of an attempt, and the last ones, do not wait for it."""

MAX_EVENTS = 100
"""Events in one script call: Redis is busy for less than a millisecond, then others get in."""

MAX_CALLS = 20
"""Script calls in one round trip."""

FIRST = 2
"""The number of an attempt's first delta: `started` is 1."""

PAUSES = (0.05, 0.1, 0.2, 0.5)
"""Seconds before a failed write is tried again; the last one repeats."""


class Feed:
    """The outgoing side of one attempt.

    Attributes:
        holder: whose claim it is.
        n: the number of the last event that was given one; 1 is `started`.
        pending: events to be, in order; more than one only where none are merged.
        under_way: events that are being written.
        lost: whether Redis has refused it, because that claim is over.
    """

    __slots__ = ("holder", "id", "lost", "n", "pending", "under_way", "waiter")

    def __init__(self, id_: str, holder: str) -> None:
        self.id = id_
        self.holder = holder
        self.n = 1
        self.pending: list[Deltas] = []
        self.under_way = 0
        self.lost = False
        self.waiter: asyncio.Future[None] | None = None

    @property
    def written(self) -> bool:
        """Whether everything said is in Redis."""
        return not self.pending and not self.under_way

    def next_event(self) -> _Event:
        """Number the first pending event and encode it."""
        deltas = self.pending.pop(0)
        self.n += 1
        self.under_way += 1
        return self, self.n, b'{"choices":' + encode(deltas.take()) + b"}"


_Event = tuple[Feed, int, bytes]


class Relay:
    """Batches deltas; `run` does the writing.

    Args:
        store: where to write.
        on_lost: called with a job's id and its holder when that claim is over.
        merge: whether deltas that come while an event is on its way become one.
    """

    def __init__(
        self, store: AsyncStore, on_lost: Callable[[str, str], None], *, merge: bool = True
    ) -> None:
        self._store = store
        self._on_lost = on_lost
        self._merge = merge
        self._outbox: deque[Feed] = deque()
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, feed: Feed, deltas: Sequence[ChoiceDelta]) -> None:
        """Send these on, now or merged with what comes until the last event has arrived."""
        if feed.pending and self._merge:
            feed.pending[-1].add(deltas)
            return
        feed.pending.append(Deltas(deltas))
        if not (feed.under_way and self._merge):
            self._queue(feed)

    async def drain(self, feed: Feed) -> None:
        """Return when everything added is in Redis, or the claim is over."""
        self._wake.set()
        if not feed.written and not feed.lost:
            feed.waiter = asyncio.get_running_loop().create_future()
            await feed.waiter

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._timer:
                self._timer.cancel()
                self._timer = None
            if self._outbox:
                await self._write(self._next_batch())
            if self._outbox and self._timer is None:
                self._wake.set()  # more than one write takes

    def _queue(self, feed: Feed) -> None:
        """Put a feed into the outbox, and see that it is written in time."""
        self._outbox.append(feed)
        first, ends = feed.n < FIRST, feed.waiter is not None
        if first or ends or len(self._outbox) >= MAX_EVENTS or not self._merge:
            self._wake.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER, self._wake.set)

    def _next_batch(self) -> list[_Event]:
        count = min(len(self._outbox), MAX_EVENTS * MAX_CALLS)
        return [self._outbox.popleft().next_event() for _ in range(count)]

    async def _write(self, batch: list[_Event]) -> None:
        """Write one batch, for as long as it takes: every event has its id, so none comes twice."""
        calls = [_call(batch[at : at + MAX_EVENTS]) for at in range(0, len(batch), MAX_EVENTS)]
        lost = await self._persist(calls)
        telemetry.FLUSHED.observe(len(batch))
        for feed, _, _ in batch:
            feed.under_way -= 1
            if feed.holder in lost:
                self._lose(feed)
            elif feed.pending and self._merge:
                self._queue(feed)
            if feed.waiter and (feed.written or feed.lost) and not feed.waiter.done():
                feed.waiter.set_result(None)

    async def _persist(self, calls: list[commands.Command[list[str]]]) -> set[str]:
        """Write until everything is written; the holders whose claim is over."""
        lost: set[str] = set()
        tries = 0
        while True:
            try:
                for refused in _checked(await self._store.run_all(calls)):
                    lost.update(refused)
                return lost
            except StoreError as error:
                if tries == 0:
                    telemetry.log("relay_waits", error=str(error))
                await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
                tries += 1

    def _lose(self, feed: Feed) -> None:
        if not feed.lost:
            feed.lost = True
            self._on_lost(feed.id, feed.holder)


def _call(events: Sequence[_Event]) -> commands.Command[list[str]]:
    arguments: list[Argument] = []
    for feed, n, data in events:
        arguments += (feed.id, feed.holder, n, data)
    return commands.append(arguments)


def _checked(results: list[list[str] | PenstockError]) -> list[list[str]]:
    """The refusals; raises the first error, and then all of it is written again."""
    for result in results:
        if isinstance(result, PenstockError):
            raise result
    return [result for result in results if isinstance(result, list)]
