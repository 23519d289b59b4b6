"""What waits, and what tenants use, as metrics: asked of Redis when Prometheus asks.

The gateway has them and no worker, since they matter most where no worker is. Nothing is counted
beside the jobs' own way, and where Redis is away nothing old is told.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from penstock import PenstockError, Settings, commands
from penstock.census import Census, Line, Outbox, Standing
from penstock.store import Store

SHOWN = 50
"""Tenants that have series of their own: those nearest to the end of a budget, then the dearest."""

FRESH = 5.0
"""Seconds for which one census is told to everybody who asks."""

PATIENCE = 1.0
"""Seconds that a page of metrics waits for Redis: who asks for it may want to know whether this
process is alive, and it is."""

GAUGES = {
    "penstock_jobs_waiting": (
        ("route", "held_by"),
        "Jobs that might run and wait: for their route, for their tenant's limits, as suspects.",
    ),
    "penstock_jobs_waiting_seconds": (
        ("route",),
        "How long the first of a line has waited for its route.",
    ),
    "penstock_jobs_aside": ((), "Jobs left for a worker of the version that wrote them."),
    "penstock_webhooks_waiting": ((), "Webhook deliveries under way."),
    "penstock_webhooks_overdue": ((), "Webhook deliveries whose time has come."),
    "penstock_webhooks_overdue_seconds": ((), "For how long it has."),
    "penstock_tenant_waiting": (("tenant",), "Jobs of a tenant that wait."),
    "penstock_tenant_jobs_today": (("tenant",), "Jobs of a tenant that ended today (UTC)."),
    "penstock_tenant_tokens_today": (("tenant", "kind"), "Tokens of a tenant today (UTC)."),
    "penstock_tenant_usd_today": (("tenant",), "What a tenant's jobs cost today (UTC)."),
    "penstock_tenant_budget_usd": (("tenant", "period"), "What a tenant may spend."),
    "penstock_tenant_spent_usd": (("tenant", "period"), "What it has, with what is reserved."),
}
"""Each metric with its labels and what it says."""

Families = dict[str, GaugeMetricFamily]


class CensusCollector(Collector):
    """Takes a census when it is asked, and tells nothing where Redis is away."""

    def __init__(self, settings: Settings) -> None:
        self._store = Store(settings.server_url)
        self._lock = threading.Lock()
        self._asked: tuple[float, Future[Census]] | None = None

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The metrics without values: whoever registers this need not ask Redis."""
        return iter(_empty().values())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics as they are now."""
        try:
            census = self._latest().result(PATIENCE)
        except (PenstockError, TimeoutError):
            return iter(())
        return iter(_told(census).values())

    def _latest(self) -> Future[Census]:
        """The census under way, or the last one while it is fresh; else one that begins now."""
        with self._lock:
            if self._asked and (
                not self._asked[1].done() or time.monotonic() - self._asked[0] < FRESH
            ):
                return self._asked[1]
            taken: Future[Census] = Future()
            threading.Thread(target=self._take, args=(taken,), daemon=True).start()
            self._asked = time.monotonic(), taken
            return taken

    def _take(self, taken: Future[Census]) -> None:
        try:
            taken.set_result(self._store.run(commands.census()))
        except Exception as error:
            taken.set_exception(error)


def _empty() -> Families:
    return {
        name: GaugeMetricFamily(name, text, labels=labels)
        for name, (labels, text) in GAUGES.items()
    }


def _told(census: Census) -> Families:
    families = _empty()
    for line in census.lines:
        _tell_line(families, line)
    families["penstock_jobs_aside"].add_metric([], census.aside)
    _tell_outbox(families, census.outbox)
    for standing in heapq.nlargest(SHOWN, census.standings, lambda s: (s.share, s.usd, s.waiting)):
        _tell_tenant(families, standing)
    return families


def _tell_line(families: Families, line: Line) -> None:
    waiting = families["penstock_jobs_waiting"]
    waiting.add_metric([line.route, "route"], line.by_route)
    waiting.add_metric([line.route, "tenant"], line.by_tenant)
    waiting.add_metric([line.route, "suspicion"], line.suspects)
    families["penstock_jobs_waiting_seconds"].add_metric([line.route], line.seconds)


def _tell_outbox(families: Families, outbox: Outbox) -> None:
    families["penstock_webhooks_waiting"].add_metric([], outbox.under_way)
    families["penstock_webhooks_overdue"].add_metric([], outbox.overdue)
    families["penstock_webhooks_overdue_seconds"].add_metric([], outbox.seconds)


def _tell_tenant(families: Families, standing: Standing) -> None:
    tenant = standing.tenant
    families["penstock_tenant_waiting"].add_metric([tenant], standing.waiting)
    families["penstock_tenant_jobs_today"].add_metric([tenant], standing.jobs)
    families["penstock_tenant_usd_today"].add_metric([tenant], standing.usd)
    tokens = families["penstock_tenant_tokens_today"]
    tokens.add_metric([tenant, "prompt"], standing.prompt_tokens)
    tokens.add_metric([tenant, "completion"], standing.completion_tokens)
    for period, (spent, budget) in standing.budgets.items():
        families["penstock_tenant_spent_usd"].add_metric([tenant, period], spent)
        families["penstock_tenant_budget_usd"].add_metric([tenant, period], budget)
