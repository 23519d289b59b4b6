"""Lets all readers of a process follow their jobs on one pub/sub connection.

`feed.py` says what a reader does; here is who does it for many. Each reader has a short queue. One
that does not take its events in time loses the queue and reads them from the Stream, from its
cursor on: it costs the others nothing and misses nothing. An event is decoded once for all.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any

import msgspec
import redis

from penstock import keys
from penstock.connection import COMMAND_TIMEOUT
from penstock.errors import Dismissed, StoreError, StoreUnavailable
from penstock.events import START, Cursor, Event, decode
from penstock.feed import (
    MISSED,
    Listen,
    Page,
    Pause,
    Read,
    Step,
    Subscribe,
    advance,
    ask,
    reading,
)
from penstock.store import AsyncStore, mapped_errors

DEPTH = 256
"""Events a reader may be behind before it reads the Stream: 13 s of a job at 20 a second. They are
shared with the others, so it is only as many references; reading the Stream is what costs."""

CLOCK_STEP = 0.001
"""Event loops may fire a timer so much too early."""

MOST_AT_ONCE = 64
"""Events handed out together."""


class SharedEvent(Event, frozen=True):
    """An event that many readers get.

    Attributes:
        at: the id, parsed.
        raw: the event's JSON as it stands in the feed.
    """

    at: Cursor
    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> SharedEvent:
        """Decode it."""
        event = decode(raw)
        at = Cursor.parse(event.id)
        return cls(event.id, event.job, event.type, event.time, event.data, at, raw)

    @property
    def cursor(self) -> Cursor:
        """The id, parsed."""
        return self.at


class _Seat:
    """One reader's place: what it has not taken yet, and what it must be told."""

    def __init__(self) -> None:
        self.queue: deque[SharedEvent] = deque()
        self.is_behind = False
        self.trouble: StoreUnavailable | Dismissed | None = None
        self._sleep: asyncio.Future[None] | None = None
        self._until = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there is something to take at once."""
        return bool(self.queue)

    def put(self, event: SharedEvent) -> bool:
        """Offer an event; whether the reader falls behind by it."""
        if self.is_behind:
            return False
        if len(self.queue) >= DEPTH:
            self.queue.clear()
            self.is_behind = True
        else:
            self.queue.append(event)
        self.wake()
        return self.is_behind

    def disturb(self, trouble: StoreUnavailable | Dismissed) -> None:
        """Make the reader's next listening fail."""
        self.trouble = trouble
        self.wake()

    def refresh(self) -> None:
        """Begin anew, on a new subscription."""
        self.queue.clear()
        self.is_behind = False
        if not isinstance(self.trouble, Dismissed):
            self.trouble = None

    def wake(self) -> None:
        """End the reader's wait."""
        if self._sleep is not None and not self._sleep.done():
            self._sleep.set_result(None)

    async def listen(self, timeout: float) -> SharedEvent | StoreUnavailable | str | None:
        """As Listen says, or what has broken; raises Dismissed."""
        if not (self.queue or self.is_behind or self.trouble):
            await self._doze(timeout)
        if isinstance(self.trouble, Dismissed):
            raise self.trouble
        if self.trouble:
            return self.trouble
        if self.is_behind:
            self.is_behind = False  # from here on events are queued again, so none is missed
            return MISSED
        return self.queue.popleft() if self.queue else None

    async def _doze(self, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self._sleep, self._until = loop.create_future(), loop.time() + timeout
        if self._alarm is None or self._alarm.when() > self._until:
            self._set_alarm(loop)
        try:
            await self._sleep
        finally:
            self._sleep = None

    def _set_alarm(self, loop: asyncio.AbstractEventLoop) -> None:
        """One alarm for many short waits: to set it for each would cost more than the event."""
        self.end()
        self._alarm = loop.call_at(self._until, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = None
        if self._sleep is None or loop.time() >= self._until - CLOCK_STEP:
            self.wake()
        else:
            self._set_alarm(loop)

    def end(self) -> None:
        """Wait for nothing any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


class Fanout:
    """The one connection, and who listens on it. Belongs to one event loop.

    Attributes:
        on_behind: called when a reader has fallen behind, for whoever counts.
    """

    def __init__(self, store: AsyncStore) -> None:
        self.on_behind: Callable[[], object] = bool
        self._store = store
        self._seats: dict[bytes, set[_Seat]] = {}
        self._asked: deque[asyncio.Future[None]] = deque()
        self._connection: Any = None
        self._opening = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._dismissed = False

    @property
    def readers(self) -> int:
        """How many listen."""
        return sum(map(len, self._seats.values()))

    async def events(
        self, job: str, after: Cursor = START, timeout: float | None = None
    ) -> AsyncGenerator[Event]:
        """As `feed.follow_async`; raises Dismissed too, when the process stops."""
        async with aclosing(self.batches(job, after, timeout)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def batches(
        self, job: str, after: Cursor = START, timeout: float | None = None
    ) -> AsyncGenerator[list[SharedEvent]]:
        """As `events`: all that is at hand at once; an empty list where it was silent for a while.

        Raises:
            Dismissed: the process stops.
            JobNotFound, StoreUnavailable, TimeoutError: as `feed.follow_async`.
        """
        seat, steps, answer = _Seat(), reading(job, after, timeout), None
        batch: list[SharedEvent] = []
        try:
            while (step := advance(steps, answer)) is not None:
                answer = None
                if isinstance(step, SharedEvent):
                    batch.append(step)
                    continue
                if batch and (len(batch) >= MOST_AT_ONCE or not self._is_free(step, seat)):
                    yield batch
                    batch = []
                if isinstance(step, Listen):
                    answer = await seat.listen(step.timeout)
                else:
                    answer = await self._answer(step, job, seat)
                if answer is None and not isinstance(step, Subscribe):
                    yield []
            if batch:
                yield batch
        finally:
            seat.end()
            self._leave(keys.feed(job).encode(), seat)

    def _is_free(self, step: Step, seat: _Seat) -> bool:
        """Whether the step can be done without waiting."""
        return isinstance(step, Listen) and seat.is_ready

    async def _answer(self, step: Step, job: str, seat: _Seat) -> Any:
        try:
            with mapped_errors(self._store.url):
                return await self._do(step, job, seat)
        except StoreUnavailable as error:
            return error

    async def _do(self, step: Step, job: str, seat: _Seat) -> Any:
        match step:
            case Subscribe():
                return await self._join(keys.feed(job).encode(), seat)
            case Read(after):
                pipeline = self._store.redis.pipeline(transaction=False)
                fields, range_ = await ask(pipeline, job, after).execute()
                return Page([SharedEvent.of(entry[1][b"event"]) for entry in range_], *fields)
            case Pause(seconds):
                return await asyncio.sleep(seconds)

    async def _join(self, channel: bytes, seat: _Seat) -> None:
        """Listen on the channel; what is published after this returns is heard."""
        if self._dismissed:
            raise _dismissal()
        connection = await self._connected()
        seat.refresh()
        self._seats.setdefault(channel, set()).add(seat)
        confirmed = asyncio.get_running_loop().create_future()
        self._asked.append(confirmed)
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                await self._send(connection, "SUBSCRIBE", channel)
                await asyncio.shield(confirmed)
        except TimeoutError:
            self._drop(connection, redis.TimeoutError("no answer to SUBSCRIBE"))
            raise

    async def _connected(self) -> Any:
        async with self._opening:
            if self._connection is None:
                client: Any = self._store.server.async_channel(protocol=2)
                connection = client.connection_pool.make_connection()
                await connection.connect()
                self._connection = connection
                self._start(self._hear(connection))
            return self._connection

    def _start(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, connection: Any, *command: Any) -> None:
        whole = connection is self._connection and connection.is_connected
        if not whole:  # redis-py would open it again, unheard
            raise redis.ConnectionError("the channel has broken")
        await connection.send_command(*command)

    async def _hear(self, connection: Any) -> None:
        """Pass on what comes in, until the connection breaks."""
        try:
            with mapped_errors(self._store.url):
                while True:
                    kind, channel, content = await connection.read_response(timeout=math.inf)
                    if kind == b"message":
                        self._spread(channel, content)
                    elif kind == b"subscribe":
                        self._confirm()
        except StoreError as error:
            self._drop(connection, error)

    def _spread(self, channel: bytes, content: bytes) -> None:
        with suppress(msgspec.DecodeError, ValueError):  # not ours; a gap is noticed by the ids
            event = SharedEvent.of(content)
            for seat in self._seats.get(channel, ()):
                if seat.put(event):
                    self.on_behind()

    def _confirm(self) -> None:
        """The oldest SUBSCRIBE is confirmed: they are in the order in which they were sent."""
        confirmed = self._asked.popleft()
        if not confirmed.done():
            confirmed.set_result(None)

    def _drop(self, connection: Any, error: Exception) -> None:
        """Give the connection up; every reader goes on by its cursor, on a new one."""
        if connection is not self._connection:
            return
        self._connection = None
        while self._asked:
            confirmed = self._asked.popleft()
            if not confirmed.done():
                confirmed.set_exception(error)
                confirmed.exception()  # its reader may have left
        trouble = StoreUnavailable(f"the channel has broken: {error}")
        for seat in {seat for seats in self._seats.values() for seat in seats}:
            seat.disturb(trouble)
        self._start(connection.disconnect(nowait=True))

    def _leave(self, channel: bytes, seat: _Seat) -> None:
        seats = self._seats.get(channel)
        if seats is None:
            return
        seats.discard(seat)
        if not seats:
            del self._seats[channel]
            self._start(self._unsubscribe(channel))

    async def _unsubscribe(self, channel: bytes) -> None:
        """Unless somebody has come meanwhile, whose SUBSCRIBE may be before this."""
        if channel in self._seats or self._connection is None:
            return
        with suppress(redis.RedisError, OSError):
            await self._send(self._connection, "UNSUBSCRIBE", channel)

    def dismiss(self) -> None:
        """Send every reader away: the process stops."""
        self._dismissed = True
        for seat in {seat for seats in self._seats.values() for seat in seats}:
            seat.disturb(_dismissal())

    async def close(self) -> None:
        """Close the connection."""
        self.dismiss()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
            self._connection = None


def _dismissal() -> Dismissed:
    return Dismissed("this process stops; the job goes on, and can be followed from elsewhere")
