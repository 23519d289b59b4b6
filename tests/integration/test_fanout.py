"""Many readers on one connection: each sees what it would have seen alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from penstock import AsyncClient, Client, Cursor, Event, JobNotFound, Settings, feed, keys
from penstock.errors import Dismissed
from penstock.fanout import DEPTH, Fanout
from tests.integration.feeds import MESSAGES, Speaker
from tests.waiting import until_async

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture
async def shared(settings: Settings) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(settings, shared=True) as client:
        yield client


@pytest.fixture
def fanout(shared: AsyncClient) -> Fanout:
    assert shared.fanout
    return shared.fanout


async def collect(client: AsyncClient, job: str, after: str | None = None) -> list[Event]:
    return [event async for event in client.job(job).events(after=after, timeout=20)]


def channels_of(client: Client) -> int:
    """Connections that listen to anything."""
    return len(client.store.redis.client_list(_type="pubsub"))


def listening_to(client: Client, job: str) -> int:
    """Connections that listen to this job."""
    return int(client.store.redis.pubsub_numsub(keys.feed(job))[0][1])


async def test_all_readers_share_one_connection_and_see_the_same(
    client: Client, shared: AsyncClient, fanout: Fanout
) -> None:
    """Early, late, resumed, of several jobs: the events of each are those of a reader alone."""
    jobs = [client.submit(MESSAGES) for _ in range(3)]
    early = [asyncio.create_task(collect(shared, job.id)) for job in jobs for _ in range(5)]
    await until_async(lambda: fanout.readers == 15)
    speakers = [await asyncio.to_thread(Speaker, client, job) for job in jobs]
    for speaker in speakers:
        await asyncio.to_thread(speaker.say, *"abc")
    assert channels_of(client) == 1
    resumed = [asyncio.create_task(collect(shared, job.id, "1-2")) for job in jobs]
    await until_async(lambda: fanout.readers == 18)
    for speaker in speakers:
        await asyncio.to_thread(speaker.say, *"de")
        await asyncio.to_thread(speaker.finish)
    for number, job in enumerate(jobs):
        alone = list(job.events(timeout=5))
        for task in early[5 * number : 5 * number + 5]:
            assert [str(event) for event in await task] == [str(event) for event in alone]
        assert [event.id for event in await resumed[number]] == [e.id for e in alone][3:]
        assert [e.data for e in await collect(shared, job.id)] == [e.data for e in alone]
    await until_async(lambda: fanout.readers == 0)
    await until_async(lambda: sum(listening_to(client, job.id) for job in jobs) == 0)


async def test_a_reader_that_stalls_catches_up_and_holds_nobody_up(
    client: Client, shared: AsyncClient, fanout: Fanout
) -> None:
    """More events than a queue holds pass it by; it reads them from the Stream, none is missing."""
    job = client.submit(MESSAGES)
    stalled = fanout.batches(job.id)
    seen = [event.id for event in await anext(stalled)]
    brisk = asyncio.create_task(collect(shared, job.id))
    await until_async(lambda: fanout.readers == 2)
    speaker = await asyncio.to_thread(Speaker, client, job)
    for number in range(2 * DEPTH):
        await asyncio.to_thread(speaker.say, f"{number}")
    await asyncio.to_thread(speaker.finish)
    whole = [event.id for event in await brisk]
    seats = [seat for seats in fanout._seats.values() for seat in seats]
    assert [(len(seat.queue), seat.is_behind) for seat in seats] == [(0, True)]
    async for batch in stalled:
        seen += [event.id for event in batch]
    assert seen == whole
    assert len(whole) == 2 * DEPTH + 3


async def test_a_broken_connection_is_made_good_for_all(
    client: Client, shared: AsyncClient, fanout: Fanout
) -> None:
    """When the one connection breaks every reader goes on from its cursor on a new one."""
    job = client.submit(MESSAGES)
    tasks = [asyncio.create_task(collect(shared, job.id)) for _ in range(10)]
    await until_async(lambda: fanout.readers == 10)
    speaker = await asyncio.to_thread(Speaker, client, job)
    for text in "abc":
        await asyncio.to_thread(speaker.say, text)
        await until_async(lambda: listening_to(client, job.id) == 1)
        assert client.store.redis.client_kill_filter(_type="pubsub") == 1
        await until_async(lambda: listening_to(client, job.id) == 0)
    await asyncio.to_thread(speaker.finish)
    whole = [event.id for event in job.events(timeout=5)]
    assert [[event.id for event in await task] for task in tasks] == [whole] * 10


async def test_a_channel_that_says_nothing_is_opened_anew(
    client: Client, shared: AsyncClient, fanout: Fanout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscription that was lost unseen costs a reader some seconds, and no event."""
    monkeypatch.setattr(feed, "SILENCE", 0.1)
    job = client.submit(MESSAGES)
    seen: list[str] = []

    async def read() -> None:
        async for event in shared.job(job.id).events(timeout=20):
            seen.append(event.id)

    task = asyncio.create_task(read())
    await until_async(lambda: seen)
    await fanout._send(fanout._connection, "UNSUBSCRIBE", keys.feed(job.id))
    await until_async(lambda: listening_to(client, job.id) == 0)
    speaker = await asyncio.to_thread(Speaker, client, job)
    await until_async(lambda: listening_to(client, job.id) == 1)
    await asyncio.to_thread(speaker.finish)
    await task
    assert seen == ["0-1", "1-1", "1-2"]


async def test_a_message_that_is_no_event_is_passed_over(
    client: Client, shared: AsyncClient, fanout: Fanout
) -> None:
    """Whoever publishes rubbish on a feed's channel disturbs no reader."""
    job = client.submit(MESSAGES)
    task = asyncio.create_task(collect(shared, job.id))
    await until_async(lambda: fanout.readers == 1)
    for rubbish in (b"", b"{}", b"\xff", b'{"id":"x","job":"","type":"","time":0,"data":{}}'):
        client.store.redis.publish(keys.feed(job.id), rubbish)
    speaker = await asyncio.to_thread(Speaker, client, job)
    await asyncio.to_thread(speaker.finish)
    assert [event.id for event in await task] == ["0-1", "1-1", "1-2"]


async def test_readers_are_sent_away_when_the_process_stops(
    client: Client, shared: AsyncClient, fanout: Fanout
) -> None:
    """They end with Dismissed at once, those that come later too; nothing is left subscribed."""
    job = client.submit(MESSAGES)
    tasks = [asyncio.create_task(collect(shared, job.id)) for _ in range(3)]
    await until_async(lambda: fanout.readers == 3)
    fanout.dismiss()
    tasks.append(asyncio.create_task(collect(shared, job.id)))
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [Dismissed] * 4
    await until_async(lambda: listening_to(client, job.id) == 0)


async def test_what_a_reader_alone_raises_is_raised_here_too(
    client: Client, shared: AsyncClient
) -> None:
    """An unknown job, and a time that is over."""
    with pytest.raises(JobNotFound):
        await collect(shared, "job_0")
    with pytest.raises(TimeoutError, match="it goes on"):
        await shared.job(client.submit(MESSAGES).id).result(timeout=0.05)


async def test_a_cursor_after_the_end_gives_nothing(client: Client, shared: AsyncClient) -> None:
    """A finished feed that was read to its end is over at once."""
    job = client.submit(MESSAGES)
    job.cancel()
    assert await collect(shared, job.id, str(Cursor(0, 2))) == []
