"""What goes on at this moment: the jobs that run, those that failed last, and their tenants."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.commands import Argument, Command
from penstock.events import decode
from penstock.scripts import load
from penstock.usage import rows

JOBS, FAILURES = 100, 20
"""How many of each a glance names: jobs of a route, and failures."""


class Active(msgspec.Struct, frozen=True):
    """A job that is admitted or runs; `since` is when it began to be, None where nobody knows."""

    id: str
    state: str
    route: str
    tenant: str
    attempt: int
    since: float | None


class Failure(msgspec.Struct, frozen=True):
    """A job that failed: when, after which attempt, and why."""

    id: str
    route: str
    tenant: str
    attempt: int
    when: float
    reason: str


class TenantNow(msgspec.Struct, frozen=True):
    """What a tenant has running, and what it has used today (UTC)."""

    name: str
    running: int
    jobs: int
    usd: float


class Glance(msgspec.Struct, frozen=True):
    """Times are seconds since the epoch by Redis's clock.

    Attributes:
        now: when it was taken.
        routes: the names of all that were ever served.
        jobs: at most JOBS of each route, those that have run longest first.
        failures: the newest first, at most FAILURES.
        tenants: those that were asked for.
    """

    now: float
    routes: tuple[str, ...]
    jobs: tuple[Active, ...]
    failures: tuple[Failure, ...]
    tenants: tuple[TenantNow, ...]


def look(today: str, tenants: Sequence[str] = ()) -> Command[Glance]:
    """Look, also at these tenants; `today` is a date in UTC, as `date_of` gives it."""

    def parse(reply: list[Any]) -> Glance:
        now, routes, jobs, failures, found = reply
        active = [_active([part.decode() for part in entry]) for entry in jobs]
        return Glance(
            float(now),
            tuple(sorted(name.decode() for name in routes)),
            tuple(sorted(active, key=lambda job: (job.since or float(now), job.id))),
            tuple(map(_failure, failures)),
            tuple(_tenant(entry, today) for entry in found),
        )

    arguments: list[Argument] = [JOBS, FAILURES, today, *tenants]
    return Command(load("glance"), [], arguments, parse)


def date_of(moment: float) -> str:
    """The date in UTC of a moment in seconds since the epoch."""
    return str(datetime.fromtimestamp(moment, UTC).date())


def _active(parts: list[str]) -> Active:
    id_, state, route, tenant, attempt, since = parts
    return Active(id_, state, route, tenant, int(attempt), float(since) if since else None)


def _failure(entry: list[bytes]) -> Failure:
    *about, attempt, when, raw = entry
    error = decode(raw).data.get("error", {}) if raw else {}
    reason = error.get("message") or error.get("type") or ""
    id_, route, tenant = (part.decode() for part in about)
    return Failure(id_, route, tenant, int(attempt), float(when), reason)


def _tenant(entry: list[Any], today: str) -> TenantNow:
    name, running, *flat = entry
    used = rows(name.decode(), today, dict(zip(flat[::2], flat[1::2], strict=True)))
    jobs, usd = sum(row.jobs for row in used), sum(row.usd for row in used)
    return TenantNow(name.decode(), int(running), jobs, usd)
