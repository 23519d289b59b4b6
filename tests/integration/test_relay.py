"""The relay on a real server: what it merges, what it survives."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from penstock import Client, Event, Settings, commands
from penstock.commands import Command
from penstock.errors import StoreUnavailable
from penstock.events import decode
from penstock.store import AsyncStore
from tests.integration.feeds import MESSAGES
from tests.waiting import until_async
from worker.relay import MAX_EVENTS, SLOTS, Feed, Relay
from worker.upstream.delta import ChoiceDelta

pytestmark = pytest.mark.usefixtures("registered")


class FaultyStore(AsyncStore):
    """A real store that can be away, can be slow, and loses replies."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.present = asyncio.Event()
        self.present.set()
        self.lost_replies = 0
        self.failures = 0
        self.calls: list[int] = []

    async def run(self, command: Command[Any]) -> Any:
        if not self.present.is_set():
            self.failures += 1
            raise StoreUnavailable("away")
        self.calls.append(len(command.arguments) // 4)
        reply = await super().run(command)
        if self.lost_replies:
            self.lost_replies -= 1
            raise StoreUnavailable("the reply was lost")
        return reply


class Bench:
    """A relay at work on claimed jobs."""

    def __init__(self, relay: Relay, store: FaultyStore, client: Client, lost: list[str]) -> None:
        self.relay, self.store, self.client, self.lost = relay, store, client, lost

    def feeds(self, count: int) -> list[Feed]:
        jobs = self.client.submit_many([{"messages": MESSAGES}] * count)
        claims = [self.client.store.run(commands.claim(job.id, job.id)) for job in jobs]
        return [self.relay.open(c.record.id, c.attempt) for c in claims if not isinstance(c, str)]

    def deltas(self, feed: Feed) -> list[Event]:
        events = self.client.store.redis.xrange(f"penstock:feed:{feed.id}", f"{feed.attempt}-2")
        return [decode(entry[1][b"event"]) for entry in events]

    def text(self, feed: Feed) -> str:
        return "".join(event.text for event in self.deltas(feed))


@asynccontextmanager
async def bench(settings: Settings, client: Client, interval: float) -> AsyncIterator[Bench]:
    store = FaultyStore(settings.server_url)
    lost: list[str] = []
    relay = Relay(store, interval, lost.append)
    writer = asyncio.create_task(relay.run())
    try:
        yield Bench(relay, store, client, lost)
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        await store.close()


def say(text: str, index: int = 0) -> list[ChoiceDelta]:
    return [{"index": index, "delta": {"content": text}}]


async def test_the_first_delta_goes_at_once_and_others_are_merged(
    settings: Settings, client: Client
) -> None:
    """With an interval that never ends, the first delta is out and the rest waits as one."""
    async with bench(settings, client, interval=3600) as at:
        (feed,) = at.feeds(1)
        at.relay.add(feed, say("first"))
        await until_async(lambda: at.text(feed) == "first")
        for word in (" a", " b", " c"):
            at.relay.add(feed, say(word))
        assert feed.n == 2
        await at.relay.drain(feed)
        assert [event.text for event in at.deltas(feed)] == ["first", " a b c"]


async def test_at_an_interval_of_zero_each_delta_is_an_event(
    settings: Settings, client: Client
) -> None:
    """Nobody's deltas are merged when the interval is 0, even if Redis is slow."""
    async with bench(settings, client, interval=0) as at:
        (feed,) = at.feeds(1)
        for word in "abcde":
            at.relay.add(feed, say(word))
        await at.relay.drain(feed)
        assert [event.text for event in at.deltas(feed)] == list("abcde")


async def test_many_jobs_share_a_call(settings: Settings, client: Client) -> None:
    """The deltas of many jobs go out in few calls, and none is mixed up."""
    async with bench(settings, client, interval=0.05) as at:
        feeds = at.feeds(100)
        for feed in feeds:
            at.relay.add(feed, say(feed.id))
        await asyncio.gather(*(at.relay.drain(feed) for feed in feeds))
        assert [at.text(feed) for feed in feeds] == [feed.id for feed in feeds]
        assert len(at.store.calls) <= 3
        assert max(at.store.calls) <= MAX_EVENTS


async def test_nothing_is_missing_after_redis_was_away(settings: Settings, client: Client) -> None:
    """While Redis is away deltas merge into one event a job; then everything arrives, in order."""
    async with bench(settings, client, interval=0.001) as at:
        feeds = at.feeds(20)
        at.store.present.clear()
        for number in range(50):
            for feed in feeds:
                at.relay.add(feed, say(f"{number},"))
            await asyncio.sleep(0)
        await until_async(lambda: at.store.failures > 1)
        assert all(feed.unwritten <= 1 for feed in feeds)
        at.store.present.set()
        await asyncio.gather(*(at.relay.drain(feed) for feed in feeds))
        expected = "".join(f"{number}," for number in range(50))
        assert [at.text(feed) for feed in feeds] == [expected] * 20
        assert all(len(at.deltas(feed)) <= 3 for feed in feeds)


async def test_a_lost_reply_repeats_nothing(settings: Settings, client: Client) -> None:
    """A write whose reply was lost is sent again, and no event comes twice."""
    async with bench(settings, client, interval=0) as at:
        (feed,) = at.feeds(1)
        at.store.lost_replies = 3
        for word in "abc":
            at.relay.add(feed, say(word))
        await at.relay.drain(feed)
        assert [event.id for event in at.deltas(feed)] == ["1-2", "1-3", "1-4"]
        assert at.text(feed) == "abc"


async def test_a_fenced_feed_is_reported_and_holds_up_nobody(
    settings: Settings, client: Client
) -> None:
    """When another attempt has the job, its relay stops with it and goes on with the others."""
    async with bench(settings, client, interval=0.001) as at:
        zombie, other = at.feeds(2)
        client.store.run(commands.requeue(zombie.id, 1, "worker_lost", 0, "handback"))
        at.relay.add(zombie, say("late"))
        at.relay.add(other, say("fine"))
        await asyncio.gather(at.relay.drain(zombie), at.relay.drain(other))
        assert at.lost == [zombie.id]
        assert at.text(other) == "fine"
        assert at.deltas(zombie) == []


async def test_a_job_is_flushed_once_a_round(settings: Settings, client: Client) -> None:
    """After its first delta a job's next one waits for a whole round, and so does each other."""
    async with bench(settings, client, interval=3600) as at:
        (feed,) = at.feeds(1)
        at.relay.add(feed, say("first"))
        at.relay.add(feed, say("second"))
        flushed = []
        for _ in range(3 * SLOTS):
            at.relay._tick(asyncio.get_running_loop().time())
            await until_async(lambda: not feed.unwritten)
            flushed.append(feed.n)
            at.relay.add(feed, say("."))
        sent_at = [i for i in range(1, len(flushed)) if flushed[i] != flushed[i - 1]]
        assert len(sent_at) >= 2
        assert sent_at[0] >= SLOTS
        assert all(b - a == SLOTS for a, b in itertools.pairwise(sent_at))
