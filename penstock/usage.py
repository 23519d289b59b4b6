"""What tenants used: one row for each tenant, day and route."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import msgspec

KEPT = timedelta(days=400)
"""How long the scripts keep a day's figures: see lua/include/usage.lua."""


class UsageRow(msgspec.Struct, frozen=True):
    """One tenant's day on one route; days are UTC.

    Attributes:
        jobs: that ended, whatever their end.
        prompt_tokens, completion_tokens: of all attempts, also those that broke off.
        usd: what they cost.
        estimated_usd: how much of that was estimated, because an answer was cut short.
    """

    date: str
    tenant: str
    route: str
    jobs: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0
    estimated_usd: float = 0


def days(since: date, now: float) -> list[str]:
    """The dates from `since` until `now` (seconds since the epoch), oldest first, those kept."""
    today = datetime.fromtimestamp(now, UTC).date()
    first = max(since, today - KEPT)
    return [str(first + timedelta(days=day)) for day in range((today - first).days + 1)]


def rows(tenant: str, day: str, fields: Mapping[bytes, bytes]) -> list[UsageRow]:
    """The rows of one HASH, by route: its fields are `<route> <what>`."""
    by_route: dict[str, dict[str, str]] = {}
    for name, value in fields.items():
        route, _, what = name.decode().partition(" ")
        by_route.setdefault(route, {})[what] = value.decode()
    return [
        msgspec.convert(
            {"date": day, "tenant": tenant, "route": route, **found}, UsageRow, strict=False
        )
        for route, found in sorted(by_route.items())
    ]
