"""`penstock usage`: what tenants used, on a real server that has counted it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest

from penstock import Settings, commands
from penstock.commands import Used
from penstock.settings import RouteOverrides
from penstock.state import JobState
from tests.integration.gates import Gate
from tests.terminal import CommandLine

DAY = 86_400
NAMES = ["DAY", "TENANT", "ROUTE", "JOBS", "PROMPT", "COMPLETION", "USD", "ESTIMATED"]


@pytest.fixture
def days(settings: Settings) -> dict[int, str]:
    """What two tenants used on two routes ten days ago, yesterday and today; dates by days ago."""
    gate = Gate(settings.server_url, RouteOverrides(), others={"fast": RouteOverrides()})
    now = time.time()
    dates = {ago: str(datetime.fromtimestamp(now - ago * DAY, UTC).date()) for ago in (10, 1, 0)}
    gate.now = now - 10 * DAY
    answer(gate, "a", "default", Used(1, 2, 0.5))
    gate.now = now - DAY
    answer(gate, "a", "default", Used(10, 20, 0.25))
    answer(gate, "a", "default", Used(30, 40, 0.125, estimated=True))
    answer(gate, "a", "fast", Used(5, 6, 1.5))
    gate.now = now
    answer(gate, "b", "default", Used(7, 8, 0.000001))
    return dates


def answer(gate: Gate, tenant: str, route: str, used: Used) -> None:
    """A job that used this."""
    job = gate.submit(tenant, route=route)
    gate.admit(route=route)
    ended = commands.finish(job, gate.claim(job), JobState.COMPLETED, 2, {}, used)
    assert gate.run(ended).accepted


def test_usage_is_told_by_day_tenant_and_route(cli: CommandLine, days: dict[int, str]) -> None:
    """A week of jobs, tokens and cost, how much of it estimated, and the sums below."""
    said = cli("usage")
    assert (said.status, said.err) == (0, "")
    assert [line.split() for line in said.out.splitlines()] == [
        NAMES,
        [days[1], "a", "default", "2", "40", "60", "0.375000", "0.125000"],
        [days[1], "a", "fast", "1", "5", "6", "1.500000", "0.000000"],
        [days[0], "b", "default", "1", "7", "8", "0.000001", "0.000000"],
        ["all", "4", "52", "74", "1.875001", "0.125000"],
    ]


def test_usage_of_a_tenant_since_a_day(cli: CommandLine, days: dict[int, str]) -> None:
    """--tenant and --since choose, and --json gives the rows to programs."""
    since = ("--since", days[10])
    chosen = [json.loads(line) for line in cli("usage", *since, "--json").out.splitlines()]
    assert [(row["date"], row["tenant"], row["route"]) for row in chosen] == [
        (days[10], "a", "default"), (days[1], "a", "default"), (days[1], "a", "fast"),
        (days[0], "b", "default"),
    ]  # fmt: skip
    whole = {"jobs": 1, "prompt_tokens": 1, "completion_tokens": 2, "usd": 0.5, "estimated_usd": 0}
    assert chosen[0] == {"date": days[10], "tenant": "a", "route": "default", **whole}
    (row,) = cli("usage", "--tenant", "b", *since, "--json").out.splitlines()
    assert json.loads(row) == chosen[3]
    assert cli("usage", "--tenant", "a", "--since", days[0]) == (
        0, "", f"nothing was used since {days[0]}\n",
    )  # fmt: skip


@pytest.mark.parametrize("since", ["yesterday", "2026-02-30", "26-1-1", "2026-01-01T00:00"])
def test_a_day_that_is_none_is_refused(cli: CommandLine, since: str) -> None:
    """One line says how a day is written; the exit status is 2."""
    said = cli("usage", "--since", since)
    assert (said.status, said.out) == (2, "")
    complaint = f"{since!r} is not a day: write YYYY-MM-DD, such as 2026-01-31."
    assert f"penstock: Invalid value for '--since': {complaint} See: penstock usage" in said.err
    assert said.err.count("\n") == 1
