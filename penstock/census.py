"""What waits, and what tenants have used today: a gateway's metrics show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

LOOKED_AT = 200
"""Tenants that one census looks at: some three milliseconds of Redis."""


class Line(msgspec.Struct, frozen=True):
    """The jobs that wait for one route.

    Attributes:
        by_route: that the route itself keeps waiting: its gate is full, paused or open, or there is
            no worker.
        by_tenant: that wait for a limit or budget of their own tenant.
        suspects: that wait apart, since they have lost their worker too often.
        seconds: how long the first of a tenant's line has been able to run, where the route keeps
            it waiting; of all tenants the longest.
    """

    route: str
    by_route: int
    by_tenant: int
    suspects: int
    seconds: float


class Standing(msgspec.Struct, frozen=True):
    """One tenant: its jobs in the lines, what it has used today (UTC), its budgets in USD.

    `spent` counts what running jobs have reserved; a budget of 0 is none.
    """

    tenant: str
    waiting: int
    jobs: int
    prompt_tokens: int
    completion_tokens: int
    usd: float
    spent_day: float
    budget_day: float
    spent_month: float
    budget_month: float

    @property
    def budgets(self) -> dict[str, tuple[float, float]]:
        """By period what is spent and what may be, of the budgets that it has."""
        both = {
            "day": (self.spent_day, self.budget_day),
            "month": (self.spent_month, self.budget_month),
        }
        return {period: pair for period, pair in both.items() if pair[1] > 0}

    @property
    def share(self) -> float:
        """How much of a budget is spent, of that which is nearer its end."""
        return max((spent / budget for spent, budget in self.budgets.values()), default=0.0)


class Outbox(msgspec.Struct, frozen=True):
    """Deliveries under way, those of them whose time has come, and for how many seconds it has."""

    under_way: int
    overdue: int
    seconds: float


class Census(msgspec.Struct, frozen=True):
    """Everything at one moment; `aside` are jobs left for a worker that reads their format."""

    lines: Sequence[Line]
    standings: Sequence[Standing]
    outbox: Outbox
    aside: int


def read_census(reply: list[Any]) -> Census:
    """The census in the script's reply; see lua/census.lua."""
    lines, standings, outbox, aside = reply
    return Census(
        [_read(Line, line) for line in lines],
        [_read(Standing, standing) for standing in standings],
        _read(Outbox, outbox),
        aside,
    )


def _read(kind: Any, values: Sequence[Any]) -> Any:
    texts = [value.decode() if isinstance(value, bytes) else value for value in values]
    return msgspec.convert(
        dict(zip(kind.__struct_fields__, texts, strict=True)), kind, strict=False
    )
