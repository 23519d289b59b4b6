"""A thousand jobs against a budget that pays for a hundred, on a clock of the test's own."""

from __future__ import annotations

import random
from collections import Counter

from ops.local.server import EmbeddedServer
from penstock import keys
from penstock.settings import Prices, RouteOverrides, Tenant
from tests.integration.gates import Gate

JOBS = 1000
BUDGET = 1000
"""USD a day: a hundred answers of ten tokens."""

LONGEST = 15
STREAMS = 20
DAY = 86_400
A_DOLLAR_A_TOKEN = Prices(input=0, output=1_000_000)


def test_a_budget_for_a_hundred_of_a_thousand(server: EmbeddedServer) -> None:
    """A day spends no more beyond its budget than ran at its end; every job runs on some day."""
    route = RouteOverrides(concurrency=STREAMS, prices=A_DOLLAR_A_TOKEN)
    gate = Gate(server.url, route, {"poor": Tenant(budget_day=BUDGET)})
    jobs = set(gate.submit_many(JOBS, "poor", max_tokens=LONGEST))
    sizes, spent, done = random.Random(1), Counter[int](), Counter[int]()
    for day in range(JOBS):
        while passed := _pass(gate):
            for job in passed:
                cost = sizes.randint(5, LONGEST)
                gate.finish(job, cost, usd=cost)
                spent[day] += cost
                done[day] += 1
                jobs.remove(job)
        if not jobs:
            break
        gate.now = (gate.now // DAY + 1) * DAY
    gate.store.close()
    assert not jobs
    assert sum(done.values()) == JOBS
    assert all(dollars <= BUDGET + STREAMS * LONGEST for dollars in spent.values())
    whole_days = sorted(done.values())[1:]
    assert 90 <= whole_days[0] <= whole_days[-1] <= 110
    assert not gate.held()


def _pass(gate: Gate) -> list[str]:
    """The jobs that the gate lets through now; while the budget is spent, the tenant is parked."""
    admitted = gate.admit().admitted
    assert admitted or gate.store.redis.zcard(keys.parked("default")) or not gate.held()
    return gate.rung()
