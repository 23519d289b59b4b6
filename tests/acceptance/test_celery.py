"""Celery's own commands work on our workers, and other Celery applications live beside them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from penstock import AsyncClient, JobState, keys
from tests.acceptance.fleet import Fleet, until
from tests.acceptance.ledger import Ledger
from tests.acceptance.load import Load

ENDLESS = {"tokens": 100_000, "gap": 0.02}

FOREIGN = """
from celery import Celery

app = Celery("foreign", broker={url!r}, backend={backend!r})

@app.task
def double(number):
    return number * 2
"""


def job_request(**simulate: Any) -> dict[str, Any]:
    """A job with this script."""
    return {"messages": [{"role": "user", "content": "Hello!"}], "simulate": simulate}


async def upstream_stats(fleet: Fleet) -> dict[str, Any]:
    """The simulator's counters."""
    base = fleet.upstream.removesuffix("/v1/openai")
    async with httpx.AsyncClient() as http:
        stats: dict[str, Any] = (await http.get(f"{base}/simulator/stats")).json()
    return stats


async def ends(client: AsyncClient, id_: str) -> JobState:
    """Wait for a job's end; how it ended."""
    ledger = Ledger(client, 0)
    ledger.acknowledge(id_, 0)
    assert await ledger.settle(timeout=20)
    return (await client.get(id_)).state


async def test_celery_commands_see_and_stop_streams() -> None:
    """`status` and `inspect` answer, `control terminate` stops a stream."""
    async with Fleet() as fleet, AsyncClient(fleet.settings) as client:
        (worker,) = await fleet.start_workers(1, {})
        job = await client.submit(**job_request(**ENDLESS))
        await worker.says("job_claimed")
        assert "1 node online" in await fleet.run("celery", "-A", "worker.app", "status")
        assert job.id in await fleet.run("celery", "-A", "worker.app", "inspect", "active")
        stats = await fleet.run("celery", "-A", "worker.app", "inspect", "stats", "--json")
        assert '"transport_options": {' in stats
        assert (await upstream_stats(fleet))["in_flight"] == 1

        await fleet.run("celery", "-A", "worker.app", "control", "terminate", "TERM", job.id)
        assert await ends(client, job.id) == JobState.CANCELLED
        stats = await upstream_stats(fleet)
        assert (stats["in_flight"], stats["aborted_by_client"]) == (0, 1)


@pytest.mark.parametrize("admitted", [False, True], ids=["queued", "admitted"])
async def test_revoking_a_waiting_job_cancels_it(admitted: bool) -> None:
    """A job that is revoked before it runs is cancelled, and the upstream never hears of it."""
    route, worker_limit = (2, 1) if admitted else (1, 2)
    async with (
        Fleet(concurrency=route, settings={"concurrency": worker_limit}) as fleet,
        AsyncClient(fleet.settings) as client,
    ):
        (worker,) = await fleet.start_workers(1, {})
        first = await client.submit(**job_request(**ENDLESS))
        await worker.says("job_claimed")
        second = await client.submit(**job_request(**ENDLESS))
        state = JobState.ADMITTED if admitted else JobState.QUEUED
        assert (await client.get(second.id)).state == state
        await fleet.run("celery", "-A", "worker.app", "control", "revoke", second.id)
        await client.cancel(first.id)  # now the second one's message is taken, and dropped
        assert await ends(client, second.id) == JobState.CANCELLED
        assert await ends(client, first.id) == JobState.CANCELLED
        assert (await upstream_stats(fleet))["requests"] == 1


async def test_a_worker_runs_the_message_that_the_script_pushes() -> None:
    """The gate's script rings with Celery's own message: a worker that starts later takes it."""
    async with Fleet() as fleet, AsyncClient(fleet.settings) as client:
        (worker,) = await fleet.start_workers(1, {})
        worker.kill()
        job = await client.submit(**job_request(tokens=3))
        (raw,) = await client.store.redis.lrange(keys.queue("default"), 0, -1)
        message = json.loads(raw)
        assert message["headers"]["id"] == message["properties"]["correlation_id"] == job.id
        assert message["properties"]["delivery_info"]["routing_key"] == "chat.default"

        (worker,) = await fleet.start_workers(1, {})
        assert await ends(client, job.id) == JobState.COMPLETED
        assert await client.store.redis.llen(keys.queue("default")) == 0
        assert (await client.get(job.id)).attempt == 1


@pytest.mark.timeout(90)
async def test_another_celery_application_shares_the_database() -> None:
    """A plain Celery application with default settings and ours do not notice each other."""
    async with Fleet() as fleet, Load.on(fleet, 1, tokens=20) as load:
        await fleet.start_workers(1, {})
        where = {"PYTHONPATH": str(fleet.directory)}
        url = f"redis+socket://{fleet.server.socket_path}"
        source = FOREIGN.format(url=url, backend=url)
        (fleet.directory / "foreign.py").write_text(source)
        foreign = ("celery", "-A", "foreign")
        worker = fleet.begin(*foreign, "worker", "-P", "solo", "-l", "info", **where)
        await until(lambda: "ready." in worker.log.read_text(), "the foreign worker")

        async with load.flow(20):
            results = await fleet.run("python", "-c", FOREIGN_CALLS, **where)
            assert json.loads(results.splitlines()[-1]) == [number * 2 for number in range(50)]
            assert "1 node online" in await fleet.run(*foreign, "status", **where)
            assert "1 node online" in await fleet.run("celery", "-A", "worker.app", "status")
        await load.finish(timeout=30)
        verdict = await load.ledger.audit()
        assert verdict.flawless, str(verdict)
        assert verdict.ended["completed"] > 20

        assert worker.log.read_text().count("succeeded in") == 50
        texts = [program.log.read_text() for program in (worker, *fleet.workers)]
        assert not any("unregistered" in text or "Traceback" in text for text in texts)
        names = [key async for key in load.ledger.client.store.redis.scan_iter("*unacked*")]
        assert not any(name.startswith(b"penstock:") for name in names)


FOREIGN_CALLS = """
import json
from foreign import double

pending = [double.delay(number) for number in range(50)]
print(json.dumps([result.get(timeout=30) for result in pending]))
"""
