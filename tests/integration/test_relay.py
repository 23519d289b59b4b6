"""The relay on a real server: what it merges, what it survives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
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
from worker.relay import Feed, Relay
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

    async def run_all(self, commands: Sequence[Command[Any]]) -> list[Any]:
        if not self.present.is_set():
            self.failures += 1
            raise StoreUnavailable("away")
        self.calls.append(sum(len(command.arguments) // 4 for command in commands))
        replies = await super().run_all(commands)
        if self.lost_replies:
            self.lost_replies -= 1
            raise StoreUnavailable("the reply was lost")
        return replies


class Bench:
    """A relay at work on claimed jobs."""

    def __init__(self, relay: Relay, store: FaultyStore, client: Client, lost: list[str]) -> None:
        self.relay, self.store, self.client, self.lost = relay, store, client, lost

    def feeds(self, count: int) -> list[Feed]:
        jobs = self.client.submit_many([{"messages": MESSAGES}] * count)
        claims = [self.client.store.run(commands.claim(job.id, job.id)) for job in jobs]
        return [Feed(c.id, c.holder) for c in claims if isinstance(c, commands.Claim)]

    def deltas(self, feed: Feed) -> list[Event]:
        events = self.client.store.redis.xrange(f"penstock:feed:{feed.id}", "1-2")
        return [decode(entry[1][b"event"]) for entry in events]

    def text(self, feed: Feed) -> str:
        return "".join(event.text for event in self.deltas(feed))


@asynccontextmanager
async def bench(settings: Settings, client: Client, *, merge: bool = True) -> AsyncIterator[Bench]:
    store = FaultyStore(settings.server_url)
    lost: list[str] = []
    relay = Relay(store, lambda job, _: lost.append(job), merge=merge)
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
    """While an event is on its way whatever follows is merged into one, and goes right after it."""
    async with bench(settings, client) as at:
        (feed,) = at.feeds(1)
        at.relay.add(feed, say("first"))
        for _ in range(2):  # the writer's turn and its task's: no timer in between
            await asyncio.sleep(0)
        assert feed.under_way == 1
        for word in (" a", " b", " c"):
            at.relay.add(feed, say(word))
        await at.relay.drain(feed)
        assert [event.text for event in at.deltas(feed)] == ["first", " a b c"]


async def test_without_merging_each_delta_is_an_event(settings: Settings, client: Client) -> None:
    """Nobody's deltas are merged when each one is wanted, even if Redis is slow."""
    async with bench(settings, client, merge=False) as at:
        (feed,) = at.feeds(1)
        for word in "abcde":
            at.relay.add(feed, say(word))
        await at.relay.drain(feed)
        assert [event.text for event in at.deltas(feed)] == list("abcde")


async def test_many_jobs_share_a_call(settings: Settings, client: Client) -> None:
    """The deltas of many jobs go out in few calls, and none is mixed up."""
    async with bench(settings, client) as at:
        feeds = at.feeds(100)
        for feed in feeds:
            at.relay.add(feed, say(feed.id))
        await asyncio.gather(*(at.relay.drain(feed) for feed in feeds))
        assert [at.text(feed) for feed in feeds] == [feed.id for feed in feeds]
        assert len(at.store.calls) <= 3
        assert sum(at.store.calls) == 100


async def test_nothing_is_missing_after_redis_was_away(settings: Settings, client: Client) -> None:
    """While Redis is away deltas merge into one event a job; then everything arrives, in order."""
    async with bench(settings, client) as at:
        feeds = at.feeds(20)
        at.store.present.clear()
        for number in range(50):
            for feed in feeds:
                at.relay.add(feed, say(f"{number},"))
            await asyncio.sleep(0)
        await until_async(lambda: at.store.failures > 1)
        assert all(feed.under_way <= 1 for feed in feeds)
        at.store.present.set()
        await asyncio.gather(*(at.relay.drain(feed) for feed in feeds))
        expected = "".join(f"{number}," for number in range(50))
        assert [at.text(feed) for feed in feeds] == [expected] * 20
        assert all(len(at.deltas(feed)) <= 3 for feed in feeds)


async def test_a_lost_reply_repeats_nothing(settings: Settings, client: Client) -> None:
    """A write whose reply was lost is sent again, and no event comes twice."""
    async with bench(settings, client, merge=False) as at:
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
    async with bench(settings, client) as at:
        zombie, other = at.feeds(2)
        client.store.run(commands.requeue(zombie.id, zombie.holder, "worker_lost", 0, "handback"))
        at.relay.add(zombie, say("late"))
        at.relay.add(other, say("fine"))
        await asyncio.gather(at.relay.drain(zombie), at.relay.drain(other))
        assert at.lost == [zombie.id]
        assert at.text(other) == "fine"
        assert at.deltas(zombie) == []
