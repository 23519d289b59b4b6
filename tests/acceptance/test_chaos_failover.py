"""The primary is killed and a replica takes over: every part goes on, by Sentinels or with TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from http import HTTPStatus

import pytest

from ops.doctor.examination import Examination
from penstock import AsyncClient, Client, Job, Settings
from penstock.errors import StoreUnavailable
from penstock.events import Event
from penstock.job import new_id
from tests.acceptance import failover_faults as faults
from tests.acceptance.failover_faults import GuardedFleet
from tests.acceptance.fleet import chosen_seed
from tests.gateways import GatewayThread, http
from tests.waiting import until

MESSAGES = [{"role": "user", "content": "hello"}]


async def test_every_part_goes_to_the_new_primary(monkeypatch: pytest.MonkeyPatch) -> None:
    """With TLS everywhere, clients, worker, gateway, reader and doctor outlive a failover."""
    async with GuardedFleet(tls=True) as fleet:
        (worker,) = await fleet.start_workers(1, {})
        settings = Settings.load(redis_url=fleet.server.url_of("producer"))
        doors = Settings.load(redis_url=fleet.server.url_of("gateway"))
        async with AsyncClient(settings) as client, AsyncClient(doors, shared=True) as shared:
            with closing(Client(settings)) as blocking, GatewayThread(doors) as gateway:
                slow = await client.submit(MESSAGES, simulate={"tokens": 45, "gap": 0.08})
                feeds = [client.job(slow.id).events(), shared.job(slow.id).events()]
                following = [asyncio.Event() for _ in feeds]
                pairs = zip(feeds, following, strict=True)
                reading = [asyncio.create_task(_read(*pair)) for pair in pairs]
                await asyncio.gather(*(each.wait() for each in following))
                await worker.says("job_claimed")
                await asyncio.to_thread(fleet.server.fail_over)
                assert await asyncio.to_thread(_submitted, blocking) == "stop"
                assert await asyncio.to_thread(_posted, gateway.url) == "completed"
                whole = [event.id async for event in client.job(slow.id).events()]
                assert [await read for read in reading] == [whole] * 2
        assert {id_.split("-")[0] for id_ in whole} == {"0", "1"}
        assert worker.status is None
        fleet.server.sentinels[0].kill()
        monkeypatch.setenv("PENSTOCK_REDIS_URL", fleet.server.url)
        monkeypatch.setenv("PENSTOCK_UPSTREAM_URL", fleet.upstream)
        found = await asyncio.to_thread(lambda: list(Examination().findings()))
        assert {f.subject for f in found if f.verdict == "ok"} >= {"server", "workers"}, found
        warned = {f.text for f in found if (f.subject, f.verdict) == ("server", "warning")}
        missing = f"of 3 Sentinels 127.0.0.1:{fleet.server.sentinels[0].port} cannot be asked"
        assert missing in warned


async def _read(feed: AsyncIterator[Event], following: asyncio.Event) -> list[str]:
    """The ids of a feed's events; tells when the first one has come."""
    ids = []
    async for event in feed:
        ids.append(event.id)
        following.set()
    return ids


def _submitted(client: Client) -> str:
    """A job's finish_reason, submitted as often as it takes."""

    def submitted() -> Job | None:
        with suppress(StoreUnavailable):
            return client.submit(MESSAGES, idempotency_key="after the failover")
        return None

    job = until(submitted, timeout=20)
    assert job is not None
    return str(job.result(timeout=20).choices[0]["finish_reason"])


def _posted(url: str) -> str:
    """The state of a job that came in over HTTP, asked for as often as it takes."""
    with http(url) as api:

        def posted() -> dict[str, str] | None:
            answer = api.post("/v1/jobs", params={"wait": 20}, json={"messages": MESSAGES})
            return None if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE else answer.json()

        job = until(posted, timeout=20)
    assert job is not None
    return job["state"]


def test_only_what_was_accepted_just_before_a_kill_may_be_lost() -> None:
    """By the time in its id: within the lag of any of the kills, not between them."""
    made = {moment: new_id(moment) for moment in (99.5, 100.5, 103, 105.5)}
    assert faults.beyond_bound(made.values(), [101, 106]) == [made[99.5], made[103]]


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_a_primary_killed_ten_times_costs_nothing() -> None:
    """Whoever submits again by key loses no job, and no worker has to be started again."""
    (await faults.failed_over(chosen_seed(), times=10, pause=(2, 5), plan=None, rate=30)).check()
