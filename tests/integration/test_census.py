"""What a gateway tells Prometheus of jobs that wait, of webhooks and of tenants."""

from __future__ import annotations

import socket
import time
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ops.local.server import EmbeddedServer
from penstock import Client, Settings, commands, keys
from penstock.census import Census
from penstock.settings import Prices, RouteOverrides, Tenant
from producers.gateway import census as metrics
from producers.gateway.census import CensusCollector
from tests.gateways import GatewayProcess, make_key
from tests.integration.gates import Gate
from tests.processes import free_port

MESSAGES = [{"role": "user", "content": "x"}]
A_DOLLAR_A_TOKEN = Prices(input=0, output=1_000_000)


@pytest.fixture
def gate_of(server: EmbeddedServer) -> Any:
    """Makes gates."""
    return lambda route, tenants=None: Gate(server.url, route, tenants)


def census(gate: Gate, tenants: int = 100) -> Census:
    """Taken now."""
    taken: Census = gate.run(commands.census(tenants))
    return taken


def test_a_line_says_who_keeps_it_waiting(gate_of: Any) -> None:
    """Jobs that wait for the route, and those that wait for their own tenant, are told apart."""
    gate = gate_of(RouteOverrides(concurrency=2), {"slow": Tenant(concurrency=1)})
    gate.submit_many(3, "slow")
    gate.admit()
    gate.submit_many(4, "other")
    gate.admit()
    gate.now += 30
    (line,) = census(gate).lines
    assert (line.route, line.by_route, line.by_tenant, line.suspects) == ("default", 3, 2, 0)
    assert line.seconds == pytest.approx(30, abs=0.1)
    assert {s.tenant: s.waiting for s in census(gate).standings} == {"slow": 2, "other": 3}


def test_what_a_tenant_may_not_is_no_long_wait(gate_of: Any) -> None:
    """A tenant that is held by its own limits does not make its route look slow."""
    gate = gate_of(RouteOverrides(), {"slow": Tenant(concurrency=1)})
    gate.submit_many(2, "slow")
    gate.admit()
    gate.now += 3600
    (line,) = census(gate).lines
    assert (line.by_tenant, line.seconds) == (1, 0)


def test_many_tenants_stand_for_more(gate_of: Any) -> None:
    """Where not all are looked at, the lines of those that are stand for the others."""
    gate = gate_of(RouteOverrides())
    for number in range(40):
        gate.submit(f"t{number}")
    taken = census(gate, 10)
    assert taken.lines[0].by_route == 40
    assert len(taken.standings) == 10


def test_use_and_budgets_are_told(gate_of: Any) -> None:
    """Today's jobs, tokens and USD, and what of a budget is spent, over all routes."""
    route = RouteOverrides(prices=A_DOLLAR_A_TOKEN)
    gate = gate_of(route, {"poor": Tenant(budget_day=100, budget_month=1000)})
    job = gate.submit("poor", max_tokens=80)
    gate.admit()
    gate.finish(job, 60, usd=60)
    gate.submit("rich")
    by_name = {standing.tenant: standing for standing in census(gate).standings}
    poor = by_name["poor"]
    assert (poor.jobs, poor.completion_tokens, poor.usd) == (1, 60, 60)
    assert poor.budgets == {"day": (60, 100), "month": (60, 1000)}
    assert poor.share == pytest.approx(0.6)
    assert by_name["rich"].budgets == {}
    gate.now += 86_400
    (poor,) = [standing for standing in census(gate).standings if standing.tenant == "poor"]
    assert (poor.spent_day, poor.jobs, poor.usd) == (0, 0, 0)


def test_overdue_webhooks_are_told(gate_of: Any) -> None:
    """Deliveries that nobody makes are counted, with how long their time has come."""
    gate = gate_of(RouteOverrides())
    job = gate.submit(webhook={"url": "https://example.com/hook"})
    gate.admit()
    gate.finish(job, 1)
    gate.now += 90
    outbox = census(gate).outbox
    assert (outbox.under_way, outbox.overdue) == (1, 1)
    assert outbox.seconds == pytest.approx(90, abs=0.1)


def test_what_is_told_is_what_is_documented(client: Client, registered: None) -> None:
    """Each metric has its labels; a busy server tells them all, but for budgets that nobody has."""
    client.submit(messages=MESSAGES, tenant="t")
    registry = CollectorRegistry()
    registry.register(CensusCollector(client.settings))
    families = {family.name: family for family in registry.collect()}
    assert set(families) == set(metrics.GAUGES)
    silent = {name for name, family in families.items() if not family.samples}
    assert silent == {"penstock_tenant_budget_usd", "penstock_tenant_spent_usd"}
    for name, family in families.items():
        assert all(set(s.labels) == set(metrics.GAUGES[name][0]) for s in family.samples)


def test_only_some_tenants_have_series(client: Client, registered: None) -> None:
    """However many tenants there are, Prometheus keeps series of so many only."""
    client.submit_many([{"messages": MESSAGES, "tenant": f"t{n}"} for n in range(80)])
    told = {family.name: family for family in CensusCollector(client.settings).collect()}
    assert len(told["penstock_tenant_waiting"].samples) == metrics.SHOWN


def test_nothing_is_told_where_redis_is_away() -> None:
    """An old figure would look like a new one."""
    settings = Settings.load(redis_url=f"redis://127.0.0.1:{free_port()}")
    registry = CollectorRegistry()
    registry.register(CensusCollector(settings))
    assert generate_latest(registry) == b""


def test_a_silent_redis_keeps_nobody_waiting() -> None:
    """The page of metrics comes all the same: it is also how a gateway is known to be alive."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        collector = CensusCollector(
            Settings.load(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}")
        )
        began = time.monotonic()
        assert list(collector.collect()) == []
    assert time.monotonic() - began < 2 * metrics.PATIENCE


def test_a_gateway_tells_them(server: EmbeddedServer, client: Client, registered: None) -> None:
    """They are on its metrics page beside its own, without any worker, where it is told to be."""
    client.submit_many([{"messages": MESSAGES} for _ in range(203)])
    client.store.redis.zadd(keys.ASIDE, {"job_of_a_newer_version": 9})
    make_key(client.store)
    port = free_port()
    gateway = GatewayProcess(
        server.url, "--metrics-port", str(port), PENSTOCK_METRICS_HOST="127.0.0.2"
    )
    try:
        gateway.until_ready()
        page = httpx.get(f"http://127.0.0.2:{port}/metrics", trust_env=False).text
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
    finally:
        gateway.kill()
    assert 'penstock_jobs_waiting{held_by="route",route="default"} 3.0' in page
    assert "penstock_jobs_aside 1.0" in page
    assert "penstock_gateway_readers" in page
