"""How the limits of the settings are published to the gate: the arithmetic behind lua/meter.lua.

A limit of so many a minute is kept in every window of 60 seconds, which is how providers may count.
A meter that lets `burst` pass at once and then one each `interval` seconds lets burst + 60/interval
pass in a window, so the interval follows from limit and burst: what may pass at once comes off the
rate. Half of a configured burst is spent, but no more than a fiftieth of the minute's requests, so
that 98 % of a limit of 50 or more can be used. The other half stays free for what the way to the
upstream adds: requests that were let through a moment apart may arrive closer together.
"""

from __future__ import annotations

from penstock.settings import TIER_FACTORS, Route, Tenant

MINUTE = 60.0

MILLION = 1_000_000
"""Prices are in USD per so many tokens."""

REQUESTS_AT_ONCE = 0.02
"""Share of a minute's requests that may pass at once, at the most."""

TOKENS_AT_ONCE = 0.1
"""Share of a minute's tokens that may pass at once. The window behind the meter keeps the limit
itself, so the meter need not: it only spreads a minute's tokens over the minute."""

NO_LIMIT = "0 0"


def requests_rate(per_minute: int | None, burst: int) -> str:
    """Interval and slack in seconds, as the scripts read them."""
    if per_minute is None:
        return NO_LIMIT
    at_once = max(1.0, min(burst / 2, per_minute * REQUESTS_AT_ONCE))
    return _rate(MINUTE / max(per_minute - at_once, 1), at_once)


def tokens_rate(per_minute: int | None) -> str:
    """As `requests_rate`, for tokens."""
    if per_minute is None:
        return NO_LIMIT
    return _rate(MINUTE / per_minute, per_minute * TOKENS_AT_ONCE)


def of_route(route: Route) -> dict[str, str | int]:
    """The fields of the gate that the settings decide."""
    return {
        "concurrency": route.concurrency,
        "concurrency_min": route.concurrency_min,
        "requests": requests_rate(route.requests_per_minute, route.burst),
        "tokens": tokens_rate(route.tokens_per_minute),
        "requests_per_minute": route.requests_per_minute or "",
        "tokens_per_minute": route.tokens_per_minute or "",
        "fallback": " ".join(route.fallback),
        "service_tiers": " ".join(f"{tier}:{TIER_FACTORS[tier]:g}" for tier in route.service_tiers),
        "price_input": f"{route.prices.input / MILLION:.12f}",
        "price_output": f"{route.prices.output / MILLION:.12f}",
    }


def of_tenant(tenant: Tenant) -> str:
    """One tenant's limits, as tenant.lua reads them."""
    requests = requests_rate(tenant.requests_per_minute, tenant.burst)
    tokens = tokens_rate(tenant.tokens_per_minute)
    budgets = f"{tenant.budget_day or 0:.12f} {tenant.budget_month or 0:.12f} {tenant.over_budget}"
    limits = f"{tenant.weight:g} {tenant.concurrency or 0} {requests} {tokens} {budgets}"
    return f"{limits} {tenant.max_waiting or 0}"


def _rate(interval: float, at_once: float) -> str:
    return f"{interval:.12f} {interval * at_once:.12f}"
