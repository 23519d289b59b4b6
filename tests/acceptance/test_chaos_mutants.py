"""The rows of the fault table would notice if a check were missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from penstock import commands
from tests.acceptance import limit_faults, network_faults, server_faults, worker_faults
from tests.acceptance.figures import Row
from tests.acceptance.fleet import chosen_seed
from tests.acceptance.mutants import CHECKS, without

TRIES = 3
"""Whether a fault meets the gap that a missing check leaves is chance, so it may do so again."""


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_a_missing_check_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fence, sweep, settlement, idempotency or patience after an outage, a row breaks."""
    monkeypatch.setattr(commands, "load", without("idempotency"))
    assert ROWS.keys() == CHECKS.keys()
    found: dict[str, Row] = {}
    for seed in range(chosen_seed(), chosen_seed() + TRIES):
        wanted = [check for check in ROWS if check not in found or not _is_caught(check, found)]
        rows = await asyncio.gather(*(ROWS[check](seed) for check in wanted))
        found.update(zip(wanted, rows, strict=True))
    caught = [check for check in found if _is_caught(check, found)]
    figures = "".join(f"\n  without the {check}: {row}" for check, row in found.items())
    print(f"mutation control: caught {len(caught)}/{len(found)}{figures}")  # noqa: T201 - figures
    assert len(caught) == len(found), figures


def _killed(seed: int) -> Awaitable[Row]:
    plan = {"lease": 1, "without": "sweep"}
    return worker_faults.killed(
        seed, jobs=60, kills=2, workers=2, pause=(0.5, 1), patience=4, plan=plan
    )


def _leaking(seed: int) -> Awaitable[Row]:
    faults = limit_faults.Faults(kills=1, restarts=0, lease=1)
    return limit_faults.killed(
        seed, "tokens", faults, jobs=40, workers=2, without="settlement"
    )  # fmt: skip


async def _away(seed: int) -> Row:
    """The first of three that broke, else any: whether a sweep or a renewal is first is chance."""
    rows = (server_faults.away(seed + n, lease=1, jobs=24, without="outage") for n in range(3))
    done = await asyncio.gather(*rows)
    return next((row for row in done if row.broken), done[0])


ROWS: dict[str, Callable[[int], Awaitable[Row]]] = {
    "fence": lambda seed: worker_faults.zombie(seed, lease=1, without="fence"),
    "sweep": _killed,
    "outage": _away,
    "idempotency": lambda seed: network_faults.replies_lost(seed, jobs=60, lease=1),
    "settlement": _leaking,
}


def _is_caught(check: str, found: dict[str, Row]) -> bool:
    """Whether the ledger shows the very harm that this check prevents."""
    row = found[check]
    harm = {
        "fence": row.verdict.extra_finals > 0,
        "sweep": row.verdict.lost > 0,
        "outage": bool(row.broken),
        "settlement": any("leaks" in promise for promise in row.broken),
        "idempotency": row.verdict.duplicates > 0,
    }
    return row.faults > 0 and harm[check]
