"""Follows a job's feed: live from the channel, gapless from the Stream.

Subscribe first, then read the Stream from the cursor, then listen; drop what was seen, read the
Stream again where an id is missing, reconnect when the connection breaks, end at the terminal
event. That order is written once, in `reading`, which does no I/O: it asks for one thing at a time,
and `follow` (blocking) and `follow_async` do what it asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, NamedTuple, TypeAlias

import redis

from penstock import keys
from penstock.commands import not_found
from penstock.connection import COMMAND_TIMEOUT
from penstock.errors import StoreUnavailable
from penstock.events import START, Cursor, Event, decode
from penstock.state import TERMINAL
from penstock.store import AsyncStore, Store, mapped_errors

PAGE = 500
"""Stream entries read at a time."""

SILENCE = 5.0
"""Seconds without a message after which the Stream is asked whether the channel lost something."""

PATIENCE = 300.0
"""Seconds a reader goes on trying to reach Redis again before it gives up."""


class Subscribe(NamedTuple):
    """Open the channel anew. Answer: None."""


class Read(NamedTuple):
    """Read the Stream. Answer: a Page."""

    after: Cursor


class Listen(NamedTuple):
    """Wait for one message of the channel. Answer: its event, MISSED, or None: the time is over."""

    timeout: float


MISSED = "missed"
"""Some messages were let go because the reader did not take them: the Stream has them."""


class Pause(NamedTuple):
    """Do nothing for some seconds. Answer: None."""

    seconds: float


class Page(NamedTuple):
    """Entries after a cursor, and what the record says: its state and its terminal event's id."""

    events: list[Event]
    state: bytes | None
    final: bytes | None


Step: TypeAlias = Subscribe | Read | Listen | Pause | Event


class _Reader:
    """Where one reader is in the feed."""

    def __init__(self, job: str, after: Cursor) -> None:
        self.job = job
        self.cursor = after
        self.ended = False

    def take(self, event: Event) -> Generator[Step, Any, None]:
        """Hand out an event unless it was seen."""
        if event.cursor > self.cursor:
            self.cursor = event.cursor
            self.ended = event.is_terminal
            yield event

    def is_next(self, event: Event) -> bool:
        """Whether nothing can be missing before this event."""
        return event.cursor == Cursor(self.cursor.attempt, self.cursor.n + 1)

    def catch_up(self) -> Generator[Step, Any, int]:
        """Read the Stream to its end; how many new events there were."""
        found = 0
        while not self.ended:
            page: Page = yield Read(self.cursor)
            if page.state is None:
                raise not_found(self.job)
            for event in page.events:
                found += 1
                yield from self.take(event)
            if len(page.events) < PAGE:
                self.ended = self.ended or self._is_over(page)
                break
        return found

    def _is_over(self, page: Page) -> bool:
        if page.state is None or page.state.decode() not in TERMINAL or page.final is None:
            return False
        return Cursor.parse(page.final.decode()) <= self.cursor

    def listen(self, deadline: float) -> Generator[Step, Any, None]:
        """Hand out live events until the end, or until the channel has lost one."""
        while not self.ended:
            event: Event | str | None = yield Listen(min(SILENCE, _left(deadline)))
            if not isinstance(event, Event):
                if (yield from self.catch_up()) and event is not MISSED:
                    return  # the channel was silent though there was news: open it anew
                continue
            if not self.is_next(event):
                yield from self.catch_up()
            yield from self.take(event)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the job did not end in time; it goes on, and can be followed again")
    return left


def reading(job: str, after: Cursor, timeout: float | None) -> Generator[Step, Any, None]:
    """The steps of one reader and the events it gets; answer each step, an Event with None."""
    reader = _Reader(job, after)
    deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
    heard: float | None = None
    while not reader.ended:
        try:
            yield Subscribe()
            yield from reader.catch_up()
            heard = time.monotonic()
            yield from reader.listen(deadline)
            heard = time.monotonic()
        except StoreUnavailable:
            if heard is None or time.monotonic() - heard > PATIENCE:
                raise
            yield Pause(min(0.5, _left(deadline)))


def advance(steps: Generator[Step, Any, None], answer: Any) -> Step | None:
    """Answer the last step and get the next one; None at the end."""
    try:
        return steps.throw(answer) if isinstance(answer, StoreUnavailable) else steps.send(answer)
    except StopIteration:
        return None


def _heard(message: dict[str, Any] | None) -> Event | None:
    return decode(message["data"]) if message and message["type"] == "message" else None


def _confirmed(message: dict[str, Any] | None) -> None:
    """Nothing published after this is missed."""
    if message is None or message["type"] != "subscribe":
        raise redis.TimeoutError("no answer to SUBSCRIBE")


def _page(range_: list[Any], fields: list[bytes | None]) -> Page:
    return Page([decode(entry[1][b"event"]) for entry in range_], fields[0], fields[1])


def ask(pipeline: Any, job: str, after: Cursor) -> Any:
    """Put both reads into one pipeline: the record first, so that it is never newer."""
    pipeline.hmget(keys.job(job), "state", "final")
    pipeline.xrange(keys.feed(job), f"({after}", "+", PAGE)
    return pipeline


def follow(
    store: Store, job: str, after: Cursor = START, timeout: float | None = None
) -> Iterator[Event]:
    """Every event of a job after the cursor, live, until the terminal one.

    Raises:
        JobNotFound: there is no such job.
        StoreUnavailable: Redis cannot be reached, or stayed away for PATIENCE seconds.
        TimeoutError: the job did not end within `timeout` seconds.
    """
    driver, steps, answer = _Driver(store, job), reading(job, after, timeout), None
    try:
        while (step := advance(steps, answer)) is not None:
            if isinstance(step, Event):
                yield step
            answer = driver.answer(step)
    finally:
        driver.close()


class _Driver:
    """Does the steps, blocking."""

    def __init__(self, store: Store, job: str) -> None:
        self.store, self.job = store, job
        self.client: Any = store.server.channel()
        self.channel: Any = None

    def answer(self, step: Step) -> Any:
        try:
            with mapped_errors(self.store.url):
                return self.do(step)
        except StoreUnavailable as error:
            return error

    def do(self, step: Step) -> Any:
        match step:
            case Subscribe():
                return self.subscribe()
            case Read(after):
                pipeline = self.store.redis.pipeline(transaction=False)
                fields, range_ = ask(pipeline, self.job, after).execute()
                return _page(range_, fields)
            case Listen(timeout):
                return _heard(self.channel.get_message(timeout=timeout))
            case Pause(seconds):
                return time.sleep(seconds)

    def subscribe(self) -> None:
        self.close()
        self.channel = self.client.pubsub()
        self.channel.subscribe(keys.feed(self.job))
        _confirmed(self.channel.get_message(timeout=COMMAND_TIMEOUT))

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()
        self.client.connection_pool.disconnect()


async def follow_async(
    store: AsyncStore, job: str, after: Cursor = START, timeout: float | None = None
) -> AsyncIterator[Event]:
    """As `follow`, for asyncio."""
    driver, steps, answer = _AsyncDriver(store, job), reading(job, after, timeout), None
    try:
        while (step := advance(steps, answer)) is not None:
            if isinstance(step, Event):
                yield step
            answer = await driver.answer(step)
    finally:
        await driver.close()


class _AsyncDriver:
    """Does the steps, awaiting."""

    def __init__(self, store: AsyncStore, job: str) -> None:
        self.store, self.job = store, job
        self.client: Any = store.server.async_channel()
        self.channel: Any = None

    async def answer(self, step: Step) -> Any:
        try:
            with mapped_errors(self.store.url):
                return await self.do(step)
        except StoreUnavailable as error:
            return error

    async def do(self, step: Step) -> Any:
        match step:
            case Subscribe():
                return await self.subscribe()
            case Read(after):
                pipeline = self.store.redis.pipeline(transaction=False)
                fields, range_ = await ask(pipeline, self.job, after).execute()
                return _page(range_, fields)
            case Listen(timeout):
                return _heard(await self.channel.get_message(timeout=timeout))
            case Pause(seconds):
                return await asyncio.sleep(seconds)

    async def subscribe(self) -> None:
        await self.close()
        self.channel = self.client.pubsub()
        await self.channel.subscribe(keys.feed(self.job))
        _confirmed(await self.channel.get_message(timeout=COMMAND_TIMEOUT))

    async def close(self) -> None:
        if self.channel is not None:
            await self.channel.aclose()
        await self.client.connection_pool.disconnect()
