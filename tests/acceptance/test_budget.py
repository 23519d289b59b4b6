"""A budget that pays for a part of the work, kept by real workers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from ops.simulator import predict
from penstock import keys
from tests.acceptance.fleet import Fleet, chosen_seed
from tests.acceptance.limit_faults import until_held_up
from tests.acceptance.load import Load

STREAMS = 20


def tenants(budget: float) -> str:
    """The setting: what the default tenant may spend a month, which no test sees the end of."""
    return json.dumps({"default": {"budget_month": budget}})


@pytest.mark.parametrize(
    ("jobs", "paid"), [(250, 50), pytest.param(1000, 100, marks=pytest.mark.chaos)]
)
async def test_a_budget_is_kept_and_holds_what_it_does_not_pay_for(jobs: int, paid: int) -> None:
    """Only as many as are paid for run; the others wait for more money, and none is lost."""
    async with (
        Fleet(concurrency=STREAMS) as fleet,
        Load.on(fleet, chosen_seed(), tokens=40, gap=0, follow=0) as load,
    ):
        await load.submit(jobs)
        costs = [predict(body).usage["estimated_cost"] for body in load.ledger.bodies.values()]
        budget = paid * sum(costs) / jobs
        await fleet.start_workers(2, {}, tenants=tenants(budget))
        await until_held_up(load.ledger)
        spent = await _spent(load)
        assert budget - STREAMS * max(costs) <= spent <= budget + STREAMS * max(costs)
        ended = await load.ledger.client.store.redis.zcard(keys.CATALOGUE["retained"])
        assert paid / 2 < ended < paid * 1.5
        await fleet.start_workers(1, {}, tenants=tenants(1000))
        await load.finish(timeout=60)
        verdict = await load.ledger.audit()
    assert verdict.flawless, verdict
    assert verdict.ended == {"completed": jobs}


async def _spent(load: Load) -> float:
    """USD the jobs have cost so far."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    return sum(row.usd for row in await load.ledger.client.usage(since=yesterday))
