"""Following a feed: whoever joins whenever, after whatever, sees the same events."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from ops.local.server import EmbeddedServer
from penstock import (
    AsyncClient,
    Client,
    Event,
    Job,
    JobNotFound,
    Settings,
    StoreUnavailable,
    feed,
    keys,
)
from penstock.commands import register
from penstock.errors import StoreError
from penstock.store import Store
from tests.integration.feeds import MESSAGES, Speaker
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("registered")


class Reader:
    """Follows a job in a thread, and can be waited for."""

    def __init__(self, client: Client, job: Job, after: str | None = None) -> None:
        self.events: list[Event] = []
        self._pool = ThreadPoolExecutor(1)
        self._done: Future[None] = self._pool.submit(self._follow, client, job, after)

    def _follow(self, client: Client, job: Job, after: str | None) -> None:
        for event in client.job(job.id).events(after=after, timeout=30):
            self.events.append(event)

    def until_seen(self, count: int) -> None:
        until(lambda: len(self.events) >= count or self._done.done())
        assert len(self.events) >= count, self._done.exception()

    def ids(self) -> list[str]:
        """Every id, at the end."""
        self._done.result(30)
        return [event.id for event in self.events]


@pytest.fixture
def job(client: Client) -> Job:
    return client.submit(MESSAGES)


WHOLE = ["0-1", "1-1", "1-2", "1-3", "1-4", "1-5", "1-6"]


def test_readers_from_the_start_the_middle_and_the_end_agree(client: Client, job: Job) -> None:
    """Joining live, in the middle, after the end or with a cursor gives exactly the same events."""
    early = Reader(client, job)
    early.until_seen(1)
    speaker = Speaker(client, job)
    speaker.say("a", "b")
    early.until_seen(4)
    middle = Reader(client, job)
    resumed = Reader(client, job, after="1-2")
    middle.until_seen(4)
    resumed.until_seen(1)
    speaker.say("c", "d")
    speaker.finish()
    late = Reader(client, job)
    assert early.ids() == middle.ids() == late.ids() == WHOLE
    assert early.events == middle.events == late.events
    assert resumed.ids() == WHOLE[3:]
    assert [event.text for event in late.events if event.type == "delta"] == list("abcd")


def test_a_cursor_at_or_after_the_end_gives_nothing(client: Client, job: Job) -> None:
    """Resuming a finished feed after its last event ends at once instead of waiting."""
    speaker = Speaker(client, job)
    speaker.finish()
    assert list(job.events(after="1-2", timeout=5)) == []


def test_an_unknown_job_is_an_error(client: Client) -> None:
    """Following what was never submitted says so at once."""
    with pytest.raises(JobNotFound, match="there is no job job_0"):
        next(client.job("job_0").events())


def test_an_unreachable_server_is_an_error_at_once(state_dir: Path) -> None:
    """A reader that never reached Redis does not try for minutes."""
    settings = Settings.load(redis_url=f"unix://{state_dir}/nothing.sock")
    with Client(settings) as client, pytest.raises(StoreUnavailable, match="cannot reach Redis"):
        next(client.job("job_0").events())


def test_time_runs_out_without_the_job(client: Client, job: Job) -> None:
    """A timeout ends the waiting and leaves the job as it is."""
    with pytest.raises(TimeoutError, match="it goes on"):
        job.result(timeout=0.05)
    assert job.record().state == "admitted"


def test_a_lost_message_is_read_from_the_stream(client: Client, job: Job) -> None:
    """An event that the channel never delivered is noticed by the gap and read at once."""
    reader = Reader(client, job)
    reader.until_seen(1)
    speaker = Speaker(client, job)
    reader.until_seen(2)
    client.store.redis.xadd(
        f"penstock:feed:{job.id}",
        {"event": b'{"id":"1-2","job":"%s","type":"delta","time":1.0,"data":{"choices":[]}}'
         % job.id.encode()},
        id="1-2",
    )  # fmt: skip
    speaker.n = 2
    speaker.say("c", "d", "e")
    speaker.finish()
    assert reader.ids() == WHOLE


def test_a_channel_that_says_nothing_is_not_trusted(
    client: Client, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the channel is silent the stream is asked, so even a lost last event is found."""
    monkeypatch.setattr(feed, "SILENCE", 0.1)
    reader = Reader(client, job)
    reader.until_seen(1)
    speaker = Speaker(client, job)
    reader.until_seen(2)
    client.store.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
    speaker.say("a", "b", "c", "d")
    speaker.finish()
    assert reader.ids() == WHOLE


@pytest.fixture
def own_server(state_dir: Path) -> Iterator[EmbeddedServer]:
    """A server this test may stop."""
    with EmbeddedServer(state_dir, appendfsync="always") as server:
        yield server


@pytest.mark.parametrize("end", [EmbeddedServer.stop, EmbeddedServer.kill])
def test_a_restarted_server_is_survived(
    own_server: EmbeddedServer, settings: Settings, end: Callable[[EmbeddedServer], None]
) -> None:
    """A reader that follows when the server dies goes on where it was when it is back."""
    with Client(settings.model_copy(update={"redis_url": own_server.url})) as client:
        client.store.run(register("t", "5", settings.resolved_routes, {}))
        job = client.submit(MESSAGES)
        speaker = Speaker(client, job)
        speaker.say("a")
        reader = Reader(client, job)
        reader.until_seen(3)
        end(own_server)
        own_server.start()
        until(lambda: _answers(client.store))
        speaker.say("b", "c", "d")
        speaker.finish()
        assert reader.ids() == WHOLE


def _answers(store: Store) -> bool:
    try:
        return bool(store.redis.ping())
    except (redis.RedisError, StoreError):
        return False


def test_a_redriven_job_tells_its_readers(client: Client, job: Job) -> None:
    """After a redrive a reader of the old feed is told by its next event, at a greater cursor."""
    speaker = Speaker(client, job)
    speaker.say("wrong")
    speaker.fail()
    old = list(job.events(timeout=5))
    job.retry()
    again = Reader(client, job, after=old[-1].id)
    again.until_seen(1)
    speaker = Speaker(client, job, holder="second")
    speaker.say("right")
    speaker.finish()
    assert [event.type for event in old] == ["queued", "started", "delta", "failed"]
    assert again.ids() == ["1-4", "2-1", "2-2", "2-3"]
    assert [event.type for event in again.events] == ["queued", "started", "delta", "completed"]
    assert [event.id for event in job.events(timeout=5)] == again.ids()


async def test_asyncio_readers_see_the_same(client: Client, job: Job, settings: Settings) -> None:
    """The awaiting client follows as the blocking one does."""
    async with AsyncClient(settings) as asynchronous:
        live = asyncio.create_task(_collect(asynchronous, job.id))
        await asyncio.to_thread(_tell, client, job)
        assert await live == await _collect(asynchronous, job.id) == list(job.events(timeout=5))


async def _collect(client: AsyncClient, job: str) -> list[Event]:
    return [event async for event in client.job(job).events(timeout=20)]


def _tell(client: Client, job: Job) -> None:
    speaker = Speaker(client, job)
    speaker.say("a", "b")
    speaker.give_back()
    speaker = Speaker(client, job, holder="second")
    speaker.say("c")
    speaker.finish()


async def test_a_reader_that_leaves_early_leaves_no_connection(
    client: Client, job: Job, settings: Settings
) -> None:
    """Breaking off a loop over events closes the reader's channel."""

    def channels() -> int:
        numbers: list[tuple[bytes, int]] = client.store.redis.pubsub_numsub(
            f"penstock:feed:{job.id}"
        )
        return numbers[0][1]

    for _ in job.events():
        assert channels() == 1
        break
    until(lambda: channels() == 0)
    async with AsyncClient(settings) as asynchronous:
        events = asynchronous.job(job.id).events()
        await anext(events)
        await events.aclose()  # type: ignore[attr-defined]
    assert threading.active_count() < 50
    until(lambda: channels() == 0)


def test_a_plain_subscriber_gets_what_the_stream_keeps(client: Client) -> None:
    """SUBSCRIBE from any Redis client sees the very bytes that a late reader finds."""
    job = client.submit(MESSAGES)
    channel = client.store.redis.pubsub()
    channel.subscribe(keys.feed(job.id))
    assert channel.get_message(timeout=5)["type"] == "subscribe"
    speaker = Speaker(client, job)
    speaker.say("Hello", " you")
    speaker.finish()
    kept = [entry[b"event"] for _, entry in client.store.redis.xrange(keys.feed(job.id))]
    heard = [channel.get_message(timeout=5)["data"] for _ in kept[1:]]  # `queued` was before
    assert heard == kept[1:]
    channel.close()
