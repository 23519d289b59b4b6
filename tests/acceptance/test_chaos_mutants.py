"""The rows of the fault table would notice if a check were missing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import pytest

from penstock import commands
from tests.acceptance import limit_faults, network_faults, server_faults, worker_faults
from tests.acceptance.figures import Row
from tests.acceptance.fleet import chosen_seed
from tests.acceptance.mutants import CHECKS, without


@pytest.mark.timeout(120)
async def test_a_missing_check_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fence, sweep, settlement, idempotency or patience after an outage, a row breaks."""
    monkeypatch.setattr(commands, "load", without("idempotency"))
    seed = chosen_seed()
    rows = {
        "fence": worker_faults.zombie(seed, lease=1, without="fence"),
        "sweep": worker_faults.killed(
            seed, jobs=60, kills=2, workers=2, pause=(0.5, 1), patience=4,
            plan={"lease": 1, "without": "sweep"},
        ),
        "outage": _worst(
            server_faults.away(seed + again, lease=1, jobs=24, without="outage")
            for again in range(3)
        ),
        "idempotency": network_faults.replies_lost(seed, jobs=60, lease=1),
    }  # fmt: skip
    found = dict(zip(rows, await asyncio.gather(*rows.values()), strict=True))
    found["settlement"] = await limit_faults.killed(
        seed, "tokens", limit_faults.Faults(kills=1, restarts=0, lease=1), jobs=40, workers=2,
        without="settlement",
    )  # fmt: skip
    assert found.keys() == CHECKS.keys()
    caught = [check for check, row in found.items() if _is_caught(check, row)]
    figures = "".join(f"\n  without the {check}: {row}" for check, row in found.items())
    print(f"mutation control: caught {len(caught)}/{len(found)}{figures}")  # noqa: T201 - figures
    assert len(caught) == len(found), figures


async def _worst(rows: Iterable[Coroutine[Any, Any, Row]]) -> Row:
    """The first row that broke, else any: whether a sweep or a renewal comes first is chance."""
    done = await asyncio.gather(*rows)
    return next((row for row in done if row.broken), done[0])


def _is_caught(check: str, row: Row) -> bool:
    """Whether the ledger shows the very harm that this check prevents."""
    harm = {
        "fence": row.verdict.extra_finals > 0,
        "sweep": row.verdict.lost > 0,
        "outage": bool(row.broken),
        "settlement": any("leaks" in promise for promise in row.broken),
        "idempotency": row.verdict.duplicates > 0,
    }
    return row.faults > 0 and harm[check]
