"""The client on a real server: what is accepted, found again, stopped and run again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.local.server import EmbeddedServer
from penstock import (
    AsyncClient,
    Client,
    IdempotencyConflict,
    InvalidRequest,
    InvalidTransition,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobState,
    Settings,
    StoreFull,
    StoreUnavailable,
    commands,
    keys,
)
from tests.integration.feeds import MESSAGES, Speaker

pytestmark = pytest.mark.usefixtures("registered")


def test_a_record_says_what_was_asked_for(client: Client) -> None:
    """Every option of a submission stands in the record."""
    job = client.submit(
        MESSAGES, temperature=0.2, model="m", tenant="t", priority=7, delay=60, deadline=3600,
        idempotency_key="k", max_attempts=2, metadata={"a": "b"}, result_ttl=9,
        conversation="c", webhook="https://example.com/hook",
    )  # fmt: skip
    record = job.record()
    assert (record.tenant, record.priority, record.max_attempts) == ("t", 7, 2)
    assert (record.metadata, record.result_ttl, record.model) == ({"a": "b"}, 9, "m")
    assert (record.conversation, record.webhook) == ("c", "https://example.com/hook")
    assert record.state is JobState.SCHEDULED
    assert record.available_at == pytest.approx(record.created_at + 60, abs=0.01)
    assert record.deadline == pytest.approx(record.created_at + 3600, abs=0.01)
    assert b'"temperature":0.2' in record.request


def test_the_same_key_gives_the_same_job(client: Client) -> None:
    """Submitting again by key is not another job, and the handle says so."""
    first = client.submit(MESSAGES, idempotency_key="k")
    again = client.submit(MESSAGES, idempotency_key="k")
    other = client.submit(MESSAGES, idempotency_key="k", tenant="other")
    assert (first.id, first.created) == (again.id, not again.created)
    assert other.id != first.id
    with pytest.raises(IdempotencyConflict):
        client.submit(MESSAGES, idempotency_key="k", n=2)


def test_many_jobs_keep_their_order(client: Client) -> None:
    """submit_many answers with one handle a request, in order, across batches."""
    jobs = client.submit_many(
        {"messages": MESSAGES, "metadata": {"number": str(i)}} for i in range(1200)
    )
    records = client.get_many(job.id for job in jobs)
    assert [record.metadata["number"] for record in records if record] == [
        str(i) for i in range(1200)
    ]
    assert client.store.redis.zcard(keys.held("default")) == 200


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (JobState.FAILED, JobFailed),
        (JobState.CANCELLED, JobCancelled),
        (JobState.EXPIRED, JobExpired),
    ],
)
def test_a_job_without_completion_raises(
    client: Client, state: JobState, error: type[Exception]
) -> None:
    """result() raises the outcome, with the job and the event's data on it."""
    job = client.submit(MESSAGES, deadline=0.001 if state is JobState.EXPIRED else None)
    match state:
        case JobState.FAILED:
            Speaker(client, job).fail()
        case JobState.CANCELLED:
            job.cancel("enough")
        case _:
            client.store.redis.zadd(keys.CATALOGUE["deadlines"], {job.id: 1})
            client.store.run(commands.sweep())
    with pytest.raises(error) as outcome:
        job.result(timeout=5)
    assert outcome.value.job == job.id  # type: ignore[attr-defined]
    assert job.record().outcome == outcome.value.data  # type: ignore[attr-defined]


def test_a_completion_is_read_again_later(client: Client) -> None:
    """The result of a finished job can be asked for as often as one likes."""
    job = client.submit(MESSAGES)
    Speaker(client, job).finish()
    assert job.result(timeout=5) == client.job(job.id).result(timeout=5)


def test_listing_is_newest_first_and_by_state(client: Client) -> None:
    """A tenant's jobs come newest first, only its own, and can be filtered by state."""
    jobs = [client.submit(MESSAGES) for _ in range(5)]
    client.submit(MESSAGES, tenant="other")
    jobs[1].cancel()
    assert [record.id for record in client.list()] == [job.id for job in reversed(jobs)]
    assert [record.id for record in client.list(limit=2)] == [jobs[4].id, jobs[3].id]
    assert [record.id for record in client.list(state=JobState.CANCELLED)] == [jobs[1].id]


def test_cancelling_is_answered_with_the_state(client: Client) -> None:
    """A waiting job is over at once, a running one is being stopped, an ended one stays.

    The records of those that are stopped say why.
    """
    waiting, running, ended = (client.submit(MESSAGES) for _ in range(3))
    Speaker(client, running)
    Speaker(client, ended).finish()
    states = [job.cancel("enough") for job in (waiting, running, ended)]
    assert states == [JobState.CANCELLED, JobState.RUNNING, JobState.COMPLETED]
    reasons = [job.record().cancel_reason for job in (waiting, running, ended)]
    assert reasons == ["enough", "enough", None]
    with pytest.raises(JobNotFound):
        client.cancel("job_0")


def test_only_a_failed_job_is_run_again(client: Client) -> None:
    """retry() says why it refuses."""
    job = client.submit(MESSAGES)
    Speaker(client, job).finish()
    with pytest.raises(InvalidTransition, match="is completed; only a failed job"):
        job.retry()
    with pytest.raises(JobNotFound):
        client.retry("job_0")


def test_an_id_that_is_no_text_is_no_job(client: Client) -> None:
    """What a shell made of broken bytes is refused in words, not by a codec."""
    with pytest.raises(InvalidRequest, match="not valid Unicode"):
        client.get("\udcff")


def test_results_go_when_their_time_is_over(client: Client) -> None:
    """result_ttl bounds how long record, feed and idempotency key outlive the job."""
    job = client.submit(MESSAGES, result_ttl=50, idempotency_key="k")
    redis = client.store.redis
    names = [keys.job(job.id), keys.feed(job.id), "penstock:idem:default:k"]
    assert [redis.ttl(name) for name in names] == [-1, -1, -1]
    job.cancel()
    assert all(0 < redis.ttl(name) <= 50 for name in names)


def test_a_server_that_is_away_is_named_without_its_password(state_dir: Path) -> None:
    """The error says which server and what to do, and never shows credentials."""
    settings = Settings.load(redis_url="redis://me:secret@127.0.0.1:1/0")
    with Client(settings) as client, pytest.raises(StoreUnavailable) as error:
        client.submit(MESSAGES)
    assert "redis://127.0.0.1:1/0" in str(error.value)
    assert "PENSTOCK_REDIS_URL" in str(error.value)
    assert "secret" not in str(error.value)


def test_a_full_server_takes_no_job_and_loses_none(state_dir: Path, settings: Settings) -> None:
    """At the memory limit a submission is refused whole, and a running job still finishes."""
    with (
        EmbeddedServer(state_dir) as server,
        Client(settings.model_copy(update={"redis_url": server.url})) as client,
    ):
        client.store.run(commands.register("t", "5", settings.resolved_routes, {}))
        job = client.submit(MESSAGES)
        speaker = Speaker(client, job)
        before = client.store.redis.dbsize()
        client.store.redis.config_set("maxmemory", 1)
        with pytest.raises(StoreFull, match="Raise maxmemory"):
            client.submit(MESSAGES)
        assert client.store.redis.dbsize() == before
        speaker.say("still")
        speaker.finish()
        assert job.result(timeout=5).id == "c"


def test_forgotten_scripts_are_loaded_again(client: Client) -> None:
    """After SCRIPT FLUSH nothing fails, in single calls and in batches."""
    client.submit(MESSAGES)
    client.store.redis.script_flush()
    job, other = client.submit_many([{"messages": MESSAGES}] * 2)
    client.store.redis.script_flush()
    assert job.cancel() is JobState.CANCELLED
    assert other.record().state is JobState.ADMITTED


async def test_the_awaiting_client_does_the_same(settings: Settings) -> None:
    """AsyncClient submits, finds, lists, cancels and raises like Client."""
    async with AsyncClient(settings) as client:
        job = await client.submit(MESSAGES, idempotency_key="k")
        assert not (await client.submit(MESSAGES, idempotency_key="k")).created
        assert (await job.record()).state is JobState.ADMITTED
        assert [record.id async for record in client.list()] == [job.id]
        assert await job.cancel() is JobState.CANCELLED
        with pytest.raises(JobCancelled):
            await job.result(timeout=5)
        with pytest.raises(InvalidTransition):
            await job.retry()


def test_submit_many_survives_lost_connections(client: Client) -> None:
    """Whatever connection breaks in between, each handle is the job of its own request, once."""
    requests = 3000
    admin = client.store.redis

    def asked() -> Iterator[dict[str, Any]]:
        for number in range(requests):
            if number % 900 == 800:
                for each in admin.client_list():
                    if each["name"] == "penstock":  # and not those of Celery in other tests
                        admin.client_kill_filter(_id=each["id"], skipme=True)
            yield {"messages": MESSAGES, "metadata": {"number": str(number)}}

    jobs = client.submit_many(asked())
    records = client.get_many(job.id for job in jobs)
    assert [record and record.metadata["number"] for record in records] == [
        str(number) for number in range(requests)
    ]
    assert all(job.created for job in jobs)
    assert admin.zcard(keys.jobs("default")) == requests
